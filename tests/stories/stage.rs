//! A daemon between its simulators, for stories that are told in Rust.

use std::{future::Future, net::SocketAddr, path::Path, time::Duration};

use hume_bridge::sim::{
    phone::{Awaited, CallReport, CallSetup, Entry, Event, Fault, OngoingCall, Phone, Step},
    scenario::{Story, World},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::PROGRAM;

/// Who calls, and whom: nobody's numbers.
pub const ANN: &str = "+15551234567";
pub const BOB: &str = "+15559876543";
pub const SHOP: &str = "+15557654321";

pub const PACE: f64 = 2.0;
/// By the wall clock; a bound for what never comes, not a measure of speed.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Starts everything as a story's TOML says, without its `[expect]`. `{web}` in its config is the URL of
/// [`World::web`], which answers as `[web]` says and can be told more.
pub async fn world(toml: &str) -> World {
    world_at(PACE, toml).await
}

/// The same at another pace than usual: what the daemon itself plays it plays in real time.
pub async fn world_at(pace: f64, toml: &str) -> World {
    let text = format!("title = \"told in Rust\"\n{toml}\n[expect]\n");
    let story = Story::parse(&text).expect("a story");
    World::start(&story, Path::new(PROGRAM), pace)
        .await
        .expect("the stage")
}

/// The world's telephone, misbehaving.
pub fn faulty(world: &World, fault: Fault) -> Phone {
    let mut phone = world.phone.clone();
    phone.options.faults = vec![fault];
    phone
}

pub fn start(phone: &Phone, steps: impl Into<Vec<Step>>) -> OngoingCall {
    phone.start(CallSetup::new(steps.into()))
}

/// A story of this config, whose agent greets and then waits.
pub fn greeting_under(config: &str) -> String {
    format!(
        "config = '''\n{config}\n'''\n[agent]\ngreeting = [{{ say = \"agent-goodbye\" }}, {{ end = true }}]"
    )
}

/// Somebody calls one of our numbers and waits for the end.
pub fn dial(world: &World, from: &str, to: &str) -> OngoingCall {
    world.phone.start(CallSetup {
        from: from.to_owned(),
        to: to.to_owned(),
        ..CallSetup::new(vec![wait_for(Awaited::StreamOver)])
    })
}

/// A call that is let in, and has the agent on the line.
pub async fn talking(world: &World, from: &str, to: &str) -> OngoingCall {
    let call = dial(world, from, to);
    until(&call, |event| matches!(event, Event::PlayingBegan)).await;
    call
}

/// Waits for something that must happen on a call.
pub async fn until(call: &OngoingCall, what: impl FnMut(&Event) -> bool) -> Entry {
    call.until(PATIENCE, what)
        .await
        .expect("it happens before the call ends")
}

pub async fn in_time<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("in time")
}

pub fn say(clip: &str) -> Step {
    Step::Say(clip.to_owned())
}

pub fn raw(text: impl Into<String>) -> Step {
    Step::Raw {
        text: text.into(),
        binary: false,
    }
}

pub fn binary(text: impl Into<String>) -> Step {
    Step::Raw {
        text: text.into(),
        binary: true,
    }
}

pub fn wait_for(what: hume_bridge::sim::phone::Awaited) -> Step {
    Step::WaitFor {
        what,
        timeout: Duration::from_secs(60),
    }
}

/// The code with which the bridge closed the media socket.
pub fn closed_with(report: &CallReport) -> Option<u16> {
    report.entries.iter().find_map(|entry| match &entry.event {
        Event::SocketClosed {
            by: hume_bridge::sim::phone::Party::Bridge,
            code,
            ..
        } => *code,
        _ => None,
    })
}

/// Whether the caller heard a clip to its last word.
pub fn heard(report: &CallReport, name: &str) -> bool {
    let clip = hume_bridge::sim::speech::clip(name).expect("a clip");
    hume_bridge::sim::ear::find(&report.heard, clip).is_some_and(|found| found.is_whole())
}

/// Ends the daemon, which has to leave in good order and to have sent nothing that its peers refuse.
pub async fn close(mut world: World) -> Vec<String> {
    let status = world.bridge.stop().await.expect("it stops");
    assert!(status.success(), "{status}: {:#?}", world.bridge.log());
    let violations: Vec<String> = world
        .agent
        .record()
        .violations()
        .iter()
        .map(|v| v.to_string())
        .collect();
    assert!(violations.is_empty(), "{violations:#?}");
    let violations = world.rest.violations();
    assert!(violations.is_empty(), "{violations:#?}");
    let log = world.bridge.log();
    assert!(
        !log.iter().any(|line| line.contains("panicked")),
        "{log:#?}"
    );
    log
}

/// The daemon goes on from a config with `new` in place of `old`; what it says to that.
pub async fn reload(world: &World, old: &str, new: &str) -> String {
    world.bridge.rewrite_config(old, new).unwrap();
    let (code, out, err) = ctl(world, &["reload"]).await;
    assert_eq!((code, err.as_str()), (Some(0), ""));
    out
}

/// What `humebridgectl` answers for this world's daemon: exit code, stdout, stderr.
pub async fn ctl(world: &World, words: &[&str]) -> (Option<i32>, String, String) {
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_humebridgectl"))
        .arg("--socket")
        .arg(&world.bridge.control)
        .args(words)
        .kill_on_drop(true)
        .output();
    let output = in_time(output).await.expect("humebridgectl runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// The causes in all `session ended`.
pub fn causes(log: &[String]) -> Vec<String> {
    log.iter()
        .filter(|line| line.contains("session ended"))
        .filter_map(|line| line.split_once("cause=\"")?.1.split_once('"'))
        .map(|(cause, _)| cause.to_owned())
        .collect()
}

/// An HTTP answer, as far as it came.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

/// Sends bytes and reads until the server closes; `None` if it closes without a word.
pub async fn exchange(address: SocketAddr, request: &[u8]) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).await.expect("a listener");
    // A server that has seen enough may close before it has read everything.
    let _ = stream.write_all(request).await;
    answer(&mut stream).await
}

/// Reads what a server says until it closes.
pub async fn answer(stream: &mut TcpStream) -> Option<Answer> {
    let mut bytes = Vec::new();
    let _ = in_time(stream.read_to_end(&mut bytes)).await;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer {
        status,
        head: head.to_ascii_lowercase(),
        body: body.to_owned(),
    })
}

/// `/status` of the private listener.
pub async fn status(world: &World) -> serde_json::Value {
    let body = hume_bridge::sim::get(world.bridge.ops, "/status").await;
    serde_json::from_str(&body.expect("/status answers")).expect("JSON")
}
