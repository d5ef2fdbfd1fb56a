//! The wires between telephone, bridge, agent and REST API fail in all the ways that wires have.
//!
//! What is heard is compared to the sample: the caller's frames are noise that no other call has,
//! and what the agent says is held against what an undisturbed caller heard of it.

mod fifty;
mod wires;

use std::sync::Arc;

use hume_bridge::{
    audio::g711,
    sim::{
        faults::{Kind, Plan, Way, What, transparent},
        phone::{Awaited, Ended},
        speech::FRAME_SAMPLES,
    },
};
use tokio::{task::JoinSet, time::timeout};

use crate::stage::{causes, close, heard, in_time, say, start, wait_for};
use wires::{
    ENOUGH, JITTER, LAST_DEADLINE, Placed, STALL, at, between, greets, hears, length, undisturbed,
};

/// Behind the upgrade, the opening and the first words.
const AMID: u64 = 12_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wires_that_dally_change_no_sample() {
    let toml = greets("agent-more", ", message_ms = [100]", "");
    let whole = undisturbed(&toml, length("agent-more")).await;
    let mut stages = JoinSet::new();
    for (name, on_phone, on_agent) in [
        ("split", What::Split { most: 3 }, What::Split { most: 60 }),
        ("delay", JITTER, JITTER),
        ("stall", STALL, STALL),
    ] {
        for agent in [false, true] {
            let (toml, whole) = (toml.clone(), whole.clone());
            let what = if agent { on_agent } else { on_phone };
            // From the first byte on, so the handshakes and webhooks are in it; but a stall is one.
            let byte = if name == "stall" { AMID } else { 0 };
            let plan: Plan =
                Arc::new(move |_| vec![at(Way::Out, byte, what), at(Way::Back, byte, what)]);
            stages.spawn(async move {
                let (agent_plan, phone_plan) = match agent {
                    true => (plan, transparent()),
                    false => (transparent(), plan),
                };
                let stage = between(&toml, agent_plan, transparent()).await;
                let (phone, wire) = stage.phone(phone_plan).await;
                let mut call = Placed::new(&phone, 7);
                let all = call.has_heard(whole.len()).await;
                let (report, reel) = call.hung_up().await;
                let told = format!("{name}, {}", if agent { "agent" } else { "telephone" });
                assert!(all, "{told}: {:#?}", stage.world.bridge.log());
                assert_eq!(report.ended, Ended::CallerHungUp, "{told}");
                assert_eq!(report.violations, [], "{told}");
                assert!(reel.heard == whole, "{told}");
                assert!(hears(&stage.agent_is_alone().await, &reel), "{told}");
                let struck = if agent {
                    stage.agent.counts()
                } else {
                    wire.counts()
                }
                .struck;
                assert!(struck[&what.kind()] >= 2, "{told}: {struck:?}");
                assert_eq!(
                    causes(&close(stage.world).await),
                    ["caller-hung-up"],
                    "{told}"
                );
            });
        }
    }
    while let Some(told) = stages.join_next().await {
        told.expect("the story holds");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_telephones_wire_that_ends_is_the_end_of_the_call() {
    let stage = between(&greets("agent-hours", "", ""), transparent(), transparent()).await;
    for (way, what) in [
        (Way::Out, What::Close),
        (Way::Back, What::Reset),
        // The bridge's ear is gone, then the telephone's.
        (Way::Out, What::HalfClose),
        (Way::Back, What::HalfClose),
    ] {
        let (phone, wire) = stage.phone(at(way, AMID, what).always()).await;
        let (report, _) = Placed::new(&phone, 1).ended().await;
        assert_eq!(wire.counts().struck, [(what.kind(), 1)].into());
        // The caller is still there: Twilio asks what is next, and is told to hang up.
        assert_eq!(
            report.ended,
            Ended::Hangup,
            "{what:?}: {:#?}",
            report.entries
        );
        stage.forgets().await;
    }
    stage.agent_is_alone().await;
    assert_eq!(causes(&close(stage.world).await), ["carrier-lost"; 4]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_telephone_that_makes_no_sense_any_more_is_given_up() {
    let stage = between(&greets("agent-more", "", ""), transparent(), transparent()).await;
    // More than a frame: whatever else it hits, it hits the beginning of one.
    let torn = What::Corrupt {
        bytes: 1000,
        flip: 0x70,
    };
    let (phone, _wire) = stage.phone(at(Way::Out, AMID, torn).always()).await;
    let (report, _) = Placed::new(&phone, 1).ended().await;
    assert_eq!(report.ended, Ended::Hangup, "{:#?}", report.entries);
    stage.forgets().await;

    // A single byte is a single frame, unless it is the one that holds the frame's length.
    let toml = greets("agent-more", "", "");
    let whole = undisturbed(&toml, length("agent-more")).await;
    let touched = What::Corrupt { bytes: 1, flip: 1 };
    let (phone, _wire) = stage.phone(at(Way::Out, AMID, touched).always()).await;
    let mut call = Placed::new(&phone, 2);
    let all = call.has_heard(whole.len()).await;
    let (report, reel) = call.hung_up().await;
    let record = stage.agent_is_alone().await;
    let log = stage.end().await;
    let causes = causes(&log);
    assert_eq!(causes[0], "carrier-failed");
    match &*causes[1] {
        "caller-hung-up" => {
            assert!(all && reel.heard == whole, "{:#?}", report.entries);
            // A frame with a click in it, or none and silence: but for that it is the same.
            let mut said = Vec::new();
            g711::decode_into(&reel.said, &mut said);
            let chat = &record.uplinks.values().next_back().expect("a chat").audio;
            let before = 10 * FRAME_SAMPLES;
            assert!(chat.len() >= before && chat[..before] == said[..before]);
        }
        other => assert_eq!(other, "carrier-failed"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn corrupt_words_of_the_agent_cost_that_message_and_no_more() {
    let toml = greets("agent-more", ", message_ms = [100]", "");
    let whole = undisturbed(&toml, length("agent-more")).await;
    // In the base64 of the second message: 100 ms are some 13,000 characters.
    let what = What::Corrupt {
        bytes: 16,
        flip: 0x60,
    };
    let plan = at(Way::Back, 20_000, what).always();
    let stage = between(&toml, plan, transparent()).await;
    let (phone, _wire) = stage.phone(transparent()).await;
    let mut call = Placed::new(&phone, 1);
    let message = 8 * 100;
    assert!(
        call.has_heard(whole.len() - message).await,
        "{:#?}",
        stage.world.bridge.log()
    );
    let (report, reel) = call.hung_up().await;
    assert_eq!(
        (&report.ended, report.violations.len()),
        (&Ended::CallerHungUp, 0)
    );
    assert_eq!(reel.heard.len(), whole.len() - message);
    assert!(reel.heard[..message / 2] == whole[..message / 2]);
    let record = stage.agent_is_alone().await;
    assert!(hears(&record, &reel));
    assert_eq!(record.uplinks.len(), 1, "the chat is the same");
    assert_eq!(causes(&close(stage.world).await), ["caller-hung-up"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agents_wire_that_ends_is_mended_or_told() {
    let quick = "hume.ping_interval = \"500ms\"\nhume.pong_timeout = \"2s\"";
    let toml = greets(
        "agent-hours",
        ", message_ms = [100], realtime_factor = 1.5",
        quick,
    );
    let torn = What::Corrupt {
        bytes: 40_000,
        flip: 0x70,
    };
    let mut stages = JoinSet::new();
    for (way, what) in [
        (Way::Out, What::Close),
        (Way::Back, What::Reset),
        (Way::Out, What::HalfClose),
        (Way::Back, What::HalfClose),
        (Way::Out, torn),
        (Way::Back, torn),
        (Way::Back, What::Stall { lasts: None }),
    ] {
        let toml = toml.clone();
        stages.spawn(async move {
            // Only the first connection: what comes after it is the bridge's remedy.
            let fault = at(way, 30_000, what);
            let plan: Plan = Arc::new(move |n| if n == 0 { vec![fault] } else { vec![] });
            let stage = between(&toml, plan, transparent()).await;
            let (phone, _wire) = stage.phone(transparent()).await;
            let mut call = Placed::new(&phone, 1);
            in_time(stage.agent.until(|counts| !counts.struck.is_empty())).await;
            let struck = call.tape.borrow().said.len();
            // Until the caller has spoken on for some time, or is told that this is all.
            let mut tape = call.tape.subscribe();
            let on = tape.wait_for(|reel| reel.said.len() >= struck + 6 * ENOUGH);
            let recovered = tokio::select! {
                on = timeout(LAST_DEADLINE, on) => on.is_ok(),
                Some(report) = call.task.join_next() => {
                    call.report = Some(report.expect("no telephone panics"));
                    false
                }
            };
            let (report, _) = call.hung_up().await;
            let told = format!("{way:?} {what:?}: {:#?}", stage.world.bridge.log());
            assert_eq!(report.violations, [], "{told}");
            stage.forgets().await;
            let chats = stage.world.agent.record().uplinks.len();
            let causes = causes(&stage.end().await);
            if recovered {
                assert_eq!(
                    (report.ended, &*causes),
                    (Ended::CallerHungUp, &["caller-hung-up".to_owned()][..]),
                    "{told}"
                );
                assert!(chats >= 2, "{told}");
            } else {
                // An agent that got nonsense says so before it leaves.
                let told_why = matches!(&*causes[0], "agent-lost" | "agent-rejected");
                assert!(told_why && causes.len() == 1, "{causes:?} {told}");
                assert_eq!(report.ended, Ended::Hangup, "{told}");
            }
        });
    }
    while let Some(told) = stages.join_next().await {
        told.expect("the story holds");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_goodbye_is_whole_though_the_rest_api_comes_in_crumbs() {
    let crumbs = What::Split { most: 1 };
    let plan: Plan = Arc::new(move |_| vec![at(Way::Out, 0, crumbs), at(Way::Back, 0, JITTER)]);
    let toml = "[[agent.replies]]\n\
         steps = [{ tool = { name = \"hang_up\" } }, { say = \"agent-goodbye\" }, { end = true }]";
    let stage = between(toml, transparent(), plan).await;
    let steps = vec![say("caller-thanks"), wait_for(Awaited::StreamOver)];
    let report = in_time(start(&stage.world.phone, steps).finish()).await;
    assert!(heard(&report, "agent-goodbye"));
    assert_eq!(report.ended, Ended::RestCompleted);
    assert!(stage.rest.counts().struck[&Kind::Split] > 0);
    assert_eq!(causes(&close(stage.world).await), ["agent-hung-up"]);
}
