//! Calls that are led elsewhere: somebody is called, keys are sounded and asked for, streams come back.

use super::*;

const SOMEBODY: &str = "+61255501234";
const PATIENCE: Duration = Duration::from_secs(60);

fn callee(toml: &str) -> Callees {
    toml::from_str(&format!("[\"{SOMEBODY}\"]\n{toml}")).unwrap()
}

fn form(bridge: &Bridge, path: &str) -> HashMap<String, String> {
    let seen = bridge.seen.lock().unwrap();
    let found = seen.forms.iter().find(|(found, _)| found == path);
    let Some((_, form)) = found else {
        panic!("{path} was not asked: {:?}", seen.forms)
    };
    form.clone()
}

/// What a document that dials comes to, with a callee who is like this.
async fn dialled(dial: &str, like: &str, script: Vec<Step>) -> (Bridge, CallReport) {
    let first = format!("<Response>{dial}</Response>");
    let announce = "<Response><Gather numDigits='1' timeout='5' action='/voice/accept'>\
        <Say>Press one.</Say></Gather><Hangup/></Response>";
    let documents = [
        ("/voice/incoming", TWIML),
        ("/voice/after", first.as_str()),
        ("/voice/announce", announce),
        ("/voice/accept", "<Response/>"),
        (
            "/voice/transferred",
            "<Response><Say>Done.</Say></Response>",
        ),
    ];
    let mut bridge = Bridge::new(&documents, async |mut leg: Leg| leg.close().await).await;
    bridge.phone.options.callees = callee(like);
    let report = bridge.phone.call(CallSetup::new(script)).await;
    (bridge, report)
}

fn warm() -> String {
    format!(
        "<Dial action='/voice/transferred' timeout='10' callerId='+15557654321' answerOnBridge='true'>\
         <Number url='/voice/announce' statusCallback='https://bridge.example.com/voice/callee' \
         statusCallbackEvent='initiated ringing answered completed'>{SOMEBODY}</Number></Dial>"
    )
}

#[tokio::test]
async fn a_callee_hears_who_calls_accepts_and_talks() {
    let like = "answers_after = '2s'\npresses = '1'\ntalks_for = '5s'";
    let (bridge, report) = dialled(&warm(), like, vec![]).await;
    clean(&report);
    assert_eq!(report.ended, Ended::NothingLeft);
    let heard = Event::CalleeHeard {
        text: "Press one.".into(),
    };
    assert_eq!(report.count(|event| *event == heard), 1);
    let bridged = report
        .first(|event| matches!(event, Event::Bridged { number } if number == SOMEBODY))
        .unwrap();
    let ended = report
        .first(|event| {
            matches!(
                event,
                Event::BridgeEnded {
                    by_caller: false,
                    ..
                }
            )
        })
        .unwrap();
    assert!(ended - bridged >= Duration::from_secs(5));

    let announce = form(&bridge, "/voice/announce");
    assert_eq!(announce["ParentCallSid"], report.call_sid);
    assert_ne!(announce["CallSid"], report.call_sid);
    assert_eq!(announce["Direction"], "outbound-dial");
    assert_eq!(
        (announce["From"].as_str(), announce["To"].as_str()),
        ("+15557654321", SOMEBODY)
    );
    assert_eq!(form(&bridge, "/voice/accept")["Digits"], "1");
    let result = form(&bridge, "/voice/transferred");
    assert_eq!(result["CallSid"], report.call_sid);
    assert_eq!(result["CallStatus"], "in-progress");
    assert_eq!(result["DialCallStatus"], "completed");
    assert_eq!(result["DialBridged"], "true");
    assert_eq!(result["DialCallSid"], announce["CallSid"]);
    assert!(result["DialCallDuration"].parse::<u64>().unwrap() >= 5);
    // Each on its own connection, so in any order.
    let seen = bridge.seen.lock().unwrap();
    let mut told: Vec<_> = seen
        .forms
        .iter()
        .filter(|(path, _)| path == "/voice/callee")
        .map(|(_, form)| (form["SequenceNumber"].as_str(), form["CallStatus"].as_str()))
        .collect();
    told.sort();
    let expected = [
        ("0", "initiated"),
        ("1", "ringing"),
        ("2", "in-progress"),
        ("3", "completed"),
    ];
    assert_eq!(told, expected);
    let resource = bridge.phone.switchboard.call(&announce["CallSid"]).unwrap();
    assert_eq!(resource.status, CallStatus::Completed);
    assert_eq!(resource.parent.as_deref(), Some(report.call_sid.as_str()));
}

#[tokio::test]
async fn nobody_is_connected_who_does_not_want_to_be() {
    for (like, status, bridged, duration) in [
        ("when_called = 'busy'", "busy", "false", false),
        ("when_called = 'no-answer'", "no-answer", "false", false),
        ("answers_after = '11s'", "no-answer", "false", false),
        ("when_called = 'failed'", "failed", "false", false),
        ("when_called = 'unreachable'", "failed", "false", false),
        // They press nothing, and are hung up on.
        ("", "completed", "false", true),
        ("unbridged = 'no-answer'", "no-answer", "false", true),
        ("hangs_up_after = '100ms'", "completed", "false", true),
        ("presses = '1'", "completed", "true", true),
    ] {
        let (bridge, report) = dialled(&warm(), like, vec![]).await;
        clean(&report);
        let result = form(&bridge, "/voice/transferred");
        assert_eq!(result["DialCallStatus"], status, "{like}");
        assert_eq!(result["DialBridged"], bridged, "{like}");
        assert_eq!(result.contains_key("DialCallDuration"), duration, "{like}");
        let said = report.count(|event| matches!(event, Event::Said { .. }));
        assert_eq!(said, 1, "the call goes on: {like}");
    }
}

#[tokio::test]
async fn a_caller_who_leaves_takes_the_callee_with_them() {
    for (after, like, status) in [
        ("stream-over", "when_called = 'no-answer'", "canceled"),
        ("bridged", "presses = '1'\ntalks_for = '5m'", "completed"),
    ] {
        let script = toml::from_str::<HashMap<String, Vec<Step>>>(&format!(
            "steps = [{{ wait_for = \"{after}\" }}, {{ wait = \"1s\" }}, {{ hang_up = true }}]"
        ))
        .unwrap()
        .remove("steps")
        .unwrap();
        let (bridge, report) = dialled(&warm(), like, script).await;
        clean(&report);
        assert_eq!(report.ended, Ended::CallerHungUp);
        let result = form(&bridge, "/voice/transferred");
        assert_eq!(result["CallStatus"], "completed");
        assert_eq!(result["DialCallStatus"], status);
        assert_eq!(report.count(|event| matches!(event, Event::Said { .. })), 0);
        let callee = bridge
            .phone
            .switchboard
            .call(&result["DialCallSid"])
            .unwrap();
        assert!(!callee.status.is_live());
    }
}

#[tokio::test]
async fn what_twilio_would_not_dial_is_not_dialled() {
    let number =
        format!("<Dial action='/voice/transferred' callerId='+15550000000'>{SOMEBODY}</Dial>");
    let (bridge, report) = dialled(&number, "", vec![]).await;
    assert!(
        report.violations[0].0.starts_with("13214"),
        "{:?}",
        report.violations
    );
    assert_eq!(
        form(&bridge, "/voice/transferred")["DialCallStatus"],
        "failed"
    );
    let (bridge, report) = dialled(
        "<Dial action='/voice/transferred'>0800 1</Dial>",
        "",
        vec![],
    )
    .await;
    assert!(
        report.violations[0].0.starts_with("13224"),
        "{:?}",
        report.violations
    );
    assert_eq!(
        form(&bridge, "/voice/transferred")["DialCallStatus"],
        "failed"
    );
    // A callee's document must not place calls of its own.
    let documents = [
        (
            "/voice/incoming",
            "<Response><Dial><Number url='/voice/announce'>+61255501234</Number></Dial></Response>",
        ),
        (
            "/voice/announce",
            "<Response><Dial>+61255501234</Dial></Response>",
        ),
    ];
    let bridge = Bridge::listening(&documents).await;
    let report = bridge.phone.call(CallSetup::new(vec![])).await;
    assert!(
        report.violations[0].0.starts_with("13201"),
        "{:?}",
        report.violations
    );
    assert_eq!(
        report.count(|event| matches!(event, Event::Bridged { .. })),
        0
    );
}

#[tokio::test]
async fn a_rehearsal_calls_nobody() {
    let documents = [(
        "/voice/incoming",
        "<Response><Dial action='/voice/transferred'>+61255501234</Dial></Response>",
    )];
    let mut bridge = Bridge::listening(&documents).await;
    bridge.phone.options.rehearsal = true;
    let report = bridge.phone.call(CallSetup::new(vec![])).await;
    clean(&report);
    assert_eq!(report.ended, Ended::PutThrough);
    assert_eq!(bridge.paths(), ["/voice/incoming"]);
}

#[tokio::test]
async fn the_rest_api_hangs_up_on_a_callee() {
    let documents = [
        (
            "/voice/incoming",
            "<Response><Dial action='/voice/transferred'>+61255501234</Dial></Response>",
        ),
        ("/voice/transferred", "<Response><Hangup/></Response>"),
    ];
    let mut bridge = Bridge::listening(&documents).await;
    bridge.phone.options.callees = callee("talks_for = '5m'");
    let call = bridge.phone.start(CallSetup::new(vec![]));
    let rings = call
        .until(PATIENCE, |event| matches!(event, Event::CalleeRings { .. }))
        .await;
    let Some(Event::CalleeRings { call_sid, .. }) = rings.map(|entry| entry.event) else {
        panic!("nobody rings");
    };
    call.until(PATIENCE, |event| matches!(event, Event::Bridged { .. }))
        .await
        .unwrap();
    bridge.phone.switchboard.complete(&call_sid).unwrap();
    let report = call.finish().await;
    clean(&report);
    assert_eq!(report.ended, Ended::Hangup);
    assert_eq!(form(&bridge, "/voice/transferred")["DialBridged"], "true");
}

#[tokio::test]
async fn a_stream_that_is_led_elsewhere_stops_and_comes_back_as_another() {
    let bridge = Bridge::listening(&[("/voice/incoming", TWIML)]).await;
    let call = bridge.phone.start(CallSetup::new(vec![]));
    let started = |event: &Event| matches!(event, Event::StreamStarted { .. });
    call.until(PATIENCE, started).await.unwrap();
    let again = "<Response><Play digits=\"ww12#\"/><Connect action='https://bridge.example.com/voice/after'>\
        <Stream url='wss://bridge.example.com/media-stream'><Parameter name='token' value='2'/></Stream>\
        </Connect></Response>";
    let (_, taken) = bridge
        .phone
        .switchboard
        .redirect(call.call_sid(), Wish::Run(again.into()))
        .unwrap();
    assert!(taken);
    let mut streams = 0;
    let second = |event: &Event| {
        streams += usize::from(started(event));
        streams == 2
    };
    call.until(PATIENCE, second).await.unwrap();
    call.hang_up().await;
    let report = call.finish().await;
    clean(&report);
    assert_eq!(report.ended, Ended::CallerHungUp);
    assert_eq!(report.stream_sids.len(), 2);
    assert_ne!(report.stream_sids[0], report.stream_sids[1]);
    let played = Event::DigitsPlayed {
        digits: "ww12#".into(),
    };
    let at = |what: &Event| report.first(|event| event == what).unwrap();
    let back = report
        .entries
        .iter()
        .rfind(|entry| started(&entry.event))
        .unwrap();
    assert!(
        back.at - at(&played) >= Duration::from_millis(1600),
        "the pauses and the tones last"
    );
    let starts = bridge.messages("start");
    assert_eq!(
        starts[1]["start"]["customParameters"],
        json!({"token": "2"})
    );
    assert_eq!(starts[1]["sequenceNumber"], "1");
    assert_eq!(bridge.messages("stop").len(), 2);
    assert!(
        !bridge.paths().contains(&"/voice/after".to_owned()),
        "nobody asks what comes after"
    );
    // Each stream has a clock of its own.
    let first_frames: Vec<_> = bridge
        .messages("media")
        .into_iter()
        .filter(|media| media["media"]["chunk"] == "1")
        .collect();
    assert!(first_frames.len() <= 2);
    for frame in first_frames {
        assert_eq!(frame["media"]["timestamp"], "102");
    }
}

#[tokio::test]
async fn a_document_that_was_handed_over_is_held_to_account_when_it_runs() {
    for (twiml, code) in [
        ("<Response><Say>Tom & Jerry</Say></Response>", "12100"),
        (
            "<Response><Redirect>/voice/after</Redirect></Response>",
            "11100",
        ),
        (
            "<Response><Connect><Stream url='/media-stream'/></Connect></Response>",
            "31923",
        ),
        ("<Response><Reject/></Response>", "12200"),
        ("<Response><Gather numDigits='1'/></Response>", "11100"),
    ] {
        let bridge = Bridge::listening(&[("/voice/incoming", TWIML)]).await;
        let call = bridge.phone.start(CallSetup::new(vec![]));
        let started = |event: &Event| matches!(event, Event::StreamStarted { .. });
        call.until(PATIENCE, started).await.unwrap();
        bridge
            .phone
            .switchboard
            .redirect(call.call_sid(), Wish::Run(twiml.into()));
        let report = call.finish().await;
        assert_eq!(
            report.violations.len(),
            1,
            "{twiml}: {:?}",
            report.violations
        );
        assert!(
            report.violations[0].0.starts_with(code),
            "{twiml}: {:?}",
            report.violations
        );
        let failed = matches!(report.ended, Ended::ApplicationError { .. });
        assert_eq!(failed, code == "12100", "{twiml}");
    }
}

#[tokio::test]
async fn a_call_can_be_sent_to_an_address() {
    let documents = [
        ("/voice/incoming", TWIML),
        ("/voice/elsewhere", "<Response><Say>Here.</Say></Response>"),
    ];
    let bridge = Bridge::listening(&documents).await;
    let call = bridge.phone.start(CallSetup::new(vec![]));
    let started = |event: &Event| matches!(event, Event::StreamStarted { .. });
    call.until(PATIENCE, started).await.unwrap();
    let url = "https://bridge.example.com/voice/elsewhere".to_owned();
    let wish = Wish::Go { url, get: false };
    bridge.phone.switchboard.redirect(call.call_sid(), wish);
    let report = call.finish().await;
    clean(&report);
    assert_eq!(
        form(&bridge, "/voice/elsewhere")["CallStatus"],
        "in-progress"
    );
    let what = Document::Update;
    assert_eq!(
        report.count(|event| matches!(event, Event::Fetched { what: found, .. } if *found == what)),
        1
    );
}

#[tokio::test]
async fn keys_are_gathered_on_the_callers_own_line() {
    let gather = |attributes: &str| {
        format!(
            "<Response><Gather action='/voice/keys' {attributes}><Say>{}</Say></Gather>\
             <Say>Nothing came.</Say></Response>",
            "Please tell us your number. ".repeat(10)
        )
    };
    for (attributes, pressed, digits) in [
        ("", "12#", Some("12")),
        ("numDigits='2'", "123", Some("12")),
        ("finishOnKey='*'", "1#*", Some("1#")),
        ("timeout='1'", "7", Some("7")),
        ("timeout='1'", "", None),
        ("timeout='1' actionOnEmptyResult='true'", "", Some("")),
    ] {
        let document = gather(attributes);
        let documents = [
            ("/voice/incoming", TWIML),
            ("/voice/after", document.as_str()),
            ("/voice/keys", "<Response><Hangup/></Response>"),
        ];
        let bridge = Bridge::new(&documents, async |mut leg: Leg| leg.close().await).await;
        let mut script = vec![
            wait_for(Awaited::StreamOver),
            Step::Wait(Duration::from_secs(1)),
        ];
        if !pressed.is_empty() {
            script.push(Step::Keys(pressed.into()));
        }
        let report = bridge.phone.call(CallSetup::new(script)).await;
        clean(&report);
        match digits {
            Some(digits) => assert_eq!(
                form(&bridge, "/voice/keys")["Digits"],
                digits,
                "{attributes}"
            ),
            None => assert_eq!(report.ended, Ended::NothingLeft),
        }
        if !pressed.is_empty() {
            let lasted = report.ended_at;
            assert!(
                lasted < Duration::from_secs(10),
                "a key silences the voice: {lasted:?}"
            );
        }
    }
}
