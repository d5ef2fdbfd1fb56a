//! What a caller hears while the agent is away, and what the next agent knows.

use hume_bridge::{
    audio::{g711, wav},
    sim::{
        phone::{Awaited, Event, Step},
        speech,
    },
};

use crate::stage::{close, ctl, heard, in_time, start, status, until, wait_for, world, world_at};

/// A clip as a WAV file.
fn recording(clip: &str) -> Vec<u8> {
    let mut samples = Vec::new();
    g711::decode_into(speech::clip(clip).expect("a clip"), &mut samples);
    wav::write(8000, 1, &samples)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_who_waits_hears_the_operators_recording_until_the_agent_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let sound = directory.path().join("wait.wav");
    std::fs::write(&sound, recording("agent-goodbye")).unwrap();
    let toml = format!(
        r#"
        config = """
        calls.hold_sound = "{}"
        calls.hold_after = "1s"
        hume.connect_timeout = "6s"
        hume.connect_budget = "20s"
        """
        [agent]
        handshake = ["silent"]
        greeting = [{{ say = "agent-greeting" }}, {{ end = true }}]
        "#,
        sound.display()
    );
    let world = world_at(1.0, &toml).await;
    let call = start(&world.phone, vec![wait_for(Awaited::StreamOver)]);
    // The agent is there: what is left of the recording is taken back.
    until(&call, |event| matches!(event, Event::ClearReceived { .. })).await;
    let greeted = |event: &Event| matches!(event, Event::MarkEchoed { .. });
    until(&call, greeted).await;
    call.hang_up().await;
    let report = call.finish().await;
    assert!(heard(&report, "agent-goodbye"), "the recording");
    assert!(heard(&report, "agent-greeting"), "the agent");
    let log = close(world).await;
    assert!(log.iter().any(|line| line.contains("hears the hold sound")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_has_to_begin_anew_is_told_what_was_said_and_what_an_operator_added() {
    let world = world(
        r#"
        [agent]
        refuse_resume = "E0720"
        [[agent.replies]]
        heard = "When are you open?"
        steps = [{ say = "agent-more" }, { end = true }, { wait = "4s" }, { drop = true }]
        "#,
    )
    .await;
    let steps = vec![
        Step::Say("caller-hours".to_owned()),
        wait_for(Awaited::AgentSpeaking),
        wait_for(Awaited::AgentQuiet),
    ];
    let call = start(&world.phone, steps);
    until(&call, |event| matches!(event, Event::MarkEchoed { .. })).await;
    let sid = status(&world).await["sessions"][0]["callSid"]
        .as_str()
        .expect("a call")
        .to_owned();
    let (code, ..) = ctl(&world, &["context", &sid, "Is a member."]).await;
    assert_eq!(code, Some(0));
    let told = |record: &hume_bridge::sim::evi::Record| {
        let frames = record.jsonl();
        let mut settings = frames.lines().filter(|line| line.contains("Caller: "));
        settings.any(|line| {
            line.contains("Caller: When are you open?\\nYou: Of course, go ahead.\\nIs a member.")
        })
    };
    in_time(world.agent.until(told)).await;
    call.hang_up().await;
    call.finish().await;
    let log = close(world).await;
    assert!(
        !log.iter()
            .any(|line| line.contains("go ahead") || line.contains("member")),
        "what is said stays out of the log"
    );
}
