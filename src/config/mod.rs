//! Everything an operator can set, with every default in one place.
//!
//! The file is TOML, read whole and checked whole before anything is opened: all problems are
//! reported at once, each with file, line, key and mend. Unknown keys are errors. Secrets live in
//! [`credentials`], never in the TOML, and have a type of their own ([`Secret`]) that cannot be
//! printed by accident.

pub mod args;
mod callers;
pub mod certificate;
pub mod changes;
mod check;
mod connection;
pub mod credentials;
mod defaults;
mod duration;
mod either;
mod file;
mod headers;
mod hold_sound;
mod hours;
mod keypad;
mod outward;
mod problem;
mod reader;
pub mod realtime;
mod realtime_reader;
mod route_reader;
mod routes;
mod schema;
mod schema_slips;
mod secret;
mod size;
mod suggest;
mod tool_reader;
mod tools;
mod variables;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use serde::Deserialize;

pub use callers::CallerPrefix;
pub use certificate::Certificate;
pub use connection::Connection;
pub use credentials::Credentials;
pub use file::{known_keys, load, parse};
pub use problem::{Problem, Problems};
pub use realtime::Realtime;
pub use routes::{Hours, KeyAction, Keys, Lookup, Route, Span, Variable};
pub use secret::Secret;
pub use tools::{
    BUILTIN_TOOLS, Destination, HeaderValue, HttpTool, Method, NoAnswer, Sms, Tool, ToolKind,
    Transfer,
};
pub use variables::MOST_PARAMETERS;

/// Where the config is when nobody says otherwise.
pub const DEFAULT_PATH: &str = "/etc/hume-bridge/hume-bridge.toml";

/// A config that has been checked: every value is usable as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// What Twilio sees. Signatures are checked against it.
    pub public_url: PublicUrl,
    pub listen: Listen,
    pub admin: Admin,
    pub twilio: Twilio,
    pub agent: Agent,
    pub hume: Hume,
    pub realtime: Realtime,
    pub calls: Calls,
    pub keys: Keys,
    pub transfer: Transfer,
    pub sms: Sms,
    pub lookup: Option<Lookup>,
    /// In the order of the file: the first that fits is a call's.
    pub routes: Vec<Route>,
    pub tools: Vec<Tool>,
    pub log: Log,
    /// `[credentials] file`
    pub credentials_file: Option<PathBuf>,
}

impl Config {
    /// The agents that some call may be answered by: the default first, then in the order of the
    /// routes, each once.
    pub fn agents(&self) -> Vec<AgentKind> {
        let mut agents = vec![self.agent.default];
        for kind in self.routes.iter().filter_map(|route| route.agent) {
            if !agents.contains(&kind) {
                agents.push(kind);
            }
        }
        agents
    }

    /// The fields of Twilio's webhook that some variable names, as in `{param.Account}`.
    pub fn parameters(&self) -> BTreeSet<String> {
        variables::parameters(self)
    }

    pub fn uses(&self, kind: AgentKind) -> bool {
        self.agents().contains(&kind)
    }
}

/// What the command line sets over the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--port`: the port of `listen.http`.
    pub port: Option<u16>,
    /// `--hume-config`: `hume.config_id`.
    pub hume_config: Option<String>,
    /// `--log-level`: `log.level`.
    pub log_level: Option<LogLevel>,
}

/// An absolute `http(s)` URL without query, fragment or userinfo, taken apart for signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl {
    /// `https`; `http` only for loopback and tests.
    pub secure: bool,
    /// Host as written, lower case, without port. IPv6 in brackets.
    pub host: String,
    /// Only a port that the URL states.
    pub port: Option<u16>,
    /// A path prefix without trailing slash: `""` or `/bridge`.
    pub prefix: String,
}

impl PublicUrl {
    /// Takes `https://host[:port][/prefix]` apart; `http` for loopback hosts only.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        check::public_url(text).map_err(|complaint| Problem {
            file: String::new(),
            line: None,
            key: "public_url".into(),
            what: complaint.what,
            mend: complaint.mend,
        })
    }

    /// `https://host[:port]/prefix` + `path`, as Twilio is told.
    pub fn http(&self, path: &str) -> String {
        self.join(if self.secure { "https" } else { "http" }, path)
    }

    /// The same with `wss`/`ws`.
    pub fn ws(&self, path: &str) -> String {
        self.join(if self.secure { "wss" } else { "ws" }, path)
    }

    fn join(&self, scheme: &str, path: &str) -> String {
        match self.port {
            Some(port) => format!("{scheme}://{}:{port}{}{path}", self.host, self.prefix),
            None => format!("{scheme}://{}{}{path}", self.host, self.prefix),
        }
    }
}

/// Where a listener is reached from its own machine: one on every address, at loopback.
pub fn from_here(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

#[derive(Clone, Debug, PartialEq)]
pub struct Listen {
    /// The listener that Twilio reaches.
    pub http: SocketAddr,
    /// Health, status; `None` when switched off with `""`.
    pub ops: Option<SocketAddr>,
    /// Certificate chain of the public listener; without it that speaks plain HTTP. Both or none.
    pub tls_cert: Option<PemFile>,
    pub tls_key: Option<PemFile>,
    /// Requests a second that one address may make without Twilio's signature; 0 for no limit.
    pub unsigned_rate: usize,
}

/// Where a certificate or its key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PemFile {
    Path(PathBuf),
    /// `"credential:NAME"`: in `$CREDENTIALS_DIRECTORY`.
    Credential(String),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// The control socket; `None` when switched off with `""`.
    pub socket: Option<PathBuf>,
    /// Group that may use it; `""` leaves the group alone.
    pub group: String,
}

#[derive(Clone, PartialEq)]
pub struct Twilio {
    /// `AC...`; may come from the credentials instead.
    pub account_sid: Option<String>,
    /// `+...`; may come from the credentials instead.
    pub phone_number: Option<String>,
    /// No trailing slash.
    pub api_url: String,
    pub validate_signatures: bool,
}

/// Shows that there is a number, never which: telephone numbers stay out of logs.
impl fmt::Debug for Twilio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Twilio")
            .field("account_sid", &self.account_sid)
            .field("phone_number", &self.phone_number.as_ref().map(|_| ".."))
            .field("api_url", &self.api_url)
            .field("validate_signatures", &self.validate_signatures)
            .finish()
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentKind {
    #[default]
    Hume,
    Realtime,
}

impl AgentKind {
    /// Every agent by its name in the file and on the command line.
    pub const NAMES: [(&str, AgentKind); 2] = [
        (AgentKind::Hume.as_str(), AgentKind::Hume),
        (AgentKind::Realtime.as_str(), AgentKind::Realtime),
    ];

    /// The word in the config, in logs and in `/status`.
    pub const fn as_str(self) -> &'static str {
        match self {
            AgentKind::Hume => "hume",
            AgentKind::Realtime => "realtime",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Agent {
    pub default: AgentKind,
    /// The tools that it has, by name; `None` for all that there are.
    pub tools: Option<Vec<String>>,
    /// What its prompt may name.
    pub variables: BTreeMap<String, Variable>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Hume {
    /// `wss://...`, or `ws://` to a loopback address.
    pub url: String,
    /// An EVI config; without it Hume uses its default.
    pub config_id: Option<String>,
    pub connection: Connection,
    /// Tell EVI about the bridge's own `hang_up` tool in the session settings.
    pub declare_hang_up: bool,
    /// The caller's words, once EVI has understood them, interrupt a reply that EVI has finished
    /// generating and the caller is still hearing: EVI reports no interruption then.
    pub clear_on_user_message: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Calls {
    pub max_concurrent: usize,
    /// Of one caller; 0 for no limit.
    pub max_per_caller: usize,
    /// To one called number; 0 for no limit.
    pub max_per_number: usize,
    /// When not empty, nobody else may call.
    pub allow: Vec<CallerPrefix>,
    /// These may not, whatever `allow` says.
    pub deny: Vec<CallerPrefix>,
    pub max_duration: Duration,
    /// Said by the agent to a call that has lasted so long; `""` for nothing.
    pub max_duration_farewell: String,
    /// Without a word or a key from the caller for so long, they are asked; zero for never.
    pub no_input_timeout: Duration,
    /// What the agent asks them, and what it says when nothing comes; `""` for nothing.
    pub no_input_check: String,
    pub no_input_farewell: String,
    /// What is heard while there is no agent, and after how long without one.
    pub hold_sound: HoldSound,
    pub hold_after: Duration,
    /// Spoken by Twilio before the agent is connected; `""` for none.
    pub greeting: String,
    /// How long a stopping daemon waits for its calls.
    pub drain_limit: Duration,
    /// What a new call is told meanwhile.
    pub drain_answer: DrainAnswer,
    /// Spoken by Twilio to calls that outlast `drain_limit`; `""` for none.
    pub drain_goodbye: String,
    pub fallback: Fallback,
    /// A line of JSON a call; `None` for none.
    pub record: Option<PathBuf>,
}

/// What a new call meets while the daemon drains.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DrainAnswer {
    /// 503: Twilio asks the number's fallback URL, or the load balancer another instance.
    #[default]
    Unavailable,
    Busy,
    Say(String),
}

/// What a caller hears who waits for the agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HoldSound {
    Nothing,
    /// Two soft tones now and then.
    #[default]
    Tones,
    Recording(Recording),
}

/// A recording to be played by telephone.
#[derive(Clone, PartialEq, Eq)]
pub struct Recording {
    pub file: PathBuf,
    /// Mu-law at 8 kHz, not empty.
    pub mulaw: Arc<[u8]>,
}

impl fmt::Debug for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Recording").field(&self.file).finish()
    }
}

/// What the caller meets when the agent has failed.
#[derive(Clone, PartialEq, Eq)]
pub enum Fallback {
    Say(String),
    /// `+...`
    Dial(String),
    HangUp,
}

/// Without the number, as with [`Twilio`].
impl fmt::Debug for Fallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fallback::Say(text) => f.debug_tuple("Say").field(text).finish(),
            Fallback::Dial(_) => f.write_str("Dial(..)"),
            Fallback::HangUp => f.write_str("HangUp"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// The journal where standard error leads to it, else standard error.
    Auto,
    Stderr,
    Journal,
    Syslog,
}

impl LogTarget {
    /// Every target by its name in the file.
    pub const NAMES: [(&str, LogTarget); 4] = [
        ("auto", LogTarget::Auto),
        ("stderr", LogTarget::Stderr),
        ("journal", LogTarget::Journal),
        ("syslog", LogTarget::Syslog),
    ];
}

/// Where lines about who was let in and who gave orders go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogAudit {
    /// Where all the others go.
    Log,
    /// To the local syslog besides, facility auth.
    Syslog,
}

impl LogAudit {
    /// Every place by its name in the file.
    pub const NAMES: [(&str, LogAudit); 2] = [("log", LogAudit::Log), ("syslog", LogAudit::Syslog)];
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
}

impl LogLevel {
    /// Every level by the name it has in the file and on the command line.
    pub const NAMES: [(&str, LogLevel); 4] = [
        ("error", LogLevel::Error),
        ("warn", LogLevel::Warn),
        ("info", LogLevel::Info),
        ("debug", LogLevel::Debug),
    ];
}

#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    pub target: LogTarget,
    pub audit: LogAudit,
    pub level: LogLevel,
}
