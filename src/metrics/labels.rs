//! Every value that a label can have.
//!
//! All of them are our own words, fixed when the program is built: nothing that a peer says can
//! become a label, so nobody can make the house count more than it does.

use crate::{admin::protocol::Request, session::cause::Cause};

/// The rows of a family.
pub trait Label {
    /// The labels' names.
    const KEYS: &'static [&'static str];
    /// Each row's values, in the order of [`Label::KEYS`].
    fn rows() -> Vec<Vec<&'static str>>;
    /// Which of the rows this is.
    fn row(&self) -> usize;
}

macro_rules! labels {
    ($($(#[$doc:meta])* $name:ident($($key:literal),*) { $($(#[$of:meta])* $variant:ident = $($value:literal)*,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$of])* $variant,)* }

        impl Label for $name {
            const KEYS: &'static [&'static str] = &[$($key),*];

            fn rows() -> Vec<Vec<&'static str>> {
                vec![$(vec![$($value),*]),*]
            }

            fn row(&self) -> usize {
                *self as usize
            }
        }
    )*};
}

labels! {
    /// A peer of a call.
    Side("side") {
        Twilio = "twilio",
        Agent = "agent",
    }

    /// Why a call was not admitted.
    CallRefused("reason") {
        Draining = "draining",
        Full = "full",
        CallerFull = "caller-full",
        NumberFull = "number-full",
        RouteFull = "route-full",
        Closed = "closed",
        Denied = "denied",
        NotAllowed = "not-allowed",
    }

    /// What became of a call's record.
    CallRecord("outcome") {
        Written = "written",
        /// More came than could be written.
        Dropped = "dropped",
        /// The file did not take it.
        Failed = "failed",
    }

    /// Why a media socket got no call.
    SocketRefused("reason") {
        Handshake = "handshake",
        Limited = "limited",
        Signature = "signature",
        TooMany = "too-many",
        NoUpgrade = "no-upgrade",
        NoStart = "no-start",
        Gone = "gone",
        Garbage = "garbage",
        Format = "format",
        Token = "token",
        Live = "live",
        Spent = "spent",
        Full = "full",
        Leaving = "leaving",
    }

    /// Where a request that Twilio should have signed came to.
    Endpoint("endpoint") {
        Incoming = "incoming",
        After = "after",
        Status = "status",
        Stream = "stream",
        Media = "media",
        Transferred = "transferred",
        Announce = "announce",
        Accept = "accept",
    }

    /// A socket on which we accept.
    Door("listener") {
        Http = "http",
        Ops = "ops",
        Admin = "admin",
    }

    /// Why a TLS handshake on the public listener came to nothing.
    TlsFailure("reason") {
        /// Another protocol, plain HTTP mostly.
        NotTls = "not-tls",
        /// The peer does not take our certificate.
        Certificate = "certificate",
        Refused = "refused",
        Gone = "gone",
        Timeout = "timeout",
    }

    /// What came of calling a lost agent again.
    Reconnect("outcome") {
        /// An attempt that is going to be made.
        Tried = "tried",
        Resumed = "resumed",
        /// There is an agent, and it was told what was said before.
        Anew = "anew",
    }

    /// When a conversation that had grown too old was taken up on a new connection.
    Recycle("when") {
        AtAPause = "pause",
        Forced = "forced",
    }

    /// Why the agent did not get the caller's audio.
    CallerLoss("reason") {
        AgentNotReady = "agent-not-ready",
        AgentSlow = "agent-slow",
    }

    /// Why the caller did not get the agent's audio.
    AgentLoss("reason") {
        Late = "late",
        CarrierSlow = "carrier-slow",
    }

    /// What a call could do nothing with.
    Skipped("side", "reason") {
        TwilioUnknown = "twilio" "unknown-type",
        TwilioMalformed = "twilio" "malformed",
        TwilioBinary = "twilio" "binary",
        AgentUnknown = "agent" "unknown-type",
        AgentMalformed = "agent" "malformed",
        AgentBinary = "agent" "binary",
        AgentBadAudio = "agent" "bad-audio",
        AgentStale = "agent" "stale",
    }

    /// A tool, as far as we have it: a name that only the agent knows could be any.
    Tool("tool") {
        HangUp = "hang_up",
        TransferCall = "transfer_call",
        SendDigits = "send_digits",
        SendSms = "send_sms",
        GetCallInfo = "get_call_info",
        LeaveNote = "leave_note",
        /// An operator's, by what it is and not by its name: there may be any number.
        Http = "http",
        Exec = "exec",
        Other = "other",
    }

    /// How a tool that was begun has ended.
    ToolEnd("outcome") {
        Ok = "ok",
        Failed = "failed",
        Timeout = "timeout",
        /// Its arguments did not fit its schema.
        Refused = "refused",
        /// It was running as often as it may.
        Busy = "busy",
        /// The agent made another call in its place.
        Replaced = "replaced",
        /// Nobody waited for it any longer.
        Cancelled = "cancelled",
    }

    /// What came of asking who calls.
    LookedUp("outcome") {
        Answered = "answered",
        /// Answered before, or about to be for another call.
        Cached = "cached",
        Timeout = "timeout",
        Unreachable = "unreachable",
        Status = "status",
        Senseless = "senseless",
    }

    /// What Twilio's REST API is asked for.
    RestOperation("operation") {
        Complete = "complete",
        Redirect = "redirect",
        Message = "message",
    }

    /// And what came of it.
    RestOutcome("operation", "outcome") {
        CompleteEnded = "complete" "ended",
        CompleteAlreadyOver = "complete" "already-over",
        CompleteAuth = "complete" "auth",
        CompleteRefused = "complete" "refused",
        CompleteBusy = "complete" "busy",
        CompleteUnreachable = "complete" "unreachable",
        RedirectRedirected = "redirect" "redirected",
        RedirectAlreadyOver = "redirect" "already-over",
        RedirectAuth = "redirect" "auth",
        RedirectRefused = "redirect" "refused",
        RedirectBusy = "redirect" "busy",
        RedirectUnreachable = "redirect" "unreachable",
        MessageSent = "message" "sent",
        MessageAuth = "message" "auth",
        MessageRefused = "message" "refused",
        MessageBusy = "message" "busy",
        MessageUnreachable = "message" "unreachable",
    }
}

/// What became of a tool call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToolCall {
    HangUp,
    /// Answered with an error.
    Unknown,
    /// The agent runs it itself and asked for nothing.
    Agents,
    /// One of [`ToolCall::RUN`].
    Ran(Tool, ToolEnd),
}

impl ToolCall {
    /// What takes its time, and may end in any way.
    const RUN: [Tool; 7] = [
        Tool::TransferCall,
        Tool::SendDigits,
        Tool::SendSms,
        Tool::GetCallInfo,
        Tool::LeaveNote,
        Tool::Http,
        Tool::Exec,
    ];
    /// Of each of those.
    const ENDS: usize = 7;
    const OTHERS: [[&'static str; 2]; 3] = [
        ["hang_up", "ok"],
        ["other", "unknown"],
        ["other", "not-ours"],
    ];
}

impl Label for ToolCall {
    const KEYS: &'static [&'static str] = &["tool", "outcome"];

    fn rows() -> Vec<Vec<&'static str>> {
        let run = Self::RUN.iter().flat_map(|tool| {
            let ends = ToolEnd::rows();
            ends.into_iter().map(|end| vec![tool.as_str(), end[0]])
        });
        Self::OTHERS.map(Vec::from).into_iter().chain(run).collect()
    }

    fn row(&self) -> usize {
        match self {
            ToolCall::HangUp => 0,
            ToolCall::Unknown => 1,
            ToolCall::Agents => 2,
            ToolCall::Ran(tool, end) => match Self::RUN.iter().position(|run| run == tool) {
                Some(place) => Self::OTHERS.len() + place * Self::ENDS + end.row(),
                None => ToolCall::Unknown.row(),
            },
        }
    }
}

impl Tool {
    /// The word in logs and metrics.
    pub fn as_str(self) -> &'static str {
        Self::rows()[self.row()][0]
    }
}

impl ToolEnd {
    /// The word in logs and metrics.
    pub fn as_str(self) -> &'static str {
        Self::rows()[self.row()][0]
    }
}

impl Label for Cause {
    const KEYS: &'static [&'static str] = &["cause"];

    fn rows() -> Vec<Vec<&'static str>> {
        Cause::ALL
            .iter()
            .map(|cause| vec![cause.as_str()])
            .collect()
    }

    fn row(&self) -> usize {
        let same = |cause: &Cause| cause.as_str() == self.as_str();
        Cause::ALL
            .iter()
            .position(same)
            .expect("ALL has every word")
    }
}

/// What an operator asked for over the control socket.
pub enum AdminOp {
    Known(&'static str),
    /// A line that is no request.
    Invalid,
}

impl Label for AdminOp {
    const KEYS: &'static [&'static str] = &["op"];

    fn rows() -> Vec<Vec<&'static str>> {
        let words = Request::OPS.into_iter().chain(["invalid"]);
        words.map(|op| vec![op]).collect()
    }

    fn row(&self) -> usize {
        let known = match self {
            AdminOp::Known(op) => Request::OPS.iter().position(|known| known == op),
            AdminOp::Invalid => None,
        };
        known.unwrap_or(Request::OPS.len())
    }
}

impl LookedUp {
    /// The word in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            LookedUp::Answered => "answered",
            LookedUp::Cached => "cached",
            LookedUp::Timeout => "timeout",
            LookedUp::Unreachable => "unreachable",
            LookedUp::Status => "status",
            LookedUp::Senseless => "senseless",
        }
    }
}

impl Door {
    /// The word in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Door::Http => "http",
            Door::Ops => "ops",
            Door::Admin => "admin",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::Closed;

    fn value<L: Label>(label: L) -> String {
        L::rows()[label.row()].join(" ")
    }

    #[test]
    fn every_cause_has_a_row_of_its_own_word() {
        let closed = [
            Closed::HungUp,
            Closed::Inactive,
            Closed::Expired,
            Closed::Auth,
            Closed::Quota,
            Closed::Rejected,
            Closed::Lost,
        ];
        for cause in closed.map(Cause::AgentFailed).into_iter().chain(Cause::ALL) {
            assert_eq!(value(cause), cause.as_str());
        }
        let mut words = Cause::ALL.map(Cause::as_str).to_vec();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Cause::ALL.len());
    }

    #[test]
    fn a_row_is_found_where_it_is_written_down() {
        for door in [Door::Http, Door::Ops, Door::Admin] {
            assert_eq!(value(door), door.as_str());
        }
        assert_eq!(ToolEnd::rows().len(), ToolCall::ENDS);
        assert_eq!(value(ToolCall::HangUp), "hang_up ok");
        assert_eq!(value(ToolCall::Unknown), "other unknown");
        use LookedUp::*;
        for outcome in [Answered, Cached, Timeout, Unreachable, Status, Senseless] {
            assert_eq!(value(outcome), outcome.as_str());
        }
        assert_eq!(value(ToolCall::Agents), "other not-ours");
        for tool in ToolCall::RUN {
            for end in [ToolEnd::Ok, ToolEnd::Busy, ToolEnd::Cancelled] {
                let words = format!("{} {}", tool.as_str(), end.as_str());
                assert_eq!(value(ToolCall::Ran(tool, end)), words);
            }
        }
        assert_eq!(value(Skipped::AgentStale), "agent stale");
        assert_eq!(value(RestOutcome::RedirectBusy), "redirect busy");
        assert_eq!(
            value(RestOutcome::MessageUnreachable),
            "message unreachable"
        );
        assert_eq!(value(AdminOp::Known("undrain")), "undrain");
        assert_eq!(value(AdminOp::Invalid), "invalid");
    }
}
