//! Tool calls: told once, answered once, and what becomes of the response that made them.
//!
//! A call comes several times: as an item, in the response's list, as arguments. A response that made
//! calls ends no turn; when it is done and the last of them is answered, the turn goes on.

use std::collections::VecDeque;

use super::hash;

/// Calls remembered, answered ones among them.
const REMEMBERED: usize = 64;
/// Responses that wait for answers.
const WAITING: usize = 32;
/// Calls of which the name came before the rest.
const NAMED: usize = 16;

#[derive(Debug)]
struct Call {
    id: u64,
    response: u32,
    answered: bool,
}

/// A response that made calls.
#[derive(Debug)]
struct Waiting {
    response: u32,
    open: usize,
    done: bool,
    /// It was cut off by the caller.
    cut: bool,
    /// What a tool that ends the agent's part had to say.
    ending: Option<String>,
}

/// All calls of a response are answered, and it is done.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answered {
    pub ending: Option<String>,
    /// The turn that they belong to is over long since.
    pub cut: bool,
}

/// What an answer comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// Nobody knows of this call, or it is answered already: the server is told nothing.
    No,
    /// The server is told, and that is all so far.
    Told,
    /// It was the last.
    All(Answered),
}

#[derive(Debug, Default)]
pub(super) struct Calls {
    calls: VecDeque<Call>,
    waiting: VecDeque<Waiting>,
    names: VecDeque<(u64, String)>,
}

impl Calls {
    /// False if this call is known already.
    pub fn open(&mut self, call_id: &str, response: u32) -> bool {
        let id = hash(call_id);
        if self.calls.iter().any(|call| call.id == id) {
            return false;
        }
        if self.calls.len() == REMEMBERED
            && let Some(oldest) = self.calls.pop_front()
            && !oldest.answered
        {
            self.close(oldest.response);
        }
        self.calls.push_back(Call {
            id,
            response,
            answered: false,
        });
        match self.of(response) {
            Some(waiting) => waiting.open += 1,
            None => {
                if self.waiting.len() == WAITING {
                    self.waiting.pop_front();
                }
                self.waiting.push_back(Waiting {
                    response,
                    open: 1,
                    done: false,
                    cut: false,
                    ending: None,
                });
            }
        }
        true
    }

    fn of(&mut self, response: u32) -> Option<&mut Waiting> {
        let mut waiting = self.waiting.iter_mut();
        waiting.find(|waiting| waiting.response == response)
    }

    fn close(&mut self, response: u32) {
        if let Some(waiting) = self.of(response) {
            waiting.open = waiting.open.saturating_sub(1);
        }
    }

    /// The host answers.
    pub fn settle(&mut self, call_id: &str, ending: Option<&str>) -> Settled {
        let id = hash(call_id);
        let call = self.calls.iter_mut().find(|call| call.id == id);
        let Some(call) = call.filter(|call| !call.answered) else {
            return Settled::No;
        };
        call.answered = true;
        let response = call.response;
        self.close(response);
        if let Some(waiting) = self.of(response)
            && ending.is_some()
        {
            waiting.ending = ending.map(str::to_owned);
        }
        match self.all(response) {
            Some(answered) => Settled::All(answered),
            None => Settled::Told,
        }
    }

    fn all(&mut self, response: u32) -> Option<Answered> {
        let place = self.waiting.iter().position(|waiting| {
            waiting.response == response && waiting.done && waiting.open == 0
        })?;
        let Waiting { ending, cut, .. } = self.waiting.remove(place)?;
        Some(Answered { ending, cut })
    }

    /// A response is done: did it make calls, and are they all answered?
    pub fn done(&mut self, response: u32) -> Option<Option<Answered>> {
        self.of(response)?.done = true;
        Some(self.all(response))
    }

    /// It made some.
    pub fn made(&self, response: u32) -> bool {
        self.calls.iter().any(|call| call.response == response)
    }

    /// A response was cut off. Whatever its calls were for, nobody waits for the rest of its turn; a result
    /// that is still to come is spoken of all the same.
    pub fn cancelled(&mut self, response: u32) {
        if let Some(waiting) = self.of(response) {
            (waiting.done, waiting.cut) = (true, true);
        }
        self.waiting
            .retain(|waiting| waiting.response != response || waiting.open > 0);
    }

    /// Some are still being answered, of a turn that goes on then.
    pub fn waits(&self) -> bool {
        self.waiting.iter().any(|waiting| !waiting.cut)
    }

    /// The name of a call whose arguments are still to come.
    pub fn named(&mut self, item_or_call: &str, name: &str) {
        if self.names.len() == NAMED {
            self.names.pop_front();
        }
        self.names.push_back((hash(item_or_call), name.to_owned()));
    }

    pub fn name(&self, item_or_call: &str) -> Option<&str> {
        let id = hash(item_or_call);
        let known = self.names.iter().rev().find(|(known, _)| *known == id);
        known.map(|(_, name)| &**name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_turn_goes_on_when_the_response_is_done_and_all_its_calls_are_answered() {
        let all = || Answered {
            ending: None,
            cut: false,
        };
        let mut calls = Calls::default();
        assert!(calls.open("a", 1) && calls.open("b", 1) && !calls.open("a", 2));
        assert_eq!(calls.settle("a", None), Settled::Told);
        assert_eq!(calls.settle("a", None), Settled::No);
        assert_eq!(calls.settle("unknown", None), Settled::No);
        assert_eq!(calls.done(1), Some(None));
        assert_eq!(calls.settle("b", None), Settled::All(all()));
        assert_eq!(calls.done(1), None);
        // Answered before the response was done.
        assert!(calls.open("c", 2));
        assert_eq!(calls.settle("c", Some("bye")), Settled::Told);
        let ending = Some("bye".to_owned());
        assert_eq!(calls.done(2), Some(Some(Answered { ending, cut: false })));
        // Cut off, with a result still to come, and with none.
        assert!(calls.open("d", 3) && calls.waits());
        calls.cancelled(3);
        assert!(!calls.waits());
        let (ending, cut) = (None, true);
        assert_eq!(
            calls.settle("d", None),
            Settled::All(Answered { ending, cut })
        );
        assert!(calls.open("e", 4));
        assert_eq!(calls.settle("e", None), Settled::Told);
        calls.cancelled(4);
        assert_eq!(calls.done(4), None);
    }

    #[test]
    fn however_many_there_are_only_so_many_are_kept() {
        let mut calls = Calls::default();
        for n in 0..1000 {
            assert!(calls.open(&n.to_string(), n / 100));
            calls.named(&n.to_string(), "name");
        }
        assert_eq!((calls.calls.len(), calls.names.len()), (REMEMBERED, NAMED));
        assert!(calls.waiting.len() <= WAITING);
        // Of the last response's the oldest were forgotten, which no longer count.
        calls.done(9);
        for n in 936..999 {
            assert_eq!(calls.settle(&n.to_string(), None), Settled::Told);
        }
        assert!(matches!(calls.settle("999", None), Settled::All(_)));
        assert_eq!((calls.name("999"), calls.name("1")), (Some("name"), None));
    }
}
