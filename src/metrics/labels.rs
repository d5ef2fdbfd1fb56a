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
        Other = "other",
    }

    /// What became of a tool call.
    ToolCall("tool", "outcome") {
        HangUp = "hang_up" "ok",
        /// Answered with an error.
        Unknown = "other" "unknown",
        /// The agent runs it itself and asked for nothing.
        Agents = "other" "not-ours",
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

    /// What came of asking Twilio's REST API to end a call.
    RestOutcome("outcome") {
        Ended = "ended",
        AlreadyOver = "already-over",
        Auth = "auth",
        Refused = "refused",
        Busy = "busy",
        Unreachable = "unreachable",
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
        use LookedUp::*;
        for outcome in [Answered, Cached, Timeout, Unreachable, Status, Senseless] {
            assert_eq!(value(outcome), outcome.as_str());
        }
        assert_eq!(value(ToolCall::Agents), "other not-ours");
        assert_eq!(value(Skipped::AgentStale), "agent stale");
        assert_eq!(value(AdminOp::Known("undrain")), "undrain");
        assert_eq!(value(AdminOp::Invalid), "invalid");
    }
}
