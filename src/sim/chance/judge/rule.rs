//! What must hold of every call, and why.

/// A promise. Every one of them is looked at after every event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    OneEnd,
    Ends,
    Deadline,
    Ranges,
    Stale,
    Lost,
    Marks,
    Interrupts,
    Heard,
    Goodbye,
    Withdrawn,
    Tools,
    Errands,
    Keys,
    Told,
    Verdicts,
    Connection,
    Able,
    Liveness,
    Reconnects,
    Recycles,
    Hold,
    Quiet,
    Uplink,
    After,
    Bounded,
    Wire,
    Panic,
}

impl Rule {
    pub const ALL: [Rule; 28] = [
        Rule::OneEnd,
        Rule::Ends,
        Rule::Deadline,
        Rule::Ranges,
        Rule::Stale,
        Rule::Lost,
        Rule::Marks,
        Rule::Interrupts,
        Rule::Heard,
        Rule::Goodbye,
        Rule::Withdrawn,
        Rule::Tools,
        Rule::Errands,
        Rule::Keys,
        Rule::Told,
        Rule::Verdicts,
        Rule::Connection,
        Rule::Able,
        Rule::Liveness,
        Rule::Reconnects,
        Rule::Recycles,
        Rule::Hold,
        Rule::Quiet,
        Rule::Uplink,
        Rule::After,
        Rule::Bounded,
        Rule::Wire,
        Rule::Panic,
    ];

    pub fn why(self) -> &'static str {
        match self {
            Rule::OneEnd => {
                "a call ends once, and nothing is done after it: what is done twice is counted, \
                 billed or said twice"
            }
            Rule::Ends => {
                "every call ends in bounded time once its caller is gone, its hang-up is ordered or \
                 its time is up: a call that never ends is paid for by the minute"
            }
            Rule::Deadline => {
                "until its end a call always knows when to look again, and never in the past: it \
                 would be forgotten, or spin"
            }
            Rule::Ranges => {
                "what is sent points into the outbox, in order, and all of it is sent: audio that \
                 nobody points to is lost in silence"
            }
            Rule::Stale => "what the caller has interrupted is never heard after the clear",
            Rule::Lost => {
                "an agent's words that nobody interrupted reach the caller whole, or their loss is \
                 noted and has a reason"
            }
            Rule::Marks => {
                "behind everything the agent says in a turn there is a mark with a name of its own: \
                 without it nobody knows what was heard"
            }
            Rule::Interrupts => {
                "an interruption silences what is being heard at once, and silences nothing else"
            }
            Rule::Heard => {
                "what the agent is told to have been heard is what was heard: it remembers its \
                 words by that"
            }
            Rule::Goodbye => {
                "who is said goodbye to politely hears it to the last sample, unless a bound has \
                 passed, and no agent is cut off in mid-farewell"
            }
            Rule::Withdrawn => {
                "an agent's goodbye is withdrawn when the caller still has something to say"
            }
            Rule::Tools => {
                "a tool call that waits for an answer gets one, in its time, once, on the connection \
                 that asked, and is carried out at most once: an agent that waits says nothing, and \
                 nothing works for nobody"
            }
            Rule::Errands => {
                "who is sent elsewhere has heard everything, hears nothing of ours while away, and is \
                 put through, or is back in time with an agent, or the call is over: nobody is lost \
                 between two places"
            }
            Rule::Keys => {
                "what a caller presses does what it stands for, at once and once: keys are pressed by \
                 people who do not want to wait"
            }
            Rule::Told => {
                "what an agent has to know to go on reaches it as soon as it is there, once, and its \
                 successor if it had no answer"
            }
            Rule::Verdicts => "every order gets one verdict, behind all that it led to",
            Rule::Connection => {
                "there is one connection to the agent at a time, it is closed once, and only one that \
                 is there is spoken to"
            }
            Rule::Able => "an agent is asked for nothing that it cannot do",
            Rule::Liveness => {
                "an agent that does not get ready, and one that answers no ping, is given up in time"
            }
            Rule::Reconnects => {
                "an agent that is lost is called again soon, as long as there is time, and not longer; \
                 the new one is in the state that the old one was in"
            }
            Rule::Recycles => {
                "a conversation does not grow older than its agent allows, and is interrupted for \
                 that at a pause, if there is one"
            }
            Rule::Hold => {
                "a caller without an agent hears that somebody is there, and no longer than until \
                 the agent is"
            }
            Rule::Quiet => "who says nothing is asked, and who says something is not sent away",
            Rule::Uplink => {
                "the agent hears each sample of the caller once, in order, as soon as it listens, and \
                 silence where there was a gap; what is lost is counted"
            }
            Rule::After => "what the caller meets after the stream fits the reason why it ended",
            Rule::Bounded => "a call's memory is bounded, whatever its far ends do",
            Rule::Wire => "the agent understands every frame, and it says what was meant",
            Rule::Panic => "nothing panics",
        }
    }
}

/// A promise that was not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    pub rule: Rule,
    pub what: String,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}: {} ({})", self.rule, self.what, self.rule.why())
    }
}
