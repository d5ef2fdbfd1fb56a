//! Calls on which somebody does not behave: the bridge, or the telephone as it was told.

use super::*;

#[tokio::test]
async fn everything_that_twilio_would_not_take_is_written_down_and_ignored() {
    let bridge = Bridge::new(&[("/voice/incoming", TWIML)], async |mut leg: Leg| {
        let sid = leg.stream_sid.clone();
        leg.send("hello".into()).await;
        leg.send(json!({"event": "clear", "streamSid": "MZ0"}).to_string())
            .await;
        leg.send(json!({"event": "clear", "stream_sid": sid}).to_string())
            .await;
        leg.send(
            json!({"event": "media", "streamSid": sid, "media": {"payload": "*"}}).to_string(),
        )
        .await;
        leg.media(b"RIFF\x00\x00\x00\x00WAVE").await;
        leg.media(&[]).await;
        let _ = leg.socket.send(Message::binary(vec![0xff; 160])).await;
        leg.mark("after all that").await;
        leg.listen().await;
    });
    let bridge = bridge.await;
    let call = bridge.phone.start(CallSetup::new(vec![]));
    assert!(
        call.until(Duration::from_secs(60), |event| matches!(
            event,
            Event::MarkEchoed { .. }
        ))
        .await
        .is_some()
    );
    call.hang_up().await;
    let report = call.finish().await;
    assert_eq!(report.violations.len(), 7, "{:?}", report.violations);
    assert_eq!(
        report.count(|event| matches!(
            event,
            Event::AudioReceived { .. } | Event::ClearReceived { .. }
        )),
        0
    );
}

#[tokio::test]
async fn ten_minutes_of_audio_overflow_the_queue_once() {
    let bridge = Bridge::new(&[("/voice/incoming", TWIML)], async |mut leg: Leg| {
        for _ in 0..12 {
            leg.media(&vec![1; 480_000]).await;
        }
        leg.mark("m").await;
        leg.clear().await;
        leg.listen().await;
    });
    let bridge = bridge.await;
    let report = bridge
        .phone
        .call(CallSetup::new(vec![wait_for(Awaited::Clear), Step::HangUp]))
        .await;
    assert_eq!(report.violations.len(), 1, "{:?}", report.violations);
    assert!(report.violations[0].0.starts_with("31931"));
}

#[tokio::test]
async fn a_lost_connection_says_nothing_before_it_goes() {
    let bridge = Bridge::listening(&[("/voice/incoming", TWIML)]).await;
    let report = bridge
        .phone
        .call(CallSetup::new(vec![
            Step::Wait(Duration::from_secs(1)),
            Step::Drop,
        ]))
        .await;
    clean(&report);
    assert_eq!(report.ended, Ended::Dropped);
    assert_eq!(bridge.messages("stop").len(), 0);
    assert_eq!(bridge.seen.lock().unwrap().close_codes, []);
}

#[tokio::test]
async fn a_bridge_that_breaks_off_is_told_from_one_that_closes() {
    let bridge = Bridge::new(
        &[("/voice/incoming", TWIML), ("/voice/after", "<Response/>")],
        async |leg: Leg| drop(leg),
    );
    let report = bridge.await.phone.call(CallSetup::new(vec![])).await;
    assert_eq!(report.violations.len(), 1, "{:?}", report.violations);
    assert!(report.violations[0].0.starts_with("31903"));
    assert_eq!(report.ended, Ended::NothingLeft);
}

#[tokio::test]
async fn nobody_waits_for_ever() {
    let bridge = Bridge::listening(&[("/voice/incoming", TWIML)]).await;
    let script = vec![Step::WaitFor {
        what: Awaited::AgentSpeaking,
        timeout: Duration::from_secs(2),
    }];
    let report = bridge.phone.call(CallSetup::new(script)).await;
    assert!(
        matches!(&report.ended, Ended::StepTimedOut { step } if step.contains("AgentSpeaking"))
    );
    let mut phone = bridge.phone.clone();
    phone.options.linger = Duration::from_secs(1);
    let report = phone.call(CallSetup::new(vec![])).await;
    clean(&report);
    assert_eq!(report.ended, Ended::Lingered);
    assert_eq!(
        report.frames_sent, 50,
        "a second of frames, then the receiver goes down"
    );
}

#[tokio::test]
async fn the_faults_are_what_they_say() {
    let with = async |fault: Fault| {
        let mut bridge = Bridge::listening(&[("/voice/incoming", TWIML)]).await;
        bridge.phone.options.faults = vec![fault];
        let report = bridge
            .phone
            .call(CallSetup::new(vec![
                Step::Say("caller-yes".into()),
                Step::Wait(Duration::from_secs(1)),
                Step::HangUp,
            ]))
            .await;
        clean(&report);
        assert_eq!(report.ended, Ended::CallerHungUp, "{fault:?}");
        let heads = bridge.seen.lock().unwrap().heads.join("\n");
        (bridge, report, heads)
    };
    let url = "wss://bridge.example.com/media-stream";
    let signed = |token, url: &str| webhook::signature(token, url, &[]);

    let (bridge, _, heads) = with(Fault::WebhookSignature).await;
    assert!(!heads.contains(&bridge.seen.lock().unwrap().signature_of_the_webhook()));
    let (bridge, _, _) = with(Fault::NoToken).await;
    assert_eq!(
        bridge.messages("start")[0]["start"]["customParameters"],
        json!({})
    );
    let (bridge, _, _) = with(Fault::StolenToken).await;
    let sids: Vec<_> = bridge
        .seen
        .lock()
        .unwrap()
        .forms
        .iter()
        .map(|(_, form)| form["CallSid"].clone())
        .collect();
    assert_ne!(sids[0], sids[1]);
    let (bridge, _, _) = with(Fault::NoWebhook).await;
    assert!(bridge.paths().is_empty());
    assert_eq!(bridge.messages("start").len(), 1);
    let (bridge, _, _) = with(Fault::BareNumbers).await;
    assert_eq!(bridge.messages("media")[0]["media"]["timestamp"], 102);
    let (bridge, _, _) = with(Fault::NeverStart).await;
    assert!(bridge.seen.lock().unwrap().messages.is_empty());
    let (bridge, report, _) = with(Fault::SecondSocket).await;
    assert_eq!(bridge.messages("start").len(), 2);
    assert_eq!(
        report.count(
            |event| matches!(event, Event::SecondSocket { outcome } if outcome.contains("silent"))
        ),
        1
    );
    let (_, _, heads) = with(Fault::UpgradeSignature).await;
    assert!(!heads.contains(&signed("12345", url)));
    let (_, _, heads) = with(Fault::TrailingSlash).await;
    assert!(heads.contains(&signed("12345", "wss://bridge.example.com/media-stream/")));
    let (_, _, heads) = with(Fault::Port443).await;
    assert!(heads.contains(&signed(
        "12345",
        "wss://bridge.example.com:443/media-stream"
    )));
    let (bridge, _, heads) = with(Fault::GetWebhook).await;
    assert!(heads.starts_with("GET /voice/incoming?AccountSid=AC"));
    assert!(bridge.paths()[0].contains("CallStatus=ringing"));
}

#[tokio::test]
async fn a_reader_that_lags_still_gets_to_the_end() {
    let mut bridge = Bridge::new(&[("/voice/incoming", TWIML)], async |mut leg: Leg| {
        // More than the socket holds; this blocks until the phone goes.
        leg.media(&tone(2_000_000)).await;
        leg.media(&tone(2_000_000)).await;
    })
    .await;
    bridge.phone.options.faults = vec![Fault::SlowReader];
    let report = bridge
        .phone
        .call(CallSetup::new(vec![
            Step::Wait(Duration::from_secs(2)),
            Step::HangUp,
        ]))
        .await;
    assert_eq!(report.ended, Ended::CallerHungUp);
    assert_eq!(
        report.count(|event| matches!(event, Event::AudioReceived { .. })),
        0
    );
}
