//! A real daemon, started as systemd would start it: the program itself, a config, credentials in a
//! file of their own, and a notify socket that tells when it is ready and where it listens.
//!
//! Everything lives in a private temporary directory that goes when [`Bridge`] goes; a process that
//! is still there then is killed, by its pid.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::Context as _;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::UnixDatagram,
    process::{Child, Command},
    sync::mpsc,
    time::timeout,
};

/// A debug build on a busy machine takes its time.
const READY_LIMIT: Duration = Duration::from_secs(30);

const NOTICES_KEPT: usize = 10_000;

/// The account, numbers and keys of the simulated world.
pub const PUBLIC_URL: &str = "https://bridge.example.com";
pub const ACCOUNT_SID: &str = "AC0123456789abcdef0123456789abcdef";
pub const AUTH_TOKEN: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f0";
pub const HUME_KEY: &str = "simulated-hume-key";
pub const REALTIME_KEY: &str = "simulated-realtime-key";
pub const CONFIG_ID: &str = "5b3c1d0e-1111-4222-8333-944455556666";

/// The agent that answers all calls, by its URL.
#[derive(Clone, Copy)]
pub enum Far<'a> {
    Hume(&'a str),
    Realtime(&'a str),
}

impl Far<'_> {
    /// What the config says of it.
    fn config(self) -> String {
        match self {
            Far::Hume(url) => {
                format!("hume.url = \"{url}\"\nhume.config_id = \"{CONFIG_ID}\"\n")
            }
            Far::Realtime(url) => {
                format!("agent.default = \"realtime\"\nrealtime.url = \"{url}\"\n")
            }
        }
    }

    /// The name of its key among the credentials, and the key.
    fn key(self) -> (&'static str, &'static str) {
        match self {
            Far::Hume(_) => ("hume_api_key", HUME_KEY),
            Far::Realtime(_) => ("realtime_api_key", REALTIME_KEY),
        }
    }
}

/// What the daemon is connected to.
pub struct Setup<'a> {
    /// The `hume-bridge` program.
    pub program: &'a Path,
    pub agent: Far<'a>,
    pub rest_url: &'a str,
    /// More TOML, as dotted keys; comes after the keys that the stage itself sets.
    pub config: &'a str,
    /// A socket to pass as systemd passes one, in place of `listen.http`.
    pub passed: Option<std::net::TcpListener>,
}

/// What systemd sets; long enough for a machine on which nothing is quick.
const WATCHDOG_USEC: &str = "30000000";
/// Puts what is on standard input where systemd puts the first socket, and becomes the program.
const PASS: &str =
    "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=http exec \"$0\" \"$@\"";

/// A running daemon.
pub struct Bridge {
    child: Child,
    notices: mpsc::Receiver<String>,
    log: Arc<Mutex<Vec<String>>>,
    /// Ends when the daemon's standard error does.
    log_kept: tokio::task::JoinHandle<()>,
    pub http: SocketAddr,
    pub ops: SocketAddr,
    pub control: PathBuf,
    // Last, so that the directory outlives the process.
    directory: Directory,
}

impl Bridge {
    /// Starts the daemon and waits until it says that it is ready.
    pub async fn start(setup: Setup<'_>) -> anyhow::Result<Bridge> {
        Bridge::start_with(setup, &BTreeMap::new()).await
    }

    /// The same with more credentials, by name. In the config `{dir}` stands for the daemon's directory.
    pub async fn start_with(
        setup: Setup<'_>,
        more: &BTreeMap<String, String>,
    ) -> anyhow::Result<Bridge> {
        let directory = Directory::new().context("cannot make a temporary directory")?;
        let path = |name: &str| directory.0.join(name);
        let control = path("control.sock");
        let config = format!(
            "public_url = \"{PUBLIC_URL}\"\n\
             listen.http = \"127.0.0.1:0\"\n\
             listen.ops = \"127.0.0.1:0\"\n\
             admin.socket = \"{}\"\n\
             admin.group = \"\"\n\
             twilio.phone_number = \"+15557654321\"\n\
             twilio.api_url = \"{}\"\n\
             {}{}",
            control.display(),
            setup.rest_url,
            setup.agent.config(),
            setup
                .config
                .replace("{dir}", &directory.0.display().to_string()),
        );
        let mut credentials = more.clone();
        credentials.extend(
            [
                setup.agent.key(),
                ("twilio_account_sid", ACCOUNT_SID),
                ("twilio_auth_token", AUTH_TOKEN),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        let credentials = serde_json::to_string(&credentials)?;
        write_private(&path("hume-bridge.toml"), &config)?;
        write_private(&path("credentials.json"), &credentials)?;
        let notify = UnixDatagram::bind(path("notify.sock")).context("no notify socket")?;
        let (mut command, stdin) = match setup.passed {
            Some(socket) => {
                let mut shell = Command::new("sh");
                shell.arg("-c").arg(PASS).arg(setup.program);
                (shell, Stdio::from(std::os::fd::OwnedFd::from(socket)))
            }
            None => (Command::new(setup.program), Stdio::null()),
        };
        let mut child = command
            .arg("--config")
            .arg(path("hume-bridge.toml"))
            .arg("--credentials")
            .arg(path("credentials.json"))
            .env("NOTIFY_SOCKET", path("notify.sock"))
            .env_remove("CREDENTIALS_DIRECTORY")
            .env("WATCHDOG_USEC", WATCHDOG_USEC)
            .stdin(stdin)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", setup.program.display()))?;
        let log = Arc::new(Mutex::new(Vec::new()));
        let (notices, kept) = mpsc::channel(NOTICES_KEPT);
        tokio::spawn(read_notices(notify, notices));
        let stderr = child.stderr.take().expect("stderr was asked for");
        let log_kept = tokio::spawn(keep_log(stderr, log.clone()));

        let mut bridge = Bridge {
            child,
            notices: kept,
            log,
            log_kept,
            http: SocketAddr::from(([127, 0, 0, 1], 0)),
            ops: SocketAddr::from(([127, 0, 0, 1], 0)),
            control,
            directory,
        };
        let ready = bridge.until_notified("READY=1").await?;
        for line in ready.lines() {
            if let Some(http) = line.strip_prefix("X_HTTP=") {
                bridge.http = http.parse().context("X_HTTP")?;
            }
            if let Some(ops) = line.strip_prefix("X_OPS=") {
                bridge.ops = ops.parse().context("X_OPS")?;
            }
        }
        Ok(bridge)
    }

    /// Waits for a message to the notify socket that has this line; returns the message.
    pub async fn until_notified(&mut self, line: &str) -> anyhow::Result<String> {
        let wanted = async {
            loop {
                let message = self.notices.recv().await.context("no notify socket")?;
                if message.lines().any(|each| each == line) {
                    return anyhow::Ok(message);
                }
            }
        };
        tokio::select! {
            message = timeout(READY_LIMIT, wanted) => match message {
                Ok(message) => message,
                Err(_) => anyhow::bail!("the daemon did not say {line} in time\n{}", self.log().join("\n")),
            },
            status = self.child.wait() => {
                anyhow::bail!("the daemon ended with {}:\n{}", status?, self.log().join("\n"))
            }
        }
    }

    /// Writes other lines in place of the story's own at the end of the config.
    pub fn rewrite_config(&self, old: &str, new: &str) -> anyhow::Result<()> {
        let path = self.directory.0.join("hume-bridge.toml");
        let text = std::fs::read_to_string(&path)?;
        anyhow::ensure!(text.contains(old), "the config has no {old:?}");
        std::fs::write(&path, text.replace(old, new)).context("cannot write the config")
    }

    /// The daemon's process id.
    pub fn pid(&self) -> u32 {
        self.child.id().unwrap_or(0)
    }

    /// What the daemon has logged so far; all of it once it has [`ended`](Bridge::ended).
    pub fn log(&self) -> Vec<String> {
        self.log
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .clone()
    }

    /// Waits until a line with these words is logged; returns it. The daemon's log is written while
    /// the daemon goes on.
    pub async fn until_logged(&self, words: &str) -> anyhow::Result<String> {
        let wanted = async {
            loop {
                if let Some(line) = self.log().into_iter().find(|line| line.contains(words)) {
                    return line;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let line = timeout(READY_LIMIT, wanted).await;
        line.with_context(|| format!("not logged: {words}\n{}", self.log().join("\n")))
    }

    /// The directory with the daemon's files.
    pub fn directory(&self) -> &Path {
        &self.directory.0
    }

    /// Sends a signal by name (`TERM`, `INT`).
    pub async fn signal(&self, name: &str) -> anyhow::Result<()> {
        let pid = self.pid().to_string();
        let status = Command::new("kill")
            .args(["-s", name, &pid])
            .status()
            .await?;
        anyhow::ensure!(status.success(), "kill -s {name} {pid} failed");
        Ok(())
    }

    /// Waits for the process to end by itself.
    pub async fn ended(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        let status = timeout(limit, self.child.wait())
            .await
            .with_context(|| format!("the daemon is still there after {limit:?}"))?
            .context("cannot wait for the daemon")?;
        if !self.log_kept.is_finished() {
            // What it wrote last may still be in the pipe.
            _ = timeout(limit, &mut self.log_kept).await;
        }
        Ok(status)
    }

    /// SIGTERM, and the exit status.
    pub async fn stop(&mut self) -> anyhow::Result<ExitStatus> {
        self.signal("TERM").await?;
        self.ended(Duration::from_secs(20)).await
    }
}

/// Reads what the daemon notifies, wanted or not: the kernel keeps ten messages, and then the daemon
/// would wait. Those that nobody asks for are thrown away once there are too many.
async fn read_notices(notify: UnixDatagram, notices: mpsc::Sender<String>) {
    let mut buffer = [0; 4096];
    loop {
        tokio::select! {
            () = notices.closed() => return,
            received = notify.recv(&mut buffer) => match received {
                Ok(length) => {
                    let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
                    _ = notices.try_send(message);
                }
                Err(_) => return,
            },
        }
    }
}

/// Keeps the last few thousand lines.
async fn keep_log(stderr: tokio::process::ChildStderr, log: Arc<Mutex<Vec<String>>>) {
    const KEPT: usize = 5000;
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let mut log = log.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if log.len() == KEPT {
            log.remove(0);
        }
        log.push(line);
    }
}

fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// A private directory that is removed with everything in it.
struct Directory(PathBuf);

impl Directory {
    fn new() -> io::Result<Directory> {
        use ring::rand::SecureRandom as _;
        let mut random = [0; 8];
        ring::rand::SystemRandom::new()
            .fill(&mut random)
            .map_err(|_| io::Error::other("no random bytes"))?;
        let name = format!("hume-bridge-{:016x}", u64::from_ne_bytes(random));
        let path = std::env::temp_dir().join(name);
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Directory(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // Nothing can be done about a directory that does not want to go.
        _ = std::fs::remove_dir_all(&self.0);
    }
}
