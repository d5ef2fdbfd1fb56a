//! Which calls are answered how: `[[route]]`, `[keys]`, `[lookup]`.

use std::{borrow::Cow, collections::BTreeMap, fmt, time::Duration};

use super::{AgentKind, CallerPrefix, Fallback, HeaderValue};

/// For calls to a number, from numbers that begin so. What it leaves out is as for all calls.
#[derive(Clone, PartialEq)]
pub struct Route {
    /// For logs and `route-test`; `route N` where the file gives none.
    pub name: String,
    /// `None`: to any number.
    pub to: Option<String>,
    /// `None`: from anybody.
    pub from: Option<CallerPrefix>,
    pub hours: Option<Hours>,
    /// What a caller meets outside the hours; without it the route is not theirs, and the next is
    /// looked at.
    pub closed: Option<Fallback>,
    pub agent: Option<AgentKind>,
    pub config_id: Option<String>,
    pub voice: Option<String>,
    /// Of a Realtime agent, in place of `realtime.instructions`.
    pub instructions: Option<String>,
    pub greeting: Option<String>,
    pub fallback: Option<Fallback>,
    /// Over those of `[agent]`, one by one.
    pub variables: BTreeMap<String, Variable>,
    /// The tools that the agent has, by name; `None` for all that there are.
    pub tools: Option<Vec<String>>,
    pub keys: Option<Keys>,
    /// Of calls on this route; 0 for no limit of its own.
    pub max_concurrent: usize,
    pub max_per_caller: Option<usize>,
    pub max_duration: Option<Duration>,
    pub no_input_timeout: Option<Duration>,
}

#[cfg(test)]
impl Route {
    /// One that says nothing but its name.
    pub fn named(name: &str) -> Route {
        Route {
            name: name.to_owned(),
            to: None,
            from: None,
            hours: None,
            closed: None,
            agent: None,
            config_id: None,
            voice: None,
            instructions: None,
            greeting: None,
            fallback: None,
            variables: BTreeMap::new(),
            tools: None,
            keys: None,
            max_concurrent: 0,
            max_per_caller: None,
            max_duration: None,
            no_input_timeout: None,
        }
    }
}

/// A value that the agent's prompt may name. In a text, `{from}` and the like stand for what is known
/// of the call.
#[derive(Clone, Debug, PartialEq)]
pub enum Variable {
    Text(String),
    Number(f64),
    Flag(bool),
}

impl Variable {
    /// From here on not every whole number is one that an agent can be told.
    pub const EXACT: f64 = 9_007_199_254_740_992.0;

    /// As a prompt has it. Not `Display`: it may say who calls, which no log is to show by accident.
    pub fn to_text(&self) -> Cow<'_, str> {
        match self {
            Variable::Text(text) => Cow::Borrowed(text),
            Variable::Number(number) => Cow::Owned(number.to_string()),
            Variable::Flag(flag) => Cow::Owned(flag.to_string()),
        }
    }
}

/// When a route is open: `["mon-fri 09:00-17:30", "sat 10:00-12:00"]` in a time zone.
#[derive(Clone, Debug, PartialEq)]
pub struct Hours {
    pub zone: jiff::tz::TimeZone,
    pub spans: Vec<Span>,
}

impl Hours {
    /// Whether it is open all that time.
    pub fn covers(&self, other: Span) -> bool {
        let mut spans = self.spans.iter();
        spans.any(|span| span.day == other.day && span.from <= other.from && other.to <= span.to)
    }

    /// Whether it is never closed.
    pub fn is_always(&self) -> bool {
        (0..7).all(|day| {
            self.covers(Span {
                day,
                from: 0,
                to: 1440,
            })
        })
    }
}

/// Minutes of one weekday.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Monday is 0.
    pub day: u8,
    pub from: u16,
    /// Not included; 1440 is midnight at its end.
    pub to: u16,
}

/// What the keys on the caller's telephone do.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    /// What the agent is told of keys, which stand for `{keys}`; `""`: nothing.
    pub words: String,
    /// The key that ends an input; it is not part of it.
    pub end: Option<char>,
    /// An input of so many keys is over; 0 for no limit of its own.
    pub count: usize,
    /// An input to which so long nothing is added is over.
    pub timeout: Duration,
    /// What a key does when it is the first of an input.
    pub actions: BTreeMap<char, KeyAction>,
}

#[derive(Clone, PartialEq, Eq)]
pub enum KeyAction {
    /// To this number; `+...`.
    Transfer(String),
    /// The agent says it.
    Say(String),
    HangUp,
}

/// A service that knows something about the caller.
#[derive(Clone, Debug, PartialEq)]
pub struct Lookup {
    /// As a tool's.
    pub url: String,
    pub headers: BTreeMap<String, HeaderValue>,
    pub sign_with: Option<String>,
    pub timeout: Duration,
    /// How long an answer is good for another call; zero for never.
    pub cache: Duration,
}

/// Without numbers.
impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys")
            .field("actions", &self.actions.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for KeyAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KeyAction::Transfer(_) => "Transfer(..)",
            KeyAction::Say(_) => "Say(..)",
            KeyAction::HangUp => "HangUp",
        })
    }
}
