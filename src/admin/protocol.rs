//! The control socket's own types; protocol 1.
//!
//! ```text
//! {"protocol":1,"op":"hangup","call":"CA12","reason":"caller asked"}
//! {"protocol":1,"version":"0.1.0","ok":{"calls":["CA12..."],"now":false}}
//! {"protocol":1,"version":"0.1.0","error":{"code":"no-such-call","message":"..."}}
//! ```
//!
//! Every request is answered with one line, but for `events`: its answer is a stream of lines with
//! `event` in the place of `ok` (see [`event`](super::event)), after which the daemon closes.
//!
//! A request is read strictly: an unknown op, a missing or unknown field is an error, because an
//! order that is half understood must not be carried out. A reply is read leniently: a newer daemon
//! may say more. The number changes only when an old peer would misunderstand; everything else is
//! told apart by `version`, which is in every reply. Pure: bytes in, values out.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::{event::Event, routed::Routed};

/// What both ends must speak.
pub const PROTOCOL: u64 = 1;
/// A request's line, in bytes.
pub const MAX_REQUEST: usize = 64 * 1024;
/// A reply's line: `sessions` of a full house is longer than any request.
pub const MAX_REPLY: usize = 16 * 1024 * 1024;
/// A hang-up's reason, in characters; it is for a log line.
pub const MAX_REASON: usize = 200;
/// What an agent is given to say or to know, in characters.
pub const MAX_TEXT: usize = 2000;
/// The name of a file that is checked, in bytes: as long as a path may be.
pub const MAX_NAME: usize = 4096;
/// Where the socket is when nobody says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/hume-bridge/control.sock";
/// This program's version, as every reply carries it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What an operator may ask for. The empty braces are not decoration: serde refuses unknown fields
/// on a variant with a body only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    Status {},
    Sessions {},
    Show {
        /// A CallSid or a prefix that only one live call has.
        call: String,
    },
    /// Exactly one of `call` and `all`.
    Hangup {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        call: Option<String>,
        #[serde(default, skip_serializing_if = "is_false")]
        all: bool,
        /// Do not let the agent finish its words.
        #[serde(default, skip_serializing_if = "is_false")]
        now: bool,
        /// For the log.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    Drain {},
    Undrain {},
    /// Read the config and the credentials again.
    Reload {},
    /// Announce a test call, which the client places itself, as Twilio would.
    Dial {
        /// The caller's number; without it one that is reserved for such use.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<String>,
        /// The number called; without it the config's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<String>,
    },
    /// Twilio's signature for a request of a test call that `dial` has announced; for nothing else.
    Sign {
        /// The whole CallSid.
        call: String,
        url: String,
        /// The form's fields; none for the upgrade of the media stream.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        params: Vec<(String, String)>,
    },
    /// Check a config as a reload would, and take nothing.
    Check {
        /// What the problems are to call it.
        name: String,
        text: Text,
    },
    /// Have a call's agent say this.
    Say {
        call: String,
        text: Text,
    },
    /// Let a call's agent know this.
    Context {
        call: String,
        text: Text,
    },
    /// Have a call's agent listen and not answer.
    Pause {
        call: String,
    },
    Resume {
        call: String,
    },
    /// Put a call's caller through, once the agent has said what it is saying.
    Transfer {
        call: String,
        /// With its country.
        number: Text,
        /// Said to the callee, who then accepts with a key.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        announce: Option<Text>,
    },
    /// Which route a call would take, now or at another time.
    RouteTest {
        /// The number called; without it the config's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<Text>,
        /// Who calls: a number, an address, or `anonymous`.
        from: Text,
        /// RFC 3339.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at: Option<String>,
    },
    /// Follow what happens, of one call or of all.
    Events {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        call: Option<String>,
    },
}

/// Words of a conversation, a telephone number or a file with such: for its reader only.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Text(pub String);

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Text({} characters)", self.0.chars().count())
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Text {
        Text(text.into())
    }
}

impl Text {
    /// As an agent gets it: one line, without white space around it.
    pub fn spoken(&self) -> String {
        let blank = |c: char| if c.is_control() { ' ' } else { c };
        self.0.trim().chars().map(blank).collect()
    }

    /// Whether an agent can be given it. Line ends and tabs will be blanked; any other control
    /// character is no word.
    pub fn check(&self) -> Result<(), String> {
        let control = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
        if self.0.trim().is_empty() {
            Err("`text` is empty".into())
        } else if self.0.trim().chars().count() > MAX_TEXT {
            Err(format!("`text` is longer than {MAX_TEXT} characters"))
        } else if self.0.chars().any(control) {
            Err("`text` has control characters".into())
        } else {
            Ok(())
        }
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

impl Request {
    /// Every op there is.
    pub const OPS: [&str; 17] = [
        "status",
        "sessions",
        "show",
        "hangup",
        "drain",
        "undrain",
        "reload",
        "dial",
        "sign",
        "check",
        "say",
        "context",
        "pause",
        "resume",
        "transfer",
        "route-test",
        "events",
    ];

    pub fn op(&self) -> &'static str {
        match self {
            Request::Status {} => "status",
            Request::Sessions {} => "sessions",
            Request::Show { .. } => "show",
            Request::Hangup { .. } => "hangup",
            Request::Drain {} => "drain",
            Request::Undrain {} => "undrain",
            Request::Reload {} => "reload",
            Request::Dial { .. } => "dial",
            Request::Sign { .. } => "sign",
            Request::Check { .. } => "check",
            Request::Say { .. } => "say",
            Request::Context { .. } => "context",
            Request::Pause { .. } => "pause",
            Request::Resume { .. } => "resume",
            Request::Transfer { .. } => "transfer",
            Request::RouteTest { .. } => "route-test",
            Request::Events { .. } => "events",
        }
    }

    /// One line, newline included.
    pub fn to_line(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Line<'a> {
            protocol: u64,
            #[serde(flatten)]
            request: &'a Request,
        }
        line(&Line {
            protocol: PROTOCOL,
            request: self,
        })
    }

    /// Reads a request's line. The protocol's number comes first: another protocol may mean
    /// something else by every other word.
    pub fn from_line(line: &[u8]) -> Result<Request, Failure> {
        let bad = |what: String| Failure::new(Code::BadRequest, what);
        let mut fields: Map<String, Value> = serde_json::from_slice(line).map_err(|error| {
            let error = excerpt(&error.to_string());
            bad(format!("a request is one JSON object on a line: {error}"))
        })?;
        match fields.remove("protocol") {
            None => {
                return Err(bad(format!(
                    "`protocol` is missing; this is protocol {PROTOCOL}"
                )));
            }
            Some(number) if number == PROTOCOL => {}
            Some(other) => {
                return Err(Failure::new(
                    Code::ProtocolMismatch,
                    format!(
                        "the request speaks protocol {}, hume-bridge {VERSION} speaks protocol \
                         {PROTOCOL}; use the humebridgectl that came with it",
                        excerpt(&other.to_string())
                    ),
                ));
            }
        }
        match fields.get("op") {
            Some(Value::String(op)) if Request::OPS.contains(&op.as_str()) => {}
            Some(Value::String(op)) => {
                return Err(Failure::new(
                    Code::UnknownOp,
                    format!("hume-bridge {VERSION} has no op \"{}\"", excerpt(op)),
                ));
            }
            _ => return Err(bad("`op` is missing or not a string".into())),
        }
        let request: Request = serde_json::from_value(Value::Object(fields))
            .map_err(|error| bad(excerpt(&error.to_string())))?;
        request.check()?;
        Ok(request)
    }

    fn check(&self) -> Result<(), Failure> {
        let bad = |what: &str| Err(Failure::new(Code::BadRequest, what));
        let call = match self {
            Request::Hangup { call, .. } | Request::Events { call } => call.as_ref(),
            Request::Show { call }
            | Request::Say { call, .. }
            | Request::Context { call, .. }
            | Request::Pause { call }
            | Request::Resume { call }
            | Request::Transfer { call, .. } => Some(call),
            _ => None,
        };
        if call.is_some_and(String::is_empty) {
            return bad("`call` is empty");
        }
        match self {
            Request::Hangup {
                call, all, reason, ..
            } => match (call, all) {
                (Some(_), true) => bad("`call` and `all` exclude one another"),
                (None, false) => bad("`hangup` needs `call`, or `all`: true"),
                _ if reason
                    .as_ref()
                    .is_some_and(|reason| reason.chars().count() > MAX_REASON) =>
                {
                    bad(&format!("`reason` is longer than {MAX_REASON} characters"))
                }
                _ => Ok(()),
            },
            Request::Dial { from, to } => {
                let numbers = [("from", from), ("to", to)];
                let wrong = numbers
                    .into_iter()
                    .find(|(_, number)| number.as_deref().is_some_and(|number| !is_number(number)));
                match wrong {
                    Some((name, _)) => bad(&format!(
                        "`{name}` is not a number with its country, like +12025550123"
                    )),
                    None => Ok(()),
                }
            }
            Request::RouteTest { to, from, at } => {
                let party = "is not a number with its country, like +12025550123, nor an address";
                if to.as_ref().is_some_and(|to| !is_party(&to.0)) {
                    bad(&format!("`to` {party}"))
                } else if !is_party(&from.0) && !from.0.eq_ignore_ascii_case(WITHHELD) {
                    bad(&format!("`from` {party}, nor {WITHHELD}"))
                } else if at
                    .as_deref()
                    .is_some_and(|at| at.parse::<Timestamp>().is_err())
                {
                    bad("`at` is not a time like 2026-12-24T18:00:00Z")
                } else {
                    Ok(())
                }
            }
            Request::Say { text, .. } | Request::Context { text, .. } => {
                text.check().or_else(|what| bad(&what))
            }
            Request::Transfer { number, .. } if !can_be_called(&number.0) => {
                bad("`number` is not a number with its country, like +12025550123")
            }
            Request::Transfer {
                announce: Some(announce),
                ..
            } => announce
                .check()
                .or_else(|what| bad(&what.replace("`text`", "`announce`"))),
            Request::Check { name, .. } if name.is_empty() || name.len() > MAX_NAME => {
                bad(&format!("`name` is not of 1 to {MAX_NAME} bytes"))
            }
            _ => Ok(()),
        }
    }
}

/// E.164: a plus and up to 15 digits.
pub fn is_number(text: &str) -> bool {
    text.strip_prefix('+').is_some_and(|digits| {
        (1..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit())
    })
}

/// A number that Twilio can be asked to call: its country's code begins with no 0.
pub fn can_be_called(text: &str) -> bool {
    is_number(text) && text.len() > 7 && !text.starts_with("+0")
}

/// Who withholds the number, on a command line.
pub const WITHHELD: &str = "anonymous";

/// A telephone number, or the address of a SIP phone or an app.
pub fn is_party(text: &str) -> bool {
    let address = ["sip:", "sips:", "client:", "whatsapp:"]
        .iter()
        .any(|scheme| text.len() > scheme.len() && text.starts_with(scheme));
    let plain = text.len() <= 512 && !text.contains(|c: char| c.is_whitespace() || c.is_control());
    is_number(text) || (address && plain)
}

/// A stranger's words, short and on one line, for a message.
pub fn excerpt(text: &str) -> String {
    const LENGTH: usize = 120;
    let mut short: String = text
        .chars()
        .take(LENGTH)
        .flat_map(char::escape_default)
        .collect();
    if text.chars().nth(LENGTH).is_some() {
        short.push_str("...");
    }
    short
}

/// Why nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// Not JSON, not this shape, or too long.
    BadRequest,
    ProtocolMismatch,
    UnknownOp,
    NoSuchCall,
    /// The prefix fits more than one live call.
    Ambiguous,
    /// The call has too many orders waiting or does not answer, or the socket has too many clients.
    Busy,
    /// The call was asked and does not do it, for the reason in the message.
    Refused,
    /// Events came faster than they were read; the stream ends.
    TooSlow,
    /// The daemon is on its way out.
    Stopping,
    /// The config or the credentials are wrong; nothing has changed.
    ConfigInvalid,
    /// A code of a daemon newer than this.
    #[serde(other)]
    Other,
}

/// An error reply's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub code: Code,
    pub message: String,
}

impl Failure {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Failure {
            code,
            message: message.into(),
        }
    }
}

/// What a request was answered with.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Answer {
    Status(Status),
    Sessions(Sessions),
    Show(Session),
    HungUp(HungUp),
    Drain(Drain),
    Reloaded(Reloaded),
    Dial(Dial),
    Signed(Signed),
    Told(Told),
    Paused(Paused),
    Transferring(Transferring),
    Routed(Routed),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    pub draining: bool,
    /// Live calls.
    pub active_sessions: usize,
    /// Admitted calls whose media socket is still to come.
    pub expected_sessions: usize,
    pub uptime_seconds: u64,
    pub pid: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sessions {
    /// Oldest first.
    pub sessions: Vec<Session>,
}

/// One live call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    pub call_sid: String,
    pub stream_sid: String,
    pub agent: String,
    pub agent_connected: bool,
    pub from: String,
    pub to: String,
    /// RFC 3339, UTC.
    pub started_at: String,
    pub duration_seconds: u64,
    pub ending: bool,
    /// Its agent listens and does not answer.
    #[serde(default)]
    pub paused: bool,
    /// Caller frames (20 ms) received.
    pub frames_in: u64,
    /// Agent audio messages forwarded.
    pub audio_out: u64,
    /// Caller frames given up.
    pub frames_dropped: u64,
    pub barge_ins: u64,
    /// A test call of an operator's.
    #[serde(default)]
    pub test: bool,
    /// The route that it took, by name.
    #[serde(default)]
    pub route: Option<String>,
    /// What it has left its agent for, to come back or not: `digits` or `transfer`.
    #[serde(default)]
    pub away: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HungUp {
    /// CallSids of calls that are ending.
    pub calls: Vec<String>,
    /// Of calls that did not take the order in time; for `all` only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unanswered: Vec<String>,
    pub now: bool,
}

/// After `say` and `context`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The CallSid.
    pub call: String,
    pub characters: usize,
    /// After `say`: false of an agent that promises only something like these words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exact: Option<bool>,
}

/// After `pause` and `resume`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// The CallSid.
    pub call: String,
    pub paused: bool,
    /// False when it was so already.
    pub changed: bool,
}

/// After `transfer`: it will be tried. What came of it is told by `events`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transferring {
    /// The CallSid.
    pub call: String,
    /// The callee is told something first, and accepts with a key.
    pub announced: bool,
}

/// After `drain` and `undrain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Drain {
    pub draining: bool,
    /// False when it was so already.
    pub changed: bool,
    pub active_sessions: usize,
    pub expected_sessions: usize,
}

/// After `reload`, and after `check`, which tells what a reload would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reloaded {
    /// Keys whose new values the next call meets; `credentials` for any of them.
    pub changed: Vec<String>,
    /// Keys whose new values wait for a restart.
    pub need_restart: Vec<String>,
}

/// A test call that has been announced, and what its telephone needs to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Dial {
    pub call_sid: String,
    pub account_sid: String,
    pub from: String,
    pub to: String,
    /// What is signed, without a slash at its end; not where to connect.
    pub public_url: String,
    /// The public listener as it is reached from this machine.
    pub address: std::net::SocketAddr,
    /// That listener's own certificate, DER in base64, if it speaks TLS: it is made out to the
    /// public name, and nobody else may answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed {
    /// For `X-Twilio-Signature`.
    pub signature: String,
}

/// A reply's line, newline included.
pub fn reply_line(outcome: &Result<Answer, Failure>) -> Vec<u8> {
    let (ok, error) = (outcome.as_ref().ok(), outcome.as_ref().err());
    from_daemon(ok, None, error)
}

/// An event's line, newline included.
pub fn event_line(event: &Event) -> Vec<u8> {
    from_daemon(None, Some(event), None)
}

fn from_daemon(ok: Option<&Answer>, event: Option<&Event>, error: Option<&Failure>) -> Vec<u8> {
    #[derive(Serialize)]
    struct Line<'a> {
        protocol: u64,
        version: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        ok: Option<&'a Answer>,
        #[serde(skip_serializing_if = "Option::is_none")]
        event: Option<&'a Event>,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<&'a Failure>,
    }
    line(&Line {
        protocol: PROTOCOL,
        version: VERSION,
        ok,
        event,
        error,
    })
}

/// A reply as the client keeps it: `ok` stays JSON until somebody wants it as a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The daemon's.
    pub version: String,
    /// `ok` or `event`, or why not.
    pub outcome: Result<Value, Failure>,
    /// One line of a stream: more may follow.
    pub is_event: bool,
}

/// Why a reply's line is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    #[error(
        "hume-bridge {version} speaks protocol {theirs}, humebridgectl {VERSION} speaks {PROTOCOL}"
    )]
    Protocol { theirs: u64, version: String },
    #[error("the reply is not understood: {0}")]
    Garbled(String),
}

impl Reply {
    pub fn from_line(line: &[u8]) -> Result<Reply, ReplyError> {
        #[derive(Deserialize)]
        struct Line {
            protocol: u64,
            version: String,
            ok: Option<Value>,
            event: Option<Value>,
            error: Option<Failure>,
        }
        // The number first, by itself: the rest of another protocol may look different.
        #[derive(Deserialize)]
        struct Number {
            protocol: u64,
            #[serde(default)]
            version: String,
        }
        let garbled = |error: serde_json::Error| ReplyError::Garbled(excerpt(&error.to_string()));
        let number: Number = serde_json::from_slice(line).map_err(garbled)?;
        if number.protocol != PROTOCOL {
            let (theirs, version) = (number.protocol, excerpt(&number.version));
            return Err(ReplyError::Protocol { theirs, version });
        }
        let line: Line = serde_json::from_slice(line).map_err(garbled)?;
        debug_assert_eq!(line.protocol, PROTOCOL);
        let is_event = line.event.is_some();
        let outcome = match (line.ok, line.event, line.error) {
            (Some(value), None, None) | (None, Some(value), None) => Ok(value),
            (None, None, Some(error)) => Err(error),
            _ => {
                return Err(ReplyError::Garbled(
                    "not one of `ok`, `event` and `error`".into(),
                ));
            }
        };
        Ok(Reply {
            version: line.version,
            outcome,
            is_event,
        })
    }
}

/// `ok` as the type that belongs to the op.
pub fn decode<T: DeserializeOwned>(ok: &Value) -> Result<T, ReplyError> {
    T::deserialize(ok).map_err(|error| ReplyError::Garbled(excerpt(&error.to_string())))
}

fn line(value: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).expect("strings and numbers always serialise");
    line.push(b'\n');
    line
}

#[cfg(test)]
#[path = "protocol_tests.rs"]
mod tests;
