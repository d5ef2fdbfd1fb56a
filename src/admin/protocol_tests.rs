//! The wire, letter by letter: scripts depend on it.

use super::*;
use crate::admin::{
    event::What,
    routed::{Does, Meets, Plan, Routed, Tried},
};

fn hangup(call: Option<&str>, all: bool, now: bool, reason: Option<&str>) -> Request {
    Request::Hangup {
        call: call.map(Into::into),
        all,
        now,
        reason: reason.map(Into::into),
    }
}

#[test]
fn every_request_has_one_spelling_and_is_read_back() {
    let spelled = [
        (Request::Status {}, r#"{"protocol":1,"op":"status"}"#),
        (Request::Sessions {}, r#"{"protocol":1,"op":"sessions"}"#),
        (
            Request::Show { call: "CA1".into() },
            r#"{"protocol":1,"op":"show","call":"CA1"}"#,
        ),
        (
            hangup(Some("CA1"), false, false, None),
            r#"{"protocol":1,"op":"hangup","call":"CA1"}"#,
        ),
        (
            hangup(None, true, true, Some("night")),
            r#"{"protocol":1,"op":"hangup","all":true,"now":true,"reason":"night"}"#,
        ),
        (Request::Drain {}, r#"{"protocol":1,"op":"drain"}"#),
        (Request::Undrain {}, r#"{"protocol":1,"op":"undrain"}"#),
        (Request::Reload {}, r#"{"protocol":1,"op":"reload"}"#),
        (
            Request::Dial {
                from: None,
                to: Some("+12025550123".into()),
            },
            r#"{"protocol":1,"op":"dial","to":"+12025550123"}"#,
        ),
        (
            Request::Sign {
                call: "CA1".into(),
                url: "https://b/voice/after".into(),
                params: vec![("CallSid".into(), "CA1".into())],
            },
            r#"{"protocol":1,"op":"sign","call":"CA1","url":"https://b/voice/after","params":[["CallSid","CA1"]]}"#,
        ),
        (
            Request::Check {
                name: "bridge.toml".into(),
                text: "a = \"b\"\n".into(),
            },
            r#"{"protocol":1,"op":"check","name":"bridge.toml","text":"a = \"b\"\n"}"#,
        ),
        (
            Request::Say {
                call: "CA1".into(),
                text: "One moment.".into(),
            },
            r#"{"protocol":1,"op":"say","call":"CA1","text":"One moment."}"#,
        ),
        (
            Request::Context {
                call: "CA1".into(),
                text: "Ann calls.".into(),
            },
            r#"{"protocol":1,"op":"context","call":"CA1","text":"Ann calls."}"#,
        ),
        (
            Request::Pause { call: "CA1".into() },
            r#"{"protocol":1,"op":"pause","call":"CA1"}"#,
        ),
        (
            Request::Resume { call: "CA1".into() },
            r#"{"protocol":1,"op":"resume","call":"CA1"}"#,
        ),
        (
            Request::Transfer {
                call: "CA1".into(),
                number: "+12025550123".into(),
                announce: None,
            },
            r#"{"protocol":1,"op":"transfer","call":"CA1","number":"+12025550123"}"#,
        ),
        (
            Request::Transfer {
                call: "CA1".into(),
                number: "+12025550123".into(),
                announce: Some("Ann calls.".into()),
            },
            r#"{"protocol":1,"op":"transfer","call":"CA1","number":"+12025550123","announce":"Ann calls."}"#,
        ),
        (
            Request::RouteTest {
                to: Some("+12025550123".into()),
                from: "anonymous".into(),
                at: Some("2026-12-24T18:00:00Z".into()),
            },
            r#"{"protocol":1,"op":"route-test","to":"+12025550123","from":"anonymous","at":"2026-12-24T18:00:00Z"}"#,
        ),
        (
            Request::RouteTest {
                to: None,
                from: "sip:ann@example.com".into(),
                at: None,
            },
            r#"{"protocol":1,"op":"route-test","from":"sip:ann@example.com"}"#,
        ),
        (
            Request::Events { call: None },
            r#"{"protocol":1,"op":"events"}"#,
        ),
        (
            Request::Events {
                call: Some("CA1".into()),
            },
            r#"{"protocol":1,"op":"events","call":"CA1"}"#,
        ),
    ];
    for (request, line) in &spelled {
        assert_eq!(request.to_line(), format!("{line}\n").into_bytes());
        assert_eq!(Request::from_line(line.as_bytes()).as_ref(), Ok(request));
        assert!(Request::OPS.contains(&request.op()));
    }
    let ops = spelled.map(|(request, _)| request.op());
    assert!(Request::OPS.iter().all(|op| ops.contains(op)));
}

#[test]
fn an_order_that_is_half_understood_is_refused() {
    use Code::*;
    let long = format!(
        r#"{{"protocol":1,"op":"hangup","all":true,"reason":"{}"}}"#,
        "é".repeat(201)
    );
    let wordy = format!(
        r#"{{"protocol":1,"op":"say","call":"CA1","text":"{}"}}"#,
        "é".repeat(MAX_TEXT + 1)
    );
    let deep = format!(r#"{{"protocol":1,"op":{}"#, "[".repeat(60_000));
    let cases = [
        ("", BadRequest),
        ("status", BadRequest),
        ("[1]", BadRequest),
        ("{}", BadRequest),
        (r#"{"op":"status"}"#, BadRequest),
        (r#"{"protocol":1}"#, BadRequest),
        (r#"{"protocol":1,"op":7}"#, BadRequest),
        (r#"{"protocol":1,"op":"status"} {}"#, BadRequest),
        (r#"{"protocol":1,"op":"status","watch":true}"#, BadRequest),
        (r#"{"protocol":1,"op":"drain","call":"CA1"}"#, BadRequest),
        (r#"{"protocol":1,"op":"show"}"#, BadRequest),
        (r#"{"protocol":1,"op":"show","call":""}"#, BadRequest),
        (r#"{"protocol":1,"op":"show","call":7}"#, BadRequest),
        (r#"{"protocol":1,"op":"hangup"}"#, BadRequest),
        (r#"{"protocol":1,"op":"hangup","all":false}"#, BadRequest),
        (
            r#"{"protocol":1,"op":"hangup","call":"CA1","all":true}"#,
            BadRequest,
        ),
        (
            r#"{"protocol":1,"op":"hangup","call":"CA1","nwo":true}"#,
            BadRequest,
        ),
        (
            r#"{"protocol":1,"op":"dial","from":"anonymous"}"#,
            BadRequest,
        ),
        (r#"{"protocol":1,"op":"dial","to":"+1 202"}"#, BadRequest),
        (r#"{"protocol":1,"op":"sign","call":"CA1"}"#, BadRequest),
        (
            r#"{"protocol":1,"op":"sign","call":"CA1","url":"u","params":{"a":"b"}}"#,
            BadRequest,
        ),
        (long.as_str(), BadRequest),
        (r#"{"protocol":1,"op":"events","call":""}"#, BadRequest),
        (r#"{"protocol":1,"op":"pause"}"#, BadRequest),
        (r#"{"protocol":1,"op":"resume","call":""}"#, BadRequest),
        (r#"{"protocol":1,"op":"say","call":"CA1"}"#, BadRequest),
        (
            r#"{"protocol":1,"op":"say","call":"CA1","text":" \n"}"#,
            BadRequest,
        ),
        (
            r#"{"protocol":1,"op":"say","call":"","text":"a"}"#,
            BadRequest,
        ),
        (
            r#"{"protocol":1,"op":"context","call":"CA1","text":"a\u0000b"}"#,
            BadRequest,
        ),
        (
            r#"{"protocol":1,"op":"context","call":"CA1","text":"a\u009bb"}"#,
            BadRequest,
        ),
        (wordy.as_str(), BadRequest),
        (r#"{"protocol":1,"op":"check","text":"a"}"#, BadRequest),
        (
            r#"{"protocol":1,"op":"check","name":"","text":"a"}"#,
            BadRequest,
        ),
        (r#"{"protocol":1,"op":"transfer","call":"CA1"}"#, BadRequest),
        (
            r#"{"protocol":1,"op":"transfer","call":"","number":"+12025550123"}"#,
            BadRequest,
        ),
        (
            r#"{"protocol":1,"op":"transfer","call":"CA1","number":"12025550123"}"#,
            BadRequest,
        ),
        (
            r#"{"protocol":1,"op":"transfer","call":"CA1","number":"+12025550123","announce":" "}"#,
            BadRequest,
        ),
        (
            r#"{"protocol":1,"op":"transfer","call":"CA1","number":"+12025550123","warm":true}"#,
            BadRequest,
        ),
        (r#"{"protocol":1,"op":"route-test"}"#, BadRequest),
        (
            r#"{"protocol":1,"op":"route-test","from":"0412345678"}"#,
            BadRequest,
        ),
        (
            r#"{"protocol":1,"op":"route-test","from":"sip:"}"#,
            BadRequest,
        ),
        (
            r#"{"protocol":1,"op":"route-test","from":"+1","to":"anonymous"}"#,
            BadRequest,
        ),
        (
            r#"{"protocol":1,"op":"route-test","from":"+1","at":"tomorrow"}"#,
            BadRequest,
        ),
        (deep.as_str(), BadRequest),
        (r#"{"protocol":1,"op":"fly"}"#, UnknownOp),
        (r#"{"protocol":2,"op":"fly"}"#, ProtocolMismatch),
        (r#"{"protocol":"1","op":"status"}"#, ProtocolMismatch),
        (r#"{"protocol":1.5,"op":"status"}"#, ProtocolMismatch),
    ];
    for (line, code) in cases {
        let refused = Request::from_line(line.as_bytes()).expect_err(line);
        assert_eq!(refused.code, code, "{line}: {}", refused.message);
        assert!(refused.message.len() < 1000 && !refused.message.contains('\n'));
    }
    assert!(Request::from_line(b"{\"protocol\":1,\"op\":\"\xff\"}").is_err());
}

#[test]
fn a_mismatch_names_both_sides() {
    let words = |line: &str| Request::from_line(line.as_bytes()).unwrap_err().message;
    let mismatch = words(r#"{"protocol":9,"op":"status"}"#);
    assert!(
        mismatch.contains("protocol 9") && mismatch.contains("protocol 1"),
        "{mismatch}"
    );
    let unknown = words(r#"{"protocol":1,"op":"fly\u001b[2J"}"#);
    assert_eq!(
        unknown,
        format!(r#"hume-bridge {VERSION} has no op "fly\u{{1b}}[2J""#)
    );
}

#[test]
fn replies_are_spelled_like_this() {
    let spelled = |outcome| {
        let line = String::from_utf8(reply_line(&outcome)).unwrap();
        line.replace(VERSION, "V")
    };
    assert_eq!(
        spelled(Ok(Answer::Status(Status {
            draining: false,
            active_sessions: 1,
            expected_sessions: 2,
            uptime_seconds: 3,
            pid: 4,
        }))),
        r#"{"protocol":1,"version":"V","ok":{"draining":false,"activeSessions":1,"expectedSessions":2,"uptimeSeconds":3,"pid":4}}"#.to_owned() + "\n"
    );
    let session = Session {
        call_sid: "CA1".into(),
        stream_sid: "MZ1".into(),
        agent: "hume".into(),
        agent_connected: true,
        from: "+1".into(),
        to: "+2".into(),
        started_at: "T".into(),
        duration_seconds: 5,
        ending: false,
        paused: true,
        frames_in: 6,
        audio_out: 7,
        frames_dropped: 8,
        barge_ins: 9,
        test: true,
        route: Some("night".into()),
        away: Some("digits".into()),
    };
    let shown = r#"{"callSid":"CA1","streamSid":"MZ1","agent":"hume","agentConnected":true,"from":"+1","to":"+2","startedAt":"T","durationSeconds":5,"ending":false,"paused":true,"framesIn":6,"audioOut":7,"framesDropped":8,"bargeIns":9,"test":true,"route":"night","away":"digits"}"#;
    assert_eq!(
        spelled(Ok(Answer::Sessions(Sessions {
            sessions: vec![session.clone()]
        }))),
        format!("{{\"protocol\":1,\"version\":\"V\",\"ok\":{{\"sessions\":[{shown}]}}}}\n")
    );
    assert_eq!(
        spelled(Ok(Answer::Show(session))),
        format!("{{\"protocol\":1,\"version\":\"V\",\"ok\":{shown}}}\n")
    );
    assert_eq!(
        spelled(Ok(Answer::HungUp(HungUp {
            calls: vec!["CA1".into()],
            unanswered: vec![],
            now: true
        }))),
        "{\"protocol\":1,\"version\":\"V\",\"ok\":{\"calls\":[\"CA1\"],\"now\":true}}\n"
    );
    assert_eq!(
        spelled(Ok(Answer::Drain(Drain {
            draining: true,
            changed: false,
            active_sessions: 1,
            expected_sessions: 0,
        }))),
        "{\"protocol\":1,\"version\":\"V\",\"ok\":{\"draining\":true,\"changed\":false,\"activeSessions\":1,\"expectedSessions\":0}}\n"
    );
    assert_eq!(
        spelled(Ok(Answer::HungUp(HungUp {
            calls: vec![],
            unanswered: vec!["CA1".into()],
            now: false
        }))),
        "{\"protocol\":1,\"version\":\"V\",\"ok\":{\"calls\":[],\"unanswered\":[\"CA1\"],\"now\":false}}\n"
    );
    assert_eq!(
        spelled(Ok(Answer::Told(Told {
            call: "CA1".into(),
            characters: 11,
            exact: None
        }))),
        "{\"protocol\":1,\"version\":\"V\",\"ok\":{\"call\":\"CA1\",\"characters\":11}}\n"
    );
    assert_eq!(
        spelled(Ok(Answer::Told(Told {
            call: "CA1".into(),
            characters: 11,
            exact: Some(false)
        }))),
        "{\"protocol\":1,\"version\":\"V\",\"ok\":{\"call\":\"CA1\",\"characters\":11,\"exact\":false}}\n"
    );
    assert_eq!(
        spelled(Ok(Answer::Paused(Paused {
            call: "CA1".into(),
            paused: true,
            changed: false
        }))),
        "{\"protocol\":1,\"version\":\"V\",\"ok\":{\"call\":\"CA1\",\"paused\":true,\"changed\":false}}\n"
    );
    assert_eq!(
        spelled(Ok(Answer::Transferring(Transferring {
            call: "CA1".into(),
            announced: true
        }))),
        "{\"protocol\":1,\"version\":\"V\",\"ok\":{\"call\":\"CA1\",\"announced\":true}}\n"
    );
    assert_eq!(
        spelled(Ok(Answer::Reloaded(Reloaded {
            changed: vec!["log.level".into()],
            need_restart: vec!["listen.http".into()],
        }))),
        "{\"protocol\":1,\"version\":\"V\",\"ok\":{\"changed\":[\"log.level\"],\"needRestart\":[\"listen.http\"]}}\n"
    );
    assert_eq!(
        spelled(Ok(Answer::Routed(Routed {
            route: "shop".into(),
            why: vec![Tried {
                route: "shop".into(),
                fits: true,
                why: "fits".into(),
            }],
            plan: Plan {
                agent: "hume".into(),
                config_id: Some("c".into()),
                voice: None,
                greeting: String::new(),
                fallback: Meets::Hangup,
                closed: Some(Meets::Dial),
                tools: vec!["hang_up".into()],
                variables: vec!["city".into()],
                keys: [('0', Does::Say)].into(),
                max_concurrent: 0,
                max_per_caller: Some(2),
                max_duration_seconds: 60,
                no_input_timeout_seconds: 0,
            },
        }))),
        "{\"protocol\":1,\"version\":\"V\",\"ok\":{\"route\":\"shop\",\"why\":[{\"route\":\"shop\",\"fits\":true,\"why\":\"fits\"}],\"plan\":{\"agent\":\"hume\",\"configId\":\"c\",\"greeting\":\"\",\"fallback\":\"hangup\",\"closed\":\"dial\",\"tools\":[\"hang_up\"],\"variables\":[\"city\"],\"keys\":{\"0\":\"say\"},\"maxConcurrent\":0,\"maxPerCaller\":2,\"maxDurationSeconds\":60,\"noInputTimeoutSeconds\":0}}}\n"
    );
    assert_eq!(
        spelled(Err(Failure::new(Code::NoSuchCall, "no call \"x\"\n"))),
        "{\"protocol\":1,\"version\":\"V\",\"error\":{\"code\":\"no-such-call\",\"message\":\"no call \\\"x\\\"\\n\"}}\n"
    );
}

#[test]
fn a_reply_from_a_newer_daemon_is_still_read() {
    let line =
        br#"{"protocol":1,"version":"9.0.0","ok":{"calls":[],"now":true,"more":1},"more":2}"#;
    let reply = Reply::from_line(line).unwrap();
    assert_eq!(reply.version, "9.0.0");
    let hung_up: HungUp = decode(&reply.outcome.unwrap()).unwrap();
    assert_eq!(
        hung_up,
        HungUp {
            calls: vec![],
            unanswered: vec![],
            now: true
        }
    );
    let line = br#"{"protocol":1,"version":"9.0.0","error":{"code":"on-fire","message":"m"}}"#;
    assert_eq!(
        Reply::from_line(line).unwrap().outcome,
        Err(Failure::new(Code::Other, "m"))
    );
    let other = Reply::from_line(br#"{"protocol":2,"version":"9.0.0","done":true}"#).unwrap_err();
    assert_eq!(
        other,
        ReplyError::Protocol {
            theirs: 2,
            version: "9.0.0".into()
        }
    );
    for garbled in ["", "{}", r#"{"protocol":1,"version":"1"}"#, "\u{1b}"] {
        let error = Reply::from_line(garbled.as_bytes()).unwrap_err();
        assert!(matches!(error, ReplyError::Garbled(_)), "{garbled}");
    }
    assert!(decode::<Status>(&Value::Null).is_err());
}

const CODES: [(Code, &str); 10] = [
    (Code::BadRequest, "bad-request"),
    (Code::ProtocolMismatch, "protocol-mismatch"),
    (Code::UnknownOp, "unknown-op"),
    (Code::NoSuchCall, "no-such-call"),
    (Code::Ambiguous, "ambiguous"),
    (Code::Busy, "busy"),
    (Code::Refused, "refused"),
    (Code::TooSlow, "too-slow"),
    (Code::Stopping, "stopping"),
    (Code::ConfigInvalid, "config-invalid"),
];

#[test]
fn every_code_has_a_word() {
    for (code, word) in CODES {
        assert_eq!(serde_json::to_value(code).unwrap(), word);
        assert_eq!(serde_json::from_value::<Code>(word.into()).unwrap(), code);
    }
}

/// Every type of event, and how it is written.
fn events() -> Vec<(What, &'static str)> {
    let call_sid = || "CA1".to_owned();
    let session = Session {
        call_sid: call_sid(),
        stream_sid: "MZ1".into(),
        agent: "hume".into(),
        agent_connected: true,
        from: "+1".into(),
        to: "+2".into(),
        started_at: "T".into(),
        duration_seconds: 5,
        ending: false,
        paused: false,
        frames_in: 6,
        audio_out: 7,
        frames_dropped: 8,
        barge_ins: 9,
        test: false,
        route: None,
        away: Some("transfer".into()),
    };
    vec![
        (
            What::Snapshot {
                draining: true,
                sessions: vec![session],
            },
            r#""type":"snapshot","draining":true,"sessions":[{"callSid":"CA1","streamSid":"MZ1","agent":"hume","agentConnected":true,"from":"+1","to":"+2","startedAt":"T","durationSeconds":5,"ending":false,"paused":false,"framesIn":6,"audioOut":7,"framesDropped":8,"bargeIns":9,"test":false,"route":null,"away":"transfer"}]"#,
        ),
        (
            What::CallStarted {
                call_sid: call_sid(),
                stream_sid: "MZ1".into(),
                agent: "hume".into(),
                from: "+1".into(),
                to: "+2".into(),
                started_at: "T".into(),
                route: None,
            },
            r#""type":"call-started","callSid":"CA1","streamSid":"MZ1","agent":"hume","from":"+1","to":"+2","startedAt":"T""#,
        ),
        (
            What::CallStarted {
                call_sid: call_sid(),
                stream_sid: "MZ1".into(),
                agent: "hume".into(),
                from: "+1".into(),
                to: "+2".into(),
                started_at: "T".into(),
                route: Some("night".into()),
            },
            r#""type":"call-started","callSid":"CA1","streamSid":"MZ1","agent":"hume","from":"+1","to":"+2","startedAt":"T","route":"night""#,
        ),
        (
            What::Away {
                call_sid: call_sid(),
                why: "digits".into(),
            },
            r#""type":"away","callSid":"CA1","why":"digits""#,
        ),
        (
            What::Back {
                call_sid: call_sid(),
            },
            r#""type":"back","callSid":"CA1""#,
        ),
        (
            What::GoesOn {
                call_sid: call_sid(),
            },
            r#""type":"goes-on","callSid":"CA1""#,
        ),
        (
            What::AgentConnected {
                call_sid: call_sid(),
            },
            r#""type":"agent-connected","callSid":"CA1""#,
        ),
        (
            What::AgentClosed {
                call_sid: call_sid(),
            },
            r#""type":"agent-closed","callSid":"CA1""#,
        ),
        (
            What::Paused {
                call_sid: call_sid(),
            },
            r#""type":"paused","callSid":"CA1""#,
        ),
        (
            What::Resumed {
                call_sid: call_sid(),
            },
            r#""type":"resumed","callSid":"CA1""#,
        ),
        (
            What::ToolCall {
                call_sid: call_sid(),
                tool: "hang_up".into(),
            },
            r#""type":"tool-call","callSid":"CA1","tool":"hang_up""#,
        ),
        (
            What::BargeIn {
                call_sid: call_sid(),
            },
            r#""type":"barge-in","callSid":"CA1""#,
        ),
        (
            What::HangingUp {
                call_sid: call_sid(),
                cause: "operator".into(),
            },
            r#""type":"hanging-up","callSid":"CA1","cause":"operator""#,
        ),
        (
            What::GoodbyeWithdrawn {
                call_sid: call_sid(),
            },
            r#""type":"goodbye-withdrawn","callSid":"CA1""#,
        ),
        (
            What::CallEnded {
                call_sid: call_sid(),
                cause: Some("operator".into()),
                duration_seconds: 7,
            },
            r#""type":"call-ended","callSid":"CA1","cause":"operator","durationSeconds":7"#,
        ),
        (
            What::CallEnded {
                call_sid: call_sid(),
                cause: None,
                duration_seconds: 0,
            },
            r#""type":"call-ended","callSid":"CA1","durationSeconds":0"#,
        ),
        (
            What::CallRefused {
                call_sid: call_sid(),
                reason: "full".into(),
            },
            r#""type":"call-refused","callSid":"CA1","reason":"full""#,
        ),
        (
            What::Draining { draining: true },
            r#""type":"draining","draining":true"#,
        ),
        (
            What::Reloaded {
                changed: vec!["log.level".into()],
                need_restart: vec![],
            },
            r#""type":"reloaded","changed":["log.level"],"needRestart":[]"#,
        ),
        (What::Stopped {}, r#""type":"stopped""#),
    ]
}

#[test]
fn events_are_spelled_like_this() {
    for (what, words) in events() {
        let event = Event {
            at: "T".into(),
            what,
        };
        let line = String::from_utf8(event_line(&event)).unwrap();
        let expected = format!(
            "{{\"protocol\":1,\"version\":\"{VERSION}\",\"event\":{{\"at\":\"T\",{words}}}}}\n"
        );
        assert_eq!(line, expected);
        let reply = Reply::from_line(line.as_bytes()).unwrap();
        assert!(reply.is_event);
        assert_eq!(decode::<Event>(&reply.outcome.unwrap()).unwrap(), event);
    }
    let newer =
        br#"{"protocol":1,"version":"9","event":{"at":"T","type":"on-fire","callSid":"CA1"}}"#;
    let newer = Reply::from_line(newer).unwrap().outcome.unwrap();
    assert_eq!(decode::<Event>(&newer).unwrap().what, What::Other);
    let both = br#"{"protocol":1,"version":"9","ok":{},"event":{}}"#;
    assert!(Reply::from_line(both).is_err());
}

#[test]
fn an_agent_gets_one_line() {
    let spoken = |text: &str| Text::from(text).spoken();
    assert_eq!(spoken(" One\n\tmoment, \u{e9}. \r\n"), "One  moment, é.");
    let route = Request::RouteTest {
        to: Some("+12025550123".into()),
        from: "sip:ann@example.com".into(),
        at: None,
    };
    let route = format!("{route:?}");
    assert!(
        !route.contains("2025550123") && !route.contains("ann"),
        "{route}"
    );
    let words = format!("{:?}", Text::from("the secret word"));
    assert_eq!(words, "Text(15 characters)");
}

#[test]
fn the_manual_has_every_op_code_and_event() {
    let manual = include_str!("../../man/hume-bridge-admin.7");
    // The words of the items: `.It Li drain , undrain` has two.
    let items: Vec<&str> = manual
        .lines()
        .filter_map(|line| line.strip_prefix(".It Li "))
        .flat_map(|line| line.split(" No ").next())
        .flat_map(|line| line.split(" , "))
        .collect();
    for op in Request::OPS {
        assert!(items.contains(&op), "no op {op}");
    }
    let types: Vec<String> = events()
        .iter()
        .map(|(what, _)| {
            serde_json::to_value(what).unwrap()["type"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    for word in CODES
        .iter()
        .map(|(_, word)| *word)
        .chain(types.iter().map(String::as_str))
    {
        assert!(items.contains(&word), "no {word}");
    }
    for item in items {
        let known = Request::OPS.contains(&item)
            || CODES.iter().any(|(_, word)| *word == item)
            || types.iter().any(|word| word == item);
        assert!(known, "{item} is nothing");
    }
}
