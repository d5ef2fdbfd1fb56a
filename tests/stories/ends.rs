//! When one side goes, the other is told.

use hume_bridge::{
    audio::g711,
    sim::{
        ear,
        evi::{By, What},
        phone::{Awaited, Ended, Event, Fault, Party, Step},
        speech,
    },
};

use crate::stage::{causes, close, faulty, in_time, raw, say, start, until, wait_for, world};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_who_hangs_up_frees_the_agent() {
    let world = world("[agent]\ngreeting = [{ say = \"agent-hours\" }, { end = true }]").await;
    for step in [Step::HangUp, Step::Drop] {
        start(&world.phone, vec![wait_for(Awaited::AgentSpeaking), step])
            .finish()
            .await;
    }
    let closed = |what: &What| {
        matches!(
            what,
            What::Closed {
                by: By::Bridge,
                code: Some(1000),
                ..
            }
        )
    };
    in_time(world.agent.until(|record| {
        record
            .events
            .iter()
            .filter(|event| closed(&event.what))
            .count()
            == 2
    }))
    .await;
    assert_eq!(
        causes(&close(world).await),
        ["caller-hung-up", "carrier-lost"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_who_hangs_up_while_the_agent_is_being_dialled_leaves_no_chat() {
    let world = world("[agent]\nready_after = \"20s\"").await;
    start(&world.phone, vec![Step::HangUp]).finish().await;
    let log = close(world).await;
    assert_eq!(causes(&log), ["caller-hung-up"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_agent_frees_the_caller() {
    let world = world(
        "config = \"\"\"\ncalls.fallback = { hangup = true }\nhume.reconnect_budget = \"0s\"\n\"\"\"\n\
         [agent]\ngreeting = [{ wait = \"1s\" }, { drop = true }]",
    )
    .await;
    let call = start(&world.phone, vec![wait_for(Awaited::StreamOver)]);
    let closed = |event: &Event| {
        matches!(
            event,
            Event::SocketClosed {
                by: Party::Bridge,
                code: Some(1000),
                ..
            }
        )
    };
    until(&call, closed).await;
    assert_eq!(call.finish().await.ended, Ended::Hangup);
    assert_eq!(causes(&close(world).await), ["agent-lost"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_lasts_too_long_is_ended() {
    let world = world("config = 'calls.max_duration = \"1s\"'").await;
    let call = start(&world.phone, vec![wait_for(Awaited::StreamOver)]);
    assert_eq!(call.finish().await.ended, Ended::RestCompleted);
    assert_eq!(causes(&close(world).await), ["max-duration"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_call_too_many_hears_the_busy_tone() {
    let world = world("config = 'calls.max_concurrent = 1'").await;
    let first = start(&world.phone, vec![]);
    until(&first, |event| matches!(event, Event::StreamStarted { .. })).await;
    let second = start(&world.phone, vec![Step::HangUp]).finish().await;
    assert_eq!(second.ended, Ended::Rejected { busy: true });
    // Who hangs up at once may cut off the handshake with the agent, which the agent would report.
    in_time(world.agent.until(|record| !record.uplinks.is_empty())).await;
    first.hang_up().await;
    assert_eq!(first.finish().await.ended, Ended::CallerHungUp);
    assert_eq!(causes(&close(world).await), ["caller-hung-up"]);
}

/// The telephone reads nothing, and the agent says more than all buffers in between can hold.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_telephone_that_takes_nothing_is_given_up_and_until_then_heard() {
    let hours = "{ say = \"agent-hours\", rate = 8000 },".repeat(60);
    let world = world(&format!(
        "[agent]\ninterruptible = \"never\"\ngreeting = [{hours} {{ end = true }}]"
    ))
    .await;
    let phone = faulty(&world, Fault::SlowReader);
    let steps = vec![say("caller-hours"), wait_for(Awaited::StreamOver)];
    let call = start(&phone, steps);
    let closed = |what: &What| {
        matches!(
            what,
            What::Closed {
                by: By::Bridge,
                code: Some(1000),
                ..
            }
        )
    };
    in_time(
        world
            .agent
            .until(|record| record.events.iter().any(|event| closed(&event.what))),
    )
    .await;
    in_time(call.finish()).await;
    let record = world.agent.record();
    let mut mulaw = Vec::new();
    g711::encode_into(&record.uplinks[&0].audio, &mut mulaw);
    let clip = speech::clip("caller-hours").expect("a clip");
    assert!(ear::find(&mulaw, clip).is_some_and(|found| found.is_whole()));
    assert_eq!(causes(&close(world).await), ["carrier-failed"]);
}

/// Twilio can be told to send what it plays, too. The agent must not be made to listen to itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bridges_own_voice_is_not_taken_for_the_callers() {
    let world = world("[agent]").await;
    // Full scale in mu-law, 20 ms.
    let loud = base64_simd::STANDARD.encode_to_string([0x80; 160]);
    let frame = |track| {
        raw(format!(
            r#"{{"event":"media","media":{{"track":"{track}","payload":"{loud}"}}}}"#
        ))
    };
    let sent = |track| {
        let mut steps = vec![frame(track); 20];
        steps.extend([say("caller-thanks"), Step::HangUp]);
        steps
    };
    let peak = |connection| {
        let audio = &world.agent.record().uplinks[&connection].audio;
        audio.iter().map(|sample| sample.unsigned_abs()).max()
    };
    start(&world.phone, sent("outbound")).finish().await;
    start(&world.phone, sent("inbound")).finish().await;
    let (outbound, inbound) = (peak(0).unwrap(), peak(1).unwrap());
    assert!(
        inbound > 32_000,
        "the loud frames are heard at all: {inbound}"
    );
    assert!(outbound < 32_000, "{outbound}");
    close(world).await;
}
