//! `hume-bridge check`: what an operator is told before the first call, and after a bad night.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt,
};

use hume_bridge::sim::{
    bridge::{ACCOUNT_SID, AUTH_TOKEN, CONFIG_ID, HUME_KEY, REALTIME_KEY},
    evi::{By, Evi, EviHandle, Options, Script, What},
    phone::Switchboard,
    realtime::{self, Dialect, Realtime},
    rest::{
        Failure, Rest, RestHandle, RestScript,
        account::{Application, Number},
    },
    scenario::World,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::Command,
    task::JoinSet,
};

use crate::{
    PROGRAM,
    stage::{close, in_time, status, world},
};

const NUMBER: &str = "+15557654321";
const PN: &str = "PN00000000000000000000000000000001";
const AP: &str = "AP00000000000000000000000000000002";

/// Twilio, an EVI, and an operator with a config.
struct Stage {
    directory: TempDir,
    rest: RestHandle,
    evi: EviHandle,
    /// `public_url`; nobody listens there at first.
    public: String,
    auth_token: String,
    /// Keys in place of those of [`Stage::config`], by their first word, and more of them.
    config: Vec<(&'static str, String)>,
}

impl Stage {
    async fn with_agent(agent: &str) -> Stage {
        let options = Options {
            api_key: HUME_KEY.to_owned(),
            ..Options::default()
        };
        let script: Script = toml::from_str(agent).unwrap();
        let evi = Evi::start(script, options).await.unwrap();
        let script = RestScript::default();
        let rest = Rest::start(Switchboard::new(), ACCOUNT_SID, AUTH_TOKEN, script);
        let rest = rest.await.unwrap();
        Stage::around(rest, evi, format!("http://{}", nobody()))
    }

    fn around(rest: RestHandle, evi: EviHandle, public: String) -> Stage {
        rest.with_account(|account| account.numbers = vec![ours(&public)]);
        Stage {
            directory: TempDir::new().unwrap(),
            rest,
            evi,
            public,
            auth_token: AUTH_TOKEN.to_owned(),
            config: Vec::new(),
        }
    }

    async fn new() -> Stage {
        Stage::with_agent("").await
    }

    fn set(&mut self, key: &'static str, value: impl Into<String>) {
        self.config.push((key, value.into()));
    }

    fn config(&self) -> String {
        let socket = self.directory.path().join("control.sock");
        let mut lines = vec![
            ("public_url", format!("\"{}\"", self.public)),
            ("listen.http", "\"127.0.0.1:0\"".to_owned()),
            ("listen.ops", "\"\"".to_owned()),
            ("admin.socket", format!("\"{}\"", socket.display())),
            ("admin.group", "\"\"".to_owned()),
            ("twilio.phone_number", format!("\"{NUMBER}\"")),
            ("twilio.api_url", format!("\"{}\"", self.rest.url())),
            ("hume.url", format!("\"{}\"", self.evi.url())),
            ("hume.config_id", format!("\"{CONFIG_ID}\"")),
            ("calls.max_concurrent", "5".to_owned()),
        ];
        for (key, value) in &self.config {
            lines.retain(|(known, _)| known != key);
            if !value.is_empty() {
                lines.push((key, value.clone()));
            }
        }
        lines
            .iter()
            .map(|(key, value)| format!("{key} = {value}\n"))
            .collect()
    }

    async fn check(&self, arguments: &[&str]) -> Told {
        let path = |name| self.directory.path().join(name);
        fs::write(path("c.toml"), self.config()).unwrap();
        let secrets = format!(
            "{{\"hume_api_key\":\"{HUME_KEY}\",\"realtime_api_key\":\"{REALTIME_KEY}\",\
             \"twilio_account_sid\":\"{ACCOUNT_SID}\",\"twilio_auth_token\":\"{}\"}}",
            self.auth_token
        );
        fs::write(path("credentials.json"), secrets).unwrap();
        let mode = fs::Permissions::from_mode(0o600);
        fs::set_permissions(path("credentials.json"), mode).unwrap();
        let output = Command::new(PROGRAM)
            .arg("check")
            .arg("--config")
            .arg(path("c.toml"))
            .arg("--credentials")
            .arg(path("credentials.json"))
            .args(arguments)
            .env_remove("CREDENTIALS_DIRECTORY")
            .output();
        let output = in_time(output).await.unwrap();
        let out = String::from_utf8(output.stdout).unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        for secret in [
            HUME_KEY,
            REALTIME_KEY,
            AUTH_TOKEN,
            &self.auth_token,
            NUMBER,
            &NUMBER[1..],
            "KEY",
        ] {
            assert!(
                !out.contains(secret) && !err.contains(secret),
                "{secret}: {out}{err}"
            );
        }
        assert_eq!(err, "");
        Told {
            code: output.status.code(),
            out,
        }
    }

    /// Nobody was sent anything that a strict far end objects to.
    fn peaceful(&self) {
        let violations = self.evi.record().violations().len();
        assert_eq!(violations, 0, "{:?}", self.evi.record().violations());
        assert_eq!(self.rest.violations(), []);
    }
}

struct Told {
    code: Option<i32>,
    out: String,
}

impl Told {
    /// The lines of one check, without its name.
    fn lines(&self, check: &str) -> Vec<&str> {
        self.out
            .lines()
            .filter(|line| line[5..].split(' ').next() == Some(check))
            .collect()
    }

    /// The one line of a check begins with the verdict and holds all of the words.
    #[track_caller]
    fn says(&self, verdict: &str, check: &str, words: &[&str]) {
        let lines = self.lines(check);
        let [line] = lines[..] else {
            panic!("{} lines of {check}:\n{}", lines.len(), self.out)
        };
        assert!(line.starts_with(verdict), "{line}");
        for word in words {
            assert!(line.contains(word), "{word:?}: {line}");
        }
    }

    fn verdicts(&self) -> String {
        let words = self.out.lines().map(|line| {
            let mut words = line.split_ascii_whitespace();
            format!("{} {}", words.next().unwrap(), words.next().unwrap())
        });
        words.collect::<Vec<_>>().join(", ")
    }
}

/// The simulated number, set as it has to be.
fn ours(public: &str) -> Number {
    Number {
        sid: PN.into(),
        voice_url: format!("{public}/voice/incoming"),
        status_callback: format!("{public}/voice/status"),
        voice_fallback_url: "https://fallback.example.com/".into(),
        ..Number::default()
    }
}

/// The text with N for each number that stands behind these words.
fn blank(text: &str, before: &str) -> String {
    let mut parts = text.split(before);
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
        format!("{text}{before}N{rest}")
    })
}

/// An address where nobody listens.
fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// A proxy that answers by the first path that fits.
async fn proxy(answers: &'static [(&'static str, &'static str)]) -> (String, JoinSet<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut read = vec![0; 4096];
            let mut length = 0;
            while !read[..length].windows(4).any(|end| end == b"\r\n\r\n") {
                match socket.read(&mut read[length..]).await {
                    Ok(n) if n > 0 => length += n,
                    _ => break,
                }
            }
            let request = String::from_utf8_lossy(&read[..length]).into_owned();
            let path = request.split(' ').nth(1).unwrap_or("");
            let answer = answers.iter().find(|(prefix, _)| path.starts_with(prefix));
            let (status, body) = answer.map_or(("404 Not Found", ""), |(_, answer)| {
                answer.split_once('|').unwrap_or((answer, ""))
            });
            let answer = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            let _ = socket.write_all(answer.as_bytes()).await;
        }
    });
    (url, tasks)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_well_beside_a_running_daemon() {
    let World {
        bridge,
        agent: evi,
        rest,
        phone,
        ..
    } = world("").await;
    let public = format!("http://{}", bridge.http);
    let mut stage = Stage::around(rest, evi, public);
    stage.set("listen.http", format!("\"{}\"", bridge.http));
    stage.set("listen.ops", format!("\"{}\"", bridge.ops));
    stage.set("admin.socket", format!("\"{}\"", bridge.control.display()));
    let told = stage.check(&[]).await;
    assert_eq!(told.code, Some(0), "{}", told.out);

    // Word for word, but for what is another each time.
    let mut out = told.out.clone();
    for (this, that) in [
        (stage.directory.path().to_str().unwrap(), "DIR"),
        (bridge.control.to_str().unwrap(), "SOCKET"),
        (&bridge.http.to_string(), "HTTP"),
        (&bridge.ops.to_string(), "OPS"),
        (&bridge.pid().to_string(), "PID"),
        (env!("CARGO_PKG_VERSION"), "VERSION"),
    ] {
        out = out.replace(this, that);
    }
    for before in ["after ", "may open "] {
        out = blank(&out, before);
    }
    let expected = "\
ok   config      DIR/c.toml (10 keys)
ok   credentials hume_api_key, realtime_api_key, twilio_account_sid, twilio_auth_token, twilio_phone_number from DIR/credentials.json (mode 600)
ok   tls         off: left to a proxy
ok   listen.http a hume-bridge answers on HTTP
ok   listen.ops  a hume-bridge answers on OPS
ok   admin       SOCKET: hume-bridge VERSION answers, process PID, 0 live calls
ok   files       the daemon may open N, 5 calls need 74
ok   record      switched off
ok   twilio      account AC0123456789abcdef0123456789abcdef is active and lets these credentials in
ok   clock       agrees with Twilio's
ok   number      +15******321 (PN00000000000000000000000000000001) calls http://HTTP/voice/incoming
ok   public_url  a hume-bridge answers at http://HTTP/health after N ms (healthy)
ok   webhook     http://HTTP/voice/incoming is reached, and refuses what Twilio has not signed
ok   media       http://HTTP/media-stream is reached, and refuses what Twilio has not signed
ok   agent       hume listens after N ms (connected after N)
";
    assert_eq!(out, expected);

    // The agent was left as one leaves, and the daemon has no call to show for it.
    stage.peaceful();
    let left = |record: &hume_bridge::sim::evi::Record| {
        record.events.iter().any(|event| {
            matches!(
                event.what,
                What::Closed {
                    by: By::Bridge,
                    code: Some(1000),
                    ..
                }
            )
        })
    };
    in_time(stage.evi.until(left)).await;
    let Stage { rest, evi, .. } = stage;
    let world = World {
        bridge,
        agent: evi,
        rest,
        phone,
        beside: Default::default(),
    };
    let seen = status(&world).await;
    assert_eq!(seen["activeSessions"], 0);
    let log = close(world).await;
    let refusals = log
        .iter()
        .filter(|line| line.contains("refused: signature"));
    assert_eq!(refusals.count(), 2, "{log:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_is_not_started_yet_is_no_failure() {
    let stage = Stage::new().await;
    let told = stage.check(&[]).await;
    assert_eq!(told.code, Some(0), "{}", told.out);
    assert_eq!(
        told.verdicts(),
        "ok config, ok credentials, ok tls, ok listen.http, ok listen.ops, ok admin, ok files, ok record, \
         ok twilio, ok clock, ok number, skip public_url, skip webhook, skip media, ok agent"
    );
    told.says("skip", "public_url", &["does not run yet; start it"]);
    told.says("ok", "admin", &["control.sock can be made"]);
    stage.peaceful();

    let told = stage.check(&["--offline"]).await;
    assert_eq!(told.code, Some(0), "{}", told.out);
    for check in [
        "twilio",
        "clock",
        "number",
        "public_url",
        "webhook",
        "media",
        "agent",
    ] {
        told.says("skip", check, &["--offline"]);
    }
    let ok = told.out.lines().filter(|line| line.starts_with("ok "));
    assert_eq!(ok.count(), 8, "{}", told.out);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_that_is_wrong_is_told_at_once() {
    let mut stage = Stage::with_agent("handshake = [401]").await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let elsewhere = stage.directory.path().join("nowhere/control.sock");
    stage.set(
        "listen.http",
        format!("\"{}\"", taken.local_addr().unwrap()),
    );
    stage.set("admin.socket", format!("\"{}\"", elsewhere.display()));
    stage.set("admin.group", "\"no-such-group-here\"");
    stage.auth_token = "ffffffffffffffffffffffffffffffff".into();
    stage.rest.set_behind(300);
    // What takes the port answers nothing, and is closed in time.
    let told = stage.check(&[]).await;
    drop(taken);
    assert_eq!(told.code, Some(1), "{}", told.out);
    told.says(
        "FAIL",
        "listen.http",
        &["taken by another program; see which with ss"],
    );
    let admin = told.lines("admin");
    assert_eq!(admin.len(), 2, "{}", told.out);
    assert!(
        admin[0].contains("nowhere does not exist; make it"),
        "{}",
        admin[0]
    );
    assert!(
        admin[1].contains("groupadd --system no-such-group-here"),
        "{}",
        admin[1]
    );
    told.says("FAIL", "twilio", &["error 20003", "primary auth token"]);
    told.says(
        "FAIL",
        "clock",
        &["ahead of Twilio's; set it", "timedatectl"],
    );
    told.says("skip", "number", &["needs an account"]);
    told.says(
        "FAIL",
        "agent",
        &["hume refuses the key", "401", "hume_api_key"],
    );

    let told = stage.check(&["--json"]).await;
    let objects: Vec<Value> = told
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let twilio = objects
        .iter()
        .find(|object| object["check"] == "twilio")
        .unwrap();
    assert_eq!(twilio["result"], "fail");
    assert!(
        twilio["mend"]
            .as_str()
            .unwrap()
            .contains("twilio_auth_token")
    );
    let ok = objects
        .iter()
        .find(|object| object["check"] == "config")
        .unwrap();
    assert_eq!((&ok["result"], ok.get("mend")), (&Value::from("ok"), None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_agent_that_some_call_is_answered_by_has_a_line() {
    for (answer, key, words) in [
        (
            "401 Unauthorized",
            "bearer",
            ["refuses the key", "the right realtime_api_key"],
        ),
        (
            "403 Forbidden",
            "none",
            ["refuses the key", "realtime.auth how it is shown"],
        ),
        (
            "400 Bad Request",
            "bearer",
            ["no such model", "realtime.url and realtime.model"],
        ),
    ] {
        let answers = Vec::leak(vec![("/v1/realtime", answer)]);
        let (server, _tasks) = proxy(answers).await;
        let mut stage = Stage::new().await;
        stage.set(
            "realtime",
            format!(
                "{{ url = \"{}/v1/realtime\", auth = \"{key}\" }}",
                server.replace("http:", "ws:")
            ),
        );
        stage.set(
            "route",
            "[{ name = \"shop\", to = \"+15557654322\", agent = \"realtime\" }]",
        );
        let told = stage.check(&[]).await;
        assert_eq!(told.code, Some(1), "{}", told.out);
        let lines = told.lines("agent");
        let [hume, realtime] = lines[..] else {
            panic!("{}", told.out);
        };
        assert!(hume.starts_with("ok   agent       hume listens after "));
        assert!(realtime.starts_with("FAIL agent       realtime "));
        for word in words {
            assert!(realtime.contains(word), "{word:?}: {realtime}");
        }
        stage.peaceful();

        // Nobody is asked whom no call needs.
        stage.set("agent.default", "\"realtime\"");
        stage.set("route", "");
        let told = stage.check(&[]).await;
        told.says("FAIL", "agent", &["realtime ", words[0]]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_route_with_an_agent_of_its_own_has_a_line() {
    let routes = "[\
        { name = \"shop\", to = \"+15557654321\", variables = { shop = \"north\" } }, \
        { name = \"night\", to = \"+15557654322\", config_id = \"0b0b0b0b-1111-4222-8333-444444444444\" }, \
        { name = \"depot\", to = \"+15557654323\", tools = [] }]";
    for (script, expected) in [
        (
            "opening = [\"ready\", \"I0100\"]",
            &[
                "ok   agent       hume listens after ",
                "FAIL agent       hume on route \"night\" closes before it listens: ",
                "ok   agent       hume on route \"depot\" listens after ",
            ][..],
        ),
        // What holds for all calls is mended first.
        (
            "opening = [\"I0100\"]",
            &[
                "FAIL agent       hume closes before it listens: ",
                "skip agent       2 more routes have hume otherwise, and were not tried",
            ],
        ),
    ] {
        let mut stage = Stage::with_agent(script).await;
        stage.set("route", routes);
        let told = stage.check(&[]).await;
        assert_eq!(told.code, Some(1), "{}", told.out);
        let lines = told.lines("agent");
        assert_eq!(lines.len(), expected.len(), "{}", told.out);
        for (line, expected) in lines.iter().zip(expected) {
            assert!(line.starts_with(expected), "{line}");
            let mend = "check the route's own keys, and hume.config_id";
            assert_eq!(
                line.contains(mend),
                line.contains("FAIL") && line.contains("route"),
                "{line}"
            );
        }
        stage.peaceful();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_cannot_carry_a_stream() {
    let stage = Stage::new().await;
    let set = |status: &str, kind: &str| {
        stage.rest.with_account(|account| {
            account.status = status.into();
            account.kind = kind.into();
        });
    };
    set("active", "Trial");
    let told = stage.check(&[]).await;
    assert_eq!(told.code, Some(1));
    told.says(
        "FAIL",
        "twilio",
        &["trial account", "strips <Stream>", "console.twilio.com"],
    );
    told.says("ok", "number", &[PN]);
    set("suspended", "Full");
    let told = stage.check(&[]).await;
    told.says("FAIL", "twilio", &["is suspended"]);
    set("closed", "Full");
    stage
        .check(&[])
        .await
        .says("FAIL", "twilio", &["is closed"]);
    set("active", "Full");
    for (failure, words) in [
        (Failure::Unavailable, "answers 503"),
        (Failure::TooManyRequests, "error 20429"),
        (Failure::Html, "answers 502"),
        (Failure::NotFound, "does not know it (error 20404)"),
        (Failure::Cut, "not reachable"),
        (Failure::Stall, "no answer in time"),
    ] {
        stage.rest.fail([failure]);
        let told = stage.check(&[]).await;
        assert_eq!(told.code, Some(1));
        told.says("FAIL", "twilio", &[words]);
    }
    stage.peaceful();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_at_twilios_address() {
    let mut stage = Stage::new().await;
    stage.set("twilio.api_url", format!("\"http://{}\"", nobody()));
    let told = stage.check(&[]).await;
    assert_eq!(told.code, Some(1));
    told.says(
        "FAIL",
        "twilio",
        &["connection refused; let this machine out"],
    );
    told.says("skip", "clock", &["needs an answer"]);
    told.says("skip", "number", &["needs an answer"]);
    // The resolver is asked for a name that cannot exist.
    stage.set("twilio.api_url", "\"https://api.invalid\"");
    let told = stage.check(&[]).await;
    told.says("FAIL", "twilio", &["api.invalid does not resolve"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_whose_calls_go_elsewhere() {
    let mut stage = Stage::new().await;
    let public = stage.public.clone();
    let with = |change: fn(&mut Number)| {
        stage.rest.with_account(|account| {
            account.numbers = vec![ours(&public)];
            change(&mut account.numbers[0]);
        });
    };
    let update = "twilio api:core:incoming-phone-numbers:update --sid \
                  PN00000000000000000000000000000001";
    let url = format!("--voice-url {public}/voice/incoming --voice-method POST");

    with(|number| number.voice_url = "https://demo.twilio.com/welcome?api_key=KEY".into());
    let told = stage.check(&[]).await;
    assert_eq!(told.code, Some(1));
    let mended = format!("; {update} {url} (or https://console.twilio.com/");
    told.says(
        "FAIL",
        "number",
        &["webhook is https://demo.twilio.com/welcome?...", &mended],
    );

    with(|number| {
        number.voice_url = String::new();
        number.status_callback = String::new();
        number.trunk_sid = "TK00000000000000000000000000000003".into();
        number.voice_receive_mode = "fax".into();
    });
    let told = stage.check(&[]).await;
    let status = format!(
        "{update} --trunk-sid \"\" --voice-receive-mode voice {url} --status-callback \
         {public}/voice/status"
    );
    let words = [
        "a SIP trunk",
        "receives faxes",
        "has no voice webhook",
        &status,
    ];
    told.says("FAIL", "number", &words);

    with(|number| number.voice = false);
    stage
        .check(&[])
        .await
        .says("FAIL", "number", &["takes no calls"]);

    // Good, and could be better.
    with(|number| {
        number.status_callback = String::new();
        number.voice_fallback_url = String::new();
    });
    let told = stage.check(&[]).await;
    assert_eq!(told.code, Some(0), "{}", told.out);
    told.says(
        "ok",
        "number",
        &[
            "without a status callback",
            "without a fallback URL",
            update,
        ],
    );

    // A TwiML application takes the place of the number's own webhook.
    with(|number| number.voice_application_sid = AP.into());
    let application = |voice_url: String| {
        let sid = AP.into();
        stage.rest.with_account(|account| {
            account.applications = vec![Application { sid, voice_url }];
        });
    };
    application(format!("{public}/voice/incoming"));
    let told = stage.check(&[]).await;
    told.says("ok", "number", &["by TwiML application", AP]);
    application("https://elsewhere.example.com/".into());
    let told = stage.check(&[]).await;
    told.says(
        "FAIL",
        "number",
        &["where TwiML application", "--voice-application-sid \"\""],
    );

    // Only a number that has ours within it.
    with(|number| number.phone_number = "+155576543210".into());
    let told = stage.check(&[]).await;
    told.says("FAIL", "number", &["has no number +15******321"]);
    stage.peaceful();
    stage.set("twilio.phone_number", "");
    let told = stage.check(&[]).await;
    assert_eq!(told.code, Some(0), "{}", told.out);
    told.says("skip", "number", &["twilio.phone_number"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_is_half_right() {
    const HEALTHY: &str = "200 OK|{\"status\":\"healthy\",\"activeSessions\":0}";
    let mut stage = Stage::new().await;
    for (answers, check, verdict, words) in [
        (
            &[("/", "502 Bad Gateway")][..],
            "public_url",
            "skip",
            &["answers 502: hume-bridge does not run yet"][..],
        ),
        (
            &[("/", "404 Not Found")],
            "public_url",
            "FAIL",
            &[
                "answers 404, and not as hume-bridge",
                "forward everything to 127.0.0.1:0",
            ],
        ),
        (
            &[("/", "301 Moved Permanently")],
            "public_url",
            "FAIL",
            &["a redirection"],
        ),
        (
            &[("/", "401 Unauthorized")],
            "public_url",
            "FAIL",
            &["wants a login"],
        ),
        (
            &[
                ("/health", HEALTHY),
                ("/voice", "404 Not Found"),
                ("/media", "403 Forbidden"),
            ],
            "webhook",
            "FAIL",
            &["answers 404", "forward /voice/ and /media-stream"],
        ),
        (
            &[
                ("/health", HEALTHY),
                ("/voice", "403 Forbidden|<html>"),
                ("/media", "426 Upgrade Required"),
            ],
            "webhook",
            "FAIL",
            &["not as hume-bridge does", "let Twilio pass"],
        ),
        (
            &[
                ("/health", HEALTHY),
                ("/voice", "403 Forbidden"),
                ("/media", "426 Upgrade Required"),
            ],
            "media",
            "FAIL",
            &[
                "does not pass the WebSocket upgrade on",
                "proxy_set_header Upgrade",
            ],
        ),
    ] {
        let (url, _proxy) = proxy(answers).await;
        stage.public = url;
        let told = stage.check(&[]).await;
        told.says(verdict, check, words);
    }
    // The number's webhook is the old address all the while.
    stage.public = "https://bridge.invalid/prefix".into();
    let told = stage.check(&[]).await;
    told.says(
        "FAIL",
        "public_url",
        &["bridge.invalid does not resolve", "DNS record"],
    );
    told.says("skip", "webhook", &["needs a public_url"]);
    told.says(
        "FAIL",
        "number",
        &["--voice-url https://bridge.invalid/prefix/voice/incoming"],
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_lets_everybody_in() {
    let world = world("config = 'twilio.validate_signatures = false'").await;
    let mut stage = Stage::new().await;
    stage.public = format!("http://{}", world.bridge.http);
    stage.set("listen.http", format!("\"{}\"", world.bridge.http));
    let told = stage.check(&[]).await;
    assert_eq!(told.code, Some(1));
    for check in ["webhook", "media"] {
        told.says(
            "FAIL",
            check,
            &["takes what anybody sends, unlike", "humebridgectl reload"],
        );
    }
    stage.set("twilio.validate_signatures", "false");
    let told = stage.check(&[]).await;
    told.says(
        "FAIL",
        "webhook",
        &["validate_signatures = true and reload"],
    );
    // Nothing of this was a call.
    let log = close(world).await;
    assert!(
        !log.iter().any(|line| line.contains("session created")),
        "{log:#?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_does_not_come_to_listen() {
    for (agent, words) in [
        (
            "opening = [\"E0300\"]",
            &["no credits left", "error E0300"][..],
        ),
        ("handshake = [404]", &["is not there", "404", "hume.url"]),
        ("handshake = [503]", &["is in trouble", "503"]),
        ("handshake = [\"close\"]", &["lost during the handshake"]),
        ("opening = [\"never\"]", &["does not come to listen"]),
    ] {
        let mut stage = Stage::with_agent(agent).await;
        stage.set("hume.ready_timeout", "\"1s\"");
        let told = stage.check(&[]).await;
        assert_eq!(told.code, Some(1), "{agent}");
        told.says("FAIL", "agent", words);
        assert_eq!(stage.evi.record().violations(), [""; 0], "{agent}");
    }
    let mut stage = Stage::new().await;
    stage.set("hume.url", format!("\"ws://{}/\"", nobody()));
    let told = stage.check(&[]).await;
    told.says(
        "FAIL",
        "agent",
        &["cannot connect: connection refused", "hume.url"],
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_config_or_credentials_that_are_wrong() {
    let mut stage = Stage::new().await;
    stage.set("hume.ping_intervall", "\"20s\"");
    stage.set("calls.max_concurrent", "0");
    let told = stage.check(&[]).await;
    assert_eq!(told.code, Some(78));
    let config = told.lines("config");
    assert_eq!(config.len(), 2, "{}", told.out);
    assert!(
        config
            .iter()
            .all(|line| line.starts_with("FAIL") && line.contains("c.toml:"))
    );
    assert!(
        told.out.contains("did you mean ping_interval?"),
        "{}",
        told.out
    );
    told.says("skip", "agent", &["needs a config without errors"]);
    assert_eq!(stage.rest.requests().len(), 0);

    let stage = Stage::new().await;
    let told = stage.check(&["--credentials", "/nonexistent.json"]).await;
    assert_eq!(told.code, Some(78));
    told.says(
        "FAIL",
        "credentials",
        &["/nonexistent.json: cannot be read"],
    );
    for check in ["twilio", "clock", "number", "agent"] {
        told.says("skip", check, &["needs the credentials"]);
    }
    told.says("skip", "public_url", &["does not run yet"]);
    told.says("ok", "listen.http", &[]);
    assert!(stage.evi.record().events.is_empty(), "{}", told.out);
}

/// All calls are answered by a simulated Realtime server, which is told as `keys` say; its own path is put
/// in place of `/v1/realtime`.
async fn with_server(
    dialect: Dialect,
    script: &str,
    path: &str,
    keys: &[(&'static str, &str)],
) -> (Stage, EviHandle) {
    let options = realtime::Options {
        agent: Options {
            api_key: REALTIME_KEY.to_owned(),
            ..Options::default()
        },
        dialect,
    };
    let script: Script = toml::from_str(script).unwrap();
    let server = Realtime::start(script, options).await.unwrap();
    let mut stage = Stage::new().await;
    let url = server.url().replace("/v1/realtime", path);
    stage.set("agent.default", "\"realtime\"");
    stage.set("realtime.url", format!("\"{url}\""));
    for (key, value) in keys {
        stage.set(key, *value);
    }
    (stage, server)
}

/// With the keys that docs/agents.md has for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn realtime_servers_of_every_kind_come_to_listen() {
    const PATH: &str = "/v1/realtime";
    let openai: &[_] = &[("realtime.voice", "\"marin\"")];
    let azure: &[_] = &[
        ("realtime.preset", "\"azure\""),
        ("realtime.model", "\"phone\""),
        ("realtime.transcription", "{ model = \"words\" }"),
    ];
    let xai: &[_] = &[("realtime.preset", "\"xai\"")];
    let localai: &[_] = &[
        ("realtime.preset", "\"localai\""),
        ("realtime.model", "\"pipeline\""),
    ];
    let speaches: &[_] = &[
        ("realtime.preset", "\"custom\""),
        ("realtime.model", "\"any\""),
        ("realtime.dialect", "\"beta\""),
        ("realtime.send_formats", "false"),
        ("realtime.turn_detection", "{}"),
        ("realtime.modalities", "[]"),
    ];
    for (dialect, path, keys) in [
        (Dialect::Ga, PATH, openai),
        (Dialect::Ga, "/openai/v1/realtime", azure),
        (Dialect::Xai, PATH, xai),
        (Dialect::Plain, PATH, localai),
        (Dialect::Beta, PATH, speaches),
    ] {
        let (stage, server) = with_server(dialect, "", path, keys).await;
        let told = stage.check(&[]).await;
        assert_eq!(told.code, Some(0), "{dialect:?}: {}", told.out);
        told.says("ok", "agent", &["realtime listens after "]);
        assert_eq!(server.record().violations(), [""; 0], "{dialect:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_realtime_server_that_refuses_says_which_key_to_mend() {
    for (script, keys, words) in [
        (
            "opening = [\"invalid_api_key\"]",
            &[][..],
            [
                "refuses the key",
                "invalid_api_key",
                "the right realtime_api_key",
            ],
        ),
        (
            "opening = [\"model_not_found\"]",
            &[],
            [
                "refuses the session",
                "model_not_found",
                "check realtime.model:",
            ],
        ),
        (
            "opening = [\"insufficient_quota\"]",
            &[],
            ["no credits left", "insufficient_quota", "vendor"],
        ),
        (
            "",
            &[("realtime.session", "{ x_odd = true }")],
            [
                "refuses the session",
                "unknown_parameter",
                "check what it is told: ",
            ],
        ),
        (
            "opening = [\"never\"]",
            &[("realtime.ready_timeout", "\"1s\"")],
            [
                "does not come to listen",
                "realtime.ready_timeout",
                "realtime.ready_on",
            ],
        ),
        (
            "",
            &[("realtime.auth", "\"api-key\"")],
            ["refuses the key", "401", "realtime_api_key"],
        ),
    ] {
        let (stage, _server) = with_server(Dialect::Ga, script, "/v1/realtime", keys).await;
        let told = stage.check(&[]).await;
        assert_eq!(told.code, Some(1), "{script}{keys:?}: {}", told.out);
        told.says("FAIL", "agent", &words);
    }
}
