//! Two agents behind one daemon: each answers its own calls, and an operator sees which is which and what
//! it cannot do.

use std::path::Path;

use hume_bridge::{
    config::AgentKind,
    sim::{
        bridge::{CONFIG_ID, REALTIME_KEY},
        evi::{self, What},
        phone::{Awaited, Event, OngoingCall},
        realtime::{self, Realtime},
        scenario::{Story, World, agent_clips},
    },
};
use serde_json::{Value, json};

use crate::{
    PROGRAM,
    stage::{
        ANN, BOB, PACE, SHOP, causes, close, ctl, greeting_under, in_time, start, status, talking,
        until, wait_for, world,
    },
};

const MUSEUM: &str = "+15550000000";

async fn hang_up(world: &World, call: OngoingCall, left: u64) {
    call.hang_up().await;
    call.finish().await;
    in_time(async { while status(world).await["activeSessions"] != left {} }).await;
}

fn of<'a>(status: &'a Value, call: &OngoingCall) -> &'a Value {
    let sessions = status["sessions"].as_array().expect("a list");
    let own = sessions.iter().find(|s| s["callSid"] == call.call_sid());
    own.expect("it is there")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_agent_answers_its_own_number_beside_the_other() {
    let greets = "title = \"\"\n[agent]\ngreeting = [{ say = \"agent-greeting\" }, { end = true }]\n[expect]\n";
    let script = Story::parse(greets).expect("a story").agent;
    let options = realtime::Options {
        agent: evi::Options {
            api_key: REALTIME_KEY.to_owned(),
            clips: agent_clips,
            pace: PACE,
            ..evi::Options::default()
        },
        ..realtime::Options::default()
    };
    let server = Realtime::start(script, options).await.expect("a server");
    let config = format!(
        "realtime.url = \"{}\"\nrealtime.voice = \"cedar\"\nkeys.actions = {{ 9 = {{ hangup = true }} }}\n\
         [[route]]\nname = \"museum\"\nto = \"{MUSEUM}\"\nagent = \"realtime\"\n\
         instructions = \"You are the museum. {{{{caller_number}}}} is calling.\"",
        server.url()
    );
    let keys = format!("\n[credentials]\nrealtime_api_key = \"{REALTIME_KEY}\"\n");
    let world = world(&(greeting_under(&config) + &keys)).await;
    let at_shop = talking(&world, ANN, SHOP).await;
    let at_museum = talking(&world, BOB, MUSEUM).await;

    let seen = status(&world).await;
    let (shop, museum) = (of(&seen, &at_shop), of(&seen, &at_museum));
    for (session, agent) in [(shop, "hume"), (museum, "realtime")] {
        assert_eq!(session["agent"], agent);
        assert_eq!(session["agentConnected"], true);
        assert_eq!(session["humeConnected"], agent == "hume");
    }
    let (_, sessions, _) = ctl(&world, &["sessions"]).await;
    assert!(
        sessions.contains("hume") && sessions.contains("realtime"),
        "{sessions}"
    );
    // Each is named as its own vendor names it.
    for (number, agent, config, voice) in [
        (SHOP, "hume", json!(CONFIG_ID), Value::Null),
        (MUSEUM, "realtime", Value::Null, json!("cedar")),
    ] {
        let words = ["--json", "route-test", "--from", ANN, "--to", number];
        let (_, out, err) = ctl(&world, &words).await;
        let found: Value = serde_json::from_str(&out).expect(&err);
        let plan = &found["plan"];
        assert_eq!(plan["agent"], agent);
        assert_eq!(
            (&plan["configId"], &plan["voice"]),
            (&config, &voice),
            "{out}"
        );
        assert_eq!(plan["keys"], json!({ "9": "hangup" }));
    }
    let told = |what: &What| match what {
        What::Settings { context, .. } => context.clone(),
        _ => None,
    };
    let record = server.record();
    let instructions = record.events.iter().find_map(|event| told(&event.what));
    let expected = format!("You are the museum. {BOB} is calling.");
    assert_eq!(instructions.as_deref(), Some(&*expected));

    // Whoever is promised nothing is told so.
    for (call, exact) in [(&at_shop, true), (&at_museum, false)] {
        let (code, out, err) = ctl(&world, &["--json", "say", call.call_sid(), "Good day."]).await;
        assert_eq!(code, Some(0), "{err}");
        let said: Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!(said["exact"], exact, "{out}");
    }
    let said = |record: &evi::Record| {
        let mut events = record.events.iter();
        events.any(|e| matches!(&e.what, What::AssistantInput { text } if text == "Good day."))
    };
    in_time(server.until(said)).await;
    hang_up(&world, at_shop, 1).await;
    hang_up(&world, at_museum, 0).await;
    assert_eq!(causes(&close(world).await), ["caller-hung-up"; 2]);
    let record = server.stop().await;
    assert_eq!(record.violations(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_agent_cannot_do_is_refused() {
    let text = "title = \"\"\nconfig = '''\nrealtime.say = false\nrealtime.turn_detection = {}\n'''\n\
                [agent]\ngreeting = [{ say = \"agent-greeting\" }, { end = true }]\n[expect]\n";
    let story = Story::with(text, AgentKind::Realtime).expect("a story");
    let world = World::start(&story, Path::new(PROGRAM), PACE).await;
    let world = world.expect("the stage");
    let call = start(&world.phone, vec![wait_for(Awaited::StreamOver)]);
    until(&call, |event| matches!(event, Event::PlayingBegan)).await;
    let sid = call.call_sid().to_owned();
    for (words, why) in [
        (&["say", &sid, "Hello."][..], "cannot be given words to say"),
        (&["pause", &sid], "cannot be paused"),
        (&["resume", &sid], "cannot be paused"),
    ] {
        let (code, out, err) = ctl(&world, words).await;
        assert_eq!((code, &*out), (Some(1), ""), "{words:?}");
        assert!(err.contains(why), "{err}");
    }
    let (code, _, err) = ctl(&world, &["context", &sid, "A regular."]).await;
    assert_eq!(code, Some(0), "{err}");
    hang_up(&world, call, 0).await;
    let told = |what: &What| matches!(what, What::AssistantInput { .. } | What::Paused);
    let record = world.agent.record();
    assert!(!record.events.iter().any(|event| told(&event.what)));
    assert_eq!(causes(&close(world).await), ["caller-hung-up"]);
}
