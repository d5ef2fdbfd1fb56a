//! `humebridgectl dial`: an operator hears the agent without a telephone and without Twilio.

use std::path::Path;

use hume_bridge::{
    audio::{g711, wav},
    config::AgentKind,
    sim::{
        bridge::{ACCOUNT_SID, AUTH_TOKEN, HUME_KEY, PUBLIC_URL},
        ear,
        phone::{Awaited, sid},
        scenario::{Story, World},
        speech,
    },
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    process::{Child, Command},
};

use crate::{
    PROGRAM,
    stage::{causes, close, exchange, in_time, start, until, wait_for},
    tls::Certificates,
};

type Lines = tokio::io::Lines<BufReader<tokio::process::ChildStdout>>;

const TALKATIVE: &str = "[agent]\n\
    greeting = [{ say = \"agent-greeting\" }, { end = true }]\n\
    [[agent.replies]]\n\
    heard = \"Hello, what are your opening hours?\"\n\
    steps = [{ say = \"agent-saturday\" }, { end = true }]\n\
    [[agent.replies]]\n\
    heard = \"Great, thank you. That's all, goodbye.\"\n\
    steps = [{ tool = { name = \"hang_up\", parameters = \"{}\" } }, { say = \"agent-goodbye\" }, { end = true }]\n";

async fn world(toml: &str) -> World {
    world_with(toml, AgentKind::Hume).await
}

/// In real time: this telephone is in another process, which knows no other.
async fn world_with(toml: &str, agent: AgentKind) -> World {
    let text = format!("title = \"told in Rust\"\n{toml}\n[expect]\n");
    let story = Story::with(&text, agent).unwrap();
    World::start(&story, Path::new(PROGRAM), 1.0).await.unwrap()
}

fn ctl(world: &World, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_humebridgectl"));
    command
        .arg("--socket")
        .arg(&world.bridge.control)
        .args(arguments)
        .kill_on_drop(true);
    command
}

async fn told(mut command: Command) -> (Option<i32>, String, String) {
    let output = in_time(command.output()).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (out, err) = (text(output.stdout), text(output.stderr));
    for secret in [AUTH_TOKEN, HUME_KEY, "15557654321", "2025550100"] {
        assert!(!out.contains(secret) && !err.contains(secret), "{out}{err}");
    }
    (output.status.code(), out, err)
}

/// A call that goes on, and its lines as they come.
fn placed(world: &World, arguments: &[&str]) -> (Child, Lines) {
    let mut child = ctl(world, arguments)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, lines)
}

/// The caller has heard the greeting.
async fn greeted(lines: &mut Lines) {
    let told = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains("agent    is silent") {
                return;
            }
        }
        panic!("the call ended before its greeting did");
    };
    in_time(told).await;
}

/// Left and right of a recording, in mu-law.
fn channels(path: &Path) -> [Vec<u8>; 2] {
    let bytes = std::fs::read(path).unwrap();
    assert_eq!(
        bytes[..44],
        wav::write(8000, 2, &vec![0; (bytes.len() - 44) / 2])[..44]
    );
    let samples: Vec<i16> = bytes[44..]
        .chunks(2)
        .map(|pair| i16::from_le_bytes([pair[0], pair[1]]))
        .collect();
    [0, 1].map(|side| {
        let side: Vec<i16> = samples.iter().skip(side).step_by(2).copied().collect();
        let mut mulaw = Vec::new();
        g711::encode_into(&side, &mut mulaw);
        mulaw
    })
}

fn heard(side: &[u8], clip: &str) -> bool {
    ear::find(side, speech::clip(clip).unwrap()).is_some_and(|found| found.is_whole())
}

async fn ask(world: &World, request: Value) -> Value {
    let mut stream = UnixStream::connect(&world.bridge.control).await.unwrap();
    let line = format!("{request}\n");
    stream.write_all(line.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut reply = String::new();
    in_time(stream.read_to_string(&mut reply)).await.unwrap();
    serde_json::from_str(&reply).unwrap()
}

/// The certificate is made out to the public name, and the listener is reached by its address.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_that_speaks_tls_is_dialled_and_checked() {
    let certificates = Certificates::new();
    let world = world(&certificates.stage(TALKATIVE)).await;
    let (code, out, err) = told(ctl(&world, &["dial"])).await;
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");

    let address = format!("listen.http = \"{}\"", world.bridge.http);
    let bridge = &world.bridge;
    bridge
        .rewrite_config("listen.http = \"127.0.0.1:0\"", &address)
        .unwrap();
    let mut check = Command::new(PROGRAM);
    check.args(["check", "--offline"]);
    for (option, file) in [
        ("--config", "hume-bridge.toml"),
        ("--credentials", "credentials.json"),
    ] {
        check.arg(option).arg(bridge.directory().join(file));
    }
    let (code, out, _) = told(check).await;
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("ok   tls         certificate and key, good until 2040-01-01T00:00:00Z"));
    let answers = format!("ok   listen.http a hume-bridge answers on {}", bridge.http);
    assert!(out.contains(&answers), "{out}");
    close(world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_conversation_without_a_telephone() {
    converse(AgentKind::Hume).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_with_a_realtime_server() {
    converse(AgentKind::Realtime).await;
}

async fn converse(agent: AgentKind) {
    let world = world_with(TALKATIVE, agent).await;
    let wav = world.bridge.directory().join("dial.wav");
    let command = ctl(&world, &["dial", "--out", wav.to_str().unwrap()]);
    let (code, out, err) = told(command).await;
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    let mut from = 0;
    for line in [
        "bridge   answers the call: 200",
        "bridge   takes the media stream",
        "agent    speaks",
        "caller   \"Hello, what are your opening hours?\"",
        "s after the caller's last word",
        "caller   \"Great, thank you. That's all, goodbye.\"",
        "agent    is silent",
        "bridge   says what comes after the stream: 200",
        "call     is over: bridge-hung-up",
        "first audio ",
    ] {
        let at = out[from..].find(line);
        from += at.unwrap_or_else(|| panic!("{line:?} in its place: {out}"));
    }
    assert!(
        out.contains(", turn 1 answered after ") && out.contains(", turn 2 answered"),
        "{out}"
    );

    let [caller, agent] = channels(&wav);
    for clip in ["agent-greeting", "agent-saturday", "agent-goodbye"] {
        assert!(heard(&agent, clip), "{clip}: {out}");
    }
    for clip in ["caller-hours", "caller-thanks"] {
        assert!(heard(&caller, clip), "{clip}: {out}");
    }
    // Twilio was not asked to end a call that it never had.
    assert_eq!(world.rest.requests(), []);
    let log = close(world).await;
    assert_eq!(causes(&log), ["agent-hung-up"]);
    assert!(
        log.iter()
            .any(|line| line.contains("test call announced") && line.contains("uid="))
    );
    for number in ["15557654321", "2025550100"] {
        assert!(!log.iter().any(|line| line.contains(number)), "{log:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_asks_and_the_answer_is_awaited() {
    let world = world(TALKATIVE).await;
    let directory = world.bridge.directory().to_owned();
    let (question, recorded) = (directory.join("question.wav"), directory.join("dial.wav"));
    let samples: Vec<i16> = speech::clip("caller-hours")
        .unwrap()
        .iter()
        .map(|code| g711::decode(*code))
        .collect();
    std::fs::write(&question, wav::write(8000, 1, &samples)).unwrap();
    let arguments = [
        "--json",
        "dial",
        "--wav",
        question.to_str().unwrap(),
        "--out",
        recorded.to_str().unwrap(),
        "--from",
        "+12025550123",
    ];
    let (code, out, err) = told(ctl(&world, &arguments)).await;
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    let outcome: Value = serde_json::from_str(&out).expect("one object");
    assert_eq!(outcome["connected"], true);
    assert_eq!(outcome["heard"], true);
    assert!(outcome["firstAudioMs"].is_u64(), "{out}");
    // The agent did not hang up: the caller did, when nothing more came.
    assert_eq!(outcome["ended"], "caller-hung-up");
    assert_eq!(outcome["turns"][0]["caller"], "recording");
    assert!(outcome["turns"][0]["answeredAfterMs"].is_u64(), "{out}");
    assert_eq!(outcome["violations"], json!([]));
    assert_eq!(outcome["problem"], Value::Null);
    let [caller, agent] = channels(&recorded);
    assert!(heard(&caller, "caller-hours") && heard(&agent, "agent-saturday"));
    assert_eq!(causes(&close(world).await), ["caller-hung-up"]);
}

/// The caller's fallback is a person, who has asked for no test call.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_called_for_a_test_call() {
    let world = world(
        "config = \"\"\"\ncalls.fallback = { dial = \"+61255501234\" }\nhume.connect_budget = \"500ms\"\n\"\"\"\n\
         [agent]\nthen_handshake = 503",
    )
    .await;
    let (code, out, err) = told(ctl(&world, &["--json", "dial"])).await;
    assert_eq!(code, Some(1), "{out}{err}");
    assert!(err.contains("would have been connected"), "{err}");
    let outcome: Value = serde_json::from_str(&out).expect("one object");
    assert_eq!(outcome["dialled"], json!(["+61255501234"]));
    assert_eq!(outcome["ended"], "put-through");
    assert_eq!(outcome["violations"], json!([]));
    let log = close(world).await;
    assert_eq!(causes(&log), ["agent-lost"]);
    assert!(
        !log.iter().any(|line| line.contains("55501234")),
        "{log:#?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_public_url_with_a_path_and_a_port() {
    let world = world(TALKATIVE).await;
    let public = "https://bridge.example.com:8443/telephone";
    world
        .bridge
        .rewrite_config(PUBLIC_URL, public)
        .expect("the config has it");
    let (code, _, err) = told(ctl(&world, &["reload"])).await;
    assert_eq!(code, Some(0), "{err}");
    let (code, out, err) = told(ctl(&world, &["--json", "dial", "--secs", "2"])).await;
    assert_eq!(code, Some(0), "{out}{err}");
    let outcome: Value = serde_json::from_str(&out).expect("one object");
    assert_eq!(outcome["heard"], true, "{out}");
    assert_eq!(outcome["violations"], json!([]), "{out}");
    assert_eq!(causes(&close(world).await), ["caller-hung-up"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_drains_takes_no_test_call() {
    let world = world("").await;
    let (code, ..) = told(ctl(&world, &["drain"])).await;
    assert_eq!(code, Some(0));
    let (code, out, err) = told(ctl(&world, &["dial"])).await;
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("answers the call: 503"), "{out}");
    assert!(
        err.contains("draining (503)") && err.contains("undrain"),
        "{err}"
    );
    assert!(causes(&close(world).await).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_test_call_takes_a_place_like_any_other() {
    let world = world(&format!("config = 'calls.max_concurrent = 1'\n{TALKATIVE}")).await;
    let call = start(&world.phone, vec![wait_for(Awaited::StreamOver)]);
    let live = |event: &_| matches!(event, hume_bridge::sim::phone::Event::StreamStarted { .. });
    until(&call, live).await;
    let (code, _, err) = told(ctl(&world, &["dial"])).await;
    assert_eq!(code, Some(1));
    assert!(
        err.contains("refused as busy: calls.max_concurrent"),
        "{err}"
    );
    call.hang_up().await;
    call.finish().await;
    close(world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_is_not_there_is_told_from_one_that_is() {
    let world = world("[agent]\nhandshake = [401]").await;
    let (code, out, err) = told(ctl(&world, &["dial"])).await;
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("has it said: \"We are sorry"), "{out}");
    let words = "nothing was heard of the agent, only Twilio's voice: \"We are sorry";
    assert!(
        err.contains(words) && err.contains("hume-bridge check"),
        "{err}"
    );
    assert_eq!(causes(&close(world).await), ["agent-auth"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_ends_the_test_call_of_another() {
    let world = world(TALKATIVE).await;
    let (child, mut lines) = placed(&world, &["dial"]);
    greeted(&mut lines).await;
    let output = ctl(&world, &["--json", "sessions"]).output();
    let out = String::from_utf8(in_time(output).await.unwrap().stdout).unwrap();
    let sessions: Value = serde_json::from_str(&out).unwrap();
    let session = &sessions["sessions"][0];
    assert_eq!(session["test"], true, "{out}");
    let sid = session["callSid"].as_str().unwrap();
    let output = ctl(&world, &["show", sid]).output();
    let shown = String::from_utf8(in_time(output).await.unwrap().stdout).unwrap();
    assert!(shown.contains("(test)"), "{shown}");
    let (code, ..) = told(ctl(&world, &["hangup", "--now", &sid[..10]])).await;
    assert_eq!(code, Some(0));
    let mut rest = Vec::new();
    while let Some(line) = in_time(lines.next_line()).await.unwrap() {
        rest.push(line);
    }
    let status = in_time(child.wait_with_output()).await.unwrap().status;
    assert_eq!(status.code(), Some(0), "{rest:#?}");
    assert!(
        rest.iter()
            .any(|line| line.contains("is over: bridge-hung-up")),
        "{rest:#?}"
    );
    assert_eq!(world.rest.requests(), []);
    assert_eq!(causes(&close(world).await), ["operator"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_s_interrupt_puts_the_receiver_down() {
    let world = world(TALKATIVE).await;
    let (child, mut lines) = placed(&world, &["dial"]);
    greeted(&mut lines).await;
    let pid = child.id().unwrap().to_string();
    let kill = Command::new("kill").args(["-s", "INT", &pid]).status();
    assert!(kill.await.unwrap().success());
    while in_time(lines.next_line()).await.unwrap().is_some() {}
    let status = in_time(child.wait_with_output()).await.unwrap().status;
    assert_eq!(status.code(), Some(0));
    assert_eq!(causes(&close(world).await), ["caller-hung-up"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_but_the_test_call_is_signed() {
    let world = world("").await;
    let dial = ask(&world, json!({"protocol": 1, "op": "dial"})).await;
    let call = dial["ok"]["callSid"].as_str().unwrap().to_owned();
    assert_eq!(dial["ok"]["publicUrl"], PUBLIC_URL);
    assert_eq!(dial["ok"]["address"], world.bridge.http.to_string());
    assert_eq!(dial["ok"]["accountSid"], ACCOUNT_SID);
    assert!(!dial.to_string().contains(AUTH_TOKEN));
    let sign = |call: &str, url: String, params: Value| json!({"protocol": 1, "op": "sign", "call": call, "url": url, "params": params});
    let url = |path: &str| format!("{PUBLIC_URL}{path}");
    let fields = |call: &str| {
        json!([
            ["AccountSid", ACCOUNT_SID],
            ["CallSid", call],
            ["From", "+12025550100"],
            ["To", "+12025550199"]
        ])
    };
    let other = sid("CA");
    for (request, code) in [
        (
            sign(&other, url("/voice/incoming"), fields(&other)),
            "no-such-call",
        ),
        (
            sign(&call[..20], url("/voice/incoming"), fields(&call)),
            "no-such-call",
        ),
        (
            sign(&call, url("/voice/incoming"), fields(&other)),
            "bad-request",
        ),
        (
            sign(&call, url("/voice/incoming?CallSid=x"), fields(&call)),
            "bad-request",
        ),
        (
            sign(
                &call,
                "https://elsewhere.example.com/voice/incoming".into(),
                fields(&call),
            ),
            "bad-request",
        ),
        (
            sign(&call, url("/voice/incoming"), json!([])),
            "bad-request",
        ),
    ] {
        let reply = ask(&world, request.clone()).await;
        assert_eq!(reply["error"]["code"], code, "{request} {reply}");
    }
    let reply = ask(&world, sign(&call, url("/voice/incoming"), fields(&call))).await;
    let signature = reply["ok"]["signature"].as_str().unwrap();
    let post = |call: &str, path: &str, more: &str, signature: &str| {
        let form = format!(
            "AccountSid={ACCOUNT_SID}&CallSid={call}&From=%2B12025550100&To=%2B12025550199{more}"
        );
        format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
             X-Twilio-Signature: {signature}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
            form.len()
        )
    };
    for (call, status) in [(&other, 403), (&call, 200)] {
        let request = post(call, "/voice/incoming", "", signature);
        let answer = exchange(world.bridge.http, request.as_bytes())
            .await
            .unwrap();
        assert_eq!(answer.status, status, "{}", answer.body);
    }
    // The caller is gone before the stream began: nothing is owed to the call any more.
    let mut gone = fields(&call);
    let status = json!(["CallStatus", "completed"]);
    gone.as_array_mut().unwrap().push(status);
    let reply = ask(&world, sign(&call, url("/voice/status"), gone)).await;
    let signature = reply["ok"]["signature"].as_str().unwrap();
    let over = post(&call, "/voice/status", "&CallStatus=completed", signature);
    let answer = exchange(world.bridge.http, over.as_bytes()).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    // Announced and never placed: they are not without number.
    for _ in 1..64 {
        let dial = ask(&world, json!({"protocol": 1, "op": "dial"})).await;
        assert!(dial["ok"]["callSid"].is_string(), "{dial}");
    }
    let dial = ask(&world, json!({"protocol": 1, "op": "dial"})).await;
    assert_eq!(dial["error"]["code"], "busy", "{dial}");
    close(world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_test_call_that_cannot_be_placed() {
    let world = world("").await;
    for (arguments, code, words) in [
        (
            &["--socket", "/nonexistent/s", "dial"][..],
            69,
            "no control socket",
        ),
        (
            &["dial", "--wav", "/nonexistent.wav"],
            2,
            "--wav: cannot read /nonexistent.wav",
        ),
        (
            &["dial", "--out", "/nonexistent/x.wav"],
            2,
            "--out: cannot write",
        ),
    ] {
        let (got, out, err) = told(ctl(&world, arguments)).await;
        assert_eq!((got, out.as_str()), (Some(code), ""), "{err}");
        assert!(err.contains(words), "{err}");
    }
    assert!(causes(&close(world).await).is_empty());
}
