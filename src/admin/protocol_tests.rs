//! The wire, letter by letter: scripts depend on it.

use super::*;

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
        (deep.as_str(), BadRequest),
        (r#"{"protocol":1,"op":"transfer"}"#, UnknownOp),
        (r#"{"protocol":2,"op":"transfer"}"#, ProtocolMismatch),
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
        frames_in: 6,
        audio_out: 7,
        frames_dropped: 8,
        barge_ins: 9,
        test: true,
    };
    let shown = r#"{"callSid":"CA1","streamSid":"MZ1","agent":"hume","agentConnected":true,"from":"+1","to":"+2","startedAt":"T","durationSeconds":5,"ending":false,"framesIn":6,"audioOut":7,"framesDropped":8,"bargeIns":9,"test":true}"#;
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
