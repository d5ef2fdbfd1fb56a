//! Calls that know nothing of one another.

use std::time::Duration;

use hume_bridge::{
    audio::g711,
    sim::{
        ear,
        phone::{Awaited, CallSetup, Ended, Event, Step},
        speech,
    },
};

use crate::stage::{
    binary, causes, close, closed_with, heard, in_time, raw, say, start, wait_for, world,
};

const ANSWERS: &str = r#"
    [[agent.replies]]
    steps = [{ say = "agent-saturday" }, { end = true }]
"#;

fn listens() -> Vec<Step> {
    vec![
        wait_for(Awaited::AgentSpeaking),
        wait_for(Awaited::AgentQuiet),
        Step::HangUp,
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_callers_at_once_do_not_hear_each_other() {
    let world = world(ANSWERS).await;
    let mut asks = vec![say("caller-hours")];
    asks.extend(listens());
    let speaker = start(&world.phone, asks);
    let silent = start(
        &world.phone,
        vec![Step::Wait(Duration::from_secs(8)), Step::HangUp],
    );
    let (speaker, silent) = tokio::join!(speaker.finish(), silent.finish());
    assert!(heard(&speaker, "agent-saturday"));
    assert!(ear::speech(&silent.heard).is_empty());
    assert_eq!(
        silent.count(|event| matches!(event, Event::AudioReceived { .. })),
        0
    );

    let clip = speech::clip("caller-hours").expect("a clip");
    let record = world.agent.record();
    assert_eq!(record.uplinks.len(), 2);
    let heard: Vec<bool> = record
        .uplinks
        .values()
        .map(|uplink| {
            let mut mulaw = Vec::new();
            g711::encode_into(&uplink.audio, &mut mulaw);
            ear::find(&mulaw, clip).is_some_and(|found| found.is_whole())
        })
        .collect();
    assert_eq!(heard.iter().filter(|heard| **heard).count(), 1, "{heard:?}");
    close(world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_company_does_not_disturb_a_good_call() {
    // All six have one number.
    let world = world(&format!("config = 'calls.max_per_caller = 0'\n{ANSWERS}")).await;
    let mut asks = vec![say("caller-hours")];
    asks.extend(listens());
    let good = start(&world.phone, asks);
    let flood = |step: Step| vec![step; 300];
    let bad = [
        (flood(raw("nonsense")), 1007),
        (
            flood(raw("{\"event\":\"media\",\"media\":{\"payload\":\"%\"}}")),
            1007,
        ),
        (flood(binary("nonsense")), 1003),
        (vec![raw("x".repeat(70_000))], 1009),
        (vec![binary("x".repeat(200_000))], 1009),
    ];
    let bad: Vec<_> = bad
        .into_iter()
        .map(|(steps, code)| (start(&world.phone, steps), code))
        .collect();
    for (call, code) in bad {
        let report = call.finish().await;
        assert_eq!(closed_with(&report), Some(code), "{:#?}", report.entries);
        // The caller of a broken stream is owed the fallback.
        assert_eq!(report.ended, Ended::Hangup);
        assert_eq!(report.count(|event| matches!(event, Event::Said { .. })), 1);
    }
    let good = good.finish().await;
    assert!(heard(&good, "agent-saturday"));
    assert_eq!(good.ended, Ended::CallerHungUp);
    assert_eq!(good.violations, []);
    let mut causes = causes(&close(world).await);
    causes.sort();
    assert_eq!(
        causes,
        [
            "caller-hung-up",
            "carrier-failed",
            "carrier-failed",
            "carrier-failed",
            "carrier-failed",
            "carrier-failed"
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_before_the_start_is_nobodys_call() {
    let world = world("").await;
    let phone = crate::stage::faulty(&world, hume_bridge::sim::phone::Fault::NeverStart);
    for steps in [
        vec![raw("nonsense"); 40],
        vec![binary("nonsense"); 40],
        vec![raw("x".repeat(70_000))],
        vec![raw("{\"event\":\"start\",\"start\":{}}"); 40],
    ] {
        let report = in_time(start(&phone, steps).finish()).await;
        assert_eq!(closed_with(&report), Some(1008), "{:#?}", report.entries);
    }
    assert_eq!(world.agent.record().events, []);
    let log = close(world).await;
    assert_eq!(causes(&log), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_with_odd_numbers_are_answered() {
    let world = world(
        "config = 'calls.fallback = { hangup = true }'\n\
         [agent]\ngreeting = [{ say = \"agent-more\" }, { end = true }]",
    )
    .await;
    let from = |from: &str| CallSetup {
        from: from.to_owned(),
        ..CallSetup::new(listens())
    };
    for number in ["anonymous", "", "sip:j\u{fc}rgen@example.com", "<\"&'>"] {
        let report = world.phone.start(from(number)).finish().await;
        assert!(heard(&report, "agent-more"), "{number}: {:?}", report.ended);
        assert_eq!(report.violations, [], "{number}");
    }
    // More than a parameter of Twilio's can carry: no agent, but no error message either.
    let report = world.phone.start(from(&"x".repeat(505))).finish().await;
    assert_eq!(report.ended, Ended::Hangup);
    assert_eq!(causes(&close(world).await), ["caller-hung-up"; 4]);
}
