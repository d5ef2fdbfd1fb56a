//! The log as an operator reads it: what it says of a call, how much, and that nobody waits for it.

use std::{
    fs::File,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    process::{ExitStatus, Stdio},
};

use hume_bridge::sim::{
    self,
    bridge::{ACCOUNT_SID, AUTH_TOKEN, HUME_KEY, PUBLIC_URL},
    phone::{Awaited, Event, Fault, Step},
    scenario::{Story, tell},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixDatagram, UnixStream},
    process::{Child, Command},
};

use crate::{
    PROGRAM,
    stage::{PACE, close, exchange, faulty, in_time, raw, say, start, until, wait_for, world},
};

/// What operators look for.
const GREPPED: [&str; 5] = [
    "session created",
    "connected to agent",
    "tool call",
    "hanging up",
    "session ended",
];

fn lines<'a>(log: &'a [String], words: &str) -> Vec<&'a String> {
    log.iter().filter(|line| line.contains(words)).collect()
}

/// The value of a field.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (_, value) = line.split_once(&format!(" {name}="))?;
    let value = value.split(' ').next()?;
    Some(value.trim_matches('"'))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_line_of_a_call_says_whose_it_is() {
    let story = Story::named("demo").unwrap();
    let text = Story {
        config: "log.level = \"debug\"".to_owned(),
        ..story
    };
    let (observed, missed) = tell(&text, Path::new(PROGRAM), PACE).await.unwrap();
    assert_eq!(missed, [""; 0]);
    let log = observed.log;
    let ids = |line: &str| {
        ["CALL_SID", "STREAM_SID", "AGENT"].map(|name| field(line, name).map(str::to_owned))
    };
    let stream = observed
        .call
        .entries
        .iter()
        .find_map(|entry| match &entry.event {
            Event::StreamStarted { stream_sid, .. } => Some(stream_sid.clone()),
            _ => None,
        });
    let expected = [
        Some(observed.call.call_sid.clone()),
        stream,
        Some("hume".to_owned()),
    ];
    for words in GREPPED {
        let found = lines(&log, words);
        assert_eq!(found.len(), 1, "{words}: {log:#?}");
        assert_eq!(ids(found[0]), expected, "{}", found[0]);
    }
    let ended = lines(&log, "session ended")[0];
    assert_eq!(field(ended, "cause"), Some("agent-hung-up"), "{ended}");
    assert!(!ended.contains("lines_withheld"), "{ended}");
    // Whatever else is said between the first and the last of them is of this call too.
    let at = |words| log.iter().position(|line| line.contains(words)).unwrap();
    for line in &log[at("session created")..=at("session ended")] {
        if !line.contains("audit: ") && !line.contains("stream event") {
            assert_eq!(ids(line), expected, "{line}");
        }
    }
    // And around the calls one line says what is served, and one that it is over.
    let ready = lines(&log, " ready ");
    assert_eq!(ready.len(), 1, "{log:#?}");
    for name in ["version", "http", "ops", "control", "agent"] {
        assert!(field(ready[0], name).is_some(), "{name}: {}", ready[0]);
    }
    assert!(log.last().unwrap().contains("stopped"), "{log:#?}");
}

/// The lines of a whole call with so many turns, as the log has them.
async fn call_of(turns: usize) -> Vec<String> {
    let replies = "[[agent.replies]]\nsteps = [{ say = \"agent-saturday\" }, { end = true }]\n";
    let world = world(&format!(
        "[agent]\ngreeting = [{{ say = \"agent-greeting\" }}, {{ end = true }}]\n{}\
         [[agent.replies]]\nsteps = [{{ tool = {{ name = \"hang_up\" }} }}, \
         {{ say = \"agent-goodbye\" }}, {{ end = true }}]\n",
        replies.repeat(turns)
    ))
    .await;
    let spoken = [
        wait_for(Awaited::AgentSpeaking),
        wait_for(Awaited::AgentQuiet),
    ];
    let mut steps = spoken.to_vec();
    for _ in 0..turns {
        steps.push(say("caller-yes"));
        steps.extend(spoken.clone());
    }
    steps.extend([say("caller-thanks"), wait_for(Awaited::StreamOver)]);
    let call = start(&world.phone, steps).finish().await;
    let heard = call.entries.iter();
    let heard = heard
        .filter(|entry| matches!(entry.event, Event::PlayingBegan))
        .count();
    assert!(heard > turns, "{:#?}", call.entries);
    let log = close(world).await;
    lines(&log, &call.call_sid).into_iter().cloned().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ordinary_call_is_less_than_two_kilobytes_however_long() {
    let (short, long) = tokio::join!(call_of(1), call_of(6));
    let bytes = |lines: &[String]| lines.iter().map(|line| line.len() + 1).sum::<usize>();
    println!(
        "a call of 1 turn: {} lines, {} bytes; of 6: {} lines, {} bytes",
        short.len(),
        bytes(&short),
        long.len(),
        bytes(&long)
    );
    assert!(short.len() >= GREPPED.len(), "{short:#?}");
    assert_eq!(short.len(), long.len(), "{long:#?}");
    for lines in [&short, &long] {
        assert!(bytes(lines) < 2000, "{lines:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_errs_without_end_does_not_fill_the_log() {
    let error = "{ error = \"E0712\" }, ";
    let tool = "{ tool = { name = \"lookup\" } }, ";
    let world = world(&format!(
        "[agent]\ngreeting = [{{ say = \"agent-more\" }}, {{ end = true }}]\n\
         [[agent.replies]]\nsteps = [{}{}{{ say = \"agent-saturday\" }}, {{ end = true }}]\n",
        error.repeat(60),
        tool.repeat(45),
    ))
    .await;
    let steps = [
        wait_for(Awaited::AgentSpeaking),
        wait_for(Awaited::AgentQuiet),
        say("caller-yes"),
        wait_for(Awaited::AgentSpeaking),
        wait_for(Awaited::AgentQuiet),
        Step::HangUp,
    ];
    start(&world.phone, steps).finish().await;
    let metrics = sim::get(world.bridge.ops, "/metrics").await.unwrap();
    let unknown = "hume_bridge_tool_calls_total{tool=\"other\",outcome=\"unknown\"} 45";
    assert!(metrics.contains(unknown), "counted to the last: {metrics}");
    let log = close(world).await;
    assert_eq!(lines(&log, "agent reports an error").len(), 10);
    assert_eq!(lines(&log, "tool call").len(), 40);
    let ended = lines(&log, "session ended");
    assert_eq!(
        field(ended[0], "lines_withheld"),
        Some("55"),
        "{}",
        ended[0]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_fill_a_counter_and_not_the_log() {
    const KNOCKS: usize = 60;
    let world = world("").await;
    let forged = b"POST /voice/incoming HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
        X-Forwarded-For: 198.51.100.7, 203.0.113.9\r\n\
        Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 0\r\n\r\n";
    for _ in 0..KNOCKS {
        let answer = exchange(world.bridge.http, forged).await.unwrap();
        assert_eq!(answer.status, 403);
    }
    let metrics = sim::get(world.bridge.ops, "/metrics").await.unwrap();
    let exact = format!("hume_bridge_signature_failures_total{{endpoint=\"incoming\"}} {KNOCKS}");
    assert!(metrics.contains(&exact), "{metrics}");
    let log = close(world).await;
    let refused = " WARN audit: webhook refused: signature";
    let shown = lines(&log, refused);
    // The knocks may have taken longer than one window.
    assert!((10..KNOCKS).contains(&shown.len()), "{log:#?}");
    for line in &shown {
        let peer = field(line, "peer").unwrap_or_default();
        assert!(peer.starts_with("127.0.0.1:"), "{line}");
        assert_eq!(field(line, "forwarded"), Some("203.0.113.9"), "{line}");
        assert_eq!(field(line, "path"), Some("/voice/incoming"), "{line}");
    }
    let more = " WARN audit: more of these, not shown: webhook refused: signature";
    let told = lines(&log, more);
    let told = told
        .iter()
        .filter_map(|line| field(line, "lines")?.parse::<usize>().ok());
    assert_eq!(shown.len() + told.sum::<usize>(), KNOCKS, "{log:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_refused_is_in_the_audit_log() {
    let world = world("[agent]\ngreeting = [{ say = \"agent-more\" }]").await;
    let call = start(
        &faulty(&world, Fault::NoToken),
        vec![wait_for(Awaited::StreamOver)],
    );
    let no_token = call.call_sid().to_owned();
    call.finish().await;
    let stranger = b"GET /media-stream HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let answer = exchange(world.bridge.http, stranger).await.unwrap();
    assert_eq!(answer.status, 426);
    let json = b"POST /voice/after HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
        Content-Type: application/json\r\nContent-Length: 0\r\n\r\n";
    let answer = exchange(world.bridge.http, json).await.unwrap();
    assert_eq!(answer.status, 415);
    // A socket of a real call that turns to nonsense.
    let mut steps = vec![wait_for(Awaited::AgentSpeaking)];
    steps.extend(vec![raw("nonsense"); 150]);
    steps.push(wait_for(Awaited::StreamOver));
    let garbage = start(&world.phone, steps).finish().await;
    let log = close(world).await;
    for (words, level) in [
        ("media socket refused: token", "WARN"),
        ("media socket refused: no WebSocket handshake", "INFO"),
        ("webhook refused: not a form", "INFO"),
        ("media socket closed: it broke the protocol", "WARN"),
    ] {
        let found = lines(&log, &format!(" {level} audit: {words}"));
        assert_eq!(found.len(), 1, "{words}: {log:#?}");
        let peer = field(found[0], "peer").unwrap_or_default();
        assert!(peer.starts_with("127.0.0.1:"), "{}", found[0]);
    }
    // A call that nobody proved is not named; one whose token was good is.
    assert_eq!(field(lines(&log, "refused: token")[0], "CALL_SID"), None);
    assert!(lines(&log, &no_token).is_empty(), "{log:#?}");
    let broke = lines(&log, "it broke the protocol")[0];
    assert_eq!(field(broke, "CALL_SID"), Some(garbage.call_sid.as_str()));
    assert_eq!(field(broke, "close_code"), Some("1007"));
}

/// A daemon whose standard error is the test's own affair.
struct Daemon {
    child: Child,
    ops: std::net::SocketAddr,
    control: std::path::PathBuf,
    /// Goes last.
    _directory: TempDir,
}

impl Daemon {
    async fn start(level: &str, journal: Option<&str>) -> Daemon {
        Daemon::start_onto(Stdio::piped(), level, journal).await
    }

    async fn start_onto(stderr: Stdio, level: &str, journal: Option<&str>) -> Daemon {
        let directory = TempDir::new().unwrap();
        let path = |name: &str| directory.path().join(name);
        let control = path("control.sock");
        let config = format!(
            "public_url = \"{PUBLIC_URL}\"\nlisten.http = \"127.0.0.1:0\"\n\
             listen.ops = \"127.0.0.1:0\"\nadmin.socket = \"{}\"\nadmin.group = \"\"\n\
             twilio.api_url = \"http://127.0.0.1:9\"\nhume.url = \"ws://127.0.0.1:9/\"\n\
             log.level = \"{level}\"\n",
            control.display()
        );
        std::fs::write(path("c.toml"), config).unwrap();
        let secrets = format!(
            "{{\"hume_api_key\":\"{HUME_KEY}\",\"twilio_account_sid\":\"{ACCOUNT_SID}\",\
             \"twilio_auth_token\":\"{AUTH_TOKEN}\"}}"
        );
        let mut file = std::fs::OpenOptions::new();
        let file = file.write(true).create_new(true).mode(0o600);
        let mut file = file.open(path("credentials.json")).unwrap();
        std::io::Write::write_all(&mut file, secrets.as_bytes()).unwrap();
        let notify = UnixDatagram::bind(path("notify.sock")).unwrap();
        let mut command = Command::new(PROGRAM);
        command
            .arg("--config")
            .arg(path("c.toml"))
            .arg("--credentials")
            .arg(path("credentials.json"))
            .env("NOTIFY_SOCKET", path("notify.sock"))
            .env_remove("CREDENTIALS_DIRECTORY")
            .env_remove("WATCHDOG_USEC")
            .env_remove("JOURNAL_STREAM")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .kill_on_drop(true);
        if let Some(journal) = journal {
            command.env("JOURNAL_STREAM", journal);
        }
        let child = command.spawn().unwrap();
        let mut buffer = [0; 4096];
        let ops = loop {
            let length = in_time(notify.recv(&mut buffer)).await.unwrap();
            let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
            let ops = message.lines().find_map(|line| line.strip_prefix("X_OPS="));
            if let Some(ops) = ops {
                break ops.parse().unwrap();
            }
        };
        Daemon {
            child,
            ops,
            control,
            _directory: directory,
        }
    }

    /// Makes it log `n` lines at debug, and sees every request answered.
    async fn chatter(&self, n: usize) {
        let stream = UnixStream::connect(&self.control).await.unwrap();
        let (read, mut write) = stream.into_split();
        let mut replies = BufReader::new(read).lines();
        let asked = tokio::spawn(async move {
            for _ in 0..n {
                let request = b"{\"protocol\":1,\"op\":\"status\"}\n";
                write.write_all(request).await.unwrap();
            }
            write
        });
        for _ in 0..n {
            let reply = in_time(replies.next_line()).await.unwrap().unwrap();
            assert!(reply.contains("\"ok\""), "{reply}");
        }
        drop(asked.await.unwrap());
    }

    async fn lost(&self) -> u64 {
        let metrics = sim::get(self.ops, "/metrics").await.unwrap();
        let mut lines = metrics.lines();
        let lost = lines.find_map(|line| line.strip_prefix("hume_bridge_log_lines_lost_total "));
        lost.unwrap().parse().unwrap()
    }

    async fn stop(&mut self) -> ExitStatus {
        let pid = self.child.id().unwrap().to_string();
        let killed = Command::new("kill").args(["-s", "TERM", &pid]).status();
        assert!(killed.await.unwrap().success());
        in_time(self.child.wait()).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_nobody_reads_holds_up_nobody() {
    // Far more than the pipe and the queue together take.
    const LINES: usize = 12_000;
    let mut daemon = Daemon::start("debug", None).await;
    daemon.chatter(LINES).await;
    let lost = daemon.lost().await;
    assert!(lost > 0 && (lost as usize) < LINES, "{lost}");
    // Somebody reads again: what was kept comes whole, and what was lost is told.
    let mut stderr = daemon.child.stderr.take().unwrap();
    let reading = tokio::spawn(async move {
        let mut text = String::new();
        stderr.read_to_string(&mut text).await.map(|_| text)
    });
    assert!(daemon.stop().await.success());
    let text = in_time(reading).await.unwrap().unwrap();
    let log: Vec<String> = text.lines().map(str::to_owned).collect();
    let kept = lines(&log, "DEBUG audit: control request").len();
    let told = lines(&log, "log lines were dropped");
    let told = told.iter().filter_map(|line| field(line, "lines"));
    let told: usize = told.map(|lines| lines.parse::<usize>().unwrap()).sum();
    // Until somebody reads, a few lines more are lost: of connections, and of the end.
    assert!(told as u64 >= lost, "{told} {lost}");
    assert!(
        (LINES..LINES + 20).contains(&(kept + told)),
        "{kept} {told}"
    );
    assert!(log.last().unwrap().contains("stopped"));

    let mut daemon = Daemon::start("debug", None).await;
    daemon.chatter(LINES).await;
    assert!(
        daemon.stop().await.success(),
        "it does not wait without end"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_gone_ends_nothing() {
    let mut daemon = Daemon::start("debug", None).await;
    drop(daemon.child.stderr.take());
    daemon.chatter(100).await;
    in_time(async { while daemon.lost().await < 100 {} }).await;
    assert!(daemon.stop().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_costs_lines_and_nothing_else() {
    let full = || File::options().write(true).open("/dev/full").unwrap();
    let mut daemon = Daemon::start_onto(full().into(), "debug", None).await;
    daemon.chatter(100).await;
    in_time(async { while daemon.lost().await < 100 {} }).await;
    assert!(daemon.stop().await.success());
    // Nor does it change what the exit status says.
    for (args, code) in [(["--config", "/nonexistent"], 78), (["--no-such", "x"], 2)] {
        let mut command = Command::new(PROGRAM);
        let status = command.args(args).stderr(full()).status();
        assert_eq!(
            in_time(status).await.unwrap().code(),
            Some(code),
            "{args:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_comes_back_tells_what_was_lost() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("log");
    let made = Command::new("mkfifo").arg(&path).status();
    assert!(made.await.unwrap().success());
    // Each end waits for the other.
    let reader = || {
        let path = path.clone();
        std::thread::spawn(move || File::open(path).unwrap())
    };
    let first = reader();
    let stderr = File::options().write(true).open(&path).unwrap();
    let first = first.join().unwrap();
    let mut daemon = Daemon::start_onto(stderr.into(), "debug", None).await;
    drop(first);
    // A process that is just being started elsewhere may hold the reading end for a moment longer.
    in_time(async {
        while daemon.lost().await < 100 {
            daemon.chatter(20).await;
        }
    })
    .await;
    let back = reader().join().unwrap();
    let lost = daemon.lost().await;
    daemon.chatter(1).await;
    assert!(daemon.stop().await.success());
    let text = std::io::read_to_string(back).unwrap();
    let words = "log lines were lost: they could not be written";
    let told = text.lines().find(|line| line.contains(words)).unwrap();
    assert!(told.contains("Broken pipe"), "{told}");
    let lines: u64 = field(told, "lines").unwrap().parse().unwrap();
    assert!(lines >= lost, "{told}, and {lost} were counted");
    assert!(text.contains("control request") && text.contains("stopped"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standard_error_that_is_not_the_journal_gets_the_lines() {
    // As a shell in a unit would pass it on; the numbers are those of another stream.
    let mut daemon = Daemon::start("info", Some("1:1")).await;
    let mut stderr = daemon.child.stderr.take().unwrap();
    assert!(daemon.stop().await.success());
    let mut text = String::new();
    in_time(stderr.read_to_string(&mut text)).await.unwrap();
    let ready = text.lines().find(|line| line.contains(" ready ")).unwrap();
    let (time, rest) = ready.split_once(' ').unwrap();
    let digits = |text: &str| text.bytes().filter(u8::is_ascii_digit).count();
    assert!(time.ends_with('Z') && digits(time) == 20, "{ready}");
    assert!(rest.starts_with(" INFO ready version="), "{ready}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_words_of_strangers_are_not_in_the_log() {
    let world = world("config = 'log.level = \"debug\"'").await;
    for request in [
        "POST /voice/incoming?MARKER HTTP/1.1\nX-Forwarded-For: +15551234567, MARKER\n\
         X-Twilio-Signature: MARKER\nContent-Type: application/x-www-form-urlencoded\n\
         Content-Length: 53\n\nCallSid=CA00000000000000000000000000000000&From=MARKER",
        "GET /voice/after?Digits=47110815&From=MARKER HTTP/1.1\n\n",
        "GET /media-stream?token=MARKER HTTP/1.1\n\n",
        "GET /MARKER HTTP/1.1\n\n",
        "MARKER\n\n",
    ] {
        let request = request
            .replacen(
                " HTTP/1.1\n",
                " HTTP/1.1\nHost: MARKER\nConnection: close\n",
                1,
            )
            .replace('\n', "\r\n");
        exchange(world.bridge.http, request.as_bytes()).await;
    }
    let mut phone = faulty(&world, Fault::NoToken);
    phone.auth_token = AUTH_TOKEN.to_owned();
    let call = start(&phone, vec![wait_for(Awaited::StreamOver)]);
    until(&call, |event| matches!(event, Event::StreamStarted { .. })).await;
    call.finish().await;
    let log = close(world).await;
    assert!(lines(&log, "refused").len() >= 4, "{log:#?}");
    for secret in [
        "MARKER",
        "15551234567",
        "15557654321",
        "47110815",
        AUTH_TOKEN,
    ] {
        assert!(lines(&log, secret).is_empty(), "{secret}: {log:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_are_logged_at_every_level() {
    let mut daemon = Daemon::start("error", None).await;
    let mut control = UnixStream::connect(&daemon.control).await.unwrap();
    let order = b"{\"protocol\":1,\"op\":\"drain\"}\n";
    control.write_all(order).await.unwrap();
    let mut reply = [0; 1024];
    let length = in_time(control.read(&mut reply)).await.unwrap();
    assert!(String::from_utf8_lossy(&reply[..length]).contains("\"ok\""));
    let mut stderr = daemon.child.stderr.take().unwrap();
    assert!(daemon.stop().await.success());
    let mut text = String::new();
    in_time(stderr.read_to_string(&mut text)).await.unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 1, "{text}");
    let order = " INFO audit: draining set uid=";
    assert!(lines[0].contains(order), "{text}");
}
