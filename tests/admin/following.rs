//! Those who watch: `events`, `sessions --watch`, `drain --wait`.

use hume_bridge::session::{
    cause::Cause,
    news::{Away, News},
};
use tokio::process::{Child, ChildStdout};

use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

/// A command that goes on, and what it prints.
struct Running {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Running {
    fn start(daemon: &Daemon, args: &[&str]) -> Running {
        let mut child = command(&daemon.socket(), args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Running { child, out }
    }

    /// The next line; nothing at the end.
    async fn line(&mut self) -> String {
        let mut line = String::new();
        let read = self.out.read_line(&mut line);
        timeout(PATIENCE, read).await.expect("a line").unwrap();
        line
    }

    async fn event(&mut self) -> Value {
        let mut event: Value = serde_json::from_str(&self.line().await).unwrap();
        let at = event.as_object_mut().unwrap().remove("at").unwrap();
        assert!(at.as_str().unwrap().ends_with('Z'), "{at}");
        event
    }

    /// What was not read yet, and the words.
    async fn end(mut self) -> Ran {
        let mut rest = String::new();
        timeout(PATIENCE, self.out.read_to_string(&mut rest))
            .await
            .expect("it ends")
            .unwrap();
        let mut output = timeout(PATIENCE, self.child.wait_with_output())
            .await
            .expect("it ends")
            .unwrap();
        output.stdout = rest.into_bytes();
        output.into()
    }
}

async fn until(what: impl Fn() -> bool) {
    timeout(PATIENCE, async {
        while !what() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("it comes to that");
}

/// One call's whole life, and what happens in the house meanwhile.
fn a_day(daemon: &Daemon) {
    let mut abe = daemon.call(ABE);
    abe.tell(News::AgentConnected);
    abe.tell(News::BargeIn);
    abe.tell(News::Paused);
    // What was so already is no news.
    abe.tell(News::Paused);
    abe.tell(News::Resumed);
    abe.tell(News::ToolCall {
        name: "hang_up".into(),
    });
    abe.tell(News::Away {
        why: Away::Transfer,
    });
    abe.tell(News::Back);
    abe.tell(News::HangingUp(Cause::AgentHungUp));
    abe.tell(News::GoodbyeWithdrawn);
    abe.tell(News::HangingUp(Cause::Operator));
    abe.tell(News::AgentClosed);
    abe.over(Cause::Operator);
    drop(abe);
    daemon.registry.set_draining(true);
    daemon.registry.set_draining(true);
    daemon
        .registry
        .admit(asking(ZOE), Instant::now())
        .unwrap_err();
    daemon.registry.set_draining(false);
    daemon.registry.reloaded(&["log.level".into()], &[]);
    // One that dies without a word.
    drop(daemon.call(ZOE));
}

#[tokio::test]
async fn everything_that_happens_is_told_in_order() {
    let daemon = Daemon::start().await;
    let ann = daemon.call(ANN);
    ann.tell(News::AgentConnected);
    let mut events = Running::start(&daemon, &["events", "--json"]);
    let first = events.event().await;
    assert_eq!(first["type"], "snapshot");
    assert_eq!(first["draining"], false);
    let mut shown = daemon.ctl(&["--json", "show", ANN]).await.json();
    shown["durationSeconds"] = first["sessions"][0]["durationSeconds"].clone();
    assert_eq!(first["sessions"], json!([shown]));

    a_day(&daemon);
    let started = events.event().await;
    let expected = json!({
        "type": "call-started", "callSid": ABE, "streamSid": "MZ0123456789abcdef0123456789abcdef",
        "agent": "hume", "from": "+61400000001", "to": "+61200000002",
        "startedAt": started["startedAt"], "route": "night",
    });
    assert_eq!(started, expected);
    for expected in [
        json!({"type": "agent-connected", "callSid": ABE}),
        json!({"type": "barge-in", "callSid": ABE}),
        json!({"type": "paused", "callSid": ABE}),
        json!({"type": "resumed", "callSid": ABE}),
        json!({"type": "tool-call", "callSid": ABE, "tool": "hang_up"}),
        json!({"type": "away", "callSid": ABE, "why": "transfer"}),
        json!({"type": "back", "callSid": ABE}),
        json!({"type": "hanging-up", "callSid": ABE, "cause": "agent-hung-up"}),
        json!({"type": "goodbye-withdrawn", "callSid": ABE}),
        json!({"type": "hanging-up", "callSid": ABE, "cause": "operator"}),
        json!({"type": "agent-closed", "callSid": ABE}),
        json!({"type": "call-ended", "callSid": ABE, "cause": "operator", "durationSeconds": 0}),
        json!({"type": "draining", "draining": true}),
        json!({"type": "call-refused", "callSid": ZOE, "reason": "draining"}),
        json!({"type": "draining", "draining": false}),
        json!({"type": "reloaded", "changed": ["log.level"], "needRestart": []}),
    ] {
        assert_eq!(events.event().await, expected);
    }
    assert_eq!(events.event().await["type"], "call-started");
    let died = json!({"type": "call-ended", "callSid": ZOE, "durationSeconds": 0});
    assert_eq!(events.event().await, died);

    // What happened just before the stop is still told.
    ann.tell(News::BargeIn);
    daemon.token.cancel();
    assert_eq!(events.event().await["type"], "barge-in");
    assert_eq!(events.event().await, json!({"type": "stopped"}));
    let ran = events.end().await;
    assert_eq!((ran.code, &*ran.out, &*ran.err), (0, "", ""));
}

#[tokio::test]
async fn people_read_one_line_an_event() {
    let daemon = Daemon::start().await;
    let _ann = daemon.call(ANN);
    let mut events = Running::start(&daemon, &["events"]);
    let mut lines = vec![events.line().await, events.line().await];
    a_day(&daemon);
    daemon.token.cancel();
    let ran = events.end().await;
    assert_eq!((ran.code, &*ran.err), (0, ""));
    lines.extend(ran.out.lines().map(|line| format!("{line}\n")));
    let told: String = lines
        .iter()
        .map(|line| {
            let time = &line[..8];
            assert!(time.chars().filter(|c| *c == ':').count() == 2, "{line}");
            &line[8..]
        })
        .collect();
    let none = "-".to_owned() + &" ".repeat(33);
    let expected = format!(
        "  {none}  admitting calls, 1 live call
  {ANN}  connecting +61400000001 -> +61200000002
  {ABE}  started +61400000001 -> +61200000002, hume
  {ABE}  connected
  {ABE}  barge-in
  {ABE}  paused
  {ABE}  resumed
  {ABE}  tool call hang_up
  {ABE}  transferring
  {ABE}  back
  {ABE}  hanging up, agent-hung-up
  {ABE}  goodbye withdrawn
  {ABE}  hanging up, operator
  {ABE}  agent closed
  {ABE}  ended, operator, after 0s
  {none}  draining
  {ZOE}  refused, draining
  {none}  admitting calls
  {none}  reloaded, changed: log.level
  {ZOE}  started +61400000001 -> +61200000002, hume
  {ZOE}  ended, cause unknown, after 0s
  {none}  the daemon has stopped
"
    );
    assert_eq!(told, expected);
}

#[tokio::test]
async fn one_call_is_followed_to_its_end() {
    let daemon = Daemon::start().await;
    let (mut ann, abe) = (daemon.call(ANN), daemon.call(ABE));
    assert_eq!(daemon.ctl(&["events", ZOE]).await.code, 3);
    let ambiguous = daemon.ctl(&["events", "CAa"]).await;
    assert_eq!(ambiguous.code, 1);
    assert!(
        ambiguous.err.contains("begins 2 live calls"),
        "{}",
        ambiguous.err
    );

    let mut events = Running::start(&daemon, &["events", "CAaa", "--json"]);
    let first = events.event().await;
    assert_eq!(first["sessions"].as_array().unwrap().len(), 1);
    assert_eq!(first["sessions"][0]["callSid"], ANN);
    abe.tell(News::AgentConnected);
    ann.tell(News::AgentConnected);
    daemon.registry.set_draining(true);
    drop(abe);
    ann.over(Cause::CallerHungUp);
    drop(ann);
    let ran = events.end().await;
    let types: Vec<String> = ran
        .out
        .lines()
        .map(|line| {
            let event: Value = serde_json::from_str(line).unwrap();
            assert_eq!(event["callSid"], ANN);
            event["type"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!((ran.code, &*ran.err), (0, ""));
    assert_eq!(types, ["agent-connected", "call-ended"]);
}

#[tokio::test]
async fn a_follower_that_falls_behind_is_told_and_let_go() {
    let daemon = Daemon::start().await;
    let ann = daemon.call(ANN);
    let mut raw = daemon.connect().await;
    let first = raw.ask(r#"{"protocol":1,"op":"events"}"#).await;
    assert_eq!(first["event"]["type"], "snapshot");
    // Nothing is awaited: its task gets no chance to keep up.
    for _ in 0..2000 {
        ann.tell(News::BargeIn);
    }
    let told = raw.reply().await.unwrap();
    assert_eq!(told["error"]["code"], "too-slow", "{told}");
    assert_eq!(raw.reply().await, None);

    // As humebridgectl has it.
    let mut events = Running::start(&daemon, &["events"]);
    let first = events.line().await + &events.line().await;
    assert!(first.contains(ANN), "{first}");
    for _ in 0..2000 {
        ann.tell(News::BargeIn);
    }
    let ran = events.end().await;
    assert_eq!(ran.code, 1);
    assert!(
        ran.err.contains("faster than they were read"),
        "{}",
        ran.err
    );
}

#[tokio::test]
async fn a_follower_that_does_not_read_holds_up_nobody() {
    let limits = Limits {
        write: Duration::from_millis(300),
        clients: 2,
        ..Limits::default()
    };
    let daemon = Daemon::with(limits).await;
    let ann = daemon.call(ANN);
    let mut slow = daemon.connect().await;
    slow.send("{\"protocol\":1,\"op\":\"events\"}\n").await;
    let mut events = Running::start(&daemon, &["events", "--json"]);
    assert_eq!(events.event().await["type"], "snapshot");
    let full = daemon.ctl(&["status"]).await;
    assert!(full.err.contains("too many clients"), "{}", full.err);
    // The one that reads gets everything, more than the other's socket can hold.
    for n in 0..20_000 {
        ann.tell(News::BargeIn);
        if n % 100 == 99 {
            for _ in 0..100 {
                assert_eq!(events.event().await["type"], "barge-in");
            }
        }
    }
    // The other has lost its place.
    timeout(PATIENCE, async {
        while daemon.ctl(&["status"]).await.code != 0 {}
    })
    .await
    .expect("the slow follower keeps its place");
    let mut left = Vec::new();
    let _ = slow.0.read_to_end(&mut left).await;
    assert!(
        left.len() < 1_000_000,
        "{} bytes were kept for it",
        left.len()
    );
    assert_eq!(ann.view.barge_ins.load(Relaxed), 20_000);
}

#[tokio::test]
async fn a_follower_may_be_silent_and_is_missed_when_it_leaves() {
    let limits = Limits {
        idle: Duration::from_millis(100),
        clients: 1,
        ..Limits::default()
    };
    let daemon = Daemon::with(limits).await;
    let mut raw = daemon.connect().await;
    raw.ask(r#"{"protocol":1,"op":"events"}"#).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    daemon.registry.set_draining(true);
    assert_eq!(raw.reply().await.unwrap()["event"]["type"], "draining");
    assert_eq!(daemon.ctl(&["status"]).await.code, 1);
    drop(raw);
    timeout(PATIENCE, async {
        while daemon.ctl(&["status"]).await.code != 0 {}
    })
    .await
    .expect("its place is free");

    let mut raw = daemon.connect().await;
    raw.ask(r#"{"protocol":1,"op":"events"}"#).await;
    raw.send("{\"protocol\":1,\"op\":\"status\"}\n").await;
    assert_eq!(raw.reply().await.unwrap()["error"]["code"], "bad-request");
    assert_eq!(raw.reply().await, None);
}

#[tokio::test]
async fn a_reader_of_events_that_leaves_is_no_error() {
    let daemon = Daemon::start().await;
    let mut events = Running::start(&daemon, &["events"]);
    events.line().await;
    let Running { mut child, out } = events;
    drop(out);
    // A child that another test is just starting may hold the pipe for a moment: news until it is known.
    let news = async {
        for draining in [true, false].into_iter().cycle() {
            daemon.registry.set_draining(draining);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let status = tokio::select! {
        status = timeout(PATIENCE, child.wait()) => status.unwrap().unwrap(),
        () = news => unreachable!("there is always more news"),
    };
    assert_eq!(status.code(), Some(0));
    let mut words = String::new();
    let mut stderr = child.stderr.take().unwrap();
    stderr.read_to_string(&mut words).await.unwrap();
    assert_eq!(words, "");
}

#[tokio::test]
async fn the_table_of_calls_is_printed_again_when_they_are_others() {
    let daemon = Daemon::start().await;
    let ann = daemon.call(ANN);
    let mut people = Running::start(&daemon, &["sessions", "--watch"]);
    let mut scripts = Running::start(&daemon, &["sessions", "--watch", "--json"]);
    assert!(people.line().await.starts_with("CALL "));
    assert!(people.line().await.contains(ANN));
    let first: Value = serde_json::from_str(&scripts.line().await).unwrap();
    assert_eq!(first["sessions"][0]["callSid"], ANN);

    ann.view.frames_in.fetch_add(50, Relaxed);
    ann.tell(News::AgentConnected);
    assert_eq!(people.line().await, "\n");
    assert!(people.line().await.starts_with("CALL "));
    assert!(people.line().await.contains("talking"));
    let second: Value = serde_json::from_str(&scripts.line().await).unwrap();
    assert_eq!(second["sessions"][0]["agentConnected"], true);

    drop(ann);
    let third: Value = serde_json::from_str(&scripts.line().await).unwrap();
    assert_eq!(third["sessions"], json!([]));
    daemon.token.cancel();
    let ran = people.end().await;
    assert_eq!((ran.code, &*ran.out), (69, ""));
    assert_eq!(scripts.end().await.code, 69);
}

#[tokio::test]
async fn a_drain_is_waited_for() {
    let daemon = Daemon::start().await;
    let none = daemon.ctl(&["drain", "--wait", "--json"]).await.json();
    let left =
        json!({"draining": true, "changed": true, "activeSessions": 0, "expectedSessions": 0});
    assert_eq!(none, left);
    daemon.registry.set_draining(false);
    daemon.registry.admit(asking(ZOE), Instant::now()).unwrap();
    let ann = daemon.call(ANN);
    let wait = Running::start(&daemon, &["drain", "--wait", "--timeout", "20s"]);
    until(|| daemon.registry.draining()).await;
    drop(ann);
    daemon.registry.forget_admitted(&ZOE.parse().unwrap());
    let ran = wait.end().await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(
        ran.out
            .starts_with("state:           draining\nlive calls:      0\n"),
        "{}",
        ran.out
    );
    let expected = "humebridgectl: waiting for 1 live and 1 expected calls\n";
    assert!(ran.err.starts_with(expected), "{}", ran.err);
}

#[tokio::test]
async fn a_drain_that_is_no_longer_waited_for_goes_on() {
    let daemon = Daemon::start().await;
    let _ann = daemon.call(ANN);
    let wait = Running::start(&daemon, &["drain", "--wait"]);
    until(|| daemon.registry.draining()).await;
    let pid = wait.child.id().unwrap().to_string();
    let killed = Command::new("kill")
        .args(["-s", "INT", &pid])
        .status()
        .await;
    assert!(killed.unwrap().success());
    let output = timeout(PATIENCE, wait.child.wait_with_output()).await;
    assert_eq!(output.unwrap().unwrap().status.code(), None);
    assert!(daemon.registry.draining());

    let wait = Running::start(&daemon, &["drain", "--wait"]);
    // It has to have asked at least once.
    let mut wait = wait;
    let mut stderr = BufReader::new(wait.child.stderr.take().unwrap());
    let mut words = String::new();
    timeout(PATIENCE, stderr.read_line(&mut words))
        .await
        .unwrap()
        .unwrap();
    assert!(words.contains("waiting for 1 live"), "{words}");
    daemon.registry.set_draining(false);
    assert_eq!(wait.end().await.code, 1);
    words.clear();
    stderr.read_line(&mut words).await.unwrap();
    assert!(words.contains("the drain was taken back"), "{words}");
}
