//! An operator takes part in live calls: words for the agent, pauses, and watching all of it.

use std::{path::Path, process::Stdio};

use hume_bridge::sim::{
    bridge::{ACCOUNT_SID, AUTH_TOKEN, HUME_KEY},
    evi::What,
    phone::{Awaited, Ended, Event, OngoingCall, Step},
    scenario::World,
};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use crate::{
    PROGRAM,
    stage::{causes, close, heard, in_time, say, start, status, until, wait_for, world},
};

const TALK: &str = r#"
    [agent]
    greeting = [{ say = "agent-greeting" }, { end = true }]
    [[agent.replies]]
    steps = [{ say = "agent-hours" }, { end = true }]
"#;

fn ctl_command(socket: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_humebridgectl"));
    command
        .arg("--socket")
        .arg(socket)
        .args(words)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

async fn ctl(world: &World, words: &[&str]) -> (Option<i32>, String, String) {
    let output = ctl_command(&world.bridge.control, words).output();
    let output = in_time(output).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// What must have worked; returns what it printed.
async fn done(world: &World, words: &[&str]) -> String {
    let (code, out, err) = ctl(world, words).await;
    assert_eq!(code, Some(0), "{words:?}: {err}");
    out
}

async fn until_agent(world: &World, what: impl Fn(&What) -> bool) {
    let seen = world
        .agent
        .until(|record| record.events.iter().any(|event| what(&event.what)));
    in_time(seen).await;
}

async fn greeted(world: &World, steps: Vec<Step>) -> OngoingCall {
    let mut all = vec![
        wait_for(Awaited::AgentSpeaking),
        wait_for(Awaited::AgentQuiet),
    ];
    all.extend(steps);
    let call = start(&world.phone, all);
    until(&call, |event| matches!(event, Event::PlayingBegan)).await;
    call
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_speaks_through_the_agent_and_then_ends_the_call() {
    let world = world(TALK).await;
    let call = greeted(&world, vec![wait_for(Awaited::StreamOver)]).await;
    let sid = call.call_sid().to_owned();
    until_agent(&world, |what| matches!(what, What::TurnEnded)).await;

    let context = "The caller has a ticket for the evening.";
    let told = done(&world, &["--json", "context", &sid, context]).await;
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["characters"], context.len());
    let words = "A colleague will call you back in the afternoon.";
    assert_eq!(
        done(&world, &["say", &sid[..12], words]).await,
        format!("{sid}\n")
    );
    done(&world, &["hangup", &sid]).await;
    let report = call.finish().await;
    assert_eq!(report.ended, Ended::RestCompleted);
    assert!(heard(&report, "agent-greeting"));
    // The words are a tone here; it was heard after the greeting to its end.
    let spans = hume_bridge::sim::ear::speech(&report.heard);
    let last = spans.last().expect("something was heard");
    let length = (last.end - last.start).as_millis() as usize;
    let expected = 60 * words.len();
    assert!(
        length + 200 > expected,
        "{length} ms of {expected} ms were heard: {spans:?}"
    );
    let record = world.agent.record();
    let said = record
        .events
        .iter()
        .any(|event| matches!(&event.what, What::AssistantInput { text } if text == words));
    assert!(said, "{:#?}", record.events);

    let log = close(world).await;
    assert_eq!(causes(&log), ["operator"]);
    let private = |line: &&String| line.contains("colleague") || line.contains("ticket");
    assert_eq!(log.iter().find(private), None);
    let audit = |what: &str, length: usize| {
        log.iter().any(|line| {
            line.contains(&sid)
                && line.contains("uid=")
                && line.contains(what)
                && line.contains(&format!("characters={length}"))
        })
    };
    assert!(audit("say", words.len()), "{log:#?}");
    assert!(audit("context", context.len()), "{log:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_agent_listens_and_answers_when_it_is_resumed() {
    let world = world(TALK).await;
    let call = greeted(
        &world,
        vec![say("caller-hours"), wait_for(Awaited::StreamOver)],
    )
    .await;
    let sid = call.call_sid().to_owned();
    // What is on its way when the agent is paused is heard to its end.
    until_agent(&world, |what| matches!(what, What::TurnEnded)).await;
    assert_eq!(
        done(&world, &["pause", &sid]).await,
        format!("{sid}  paused\n")
    );
    assert_eq!(
        done(&world, &["pause", &sid]).await,
        format!("{sid}  paused, already\n")
    );
    assert!(done(&world, &["sessions"]).await.contains("  paused  "));
    assert_eq!(status(&world).await["sessions"][0]["paused"], true);
    let (code, _, err) = ctl(&world, &["say", &sid, "Hello?"]).await;
    assert_eq!(code, Some(1));
    assert!(err.contains("the agent is paused"), "{err}");

    until_agent(&world, |what| matches!(what, What::UserMessage { .. })).await;
    let saying = |what: &What| matches!(what, What::Saying { clip, .. } if clip == "agent-hours");
    let record = world.agent.record();
    assert!(!record.events.iter().any(|event| saying(&event.what)));
    assert_eq!(
        done(&world, &["resume", &sid]).await,
        format!("{sid}  talking\n")
    );
    until_agent(&world, saying).await;
    until_agent(
        &world,
        |what| matches!(what, What::Said { clip, .. } if clip == "agent-hours"),
    )
    .await;
    done(&world, &["hangup", &sid]).await;
    let report = call.finish().await;
    assert_eq!(report.ended, Ended::RestCompleted);
    assert!(heard(&report, "agent-greeting") && heard(&report, "agent-hours"));
    assert_eq!(causes(&close(world).await), ["operator"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_whose_agent_is_paused_can_still_be_ended() {
    let world = world(TALK).await;
    let call = greeted(&world, vec![wait_for(Awaited::StreamOver)]).await;
    let sid = call.call_sid().to_owned();
    until_agent(&world, |what| matches!(what, What::TurnEnded)).await;
    done(&world, &["pause", &sid]).await;
    done(&world, &["hangup", &sid]).await;
    let report = call.finish().await;
    assert_eq!(report.ended, Ended::RestCompleted);
    assert!(heard(&report, "agent-greeting"));
    let paused = |what: &What| matches!(what, What::Paused);
    let record = world.agent.record();
    let pauses = record.events.iter().filter(|event| paused(&event.what));
    assert_eq!(pauses.count(), 1);
    assert_eq!(causes(&close(world).await), ["operator"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_can_be_ordered_of_an_agent_that_is_not_there_yet() {
    let world = world("[agent]\nready_after = \"20s\"").await;
    let call = start(&world.phone, vec![wait_for(Awaited::StreamOver)]);
    let sid = call.call_sid().to_owned();
    until_agent(&world, |what| matches!(what, What::Connected { .. })).await;
    for words in [
        &["say", &sid, "Hello"][..],
        &["context", &sid, "Ann calls."],
        &["pause", &sid],
        &["resume", &sid],
    ] {
        let (code, out, err) = ctl(&world, words).await;
        assert_eq!((code, &*out), (Some(1), ""), "{words:?}");
        assert!(err.contains("not ready yet"), "{err}");
    }
    done(&world, &["hangup", "--now", &sid]).await;
    call.finish().await;
    let record = world.agent.record();
    let told = |what: &What| matches!(what, What::AssistantInput { .. } | What::Paused);
    assert!(!record.events.iter().any(|event| told(&event.what)));
    assert_eq!(causes(&close(world).await), ["operator"]);
}

/// `events --json`, line by line.
struct Events {
    _child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Events {
    fn follow(world: &World, words: &[&str]) -> Events {
        let mut command = ctl_command(&world.bridge.control, &["--json", "events"]);
        let mut child = command.args(words).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Events {
            _child: child,
            lines,
        }
    }

    /// The next event's type and what it says besides; "" at the end.
    async fn next(&mut self) -> (String, Value) {
        let line = in_time(self.lines.next_line()).await.unwrap();
        let Some(line) = line else {
            return (String::new(), Value::Null);
        };
        let event: Value = serde_json::from_str(&line).unwrap();
        (event["type"].as_str().unwrap().to_owned(), event)
    }

    async fn types(&mut self, count: usize) -> Vec<String> {
        let mut types = Vec::new();
        for _ in 0..count {
            types.push(self.next().await.0);
        }
        types
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_followed_from_its_start_to_its_end_and_the_daemon_too() {
    let mut world = world(
        r#"
        config = 'log.level = "info"'
        [agent]
        greeting = [{ say = "agent-greeting" }, { end = true }]
        [[agent.replies]]
        steps = [{ say = "agent-hours" }, { end = true }]
        [[agent.replies]]
        steps = [{ tool = { name = "hang_up" } }, { say = "agent-goodbye" }, { end = true }]
        "#,
    )
    .await;
    let mut all = Events::follow(&world, &[]);
    let (first, snapshot) = all.next().await;
    assert_eq!(first, "snapshot");
    assert_eq!(snapshot["sessions"], serde_json::json!([]));
    let call = greeted(
        &world,
        vec![
            say("caller-hours"),
            wait_for(Awaited::AgentSpeaking),
            say("caller-interrupt"),
            wait_for(Awaited::StreamOver),
        ],
    )
    .await;
    let sid = call.call_sid().to_owned();
    let mut one = Events::follow(&world, &[&sid[..20]]);
    let (first, snapshot) = one.next().await;
    assert_eq!(first, "snapshot");
    assert_eq!(snapshot["sessions"][0]["callSid"], sid);
    assert_eq!(snapshot["sessions"][0]["agentConnected"], true);
    let report = call.finish().await;
    assert!(heard(&report, "agent-goodbye"));
    let expected = [
        "barge-in",
        "tool-call",
        "hanging-up",
        "agent-closed",
        "call-ended",
    ];
    let (mut of_one, mut last) = (Vec::new(), Value::Null);
    loop {
        let (word, event) = one.next().await;
        if word.is_empty() {
            break;
        }
        assert_eq!(event["callSid"], sid);
        of_one.push(word);
        last = event;
    }
    assert_eq!(of_one, expected);
    assert_eq!(last["cause"], "agent-hung-up");
    assert_eq!(
        all.types(7).await,
        [&["call-started", "agent-connected"][..], &expected].concat()
    );

    // The house.
    done(&world, &["drain"]).await;
    let refused = start(&world.phone, vec![]).finish().await;
    assert!(matches!(refused.ended, Ended::ApplicationError { .. }));
    done(&world, &["undrain"]).await;
    let old = "log.level = \"info\"";
    world
        .bridge
        .rewrite_config(old, "log.level = \"debug\"")
        .unwrap();
    done(&world, &["reload"]).await;
    assert_eq!(all.next().await.0, "draining");
    assert_eq!(all.next().await.1["reason"], "draining");
    assert_eq!(all.next().await.1["draining"], false);
    let (word, reloaded) = all.next().await;
    assert_eq!(word, "reloaded");
    assert_eq!(reloaded["changed"], serde_json::json!(["log.level"]));
    world.bridge.signal("TERM").await.unwrap();
    assert_eq!(all.types(3).await, ["draining", "stopped", ""]);
    let ended = world.bridge.ended(std::time::Duration::from_secs(20)).await;
    assert!(ended.unwrap().success());
}

/// The whole of an operator's transfer: the callee is told who comes and takes the call, and of number
/// and announcement nothing is in the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_puts_a_caller_through() {
    const NUMBER: &str = "+12025550123";
    let directory = tempfile::TempDir::new().unwrap();
    let records = directory.path().join("calls.jsonl");
    let world = world(&format!(
        "config = 'calls.record = \"{}\"'\n{TALK}\n\
         [callee.\"{NUMBER}\"]\nanswers_after = \"1s\"\npresses = \"1\"\ntalks_for = \"12s\"",
        records.display()
    ))
    .await;
    let call = greeted(&world, vec![wait_for(Awaited::StreamOver)]).await;
    let sid = call.call_sid().to_owned();
    until_agent(&world, |what| matches!(what, What::TurnEnded)).await;
    let mut events = Events::follow(&world, &[&sid]);
    assert_eq!(events.next().await.0, "snapshot");

    let words = "Ann, about a bill.";
    let transfer = ["transfer", &sid[..12], NUMBER, "--announce", words];
    assert_eq!(
        done(&world, &transfer).await,
        format!("{sid}  transferring\n")
    );
    let away = loop {
        match events.next().await {
            (word, event) if word == "away" => break event,
            (word, _) => assert_ne!(word, "", "the call has ended"),
        }
    };
    assert_eq!(away["why"], "transfer");
    let state = done(&world, &["sessions"]).await;
    assert!(state.contains(&format!("{sid}  transferring ")), "{state}");
    let shown = &status(&world).await["sessions"][0];
    assert_eq!(shown["away"], "transfer");
    assert_eq!(shown["twilioConnected"], false);
    for words in [&["say", &sid, "Hello?"][..], &["transfer", &sid, NUMBER]] {
        let (code, out, err) = ctl(&world, words).await;
        assert_eq!((code, &*out), (Some(1), ""), "{words:?}");
        assert!(err.contains("try again when it is back"), "{err}");
    }

    let report = call.finish().await;
    assert!(heard(&report, "agent-greeting"));
    let mut last = Value::Null;
    loop {
        match events.next().await {
            (word, _) if word.is_empty() => break,
            (_, event) => last = event,
        }
    }
    assert_eq!(
        (&last["type"], &last["cause"]),
        (&"call-ended".into(), &"transferred".into())
    );
    let log = close(world).await;
    assert_eq!(causes(&log), ["transferred"]);
    let private = |line: &&String| line.contains("2025550123") || line.contains("a bill");
    assert_eq!(log.iter().find(private), None);
    let audit = |line: &String| {
        line.contains("transfer ordered") && line.contains("uid=") && line.contains(&sid)
    };
    assert!(log.iter().any(audit), "{log:#?}");
    let record = std::fs::read_to_string(&records).unwrap();
    let record: Value = serde_json::from_str(&record).unwrap();
    let transfer = &record["transfers"][0];
    assert_eq!(
        (&transfer["to"], &transfer["outcome"]),
        (&NUMBER.into(), &"connected".into())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_config_is_checked_by_the_daemon_that_would_take_it() {
    let world = world("config = 'log.level = \"info\"'").await;
    let directory = world.bridge.directory();
    let text = std::fs::read_to_string(directory.join("hume-bridge.toml")).unwrap();
    let draft = directory.join("draft.toml");
    let name = draft.to_str().unwrap();

    std::fs::write(&draft, &text).unwrap();
    assert_eq!(
        done(&world, &["check", name]).await,
        "nothing would change\n"
    );
    let changed = text
        .replace("log.level = \"info\"", "log.level = \"debug\"")
        .replace(
            "listen.http = \"127.0.0.1:0\"",
            "listen.http = \"127.0.0.1:1\"",
        );
    std::fs::write(&draft, changed).unwrap();
    assert_eq!(
        done(&world, &["check", name]).await,
        "would change: log.level\nwould need a restart: listen.http\n"
    );
    std::fs::write(&draft, text + "\ncalls.max_concurent = 1\n").unwrap();
    let (code, out, err) = ctl(&world, &["check", name]).await;
    assert_eq!((code, &*out), (Some(78), ""));
    assert!(
        err.contains(&format!("{name}:")) && err.contains("calls.max_concurent"),
        "{err}"
    );
    // Nothing of it was taken.
    assert_eq!(done(&world, &["reload"]).await, "nothing has changed\n");
    close(world).await;
}

/// A daemon of its own at this control socket.
fn another(world: &World) -> Command {
    let directory = world.bridge.directory();
    let config = format!(
        "public_url = \"https://other.example.com\"\nlisten.http = \"127.0.0.1:0\"\n\
         listen.ops = \"\"\nadmin.socket = \"{}\"\nadmin.group = \"\"\n\
         twilio.phone_number = \"+15557654321\"\n",
        world.bridge.control.display()
    );
    std::fs::write(directory.join("other.toml"), config).unwrap();
    let secrets = format!(
        "{{\"hume_api_key\":\"{HUME_KEY}\",\"twilio_account_sid\":\"{ACCOUNT_SID}\",\
         \"twilio_auth_token\":\"{AUTH_TOKEN}\"}}"
    );
    let credentials = directory.join("other.json");
    std::fs::write(&credentials, secrets).unwrap();
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&credentials, private).unwrap();
    let mut command = Command::new(PROGRAM);
    command
        .arg("--config")
        .arg(directory.join("other.toml"))
        .arg("--credentials")
        .arg(credentials)
        .env_remove("NOTIFY_SOCKET")
        .env_remove("CREDENTIALS_DIRECTORY")
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_daemons_at_one_socket_the_first_stays_until_it_is_dead() {
    let mut world = world("").await;
    let first = world.bridge.pid();
    let second = in_time(another(&world).output()).await.unwrap();
    let words = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{words}");
    assert!(
        words.contains("another hume-bridge answers there; stop it or choose another path"),
        "{words}"
    );
    assert!(done(&world, &["status"]).await.contains(&first.to_string()));

    // One that is killed leaves its socket behind: the next takes its place.
    world.bridge.signal("KILL").await.unwrap();
    let limit = std::time::Duration::from_secs(20);
    world.bridge.ended(limit).await.unwrap();
    assert!(world.bridge.control.exists());
    let (code, _, err) = ctl(&world, &["status"]).await;
    assert_eq!(code, Some(69));
    assert!(err.contains("nobody answers"), "{err}");
    let mut third = another(&world).spawn().unwrap();
    let pid = third.id().unwrap();
    in_time(async {
        loop {
            let (code, out, _) = ctl(&world, &["status"]).await;
            if code == Some(0) {
                assert!(out.contains(&pid.to_string()), "{out}");
                break;
            }
        }
    })
    .await;
    let stop = Command::new("kill").arg(pid.to_string()).status().await;
    assert!(stop.unwrap().success());
    assert!(in_time(third.wait()).await.unwrap().success());
    assert!(!world.bridge.control.exists());
}
