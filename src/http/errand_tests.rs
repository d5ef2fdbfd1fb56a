//! What Twilio is told for a call that is away, and what the call is told of it.

use std::sync::Arc;

use roxmltree::Document;

use super::*;
use crate::{
    agent::link::Tls,
    config::{Config, Credentials, PublicUrl, Secret},
    http::{Means, Shared},
    metrics::Metrics,
    session::{
        order::{Order, Words},
        registry::{Claim, Limits, Registry},
    },
    tools::Runner,
    twilio::{rest::Rest, twiml::MAX_REST},
};

const CALL: &str = "CA0123456789abcdef0123456789abcdef";
const CHILD: &str = "CAfedcba9876543210fedcba9876543210";
const ACCOUNT: &str = "AC0123456789abcdef0123456789abcdef";
const DESK: &str = "+61400000007";
const ADMISSION: Duration = Duration::from_secs(30);

struct Stage {
    front: Front,
    claim: Claim,
}

impl Stage {
    /// A call that is live, under a config.
    fn with(change: impl FnOnce(&mut Config)) -> Stage {
        Stage::of("+15551234567", change)
    }

    fn of(from: &str, change: impl FnOnce(&mut Config)) -> Stage {
        let public = PublicUrl::parse("https://bridge.example.com:8443/x").unwrap();
        let mut config = Config::new(public);
        change(&mut config);
        let credentials = Credentials {
            hume_api_key: Some(Secret::new("h")),
            realtime_api_key: None,
            twilio_account_sid: ACCOUNT.into(),
            twilio_auth_token: Secret::new("12345"),
            twilio_phone_number: None,
            twilio_shared_key: None,
            named: Default::default(),
        };
        let registry = Registry::new(Limits::of(10, ADMISSION));
        let shared = Shared::new(
            registry.clone(),
            Arc::new(Tls::new()),
            Arc::new(Metrics::default()),
        );
        let rest = Rest::new("http://127.0.0.1:9", ACCOUNT, &Secret::new("12345"), None).unwrap();
        let metrics = shared.metrics.clone();
        let tools = Runner::new(&config, &credentials.named, None, None, metrics).unwrap();
        let means = Means {
            rest,
            tools,
            lookup: None,
        };
        let front = Front::new(Arc::new(config), &credentials, means, &shared);
        let facts = CallFacts {
            call: CALL.parse().unwrap(),
            stream: "MZ1".parse().unwrap(),
            from: from.into(),
            to: "+15557654321".into(),
            agent: "hume",
            route: None,
            known: Default::default(),
            token_expires_unix: unix_now() + 30,
        };
        let claim = registry.claim(facts, std::time::Instant::now()).unwrap();
        Stage { front, claim }
    }

    /// The same, away on this errand.
    fn away(self, errand: Errand) -> Stage {
        self.claim.decide(After::Errand(errand));
        self
    }

    fn facts(&self) -> &CallFacts {
        &self.claim.view.facts
    }

    /// What the call has been told.
    fn told(&mut self) -> Vec<Order> {
        let mut orders = Vec::new();
        while let Ok(letter) = self.claim.mailbox.try_recv() {
            assert!(letter.reply.is_none(), "Twilio waits for no verdict");
            orders.push(letter.order);
        }
        orders
    }

    fn after_dial(&self, more: &[(&str, &str)]) -> String {
        let base = [("CallSid", CALL), ("CallStatus", "in-progress")];
        after_dial(&self.front, &form(&[&base, more].concat()))
    }

    /// What the callee hears.
    fn announcement(&self) -> String {
        let xml = announcement(&self.front, Some(CALL.parse().unwrap()));
        let document = Document::parse(&xml).unwrap();
        let say = document.descendants().find(|node| node.has_tag_name("Say"));
        say.unwrap().text().unwrap().to_owned()
    }

    fn press(&self, digits: &str) -> String {
        let form = form(&[("CallSid", CHILD), ("Digits", digits)]);
        answer(&self.front, Some(CALL.parse().unwrap()), &form)
    }
}

fn form(fields: &[(&str, &str)]) -> Form {
    let fields = fields.iter();
    let owned = fields.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Form::from(owned.collect::<Vec<_>>())
}

fn to_desk(announce: Option<&str>) -> Errand {
    Errand::Transfer(Transfer {
        number: DESK.into(),
        announce: announce.map(|words| Words(words.into())),
    })
}

fn digits(keys: &str) -> Errand {
    Errand::Digits(Digits(keys.into()))
}

/// The verbs of a document, by name.
fn verbs(xml: &str) -> Vec<String> {
    let document = Document::parse(xml).unwrap();
    let verbs = document.root_element().children();
    verbs
        .map(|verb| verb.tag_name().name().to_owned())
        .collect()
}

/// The parameters of the document's stream.
fn parameters(xml: &str) -> BTreeMap<String, String> {
    let document = Document::parse(xml).unwrap();
    let nodes = document.descendants();
    let parameters = nodes.filter(|node| node.has_tag_name("Parameter"));
    let text = |node: roxmltree::Node<'_, '_>, name| node.attribute(name).unwrap().to_owned();
    parameters
        .map(|node| (text(node, "name"), text(node, "value")))
        .collect()
}

fn say(text: &str) -> impl FnOnce(&mut Config) {
    let text = text.to_owned();
    |config| config.transfer.no_answer = NoAnswer::Say(text)
}

const APOLOGY: [&str; 2] = ["Say", "Hangup"];

#[test]
fn keys_are_sounded_and_the_token_outlives_them() {
    let stage = Stage::with(|_| {});
    let xml = stage.front.twiml(stage.facts(), &digits("ww1234#"));
    assert_eq!(verbs(&xml), ["Play", "Connect"]);
    assert!(xml.contains("<Play digits=\"ww1234#\"/>"), "{xml}");
    for url in [
        "action=\"https://bridge.example.com:8443/x/voice/after\"",
        "url=\"wss://bridge.example.com:8443/x/media-stream\"",
        "statusCallback=\"https://bridge.example.com:8443/x/voice/stream\"",
    ] {
        assert!(xml.contains(url), "{xml}");
    }
    let parameters = parameters(&xml);
    assert_eq!(parameters["from"], "+15551234567");
    assert_eq!(parameters["to"], "+15557654321");
    let expires: u64 = parameters["token"]
        .split('.')
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    // Half a minute for the keys at most, and what any stream has to come.
    assert!(expires >= unix_now() + 30 + 31, "{expires}");
    assert!(expires > stage.facts().token_expires_unix);
}

#[test]
fn a_token_of_the_way_back_is_newer_than_the_one_that_is_used_up() {
    let stage = Stage::with(|_| {});
    let mut facts = stage.facts().clone();
    facts.token_expires_unix = unix_now() + 1_000;
    let xml = stage.front.twiml(&facts, &digits("1"));
    let expires = parameters(&xml)["token"]
        .split('.')
        .nth(1)
        .unwrap()
        .parse::<u64>();
    assert!(expires.unwrap() > facts.token_expires_unix);
}

#[test]
fn keys_and_numbers_that_cannot_be_asked_for_are_no_dead_line() {
    let stage = Stage::with(|_| {});
    for errand in [digits(""), digits("1 2"), digits(&"1".repeat(33))] {
        assert_eq!(verbs(&stage.front.twiml(stage.facts(), &errand)), APOLOGY);
    }
    let nobody = Errand::Transfer(Transfer {
        number: "reception".into(),
        announce: None,
    });
    assert_eq!(verbs(&stage.front.twiml(stage.facts(), &nobody)), APOLOGY);
}

#[test]
fn who_has_no_number_to_be_shown_is_shown_with_ours() {
    let shown = |from| {
        let stage = Stage::of(from, |_| {});
        let xml = stage.front.twiml(stage.facts(), &to_desk(None));
        let document = Document::parse(&xml).unwrap();
        let dial = document.root_element().first_element_child().unwrap();
        dial.attribute("callerId").map(str::to_owned)
    };
    assert_eq!(shown("+15551234567"), None);
    // The last two are words, spelt on a telephone's keys.
    for from in ["anonymous", "sip:a@example.com", "+266696687", "+2562533"] {
        assert_eq!(shown(from).as_deref(), Some("+15557654321"), "{from}");
    }
}

#[test]
fn a_call_ends_on_the_terms_on_which_it_began() {
    let mut stage = Stage::with(|config| config.transfer.ring = Duration::from_secs(45));
    let plan = stage.front.plan(None, "", "");
    stage.claim.agree(stage.front.terms_of(&plan));
    let mut newer = Config::clone(&stage.front.config);
    newer.transfer.ring = Duration::from_secs(10);
    newer.transfer.no_answer = NoAnswer::Say("Nobody is there.".into());
    stage.front.config = Arc::new(newer);
    let errand = to_desk(None);
    assert!(
        stage
            .front
            .twiml(stage.facts(), &errand)
            .contains("timeout=\"45\"")
    );
    let stage = stage.away(errand);
    let failed = [("DialCallStatus", "busy"), ("DialBridged", "false")];
    assert_eq!(verbs(&stage.after_dial(&failed)), ["Connect"]);
    // And so when it is over.
    let registry = stage.front.registry.clone();
    let call = CALL.parse().unwrap();
    drop(stage.claim);
    let terms = registry.terms(&call).unwrap();
    assert_eq!(terms.config.transfer.ring, Duration::from_secs(45));
}

#[test]
fn a_cold_transfer_asks_nobody() {
    let stage = Stage::with(|config| config.transfer.caller_id = Some("+15550009999".into()));
    let xml = stage.front.twiml(stage.facts(), &to_desk(None));
    let document = Document::parse(&xml).unwrap();
    let dial = document.root_element().first_element_child().unwrap();
    let number = dial.first_element_child().unwrap();
    assert_eq!(number.text(), Some(DESK));
    assert_eq!(number.attribute("url"), None);
    assert_eq!(
        number.attribute("statusCallback"),
        Some("https://bridge.example.com:8443/x/voice/status")
    );
    assert_eq!(
        dial.attribute("action"),
        Some("https://bridge.example.com:8443/x/voice/transferred")
    );
    assert_eq!(dial.attribute("timeout"), Some("30"));
    assert_eq!(dial.attribute("callerId"), Some("+15550009999"));
}

#[test]
fn a_warm_transfer_asks_the_callee_with_words_of_any_length() {
    let url = format!("https://bridge.example.com:8443/x/voice/announce?call={CALL}");
    let number = |stage: &Stage, errand: &Errand| {
        let xml = stage.front.twiml(stage.facts(), errand);
        assert!(xml.chars().count() < MAX_REST);
        let document = Document::parse(&xml).unwrap();
        let mut nodes = document.descendants();
        let number = nodes.find(|node| node.has_tag_name("Number")).unwrap();
        number.attribute("url").map(str::to_owned)
    };
    let stage = Stage::with(|_| {});
    let long = to_desk(Some(&"word ".repeat(2_000)));
    assert_eq!(number(&stage, &long).as_deref(), Some(url.as_str()));
    assert!(stage.away(long).announcement().len() > 3_000);
    // Who has nothing to say wants them asked all the same.
    let plain = number(&Stage::with(|_| {}), &to_desk(Some("")));
    assert_eq!(plain.as_deref(), Some(url.as_str()));
}

#[test]
fn a_callee_hears_who_is_calling_and_what_to_press() {
    let stage = Stage::with(|_| {}).away(to_desk(Some(" Anna Bell, about a bill. ")));
    assert_eq!(
        stage.announcement(),
        "Anna Bell, about a bill. Press 1 to take the call."
    );
    let xml = announcement(&stage.front, Some(CALL.parse().unwrap()));
    assert_eq!(verbs(&xml), ["Gather", "Gather", "Hangup"]);
    let action = format!("action=\"https://bridge.example.com:8443/x/voice/accept?call={CALL}\"");
    assert!(xml.contains(&action), "{xml}");

    // Put through by a key, or a call of another instance.
    let plain = "A caller is on the line. Press 1 to take the call.";
    for words in ["", " ", "."] {
        let stage = Stage::with(|_| {}).away(to_desk(Some(words)));
        assert_eq!(stage.announcement(), plain);
    }
    assert_eq!(Stage::with(|_| {}).announcement(), plain);
    // Whoever is asked about no call at all is not kept.
    assert_eq!(verbs(&announcement(&stage.front, None)), ["Hangup"]);
}

#[test]
fn the_callee_takes_the_call() {
    let mut stage = Stage::with(|_| {}).away(to_desk(Some("Anna")));
    assert_eq!(verbs(&stage.press("1")), [""; 0]);
    assert_eq!(stage.told(), [Order::Transferred(Transferred::Connected)]);
    // Whatever Twilio says then: they have spoken.
    for more in [
        &[("DialCallStatus", "completed")][..],
        &[("DialCallStatus", "completed"), ("DialBridged", "true")],
        &[("DialCallStatus", "completed"), ("DialBridged", "false")],
    ] {
        assert_eq!(verbs(&stage.after_dial(more)), ["Hangup"]);
        assert_eq!(stage.told(), [Order::Transferred(Transferred::Connected)]);
    }
}

#[test]
fn the_callee_does_not_take_the_call() {
    let mut stage = Stage::with(|_| {}).away(to_desk(Some("Anna")));
    for key in ["2", "", "11", "#"] {
        assert_eq!(verbs(&stage.press(key)), ["Hangup"]);
    }
    assert_eq!(verbs(&answer(&stage.front, None, &form(&[]))), ["Hangup"]);
    assert_eq!(stage.told(), []);
    stage.announcement();
    let declined = Order::Transferred(Transferred::Returning(Failed::Declined));
    for more in [
        &[("DialCallStatus", "completed")][..],
        &[("DialCallStatus", "completed"), ("DialBridged", "false")],
        &[("DialCallStatus", "no-answer"), ("DialBridged", "false")],
    ] {
        assert_eq!(verbs(&stage.after_dial(more)), ["Connect"]);
        assert_eq!(stage.told(), std::slice::from_ref(&declined));
    }
}

#[test]
fn one_who_has_accepted_once_is_asked_again_the_next_time() {
    let mut stage = Stage::with(|_| {}).away(to_desk(Some("Anna")));
    stage.press("1");
    stage.told();
    let mut stage = stage.away(to_desk(Some("Anna")));
    let nobody = [("DialCallStatus", "no-answer")];
    assert_eq!(verbs(&stage.after_dial(&nobody)), ["Connect"]);
    let returning = Transferred::Returning(Failed::NoAnswer);
    assert_eq!(stage.told(), [Order::Transferred(returning)]);
    assert_eq!(
        verbs(&stage.after_dial(&[("DialCallStatus", "completed")])),
        ["Connect"]
    );
    let declined = Transferred::Returning(Failed::Declined);
    assert_eq!(stage.told(), [Order::Transferred(declined)]);
}

#[test]
fn nobody_comes_to_the_telephone_and_the_caller_goes_back_to_the_agent() {
    for (status, failed) in [
        ("busy", Failed::Busy),
        ("no-answer", Failed::NoAnswer),
        ("failed", Failed::Unreachable),
        ("canceled", Failed::Unreachable),
        ("something-new", Failed::Unreachable),
    ] {
        let mut stage = Stage::with(|_| {}).away(to_desk(None));
        let xml = stage.after_dial(&[("DialCallStatus", status), ("DialBridged", "false")]);
        assert_eq!(verbs(&xml), ["Connect"], "{status}");
        assert!(parameters(&xml)["token"].starts_with('v'));
        let returning = Order::Transferred(Transferred::Returning(failed));
        assert_eq!(stage.told(), [returning], "{status}");
    }
    let mut stage = Stage::with(|_| {}).away(to_desk(None));
    assert_eq!(verbs(&stage.after_dial(&[])), ["Connect"]);
    assert_eq!(stage.told().len(), 1, "no word at all is a failure, too");
}

#[test]
fn nobody_comes_to_the_telephone_and_the_caller_is_told_so() {
    let mut stage = Stage::with(say("Nobody is there, sorry.")).away(to_desk(None));
    let xml = stage.after_dial(&[("DialCallStatus", "no-answer")]);
    assert_eq!(verbs(&xml), APOLOGY);
    assert!(xml.contains("Nobody is there, sorry."), "{xml}");
    let ended = Order::Transferred(Transferred::Ended(Failed::NoAnswer));
    assert_eq!(stage.told(), [ended]);
}

#[test]
fn the_callee_hangs_up_after_talking() {
    for status in ["completed", "answered"] {
        let mut stage = Stage::with(|_| {}).away(to_desk(None));
        assert_eq!(
            verbs(&stage.after_dial(&[("DialCallStatus", status)])),
            ["Hangup"]
        );
        assert_eq!(stage.told(), [Order::Transferred(Transferred::Connected)]);
    }
}

#[test]
fn the_caller_hangs_up_while_it_rings_or_after_talking() {
    let over = Order::CallOver { caller_left: true };
    let mut stage = Stage::with(|_| {}).away(to_desk(None));
    let base = [("CallSid", CALL), ("CallStatus", "completed")];
    let left = |stage: &Stage, status| {
        let status = [("DialCallStatus", status)];
        let xml = after_dial(&stage.front, &form(&[&base[..], &status].concat()));
        assert_eq!(verbs(&xml), [""; 0]);
    };
    left(&stage, "canceled");
    assert_eq!(stage.told(), std::slice::from_ref(&over));
    left(&stage, "completed");
    let connected = Order::Transferred(Transferred::Connected);
    assert_eq!(stage.told(), [connected, over]);
}

#[test]
fn a_call_that_nobody_here_knows_hears_the_sentence_or_the_fallback() {
    let unknown = [("CallSid", CHILD), ("DialCallStatus", "no-answer")];
    let ask = |stage: &Stage| after_dial(&stage.front, &form(&unknown));
    let mut stage = Stage::with(|_| {}).away(to_desk(None));
    assert_eq!(verbs(&ask(&stage)), APOLOGY);
    assert_eq!(stage.told(), [], "another call's affair");
    assert_eq!(verbs(&after_dial(&stage.front, &form(&[]))), APOLOGY);
    let talked = [("CallSid", CHILD), ("DialCallStatus", "completed")];
    assert_eq!(verbs(&after_dial(&stage.front, &form(&talked))), ["Hangup"]);

    let stage = Stage::with(say("Nobody is there."));
    assert!(ask(&stage).contains("Nobody is there."));

    // One that was here and is not any more, or is not away at all.
    let stage = Stage::with(|_| {});
    stage.claim.decide(After::HangUp);
    let no_answer = [("DialCallStatus", "no-answer")];
    assert_eq!(verbs(&stage.after_dial(&no_answer)), ["Hangup"]);
    let Stage { front, claim } = Stage::with(|_| {}).away(to_desk(None));
    drop(claim);
    let gone = [("CallSid", CALL), ("DialCallStatus", "busy")];
    assert_eq!(verbs(&after_dial(&front, &form(&gone))), APOLOGY);
    assert_eq!(verbs(&again(&front, &form(&[]), &digits("1"))), APOLOGY);
    assert_eq!(verbs(&again(&front, &form(&gone), &digits("1"))), APOLOGY);
}

#[test]
fn a_callee_who_answers_a_cold_transfer_is_connected_and_one_who_is_asked_is_not_yet() {
    let child = |status| {
        form(&[
            ("CallSid", CHILD),
            ("ParentCallSid", CALL),
            ("CallStatus", status),
        ])
    };
    let mut stage = Stage::with(|_| {}).away(to_desk(None));
    for status in ["initiated", "ringing", "completed", "busy", "no-answer"] {
        progress(&stage.front, &child(status));
    }
    assert_eq!(stage.told(), []);
    progress(&stage.front, &child("in-progress"));
    assert_eq!(stage.told(), [Order::Transferred(Transferred::Connected)]);

    for mut stage in [
        Stage::with(|_| {}).away(to_desk(Some("Anna"))),
        Stage::with(|_| {}).away(to_desk(Some(""))),
        Stage::with(|_| {}).away(digits("1")),
        Stage::with(|_| {}),
    ] {
        progress(&stage.front, &child("in-progress"));
        progress(
            &stage.front,
            &form(&[("CallSid", CALL), ("CallStatus", "in-progress")]),
        );
        assert_eq!(stage.told(), []);
    }
}

#[test]
fn the_end_of_the_stream_is_no_news_to_a_call_that_goes_on_an_errand() {
    let mut stage = Stage::with(|_| {}).away(digits("1"));
    let call = CALL.parse().unwrap();
    let registry = stage.front.registry.clone();
    registry.call_over(&call, None, false);
    registry.call_over(&call, Some("MZ1"), false);
    assert_eq!(stage.told(), []);
    registry.call_over(&call, None, true);
    assert_eq!(stage.told(), [Order::CallOver { caller_left: true }]);
    let xml = again(&stage.front, &form(&[("CallSid", CALL)]), &digits("1"));
    assert_eq!(verbs(&xml), ["Play", "Connect"]);
}

#[test]
fn where_the_way_back_fails_nobody_is_rung_or_sounded_to_again() {
    let of_call = form(&[("CallSid", CALL)]);
    let stage = Stage::with(|_| {}).away(digits("1"));
    again(&stage.front, &of_call, &digits("1"));
    assert_eq!(verbs(&again(&stage.front, &of_call, &digits("1"))), APOLOGY);

    let stage = Stage::with(|_| {}).away(digits("1"));
    stage.claim.errand_taken();
    assert_eq!(verbs(&again(&stage.front, &of_call, &digits("1"))), APOLOGY);

    let stage = Stage::with(|_| {}).away(to_desk(None));
    assert_eq!(
        verbs(&stage.after_dial(&[("DialCallStatus", "busy")])),
        ["Connect"]
    );
    assert_eq!(
        verbs(&again(&stage.front, &of_call, &to_desk(None))),
        APOLOGY
    );
}

#[test]
fn a_caller_without_a_number_is_put_through_under_the_one_they_have_called() {
    let stage = Stage::of("sip:ann@example.com", |_| {}).away(to_desk(None));
    let facts = stage.claim.facts();
    let xml = stage.front.twiml(&facts, &to_desk(None));
    assert!(xml.contains(" callerId=\"+15557654321\""), "{xml}");
}

#[test]
fn a_call_is_named_by_our_url_and_not_by_whoever_may_add_to_it() {
    let call = |uri: &str| {
        let request = Request::builder().uri(uri).body(()).unwrap();
        named(&request).map(|call| call.to_string())
    };
    let url = format!("/x/voice/accept?call={CALL}");
    assert_eq!(call(&url).as_deref(), Some(CALL));
    assert_eq!(call("/voice/accept"), None);
    assert_eq!(call("/voice/accept?call=CA1"), None);
    assert_eq!(call("/voice/accept?other=1"), None);
}
