//! Calls on which everybody behaves.

use super::*;

#[tokio::test]
async fn a_caller_speaks_and_every_frame_of_it_arrives_in_order() {
    let bridge = Bridge::listening(&[("/voice/incoming", TWIML)]).await;
    let report = bridge
        .phone
        .call(CallSetup::new(vec![
            Step::Say("caller-wait".into()),
            Step::HangUp,
        ]))
        .await;
    clean(&report);
    assert_eq!(report.ended, Ended::CallerHungUp);

    let media = bridge.messages("media");
    let clip = speech::clip("caller-wait").unwrap();
    let mut arrived = Vec::new();
    for (index, message) in media.iter().enumerate() {
        assert_eq!(message["sequenceNumber"], (index + 2).to_string());
        assert_eq!(message["media"]["chunk"], (index + 1).to_string());
        assert_eq!(message["media"]["track"], "inbound");
        let timestamp: u64 = message["media"]["timestamp"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        assert!(
            (102 + 20 * index as u64..105 + 20 * index as u64).contains(&timestamp),
            "{timestamp} for {index}"
        );
        arrived.extend(
            base64_simd::STANDARD
                .decode_to_vec(message["media"]["payload"].as_str().unwrap())
                .unwrap(),
        );
    }
    assert_eq!(media[0]["media"]["timestamp"], "102");
    assert_eq!(
        media.len(),
        clip.len().div_ceil(160),
        "one frame for every 20 ms, and then the end"
    );
    assert_eq!(&arrived[..clip.len()], clip);
    assert_eq!(report.frames_sent as usize, media.len());
    assert!(report.spoken.ends_with(&arrived));
    assert!(report.heard.len().abs_diff(report.spoken.len()) <= 160);

    let start = &bridge.messages("start")[0];
    assert_eq!(start["start"]["customParameters"], json!({"token": "t&1"}));
    assert_eq!(start["start"]["callSid"], report.call_sid);
    let stop = &bridge.messages("stop")[0];
    assert_eq!(stop["sequenceNumber"], (media.len() + 2).to_string());
    assert_eq!(bridge.seen.lock().unwrap().close_codes, [Some(1000)]);
    let mut paths = bridge.paths();
    paths.sort();
    assert_eq!(
        paths,
        ["/voice/incoming", "/voice/stream", "/voice/stream"],
        "no action after a hang-up"
    );
}

#[tokio::test]
async fn requests_look_like_twilios() {
    let bridge = Bridge::listening(&[("/voice/incoming", TWIML)]).await;
    let report = bridge.phone.call(CallSetup::new(vec![Step::HangUp])).await;
    clean(&report);
    let seen = bridge.seen.lock().unwrap();
    let form = &seen.forms[0].1;
    assert_eq!(form["CallStatus"], "ringing");
    assert_eq!(form["FromCity"], "SAN JOSÉ");
    assert_eq!(form["FromZip"], "");
    assert!(seen.heads[0].contains("User-Agent: TwilioProxy/1.1\r\n"));
    assert!(seen.heads[0].contains(&seen.signature_of_the_webhook()));
    let upgrade = seen
        .heads
        .iter()
        .find(|head| head.contains("Twilio.TmeWs/1.0"))
        .unwrap();
    let signature = webhook::signature("12345", "wss://bridge.example.com/media-stream", &[]);
    assert!(
        upgrade.contains(&format!("{:?}: {signature:?}", "x-twilio-signature")),
        "{upgrade}"
    );
    for never in ["origin", "protocol", "extensions"] {
        assert!(!upgrade.contains(never), "{upgrade}");
    }
    let events: Vec<_> = seen
        .forms
        .iter()
        .filter_map(|(_, form)| form.get("StreamEvent"))
        .collect();
    assert!(events.iter().any(|event| *event == "stream-started"));
    assert!(events.iter().any(|event| *event == "stream-stopped"));
}

#[tokio::test]
async fn the_caller_hears_everything_and_the_mark_comes_back_when_it_was_heard() {
    let bridge = Bridge::new(&[("/voice/incoming", TWIML)], async |mut leg: Leg| {
        leg.mark("idle").await;
        leg.media(&tone(7950)).await;
        leg.media(&tone(50)).await;
        leg.mark("end").await;
        leg.listen().await;
    });
    let bridge = bridge.await;
    let call = bridge.phone.start(CallSetup::new(vec![]));
    let echoed = |name: &'static str| move |event: &Event| matches!(event, Event::MarkEchoed { name: found, how: Echo::Played } if found == name);
    let idle = call
        .until(Duration::from_secs(60), echoed("idle"))
        .await
        .unwrap();
    let end = call
        .until(Duration::from_secs(60), echoed("end"))
        .await
        .unwrap();
    call.hang_up().await;
    let report = call.finish().await;
    clean(&report);
    let received = report
        .first(|event| matches!(event, Event::AudioReceived { .. }))
        .unwrap();
    let began = report
        .first(|event| matches!(event, Event::PlayingBegan))
        .unwrap();
    assert!(idle.at <= began);
    assert!(began >= received);
    assert_eq!(
        end.at - began,
        Duration::from_secs(1),
        "a second of audio was heard, to the sample"
    );
    assert_eq!(
        report.count(|event| matches!(event, Event::PlayingEnded { bytes: 8000 })),
        1
    );
    let at = (began.as_micros() / 125) as usize;
    assert_eq!(is_tone(&report.heard), 8000);
    assert_eq!(
        is_tone(&report.heard[at..at + 8000]),
        8000,
        "the recording stands at its time"
    );
}

#[tokio::test]
async fn a_clear_silences_the_agent_and_brings_back_every_mark() {
    let bridge = Bridge::new(&[("/voice/incoming", TWIML)], async |mut leg: Leg| {
        for name in ["one", "two", "three"] {
            leg.media(&tone(40_000)).await;
            leg.mark(name).await;
        }
        // The caller breaks in after some of the first five seconds.
        leg.until(|message| message["event"] == "dtmf").await;
        leg.clear().await;
        leg.listen().await;
    });
    let bridge = bridge.await;
    let after = Step::After {
        speaking: Duration::from_secs(1),
        timeout: Duration::from_secs(60),
    };
    let script = vec![
        after,
        Step::Dtmf("5".into()),
        wait_for(Awaited::Clear),
        wait_for(Awaited::AgentQuiet),
        Step::HangUp,
    ];
    let report = bridge.phone.call(CallSetup::new(script)).await;
    clean(&report);
    assert_eq!(report.ended, Ended::CallerHungUp);
    let flushed = report.entries.iter().find_map(|entry| match entry.event {
        Event::ClearReceived { flushed, marks } => Some((flushed, marks)),
        _ => None,
    });
    let (flushed, marks) = flushed.unwrap();
    assert_eq!(
        is_tone(&report.heard) + flushed,
        120_000,
        "what was not heard was flushed"
    );
    assert!(is_tone(&report.heard) >= 8000);
    let echoes: Vec<_> = bridge
        .messages("mark")
        .iter()
        .map(|mark| mark["mark"]["name"].clone())
        .collect();
    assert_eq!(echoes, ["one", "two", "three"]);
    assert_eq!(
        report.count(|event| matches!(
            event,
            Event::MarkEchoed {
                how: Echo::Flushed,
                ..
            }
        )),
        marks
    );
    assert_eq!(
        bridge.messages("dtmf")[0]["dtmf"],
        json!({"track": "inbound_track", "digit": "5"})
    );
}

#[tokio::test]
async fn the_bridge_hangs_up_and_the_action_says_what_comes_next() {
    let after = "<Response><Say>Please hold.</Say><Dial action='/voice/dialled'>+61255550100</Dial></Response>";
    let documents = [
        ("/voice/incoming", TWIML),
        ("/voice/after", after),
        ("/voice/dialled", "<Response><Hangup/></Response>"),
    ];
    let bridge = Bridge::new(&documents, async |mut leg: Leg| {
        leg.media(&tone(800)).await;
        leg.close().await;
    });
    let mut bridge = bridge.await;
    bridge.phone.options.status_path = Some("/voice/status".into());
    let report = bridge.phone.call(CallSetup::new(vec![])).await;
    clean(&report);
    assert_eq!(report.ended, Ended::Hangup);
    assert_eq!(
        report.count(|event| matches!(event, Event::StopSent)),
        0,
        "there is nobody to send it to"
    );
    let closed = Event::SocketClosed {
        by: Party::Bridge,
        code: Some(1000),
        reason: "done".into(),
    };
    assert_eq!(report.count(|event| *event == closed), 1);
    let unplayed = report.entries.iter().find_map(|entry| match entry.event {
        Event::StreamOver { unplayed, .. } => Some(unplayed),
        _ => None,
    });
    assert_eq!(
        unplayed.unwrap() + is_tone(&report.heard),
        800,
        "what a close cuts off is not hidden"
    );
    assert_eq!(
        report.count(
            |event| matches!(event, Event::Dialled { numbers } if numbers == &["+61255550100"])
        ),
        1
    );
    let said = report
        .first(|event| matches!(event, Event::Said { .. }))
        .unwrap();
    let dialled = report
        .first(|event| matches!(event, Event::Dialled { .. }))
        .unwrap();
    assert!(dialled - said >= Duration::from_millis(12 * 60));
    let seen = bridge.seen.lock().unwrap();
    let form = |path: &str| {
        seen.forms
            .iter()
            .find(|(found, _)| found == path)
            .unwrap()
            .1
            .clone()
    };
    assert_eq!(form("/voice/after")["CallStatus"], "in-progress");
    assert_eq!(form("/voice/dialled")["DialCallStatus"], "completed");
    assert_eq!(form("/voice/status")["CallStatus"], "completed");
}

#[tokio::test]
async fn a_call_can_end_without_a_stream() {
    let at = async |document: &'static str| {
        let bridge = Bridge::listening(&[("/voice/incoming", document)]).await;
        bridge.phone.call(CallSetup::new(vec![])).await
    };
    let report = at("<Response><Reject reason='busy'/></Response>").await;
    clean(&report);
    assert_eq!(report.ended, Ended::Rejected { busy: true });
    let report = at("<Response><Say>Closed.</Say></Response>").await;
    clean(&report);
    assert_eq!(report.ended, Ended::NothingLeft);
    let report = at("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").await;
    clean(&report);
    assert!(matches!(report.ended, Ended::ApplicationError { .. }));
    let report =
        at("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 11\r\n\r\n<Response/>")
            .await;
    assert!(
        report.violations[0].0.starts_with("12300"),
        "{:?}",
        report.violations
    );
    let report = at("<Response><Redirect>/voice/incoming</Redirect></Response>").await;
    assert!(
        report.violations[0].0.starts_with("11215"),
        "{:?}",
        report.violations
    );
    let report = at(
        "<Response><Connect><Stream url='wss://bridge.example.com/nowhere'/></Connect></Response>",
    )
    .await;
    assert_eq!(report.ended, Ended::NothingLeft);
    assert_eq!(
        report.count(|event| matches!(event, Event::UpgradeRefused { status: 204 })),
        1
    );
}

#[tokio::test]
async fn a_gap_sends_nothing_and_the_timestamps_jump() {
    let bridge = Bridge::listening(&[("/voice/incoming", TWIML)]).await;
    let script = vec![
        Step::Wait(Duration::from_millis(100)),
        Step::Gap(Duration::from_millis(200)),
        Step::Say("caller-yes".into()),
        Step::HangUp,
    ];
    let report = bridge.phone.call(CallSetup::new(script)).await;
    clean(&report);
    let stamps: Vec<u64> = bridge
        .messages("media")
        .iter()
        .map(|message| {
            message["media"]["timestamp"]
                .as_str()
                .unwrap()
                .parse()
                .unwrap()
        })
        .collect();
    let jumps: Vec<u64> = stamps
        .windows(2)
        .map(|pair| pair[1] - pair[0])
        .filter(|&step| step > 30)
        .collect();
    assert_eq!(jumps.len(), 1, "{stamps:?}");
    assert!((218..=224).contains(&jumps[0]), "{jumps:?}");
}

#[tokio::test]
async fn the_story_goes_on_behind_the_stream() {
    let documents = [
        ("/voice/incoming", TWIML),
        (
            "/voice/after",
            "<Response><Pause length='60'/><Say>Too late.</Say></Response>",
        ),
    ];
    let bridge = Bridge::new(&documents, async |mut leg: Leg| leg.close().await).await;
    let script = vec![
        wait_for(Awaited::StreamOver),
        Step::Wait(Duration::from_secs(1)),
        Step::HangUp,
    ];
    let report = bridge.phone.call(CallSetup::new(script)).await;
    clean(&report);
    assert_eq!(report.ended, Ended::CallerHungUp);
    assert_eq!(report.count(|event| matches!(event, Event::Said { .. })), 0);
}

#[tokio::test]
async fn a_load_call_counts_and_keeps_nothing() {
    #[derive(Default)]
    struct Counts {
        sent: u64,
        media: usize,
    }
    struct Counter(Arc<Mutex<Counts>>);
    impl Probe for Counter {
        fn frame(&mut self, number: u64, payload: &mut [u8; FRAME_SAMPLES]) {
            payload.fill(number as u8);
        }
        fn sent(&mut self, number: u64, _at: Instant) {
            let mut counts = self.0.lock().unwrap();
            assert_eq!(number, counts.sent);
            counts.sent += 1;
        }
        fn media(&mut self, mulaw: &[u8], _at: Instant) {
            self.0.lock().unwrap().media += mulaw.len();
        }
    }
    let bridge = Bridge::new(&[("/voice/incoming", TWIML)], async |mut leg: Leg| {
        while let Some(message) = leg.until(|message| message["event"] == "media").await {
            let audio = base64_simd::STANDARD
                .decode_to_vec(message["media"]["payload"].as_str().unwrap())
                .unwrap();
            leg.media(&audio).await;
        }
    })
    .await;
    let counts = Arc::new(Mutex::new(Counts::default()));
    let probe = Box::new(Counter(counts.clone()));
    let report = bridge
        .phone
        .load_call(
            CallSetup::new(vec![]),
            Duration::from_secs(4),
            CancellationToken::new(),
            probe,
        )
        .await;
    clean(&report);
    assert_eq!(report.frames_sent, 200);
    assert_eq!(counts.lock().unwrap().sent, 200);
    let echoed = counts.lock().unwrap().media;
    assert!(
        echoed > 0 && echoed <= 200 * 160 && echoed.is_multiple_of(160),
        "{echoed}"
    );
    assert!(report.heard.is_empty() && report.spoken.is_empty());
    assert_eq!(
        bridge.messages("media")[7]["media"]["payload"],
        base64_simd::STANDARD.encode_to_string([7; 160])
    );
}

#[tokio::test]
async fn the_rest_api_ends_a_call_with_a_stop_and_no_action() {
    let bridge =
        Bridge::listening(&[("/voice/incoming", TWIML), ("/voice/after", "<Response/>")]).await;
    let call = bridge.phone.start(CallSetup::new(vec![]));
    let started = call
        .until(Duration::from_secs(60), |event| {
            matches!(event, Event::StreamStarted { .. })
        })
        .await;
    assert!(started.is_some());
    let (resource, ended_now) = bridge.phone.switchboard.complete(call.call_sid()).unwrap();
    assert_eq!((resource.status, ended_now), (CallStatus::Completed, true));
    let report = call.finish().await;
    clean(&report);
    assert_eq!(report.ended, Ended::RestCompleted);
    assert_eq!(bridge.messages("stop").len(), 1);
    assert_eq!(bridge.seen.lock().unwrap().close_codes, [Some(1000)]);
    assert!(!bridge.paths().contains(&"/voice/after".to_owned()));
}

#[tokio::test]
async fn turns_tell_how_long_the_answer_took() {
    let bridge = Bridge::new(&[("/voice/incoming", TWIML)], async |mut leg: Leg| {
        leg.until(|message| message["event"] == "dtmf").await;
        leg.media(speech::clip("agent-more").unwrap()).await;
        leg.listen().await;
    })
    .await;
    let script = vec![
        Step::Say("caller-yes".into()),
        Step::Wait(Duration::from_secs(1)),
        Step::Dtmf("1".into()),
        wait_for(Awaited::AgentSpeaking),
        wait_for(Awaited::AgentQuiet),
        Step::Say("caller-yes".into()),
        Step::HangUp,
    ];
    let report = bridge.phone.call(CallSetup::new(script)).await;
    clean(&report);
    let turns = report.turns();
    assert_eq!(turns.len(), 2);
    assert!(turns[0].answered_after.unwrap() >= Duration::from_secs(1));
    assert_eq!(turns[1].answered_after, None);
    let json = serde_json::to_value(&report.entries).unwrap();
    assert!(
        json.as_array()
            .unwrap()
            .iter()
            .any(|entry| entry["event"] == "clip-ended" && entry["at_ms"].is_u64())
    );
}
