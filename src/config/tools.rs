//! What agents can do besides talking: `[[tool]]`, `[transfer]`, `[sms]`.

use std::{collections::BTreeMap, fmt, time::Duration};

/// The names of the tools that the house itself has.
pub const BUILTIN_TOOLS: [&str; 6] = [
    "hang_up",
    "transfer_call",
    "send_digits",
    "send_sms",
    "get_call_info",
    "leave_note",
];

/// A tool that the operator has written down.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    /// What the agent calls it by; no built-in tool's name.
    pub name: String,
    pub description: String,
    /// A JSON Schema of an object.
    pub parameters: serde_json::Value,
    pub kind: ToolKind,
    /// For the whole of it, a second attempt included.
    pub timeout: Duration,
    /// What the agent may say when it fails.
    pub fallback: String,
    /// What the agent says when it takes longer than this; `""` for nothing.
    pub filler: String,
    pub filler_after: Duration,
    /// Of its answer, in bytes.
    pub max_output: usize,
    /// Running at the same time, over all calls.
    pub max_concurrent: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ToolKind {
    Http(HttpTool),
    /// A program and its arguments; no shell.
    Exec {
        command: Vec<String>,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub struct HttpTool {
    pub method: Method,
    /// `https://...`, or `http://` to a loopback address. Nothing is ever put into it.
    pub url: String,
    pub headers: BTreeMap<String, HeaderValue>,
    /// The credential with whose value requests are signed.
    pub sign_with: Option<String>,
    /// Doing it twice is doing it once, so it may be tried again.
    pub idempotent: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Post,
    Put,
}

impl Method {
    /// Every method by its name in the file.
    pub const NAMES: [(&str, Method); 3] = [
        ("GET", Method::Get),
        ("POST", Method::Post),
        ("PUT", Method::Put),
    ];
}

/// Text, in which `{credential:NAME}` stands for a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderValue(pub String);

/// Who may be called on a caller's behalf, and how.
#[derive(Clone, PartialEq)]
pub struct Transfer {
    /// The only ones that an agent may have called.
    pub numbers: Vec<Destination>,
    /// Tell the callee who is calling, and connect when they press a key.
    pub warm: bool,
    /// How long it rings.
    pub ring: Duration,
    pub no_answer: NoAnswer,
    /// `+...`, one of the account's; else Twilio shows the callee the caller's number.
    pub caller_id: Option<String>,
}

/// Somebody to whom callers may be put through.
#[derive(Clone, PartialEq, Eq)]
pub struct Destination {
    /// `+...`
    pub number: String,
    /// What the agent knows it by; without it, by the number.
    pub name: Option<String>,
}

/// What a caller meets whose transfer does not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// The agent again, which is told this.
    Agent(String),
    /// A sentence, and the end.
    Say(String),
}

/// Short messages.
#[derive(Clone, Default, PartialEq)]
pub struct Sms {
    /// Where an agent may send messages; `+...`.
    pub numbers: Vec<String>,
    /// And to the caller's own number.
    pub to_caller: bool,
    /// `+...`, one of the account's; else the called number.
    pub from: Option<String>,
}

/// Without the numbers.
impl fmt::Debug for Transfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transfer")
            .field("numbers", &self.numbers.len())
            .field("warm", &self.warm)
            .field("ring", &self.ring)
            .field("no_answer", &self.no_answer)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Destination({:?})", self.name)
    }
}

impl fmt::Debug for Sms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sms")
            .field("numbers", &self.numbers.len())
            .field("to_caller", &self.to_caller)
            .finish_non_exhaustive()
    }
}
