//! How much one call may log.
//!
//! An agent that errs, calls tools or changes its mind without end would fill the log with one call.
//! Each kind of line has a number that a call may write; beyond it lines are only counted, and the
//! call's last line tells how many there were. An ordinary call comes near none of them.

/// The kinds of line that a call can repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    AgentReady,
    AgentError,
    AgentIgnored,
    AgentClosed,
    Retrying,
    Recycling,
    NoInput,
    NoAgent,
    ToolCall,
    Keys,
    Away,
    BargeIn,
    SpuriousInterruption,
    HangingUp,
    GoodbyeWithdrawn,
    Paused,
    AudioDropped,
    AudioNotSent,
    SilenceFilled,
    RestFailed,
    Lingered,
}

const KINDS: usize = Line::Lingered as usize + 1;

impl Line {
    /// How many of its kind a call may write.
    const fn allowance(self) -> u8 {
        match self {
            // What a conversation is made of.
            Line::ToolCall => 40,
            // Looked at by somebody who wants to see every one, in a call or two.
            Line::AgentIgnored
            | Line::BargeIn
            | Line::SpuriousInterruption
            | Line::AudioDropped
            | Line::AudioNotSent
            | Line::SilenceFilled => 100,
            _ => 10,
        }
    }
}

/// What a call has written.
#[derive(Debug, Default)]
pub struct Budget {
    written: [u8; KINDS],
    withheld: u64,
}

impl Budget {
    /// Whether one more line of this kind is written.
    pub fn allows(&mut self, line: Line) -> bool {
        let written = &mut self.written[line as usize];
        if *written < line.allowance() {
            *written += 1;
            true
        } else {
            self.withheld += 1;
            false
        }
    }

    /// Lines that were not written; `None` where there are none.
    pub fn withheld(&self) -> Option<u64> {
        (self.withheld > 0).then_some(self.withheld)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_that_repeats_is_cut_and_the_others_are_not() {
        let mut budget = Budget::default();
        let errors = (0..1000).filter(|_| budget.allows(Line::AgentError));
        assert_eq!(errors.count(), 10);
        assert!(budget.allows(Line::ToolCall) && budget.allows(Line::RestFailed));
        assert_eq!(budget.withheld(), Some(990));
    }

    #[test]
    fn a_call_that_is_cut_nothing_says_nothing_of_it() {
        let mut budget = Budget::default();
        for _ in 0..40 {
            assert!(budget.allows(Line::ToolCall));
        }
        assert_eq!(budget.withheld(), None);
        assert!(!budget.allows(Line::ToolCall));
        assert_eq!(budget.withheld(), Some(1));
    }
}
