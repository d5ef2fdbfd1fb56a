use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::*;
use crate::{
    config::Route,
    metrics::labels::{Tool as Label, ToolCall},
    tools::{
        Digits, Transfer,
        stage_tests::{Desk, LONG, Script, content, everything, facts, tool},
    },
};

type Sent = Arc<Mutex<Vec<(String, String, String)>>>;

/// Takes messages, or does not.
fn telephones(answer: Result<(), &'static str>) -> (SendMessage, Sent) {
    let sent = Sent::default();
    let record = sent.clone();
    let send: SendMessage = Arc::new(move |message: Message| {
        // Its own deadline is the first.
        assert!(!message.within.is_zero() && message.within < LONG - Duration::from_millis(100));
        let message = (message.to, message.from, message.body);
        record.lock().unwrap().push(message);
        let answer = answer.map_err(|error| Failure {
            said: Some("It could not be sent.".to_owned()),
            ..Failure::word(error)
        });
        Box::pin(std::future::ready(answer))
    });
    (send, sent)
}

fn count(desk: &Desk, tool: Label, end: ToolEnd) -> u64 {
    desk.metrics.tool_calls.of(ToolCall::Ran(tool, end)).get()
}

#[tokio::test]
async fn a_transfer_goes_to_the_number_behind_the_name() {
    let mut config = everything();
    let desk = Desk::new(&config, None);
    let transfer = |number: &str, announce: Option<&str>| {
        Outcome::Transfer(Transfer {
            number: number.to_owned(),
            announce: announce.map(|words| Words(words.to_owned())),
        })
    };
    let to = |to: &str| json!({ "to": to, "announcement": "Ann, about a bill." }).to_string();
    let cold = desk.run("transfer_call", &to("sales")).await;
    assert_eq!(cold, transfer("+61299990001", None));
    let cold = desk.run("transfer_call", &to("+61299990002")).await;
    assert_eq!(cold, transfer("+61299990002", None));
    for stranger in ["+61299990001", "+15550000000", "Sales"] {
        let (word, _) = desk.failed("transfer_call", &to(stranger)).await;
        assert_eq!(word, "arguments", "{stranger}");
    }
    assert_eq!(count(&desk, Label::TransferCall, ToolEnd::Ok), 2);
    assert_eq!(count(&desk, Label::TransferCall, ToolEnd::Refused), 3);

    config.transfer.warm = true;
    let desk = Desk::new(&config, None);
    let warm = desk.run("transfer_call", &to("sales")).await;
    assert_eq!(warm, transfer("+61299990001", Some("Ann, about a bill.")));
    let warm = desk.run("transfer_call", r#"{"to":"sales"}"#).await;
    let announced = Some("A caller would like to speak with you.");
    assert_eq!(warm, transfer("+61299990001", announced));
}

#[tokio::test]
async fn keys_and_notes_are_the_calls_to_carry_out() {
    let desk = Desk::new(&everything(), None);
    let digits = desk.run("send_digits", r#"{"digits":"1w23#"}"#).await;
    assert_eq!(digits, Outcome::Digits(Digits("1w23#".to_owned())));
    let (word, content) = desk.failed("send_digits", r#"{"digits":"1-800"}"#).await;
    assert_eq!(word, "arguments");
    assert!(!content.contains("1-800"), "{content}");
    let note = desk.run("leave_note", r#"{"note":"Call Ann back."}"#).await;
    assert_eq!(note, Outcome::Note(Words("Call Ann back.".to_owned())));
}

#[tokio::test]
async fn the_agent_can_ask_what_call_this_is() {
    let mut config = everything();
    let desk = Desk::new(&config, None);
    let info: Value = serde_json::from_str(&desk.done("get_call_info", "").await).unwrap();
    assert_eq!(info["caller_number"], "+61400000001");
    assert_eq!(info["called_number"], "+61299990000");
    assert_eq!(info["city"], "SYDNEY");
    assert_eq!(info["country"], Value::Null);
    assert_eq!(info["route"], "front desk");
    assert_eq!(info["call_started"], "2023-11-14T22:13:20Z");
    assert!(info["local_time"].as_str().unwrap().len() > 20, "{info}");
    // The route's own time.
    config.routes.push(Route {
        hours: Some(crate::config::Hours {
            zone: jiff::tz::TimeZone::get("Australia/Sydney").unwrap(),
            spans: Vec::new(),
        }),
        ..Route::named("front desk")
    });
    let desk = Desk::new(&config, None);
    let info: Value = serde_json::from_str(&desk.done("get_call_info", "").await).unwrap();
    let time = info["local_time"].as_str().unwrap();
    assert!(time.ends_with(" Australia/Sydney"), "{time}");
}

#[tokio::test]
async fn a_message_goes_to_whom_the_config_allows() {
    let (send, sent) = telephones(Ok(()));
    let mut config = everything();
    let desk = Desk::new(&config, Some(send.clone()));
    desk.done("send_sms", r#"{"to":"caller","text":"Your table: 7."}"#)
        .await;
    let message = |to: &str, from: &str| {
        let text = "Your table: 7.";
        (to.to_owned(), from.to_owned(), text.to_owned())
    };
    assert_eq!(
        *sent.lock().unwrap(),
        [message("+61400000001", "+61299990000")]
    );
    for stranger in ["+15550000000", "+61400000001"] {
        let arguments = json!({ "to": stranger, "text": "x" }).to_string();
        assert_eq!(desk.failed("send_sms", &arguments).await.0, "arguments");
    }
    config.sms.from = Some("+61299990009".to_owned());
    let desk = Desk::new(&config, Some(send));
    desk.done(
        "send_sms",
        r#"{"to":"+61299990003","text":"Your table: 7."}"#,
    )
    .await;
    assert_eq!(
        sent.lock().unwrap()[1..],
        [message("+61299990003", "+61299990009")]
    );
}

#[tokio::test]
async fn no_message_leaves_a_test_call_or_goes_to_nobody() {
    let (send, sent) = telephones(Ok(()));
    let desk = Desk::new(&everything(), Some(send));
    let arguments = r#"{"to":"caller","text":"x"}"#;
    let fails = async |facts: Facts| {
        let offer = desk.offer("send_sms");
        let run = desk.runner.run(offer, "call-1", arguments, Arc::new(facts));
        match run.await {
            Outcome::Failed { error, content } => (error, content.0),
            other => panic!("{other:?}"),
        }
    };
    let mut test = facts();
    test.test = true;
    let (word, told) = fails(test).await;
    assert_eq!(word, "test-call");
    assert!(told.contains("test call"), "{told}");
    for from in [
        "anonymous",
        "",
        "+",
        "sip:ann@example.com",
        "+266696687",
        "sip:+86282452253@example.com",
    ] {
        let mut withheld = facts();
        withheld.from = from.to_owned();
        assert_eq!(fails(withheld).await.0, "no-number", "{from}");
    }
    let known = async |from: &str| {
        let mut facts = facts();
        facts.from = from.to_owned();
        let asked = request::question("x", "call-1", &facts, &Map::new());
        let asked: Value = serde_json::from_slice(&asked).unwrap();
        let offer = desk.offer("get_call_info");
        let run = desk.runner.run(offer, "call-1", "", Arc::new(facts));
        let told: Value = serde_json::from_str(content(&run.await)).unwrap();
        (asked["call"]["from"].clone(), told["caller_number"].clone())
    };
    for from in ["+266696687", "+2562533", "Anonymous"] {
        assert_eq!(known(from).await, (json!(""), Value::Null), "{from}");
    }
    let ann = json!("sip:Ann@example.com");
    assert_eq!(known("sip:Ann@example.com").await, (ann.clone(), ann));
    let mut by_sip = facts();
    by_sip.to = "sip:desk@example.com".to_owned();
    assert_eq!(fails(by_sip).await.0, "not-available");
    assert!(sent.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_call_sends_a_few_messages_and_no_more() {
    let (send, sent) = telephones(Ok(()));
    let desk = Desk::new(&everything(), Some(send));
    let arguments = r#"{"to":"caller","text":"x"}"#;
    for _ in 0..5 {
        desk.done("send_sms", arguments).await;
    }
    assert_eq!(desk.failed("send_sms", arguments).await.0, "too-many");
    let mut other = facts();
    other.call = "CAffffffffffffffffffffffffffffffff".parse().unwrap();
    let other = Arc::new(other);
    let run = desk
        .runner
        .run(desk.offer("send_sms"), "call-1", arguments, other);
    assert!(matches!(run.await, Outcome::Done(_)));
    assert_eq!(sent.lock().unwrap().len(), 6);
}

#[tokio::test]
async fn a_message_that_twilio_does_not_take_is_a_failure() {
    let (send, _) = telephones(Err("refused"));
    let desk = Desk::new(&everything(), Some(send));
    let (word, content) = desk
        .failed("send_sms", r#"{"to":"caller","text":"x"}"#)
        .await;
    assert_eq!(word, "refused");
    assert!(content.contains("could not be sent"), "{content}");
    assert_eq!(count(&desk, Label::SendSms, ToolEnd::Failed), 1);
}

#[tokio::test]
async fn a_tool_that_is_busy_is_not_waited_for() {
    let script =
        Script::new("echo $$ >$1/group; while ! [ -e $1/go ]; do sleep 0.01; done; echo Ready.");
    let mut run = tool("run", script.kind.clone());
    run.max_concurrent = 1;
    run.fallback = "The desk is busy.".to_owned();
    let desk = Desk::with(run);
    let first = desk
        .runner
        .run(desk.offer("run"), "call-1", "", Arc::new(facts()));
    let first = tokio::spawn(first);
    script.wrote("group").await;
    let (word, said) = desk.failed("run", "").await;
    assert_eq!((word, &*said), ("busy", "The desk is busy."));
    std::fs::write(script.directory.path().join("go"), "").unwrap();
    assert_eq!(content(&first.await.unwrap()), "Ready.");
    // Its place is free again.
    assert_eq!(desk.done("run", "").await, "Ready.");
    assert_eq!(count(&desk, Label::Exec, ToolEnd::Busy), 1);
    assert_eq!(count(&desk, Label::Exec, ToolEnd::Ok), 2);
}

#[tokio::test]
async fn what_is_not_there_is_said_to_be_not_there() {
    let desk = Desk::new(&everything(), None);
    let mut offer = desk.offer("leave_note").clone();
    offer.name = "leave_nothing".to_owned();
    let run = desk.runner.run(&offer, "call-1", "", Arc::new(facts()));
    assert!(matches!(
        run.await,
        Outcome::Failed {
            error: "not-available",
            ..
        }
    ));
    let (word, _) = desk.failed("hang_up", "").await;
    assert_eq!(word, "not-available");
}

#[test]
fn nothing_that_a_tool_handles_is_printed() {
    let outcome = Outcome::Failed {
        error: "exit",
        content: Words("Ann's account is 17.".to_owned()),
    };
    assert!(!format!("{outcome:?}").contains("17"));
}
