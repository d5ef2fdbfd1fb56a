//! The control socket from an operator's chair: the real `humebridgectl` against a real socket,
//! with live calls in the register behind it.

mod following;
mod orders;
mod routes;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Output, Stdio},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use hume_bridge::{
    admin::{
        desk::{Control, Desk, Line},
        protocol::Reloaded,
        routed::{self, Meets, Routed, Tried},
        server::{BindError, Limits, bind, serve_with},
    },
    session::{
        order::{Order, Verdict},
        registry::{Asking, CallFacts, Claim, Registry},
    },
    twilio::CallSid,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    process::Command,
    sync::mpsc,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

const ANN: &str = "CAaa00000000000000000000000000000a";
const ABE: &str = "CAab00000000000000000000000000000b";
const ZOE: &str = "CAf000000000000000000000000000000f";

/// A daemon whose config file is broken.
struct NoConfig;

impl Control for NoConfig {
    fn reload(&self) -> Result<Reloaded, String> {
        Err("hume-bridge.toml:1: public_url: is missing; write it".into())
    }

    fn line(&self) -> Line {
        Line {
            account_sid: "AC1".into(),
            number: None,
            public_url: "https://bridge.example.com".into(),
            address: ([127, 0, 0, 1], 3000).into(),
            certificate: None,
        }
    }

    fn sign(&self, _: &CallSid, url: &str, _: &[(String, String)]) -> Option<String> {
        (url == "https://bridge.example.com/voice/incoming").then(|| "signed".into())
    }
    fn check(&self, name: &str, text: &str) -> Result<Reloaded, String> {
        if text == "good = true\n" {
            Ok(Reloaded {
                changed: vec!["good".into()],
                need_restart: vec!["listen.http".into()],
            })
        } else {
            Err(format!("{name}:1: bad: is no key; leave it out"))
        }
    }

    fn route(&self, to: &str, from: &str, at: jiff::Timestamp) -> Routed {
        let named = |route: &str, fits, why: String| Tried {
            route: route.into(),
            fits,
            why,
        };
        Routed {
            route: "shop".into(),
            why: vec![
                named("ann", false, "is for other callers".into()),
                named("shop", true, format!("{to} {from} {at}")),
            ],
            plan: routed::Plan {
                keys: Default::default(),
                agent: "hume".into(),
                config_id: None,
                voice: None,
                greeting: "Hello.".into(),
                fallback: Meets::Dial,
                closed: Some(Meets::Say),
                tools: vec!["hang_up".into()],
                variables: vec![],
                max_concurrent: 0,
                max_per_caller: Some(1),
                max_duration_seconds: 7200,
                no_input_timeout_seconds: 0,
            },
        }
    }
}

/// A webhook for this call.
fn asking(call: &str) -> Asking<'static> {
    Asking {
        call: call.parse().unwrap(),
        from: "+15551234567",
        to: "+15557654321",
        inbound: true,
        on: Default::default(),
    }
}

struct Daemon {
    dir: TempDir,
    registry: Arc<Registry>,
    tracker: TaskTracker,
    token: CancellationToken,
}

impl Daemon {
    async fn start() -> Daemon {
        Daemon::with(Limits::default()).await
    }

    async fn with(limits: Limits) -> Daemon {
        let daemon = Daemon {
            dir: TempDir::new().unwrap(),
            registry: Registry::new(hume_bridge::session::registry::Limits::of(
                2000,
                std::time::Duration::from_secs(30),
            )),
            tracker: TaskTracker::new(),
            token: CancellationToken::new(),
        };
        let listener = bind(&daemon.socket(), "").await.unwrap();
        let (tracker, token) = (daemon.tracker.clone(), daemon.token.clone());
        let desk = Arc::new(Desk::new(
            daemon.registry.clone(),
            Arc::new(NoConfig),
            Arc::default(),
        ));
        let server = serve_with(listener, desk, limits, tracker, token);
        daemon.tracker.spawn(server);
        daemon
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("control.sock")
    }

    fn call(&self, call: &str) -> Claim {
        let facts = CallFacts {
            call: call.parse().expect("a CallSid"),
            stream: "MZ0123456789abcdef0123456789abcdef"
                .parse()
                .expect("a StreamSid"),
            from: "+61400000001".into(),
            to: "+61200000002".into(),
            agent: "hume",
            route: Some("night".into()),
            known: Default::default(),
            token_expires_unix: 0,
        };
        self.registry.claim(facts, Instant::now()).unwrap()
    }

    /// A call that answers its orders.
    fn obedient(&self, call: &str) -> Obedient {
        Obedient::new(self.call(call), Verdict::Done)
    }

    async fn ctl(&self, args: &[&str]) -> Ran {
        ctl(&self.socket(), args).await
    }

    async fn connect(&self) -> Raw {
        Raw(BufReader::new(
            UnixStream::connect(self.socket()).await.unwrap(),
        ))
    }
}

/// A call whose task says the same to every order.
struct Obedient {
    orders: mpsc::UnboundedReceiver<Order>,
    leave: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Obedient {
    fn new(mut claim: Claim, verdict: Verdict) -> Obedient {
        let (heard, orders) = mpsc::unbounded_channel();
        let leave = CancellationToken::new();
        let left = leave.clone();
        let task = tokio::spawn(async move {
            loop {
                let letter = tokio::select! {
                    () = left.cancelled() => return,
                    letter = claim.mailbox.recv() => letter,
                };
                let Some(letter) = letter else { return };
                heard.send(letter.order).unwrap();
                if let Some(reply) = letter.reply {
                    _ = reply.send(verdict);
                }
            }
        });
        Obedient {
            orders,
            leave,
            task,
        }
    }

    /// The next order, if there was one.
    fn order(&mut self) -> Option<Order> {
        self.orders.try_recv().ok()
    }

    async fn end(self) {
        self.leave.cancel();
        self.task.await.unwrap();
    }
}

/// What a command printed and returned.
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Ran {
        Ran {
            code: output.status.code().expect("no signal"),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ran {
    fn json(&self) -> Value {
        assert_eq!(
            (self.code, self.out.lines().count()),
            (0, 1),
            "{} {}",
            self.out,
            self.err
        );
        serde_json::from_str(&self.out).unwrap()
    }
}

fn command(socket: &std::path::Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_humebridgectl"));
    command
        .arg("--socket")
        .arg(socket)
        .args(args)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

async fn ctl(socket: &std::path::Path, args: &[&str]) -> Ran {
    let ran = timeout(Duration::from_secs(30), command(socket, args).output()).await;
    ran.expect("humebridgectl ends").unwrap().into()
}

/// A client that writes what it likes.
struct Raw(BufReader<UnixStream>);

impl Raw {
    async fn send(&mut self, line: &str) {
        self.0.write_all(line.as_bytes()).await.unwrap();
    }

    /// The next reply, or nothing when the daemon has closed.
    async fn reply(&mut self) -> Option<Value> {
        let mut line = String::new();
        let read = timeout(Duration::from_secs(10), self.0.read_line(&mut line))
            .await
            .unwrap();
        // A close with unread bytes is a reset.
        if read.unwrap_or(0) == 0 {
            return None;
        }
        let reply: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(reply["protocol"], 1);
        assert_eq!(reply["version"], env!("CARGO_PKG_VERSION"));
        Some(reply)
    }

    async fn ask(&mut self, line: &str) -> Value {
        self.send(line).await;
        self.send("\n").await;
        self.reply().await.expect("a reply")
    }
}

#[tokio::test]
async fn an_operator_looks_around() {
    let daemon = Daemon::start().await;
    let quiet = daemon.ctl(&["sessions"]).await;
    assert_eq!(
        (quiet.code, &*quiet.out, &*quiet.err),
        (0, "", "humebridgectl: no live calls\n")
    );
    daemon.registry.admit(asking(ZOE), Instant::now()).unwrap();
    let ann = daemon.call(ANN);
    ann.view.agent_connected.store(true, Relaxed);
    ann.view.barge_ins.store(3, Relaxed);

    let status = daemon.ctl(&["status", "--json"]).await.json();
    let expected = json!({
        "draining": false, "activeSessions": 1, "expectedSessions": 1,
        "uptimeSeconds": status["uptimeSeconds"], "pid": std::process::id(),
    });
    assert_eq!(status, expected);
    let people = daemon.ctl(&["status"]).await;
    assert!(
        people.out.contains("live calls:      1\n") && people.err.is_empty(),
        "{}",
        people.out
    );

    let sessions = daemon.ctl(&["--json", "sessions"]).await.json();
    let shown = daemon.ctl(&["--json", "show", "CAaa"]).await.json();
    assert_eq!(sessions["sessions"], json!([shown]));
    let expected = json!({
        "callSid": ANN, "streamSid": "MZ0123456789abcdef0123456789abcdef", "agent": "hume",
        "agentConnected": true, "from": "+61400000001", "to": "+61200000002",
        "startedAt": shown["startedAt"], "durationSeconds": shown["durationSeconds"],
        "ending": false, "paused": false, "framesIn": 0, "audioOut": 0, "framesDropped": 0, "bargeIns": 3, "test": false,
        "route": "night", "away": null,
    });
    assert_eq!(shown, expected);
    let table = daemon.ctl(&["sessions"]).await.out;
    assert!(
        table.starts_with("CALL ") && table.contains(ANN) && table.contains("talking"),
        "{table}"
    );
}

#[tokio::test]
async fn an_operator_hangs_up_by_the_beginning_of_a_sid() {
    let daemon = Daemon::start().await;
    let (mut ann, mut abe) = (daemon.obedient(ANN), daemon.obedient(ABE));

    let ambiguous = daemon.ctl(&["hangup", "CAa"]).await;
    assert_eq!((ambiguous.code, &*ambiguous.out), (1, ""));
    assert!(
        ambiguous.err.contains("\"CAa\" begins 2 live calls"),
        "{}",
        ambiguous.err
    );
    let nobody = daemon.ctl(&["hangup", ZOE]).await;
    assert_eq!((nobody.code, &*nobody.out), (3, ""));
    assert!(
        nobody.err.contains(&format!("no live call \"{ZOE}\"")),
        "{}",
        nobody.err
    );
    assert_eq!(daemon.ctl(&["show", "caaa"]).await.code, 3);
    assert_eq!((ann.order(), abe.order()), (None, None));

    let ended = daemon
        .ctl(&["hangup", "CAaa", "--reason", "caller asked"])
        .await;
    assert_eq!((ended.code, ended.out), (0, format!("{ANN}\n")));
    assert_eq!(ann.order(), Some(Order::HangUp { now: false }));
    assert_eq!(abe.order(), None);

    // One of three is unknown: the others are still ended, and the exit code tells.
    let three = daemon.ctl(&["hangup", "--now", ANN, "CAz", ABE]).await;
    assert_eq!((three.code, three.out), (3, format!("{ANN}\n{ABE}\n")));
    assert_eq!(ann.order(), Some(Order::HangUp { now: true }));
    assert_eq!(abe.order(), Some(Order::HangUp { now: true }));

    ann.end().await;
    assert_eq!(daemon.ctl(&["hangup", ANN]).await.code, 3);
    // Now the short prefix is unique.
    assert_eq!(daemon.ctl(&["hangup", "C"]).await.out, format!("{ABE}\n"));
}

#[tokio::test]
async fn all_calls_are_ended_at_once() {
    let daemon = Daemon::start().await;
    let none = daemon.ctl(&["hangup", "--all", "--json"]).await.json();
    assert_eq!(none, json!({"calls": [], "now": false}));
    let mut calls = [daemon.obedient(ANN), daemon.obedient(ABE)];
    let ended = daemon
        .ctl(&["hangup", "--all", "--now", "--json"])
        .await
        .json();
    assert_eq!(ended, json!({"calls": [ANN, ABE], "now": true}));
    for call in &mut calls {
        assert_eq!(call.order(), Some(Order::HangUp { now: true }));
    }
}

#[tokio::test]
async fn a_call_that_has_too_many_orders_waiting_refuses_more() {
    let daemon = Daemon::start().await;
    let _ann = daemon.call(ANN);
    let _abe = daemon.obedient(ABE);
    for _ in 0..8 {
        // Nobody waits for the answers.
        daemon
            .registry
            .order(&ANN.parse().unwrap(), Order::Pause)
            .unwrap();
    }
    let ran = daemon.ctl(&["hangup", ANN, ABE]).await;
    assert_eq!((ran.code, ran.out), (1, format!("{ABE}\n")));
    assert!(ran.err.contains("too many orders"), "{}", ran.err);
    let ran = daemon.ctl(&["hangup", "--all"]).await;
    assert_eq!((ran.code, ran.out), (1, format!("{ABE}\n")));
    assert_eq!(ran.err, format!("humebridgectl: no answer from {ANN}\n"));
}

#[tokio::test]
async fn draining_is_told_and_taken_back() {
    let daemon = Daemon::start().await;
    let _ann = daemon.call(ANN);
    let drain = |draining, changed| json!({"draining": draining, "changed": changed, "activeSessions": 1, "expectedSessions": 0});
    assert_eq!(
        daemon.ctl(&["drain", "--json"]).await.json(),
        drain(true, true)
    );
    assert_eq!(
        daemon.ctl(&["drain", "--json"]).await.json(),
        drain(true, false)
    );
    assert!(daemon.registry.draining());
    assert!(
        daemon
            .ctl(&["status"])
            .await
            .out
            .contains("state:           draining\n")
    );
    assert_eq!(
        daemon.ctl(&["undrain", "--json"]).await.json(),
        drain(false, true)
    );
    assert!(!daemon.registry.draining());
    assert!(
        daemon
            .ctl(&["undrain"])
            .await
            .out
            .contains("admitting calls")
    );
}

#[tokio::test]
async fn exit_codes_say_what_happened() {
    let dir = TempDir::new().unwrap();
    let missing = ctl(&dir.path().join("none"), &["status"]).await;
    assert_eq!((missing.code, &*missing.out), (69, ""));
    assert!(
        missing.err.contains("is hume-bridge running?"),
        "{}",
        missing.err
    );
    for args in [
        &["staus"][..],
        &[],
        &["hangup"],
        &["fly"],
        &["status", "--nope"],
    ] {
        let ran = ctl(&dir.path().join("none"), args).await;
        assert_eq!((ran.code, &*ran.out), (2, ""), "{args:?}");
        assert!(ran.err.starts_with("humebridgectl: "), "{}", ran.err);
    }
    let help = ctl(&dir.path().join("none"), &["help"]).await;
    assert!(help.code == 0 && help.out.contains("usage: humebridgectl"));
    let version = ctl(&dir.path().join("none"), &["--version"]).await;
    assert_eq!(
        version.out,
        format!("humebridgectl {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[tokio::test]
async fn a_daemon_that_hangs_is_not_waited_for() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("s");
    let _listener = tokio::net::UnixListener::bind(&path).unwrap();
    let ran = ctl(&path, &["status", "--timeout", "200ms"]).await;
    assert_eq!(ran.code, 69);
    assert!(ran.err.contains("within 200ms"), "{}", ran.err);
}

/// Something that answers one request with one line, whatever it was.
async fn stranger(reply: &'static str) -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("s");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = BufReader::new(stream);
            stream.read_line(&mut String::new()).await.unwrap();
            stream.write_all(reply.as_bytes()).await.unwrap();
        }
    });
    (dir, path)
}

#[tokio::test]
async fn another_version_is_explained() {
    let newer = concat!(
        r#"{"protocol":1,"version":"99.0.0","ok":{"draining":false,"activeSessions":0,"#,
        r#""expectedSessions":0,"uptimeSeconds":0,"pid":1,"mood":"good"}}"#,
        "\n"
    );
    let (_dir, path) = stranger(newer).await;
    let ran = ctl(&path, &["status"]).await;
    assert!(
        ran.code == 0 && ran.out.contains("version:         99.0.0\n"),
        "{}",
        ran.out
    );
    assert!(
        ran.err.contains("the running daemon is hume-bridge 99.0.0"),
        "{}",
        ran.err
    );
    assert_eq!(
        ctl(&path, &["status", "--json"]).await.json()["mood"],
        "good"
    );

    let (_dir, path) = stranger("{\"protocol\":7,\"version\":\"99.0.0\"}\n").await;
    let ran = ctl(&path, &["status"]).await;
    assert_eq!((ran.code, &*ran.out), (1, ""));
    assert!(
        ran.err.contains("hume-bridge 99.0.0 speaks protocol 7"),
        "{}",
        ran.err
    );

    let (_dir, path) = stranger("220 mail.example.com ESMTP\n").await;
    assert_eq!(ctl(&path, &["status"]).await.code, 1);
    let (_dir, path) = stranger("").await;
    assert_eq!(ctl(&path, &["status"]).await.code, 69);
}

#[tokio::test]
async fn a_reader_that_has_seen_enough_is_no_error() {
    let daemon = Daemon::start().await;
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut child = command(&daemon.socket(), &["status"])
        .stdout(writer)
        .spawn()
        .unwrap();
    let status = timeout(Duration::from_secs(30), child.wait())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn what_is_not_a_request_is_refused_and_the_next_one_served() {
    let daemon = Daemon::start().await;
    let mut raw = daemon.connect().await;
    for (line, code) in [
        ("hello", "bad-request"),
        (r#"{"protocol":1,"op":"status","x":1}"#, "bad-request"),
        (r#"{"protocol":1,"op":"fly"}"#, "unknown-op"),
        (r#"{"protocol":2,"op":"status"}"#, "protocol-mismatch"),
        (r#"{"protocol":1,"op":"show","call":"CA"}"#, "no-such-call"),
    ] {
        let reply = raw.ask(line).await;
        assert_eq!(reply["error"]["code"], code, "{reply}");
        assert!(!reply["error"]["message"].as_str().unwrap().is_empty());
    }
    let unknown = raw.ask(r#"{"protocol":1,"op":"fly"}"#).await;
    let words = unknown["error"]["message"].as_str().unwrap();
    assert!(words.contains(env!("CARGO_PKG_VERSION")), "{words}");
    // Two at once, in pieces, with a blank line between, the last without a newline.
    raw.send("{\"protocol\":1,\"op\":\"sess").await;
    raw.send("ions\"}\r\n\n{\"protocol\":1,\"op\":\"drain\"}")
        .await;
    raw.0.get_mut().shutdown().await.unwrap();
    assert_eq!(raw.reply().await.unwrap()["ok"]["sessions"], json!([]));
    assert_eq!(raw.reply().await.unwrap()["ok"]["draining"], true);
    assert_eq!(raw.reply().await, None);
}

#[tokio::test]
async fn a_line_without_end_ends_the_connection_only() {
    let daemon = Daemon::start().await;
    let mut raw = daemon.connect().await;
    let chunk = "x".repeat(64 * 1024 + 1);
    raw.send(&chunk).await;
    assert_eq!(raw.reply().await.unwrap()["error"]["code"], "bad-request");
    assert_eq!(raw.reply().await, None);
    assert_eq!(daemon.ctl(&["status"]).await.code, 0);
}

#[tokio::test]
async fn silent_clients_and_slow_readers_are_let_go() {
    let limits = Limits {
        idle: Duration::from_millis(300),
        write: Duration::from_millis(300),
        clients: 1,
    };
    let daemon = Daemon::with(limits).await;
    let mut silent = daemon.connect().await;
    silent.send("{\"protocol\"").await;
    assert_eq!(silent.reply().await, None);

    // Enough calls that the replies do not fit the socket's buffer.
    let _calls: Vec<_> = (0..1000)
        .map(|n| daemon.call(&format!("CA{n:032x}")))
        .collect();
    let mut slow = loop {
        // The place of the silent one is given back a moment after its socket.
        let mut raw = daemon.connect().await;
        if raw.ask(r#"{"protocol":1,"op":"status"}"#).await["ok"].is_object() {
            break raw;
        }
    };
    slow.send(&"{\"protocol\":1,\"op\":\"sessions\"}\n".repeat(20))
        .await;
    let full = daemon.ctl(&["status"]).await;
    assert_eq!(full.code, 1, "{}", full.err);
    assert!(full.err.contains("too many clients"), "{}", full.err);
    // It is let go without having read, and its place is free for one that reads.
    timeout(Duration::from_secs(20), async {
        while daemon.ctl(&["status"]).await.code != 0 {}
    })
    .await
    .expect("the slow reader keeps its place");
    let mut left = Vec::new();
    let _ = slow.0.read_to_end(&mut left).await;
    assert!(left.len() < 20 * 300_000, "everything was kept for it");
    let sessions = daemon.ctl(&["sessions", "--json"]).await.json();
    assert_eq!(sessions["sessions"].as_array().unwrap().len(), 1000);
}

#[tokio::test]
async fn the_socket_is_for_its_group_and_goes_with_the_daemon() {
    let daemon = Daemon::start().await;
    let mode = fs::metadata(daemon.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let mut idle = daemon.connect().await;
    daemon.token.cancel();
    daemon.tracker.close();
    timeout(Duration::from_secs(1), daemon.tracker.wait())
        .await
        .expect("an idle client held it up");
    assert_eq!(idle.reply().await, None);
    assert!(!daemon.socket().exists());
}

#[tokio::test]
async fn a_second_daemon_does_not_take_the_socket_and_a_dead_ones_is_replaced() {
    let daemon = Daemon::start().await;
    let error = bind(&daemon.socket(), "").await.unwrap_err();
    assert!(matches!(error, BindError::InUse(_)), "{error}");
    assert!(
        error.to_string().contains("another hume-bridge answers"),
        "{error}"
    );
    assert_eq!(daemon.ctl(&["status"]).await.code, 0);

    // A daemon that was killed leaves its socket; a group that does not exist is no obstacle.
    let stale = daemon.dir.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    assert!(stale.exists());
    let refused = ctl(&stale, &["status"]).await;
    assert_eq!(refused.code, 69);
    assert!(refused.err.contains("nobody answers"), "{}", refused.err);
    drop(bind(&stale, "no-such-group-here").await.unwrap());
    assert!(!stale.exists());

    // The file of a successor is left alone.
    let ours = bind(&stale, "").await.unwrap();
    fs::remove_file(&stale).unwrap();
    let _theirs = std::os::unix::net::UnixListener::bind(&stale).unwrap();
    drop(ours);
    assert!(stale.exists());

    let file = daemon.dir.path().join("file");
    fs::write(&file, "precious").unwrap();
    assert!(matches!(
        bind(&file, "").await,
        Err(BindError::NotASocket(_))
    ));
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    let nowhere = daemon.dir.path().join("none/s");
    let error = bind(&nowhere, "").await.unwrap_err().to_string();
    assert!(
        error.starts_with("admin.socket ")
            && error.contains("its directory does not exist; make it"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_of_a_broken_config_says_why_and_exits_78() {
    let daemon = Daemon::start().await;
    let output = daemon.ctl(&["reload"]).await;
    assert_eq!(output.code, 78);
    let said = &output.err;
    assert!(
        said.contains("hume-bridge.toml:1: public_url: is missing"),
        "{said}"
    );
    assert_eq!(output.out, "");
}
