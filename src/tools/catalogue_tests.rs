use serde_json::json;

use super::*;
use crate::{
    config::{Tool, ToolKind},
    tools::{
        schema::Schema,
        stage_tests::{config as plain, everything},
    },
};

fn full() -> Config {
    let mut config = everything();
    config.tools = vec![Tool {
        name: "book_table".to_owned(),
        description: "Books a table.".to_owned(),
        parameters: json!({ "type": "object", "required": ["date"] }),
        kind: ToolKind::Exec {
            command: vec!["/usr/bin/book".to_owned()],
        },
        timeout: Duration::from_secs(3),
        fallback: "The book is closed.".to_owned(),
        filler: "One moment.".to_owned(),
        filler_after: Duration::from_millis(800),
        max_output: 1024,
        max_concurrent: 4,
    }];
    config
}

fn names(catalogue: &Catalogue) -> Vec<&str> {
    let offers = catalogue.offers().iter();
    offers.map(|offer| offer.name.as_str()).collect()
}

fn parameters(config: &Config, name: &str) -> Value {
    let catalogue = Catalogue::of(config, None);
    let (_, offer) = catalogue.find(name).unwrap();
    serde_json::from_str(&offer.parameters).unwrap()
}

#[test]
fn what_has_nothing_to_work_with_is_not_offered() {
    let bare = Catalogue::of(&plain(), None);
    assert_eq!(names(&bare), ["hang_up", "send_digits", "get_call_info"]);
    let asked: Vec<_> = Builtin::ALL.map(|tool| tool.name().to_owned()).into();
    let asked = Catalogue::of(&plain(), Some(&asked));
    assert_eq!(names(&asked), names(&bare), "asking does not make it work");
}

#[test]
fn everything_that_works_is_offered_unless_names_are_given() {
    let all = [
        "hang_up",
        "transfer_call",
        "send_digits",
        "send_sms",
        "get_call_info",
        "leave_note",
        "book_table",
    ];
    assert_eq!(names(&Catalogue::of(&full(), None)), all);
    let two = ["book_table".to_owned(), "hang_up".to_owned()];
    let two = Catalogue::of(&full(), Some(&two));
    assert_eq!(names(&two), ["hang_up", "book_table"]);
    assert!(names(&Catalogue::of(&full(), Some(&[]))).is_empty());
}

#[test]
fn a_written_tool_is_offered_as_it_is_written() {
    let catalogue = Catalogue::of(&full(), None);
    let (place, offer) = catalogue.find("book_table").unwrap();
    assert_eq!(place, 6);
    assert_eq!(offer.timeout, Duration::from_secs(3));
    assert_eq!(
        offer.fallback,
        Some(Words("The book is closed.".to_owned()))
    );
    let filler = offer.filler.as_ref().unwrap();
    assert_eq!(filler.after, Duration::from_millis(800));
    assert_eq!(filler.words, Words("One moment.".to_owned()));
    let mut silent = full();
    silent.tools[0].filler.clear();
    silent.tools[0].fallback.clear();
    let catalogue = Catalogue::of(&silent, None);
    let (_, offer) = catalogue.find("book_table").unwrap();
    assert!(offer.filler.is_none() && offer.fallback.is_none());
}

#[test]
fn the_agent_can_name_only_those_whom_the_config_allows() {
    let transfer = parameters(&full(), "transfer_call");
    let to = &transfer["properties"]["to"]["enum"];
    assert_eq!(*to, json!(["sales", "+61299990002"]));
    assert!(transfer["properties"]["announcement"].is_null());
    let mut warm = full();
    warm.transfer.warm = true;
    let transfer = parameters(&warm, "transfer_call");
    assert!(transfer["properties"]["announcement"].is_object());
    assert_eq!(transfer["required"], json!(["to"]));

    let to = |config: &Config| parameters(config, "send_sms")["properties"]["to"]["enum"].clone();
    assert_eq!(to(&full()), json!(["caller", "+61299990003"]));
    let mut config = full();
    config.sms.to_caller = false;
    assert_eq!(to(&config), json!(["+61299990003"]));
}

#[test]
fn the_built_in_schemas_take_what_they_promise() {
    let catalogue = Catalogue::of(&full(), None);
    let fits = |name: &str, arguments: Value| {
        let (_, offer) = catalogue.find(name).unwrap();
        let parameters = serde_json::from_str(&offer.parameters).unwrap();
        let schema = Schema::compile(&parameters).unwrap();
        schema.check(&arguments.to_string()).is_ok()
    };
    assert!(fits("hang_up", json!({ "reason": "done" })) && fits("hang_up", json!({})));
    assert!(fits("transfer_call", json!({ "to": "sales" })));
    assert!(!fits("transfer_call", json!({ "to": "+61299990001" })));
    assert!(!fits("transfer_call", json!({})));
    assert!(fits("send_digits", json!({ "digits": "1w#*D" })));
    for digits in ["", "12 3", "1\n", "E", &"1".repeat(33)] {
        assert!(
            !fits("send_digits", json!({ "digits": digits })),
            "{digits:?}"
        );
    }
    let text = "é".repeat(1600);
    assert!(fits("send_sms", json!({ "to": "caller", "text": text })));
    let text = "é".repeat(1601);
    assert!(!fits("send_sms", json!({ "to": "caller", "text": text })));
    assert!(!fits(
        "send_sms",
        json!({ "to": "+15550000000", "text": "x" })
    ));
    assert!(fits("get_call_info", json!({})));
    assert!(fits("leave_note", json!({ "note": "Call back." })));
    assert!(!fits("leave_note", json!({ "note": "" })));
}
