//! The one owner of `response.create`: what is asked for, what is under way, what is over.
//!
//! A server takes one response at a time and begins some by itself, when the caller has spoken. So what
//! we want waits until nothing is under way, and until the caller and what the server owes them are
//! through; one of ours that the server's own was quicker than waits again. Ids are matched: the end of
//! one response does not clear another. Servers that announce or name nothing are followed by their
//! audio.
//!
//! There is no clock here but the caller's voice, of which eight bytes are a millisecond: what a server
//! never ends does not hold up the call for good.

use std::collections::VecDeque;

use super::hash;

/// What may wait.
const MOST_WANTED: usize = 32;
/// Responses that are over and may still have stragglers.
const REMEMBERED: usize = 32;
const SECOND: u64 = 8000;
/// Of a response from which nothing comes for so long, nothing more comes.
const STALLED: u64 = 20 * SECOND;
/// Nobody is waited for who speaks for so long.
const LONGEST_SENTENCE: u64 = 30 * SECOND;
/// So long after the caller's last word the server has begun its answer.
const ANSWER_BEGINS: u64 = 2 * SECOND;

/// What a response is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The agent's first words.
    Greet,
    /// The conversation goes on; `follow`: it is the rest of a turn that called tools.
    Go { follow: bool },
    /// These words.
    Say(String),
    /// These words, by a server that says them by itself.
    Force(String),
    /// The last sentence, of which this tells.
    Goodbye(String),
    /// The end of what was cut off by a loss of the connection.
    GoOn,
}

impl Purpose {
    /// It continues the turn of the response before it.
    pub fn follows(&self) -> bool {
        matches!(self, Purpose::Go { follow: true } | Purpose::Goodbye(_))
    }

    /// It waits for the caller, who may be bringing it about anyway.
    fn polite(&self) -> bool {
        matches!(self, Purpose::Go { .. } | Purpose::GoOn)
    }
}

/// A response that is wanted.
#[derive(Clone, Debug)]
pub(super) struct Want {
    pub purpose: Purpose,
    /// How often it came to nothing.
    pub failed: u8,
    /// What it would answer is known to the response that the server is about to begin.
    covered: bool,
}

impl Want {
    /// What came to nothing so often.
    pub fn again(purpose: Purpose, failed: u8) -> Want {
        Want {
            purpose,
            failed,
            covered: false,
        }
    }
}

/// A response under way.
#[derive(Debug)]
pub(super) struct Active {
    /// By our numbering.
    pub serial: u32,
    pub id: Option<String>,
    /// What we asked for, if it is ours, and under which event.
    pub want: Option<Want>,
    event_id: Option<String>,
    /// The server has shown it.
    known: bool,
    pub audio: bool,
    /// It is of no use any more: what still comes of it is dropped.
    pub discarded: bool,
    /// The server was asked to end it.
    pub cancelling: bool,
    /// When something came of it last.
    last: u64,
}

impl Active {
    /// The server has begun it by itself.
    pub fn is_the_servers(&self) -> bool {
        self.known && self.want.is_none()
    }

    /// It is under way, and nothing has come of it.
    pub fn is_silent(&self) -> bool {
        self.known && !self.audio && !self.discarded
    }

    /// It is what the caller waits for, and not words that somebody wants said.
    pub fn is_an_answer(&self) -> bool {
        let want = self.want.as_ref().map(|want| &want.purpose);
        matches!(want, None | Some(Purpose::Go { .. } | Purpose::GoOn))
    }

    /// This name is its own, or may be: it has none yet, and has not been cut without one.
    fn answers_to(&self, id: Option<&str>) -> bool {
        match &self.id {
            Some(own) => Some(&**own) == id,
            None => !(self.known && self.discarded),
        }
    }
}

/// Where what names a response belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Belongs {
    /// To this one, which is under way or a late piece of one before.
    To(u32),
    /// To one that was cut.
    Stale,
}

#[derive(Debug, Default)]
pub(super) struct Responses {
    pub active: Option<Active>,
    wanted: VecDeque<Want>,
    /// By hash: its number, and whether it was cut.
    over: VecDeque<(u64, u32, bool)>,
    serials: u32,
    /// The caller's voice so far, in bytes.
    now: u64,
    /// Since when the caller speaks.
    speaks: Option<u64>,
    /// Since when the server owes an answer.
    due: Option<u64>,
}

impl Responses {
    /// The caller's voice goes to the server.
    pub fn time_passes(&mut self, bytes: usize) {
        self.now = self.now.saturating_add(bytes as u64);
    }

    /// Asks for a response; what only has the conversation go on is asked for once.
    pub fn want(&mut self, purpose: Purpose) {
        if let Purpose::Go { follow } = purpose
            && let Some(Purpose::Go { follow: old }) = self
                .wanted
                .iter_mut()
                .filter(|want| !want.covered)
                .map(|want| &mut want.purpose)
                .find(|old| matches!(old, Purpose::Go { .. }))
        {
            *old |= follow;
            return;
        }
        // Whoever asks for more than that does not want the newest most.
        if self.wanted.len() < MOST_WANTED {
            self.wanted.push_back(Want::again(purpose, 0));
        }
    }

    /// Asks again for what came to nothing, ahead of everything else.
    pub fn retry(&mut self, want: Want) {
        self.wanted.push_front(want);
        self.wanted.truncate(MOST_WANTED);
    }

    /// The rest of a turn is still to be asked for.
    pub fn turn_goes_on(&self) -> bool {
        self.wanted.iter().any(|want| want.purpose.follows())
    }

    /// The next response to ask for, if one can be asked for; whoever takes it sends it.
    pub fn next(&mut self, event_id: impl FnOnce() -> String) -> Option<(String, Want)> {
        let now = self.now;
        let within = |since: Option<u64>, limit| since.is_some_and(|at| now - at < limit);
        if let Some(active) = &self.active {
            if now - active.last < STALLED {
                return None;
            }
            // What was asked for and never heard of is asked for once more.
            let unseen = active.want.as_ref().filter(|_| !active.known);
            if let Some(want) = unseen.filter(|want| want.failed == 0).cloned() {
                self.active = None;
                self.retry(Want { failed: 1, ..want });
            }
        }
        let busy = within(self.speaks, LONGEST_SENTENCE) || within(self.due, ANSWER_BEGINS);
        let place = self
            .wanted
            .iter()
            .position(|want| !(busy && want.purpose.polite()))?;
        let want = self.wanted.remove(place)?;
        let event_id = event_id();
        self.begin(None);
        if let Some(active) = &mut self.active {
            active.known = false;
            active.want = Some(want.clone());
            active.event_id = Some(event_id.clone());
        }
        Some((event_id, want))
    }

    fn begin(&mut self, id: Option<&str>) -> &mut Active {
        self.end();
        self.serials = self.serials.wrapping_add(1);
        self.active.insert(Active {
            serial: self.serials,
            id: id.map(str::to_owned),
            want: None,
            event_id: None,
            known: true,
            audio: false,
            discarded: false,
            cancelling: false,
            last: self.now,
        })
    }

    /// What is under way is over.
    fn end(&mut self) -> Option<Active> {
        let active = self.active.take()?;
        if let Some(id) = &active.id {
            self.remember(id, active.serial, active.discarded);
        }
        Some(active)
    }

    fn remember(&mut self, id: &str, serial: u32, discarded: bool) {
        if self.over.len() == REMEMBERED {
            self.over.pop_front();
        }
        self.over.push_back((hash(id), serial, discarded));
    }

    fn is_over(&self, id: &str) -> Option<(u32, bool)> {
        let id = hash(id);
        let known = self.over.iter().rev().find(|(over, ..)| *over == id);
        known.map(|(_, serial, cut)| (*serial, *cut))
    }

    /// The server says that it has begun one. True if it is one that we did not ask for.
    pub fn created(&mut self, id: Option<&str>) -> bool {
        if id.is_some_and(|id| self.is_over(id).is_some()) {
            return false;
        }
        if let Some(active) = &mut self.active
            && (!active.known || id.is_some() && active.answers_to(id))
        {
            let foreign = !active.known && active.want.is_none();
            active.known = true;
            active.last = self.now;
            if active.id.is_none() {
                active.id = id.map(str::to_owned);
            }
            return foreign && self.foreign();
        }
        self.begin(id);
        self.foreign()
    }

    /// The server has begun one by itself, which answers whatever it knew of then.
    fn foreign(&mut self) -> bool {
        self.due = None;
        self.speaks = None;
        self.wanted.retain(|want| !want.covered);
        true
    }

    /// Something comes of a response.
    pub fn stirs(&mut self, id: Option<&str>) -> Belongs {
        if let Some(id) = id
            && let Some((serial, cut)) = self.is_over(id)
        {
            return match cut {
                true => Belongs::Stale,
                false => Belongs::To(serial),
            };
        }
        let now = self.now;
        let active = match &mut self.active {
            Some(active) if id.is_none() || active.answers_to(id) => active,
            // Of one that was never announced.
            _ => self.begin(id),
        };
        let known = std::mem::replace(&mut active.known, true);
        let foreign = !known && active.want.is_none();
        active.last = now;
        if active.id.is_none() {
            active.id = id.map(str::to_owned);
        }
        let belongs = match active.discarded {
            true => Belongs::Stale,
            false => Belongs::To(active.serial),
        };
        if foreign {
            self.foreign();
        }
        belongs
    }

    /// The server says that one is done; `None` if that is one which we no longer follow.
    pub fn done(&mut self, id: Option<&str>) -> Option<Active> {
        if let Some(id) = id {
            if self.is_over(id).is_some() {
                return None;
            }
            let other = self
                .active
                .as_ref()
                .is_some_and(|active| active.id.as_deref().is_some_and(|active| active != id));
            if other {
                self.serials = self.serials.wrapping_add(1);
                self.remember(id, self.serials, false);
                return None;
            }
        }
        // Of one that failed at once there may have been nothing else.
        if self.active.is_none() {
            self.begin(id);
        }
        if let Some(active) = &mut self.active
            && active.id.is_none()
        {
            active.id = id.map(str::to_owned);
        }
        self.end()
    }

    /// The server refuses an event of ours; `busy`: because there is a response already. Gives back
    /// what was asked for with it.
    pub fn refused(&mut self, event_id: Option<&str>, busy: bool) -> Option<Want> {
        let active = self.active.as_mut()?;
        let ours = match event_id {
            Some(_) => active.event_id.as_deref() == event_id,
            // It does not say which: only one can be meant, though another may have been taken for it.
            None => busy && active.want.is_some() && !(active.known && active.audio),
        };
        if !ours {
            return None;
        }
        let want = active.want.take();
        active.event_id = None;
        if !active.known {
            self.active = None;
            if busy {
                // The other has not been heard of yet.
                self.begin(None).known = false;
            }
        }
        want
    }

    /// What we have asked for is being heard.
    pub fn speaks_for_us(&self) -> bool {
        let active = self.active.as_ref();
        active.is_some_and(|active| active.audio && active.want.is_some())
    }

    /// The server says that there is nothing to cancel.
    pub fn nothing_to_cancel(&mut self) -> Option<Active> {
        match &self.active {
            Some(active) if active.cancelling => self.end(),
            _ => None,
        }
    }

    /// The caller begins to speak.
    pub fn caller_speaks(&mut self) {
        self.speaks = Some(self.now);
    }

    /// The caller has stopped for a moment.
    pub fn caller_pauses(&mut self) {
        self.speaks = None;
    }

    /// The caller has finished; `answers`: the server answers by itself.
    pub fn caller_spoke(&mut self, answers: bool) {
        self.speaks = None;
        if !answers {
            return;
        }
        self.due = Some(self.now);
        for want in &mut self.wanted {
            want.covered = matches!(want.purpose, Purpose::Go { .. });
        }
        // One without a name that was cut is over: what comes now is the answer.
        if self
            .active
            .as_ref()
            .is_some_and(|active| active.discarded && active.id.is_none())
        {
            self.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(responses: &mut Responses) -> Option<Purpose> {
        let serial = responses.serials;
        let next = responses.next(|| format!("create-{}", serial + 1));
        next.map(|(_, want)| want.purpose)
    }

    const GO: Purpose = Purpose::Go { follow: false };
    const FOLLOW: Purpose = Purpose::Go { follow: true };

    #[test]
    fn one_response_at_a_time_and_several_reasons_make_one() {
        let mut responses = Responses::default();
        responses.want(GO);
        responses.want(FOLLOW);
        responses.want(Purpose::Say("a".into()));
        assert!(responses.turn_goes_on());
        assert_eq!(next(&mut responses), Some(FOLLOW));
        assert_eq!(next(&mut responses), None);
        assert!(!responses.created(Some("r1")));
        assert!(responses.done(Some("r0")).is_none(), "another's end");
        assert_eq!(next(&mut responses), None);
        assert!(responses.done(Some("r1")).is_some());
        assert_eq!(next(&mut responses), Some(Purpose::Say("a".into())));
        for _ in 0..100 {
            responses.want(Purpose::GoOn);
        }
        assert_eq!(responses.wanted.len(), MOST_WANTED);
    }

    #[test]
    fn what_the_server_was_quicker_than_waits_for_the_end_of_its_own() {
        // With its event id and without; before the other is announced and after.
        for (named, announced) in [(true, true), (true, false), (false, true), (false, false)] {
            let mut responses = Responses::default();
            responses.want(Purpose::Say("a".into()));
            next(&mut responses);
            if announced {
                responses.created(Some("server"));
            }
            let event = named.then_some("create-1");
            let want = responses.refused(event, true).expect("ours");
            responses.retry(want);
            assert_eq!(next(&mut responses), None);
            assert_eq!(
                responses.stirs(Some("server")),
                responses.stirs(Some("server"))
            );
            assert!(responses.done(Some("server")).unwrap().want.is_none());
            assert_eq!(next(&mut responses), Some(Purpose::Say("a".into())));
        }
    }

    #[test]
    fn a_refusal_of_something_else_changes_nothing() {
        let mut responses = Responses::default();
        responses.want(GO);
        next(&mut responses);
        assert!(responses.refused(Some("cut-7"), true).is_none());
        assert!(responses.refused(None, false).is_none());
        assert!(responses.active.is_some());
        assert!(responses.refused(Some("create-1"), false).is_some());
        assert!(responses.active.is_none());
    }

    #[test]
    fn servers_that_announce_or_name_nothing_are_followed_by_what_comes() {
        let mut responses = Responses::default();
        assert_eq!(responses.stirs(None), Belongs::To(1));
        assert_eq!(responses.stirs(Some("a")), Belongs::To(1));
        assert_eq!(responses.stirs(Some("b")), Belongs::To(2));
        assert_eq!(responses.stirs(Some("a")), Belongs::To(1), "a late piece");
        assert!(responses.done(Some("a")).is_none());
        assert_eq!(responses.done(None).unwrap().serial, 2);
        // Nothing but the end.
        assert_eq!(responses.done(Some("c")).unwrap().serial, 3);
    }

    #[test]
    fn what_was_cut_stays_cut_until_another_begins() {
        let mut responses = Responses::default();
        responses.created(Some("a"));
        responses.active.as_mut().unwrap().discarded = true;
        assert_eq!(responses.stirs(Some("a")), Belongs::Stale);
        responses.created(Some("b"));
        assert_eq!(responses.stirs(Some("a")), Belongs::Stale);
        assert_eq!(responses.stirs(Some("b")), Belongs::To(2));
        // Without names it is the caller's next words that end it.
        let mut responses = Responses::default();
        responses.stirs(None);
        responses.active.as_mut().unwrap().discarded = true;
        assert_eq!(responses.stirs(None), Belongs::Stale);
        responses.caller_spoke(true);
        assert_eq!(responses.stirs(None), Belongs::To(2));
    }

    #[test]
    fn nobody_is_talked_over_and_nothing_is_answered_twice() {
        let mut responses = Responses::default();
        responses.caller_speaks();
        responses.want(FOLLOW);
        assert_eq!(next(&mut responses), None);
        responses.caller_spoke(true);
        assert_eq!(next(&mut responses), None, "the server is about to answer");
        // Words of ours do not wait for the caller.
        responses.want(Purpose::Say("a".into()));
        assert_eq!(next(&mut responses), Some(Purpose::Say("a".into())));
        responses.done(None);
        assert!(responses.created(Some("r")));
        responses.done(Some("r"));
        assert_eq!(next(&mut responses), None, "that one has answered it");
    }

    #[test]
    fn a_server_that_goes_quiet_holds_nothing_up_for_good() {
        let mut responses = Responses::default();
        responses.caller_spoke(true);
        responses.want(GO);
        responses.time_passes(ANSWER_BEGINS as usize);
        assert_eq!(next(&mut responses), Some(GO), "it owed an answer");
        responses.want(GO);
        responses.time_passes(STALLED as usize - 1);
        assert_eq!(next(&mut responses), None);
        responses.time_passes(1);
        assert_eq!(next(&mut responses), Some(GO), "its response has no end");
        responses.done(None);
        responses.caller_speaks();
        responses.want(GO);
        responses.time_passes(LONGEST_SENTENCE as usize);
        assert_eq!(next(&mut responses), Some(GO), "nobody speaks so long");
    }

    #[test]
    fn nothing_to_cancel_means_that_it_is_over() {
        let mut responses = Responses::default();
        responses.created(Some("a"));
        responses.nothing_to_cancel();
        assert!(responses.active.is_some());
        responses.active.as_mut().unwrap().cancelling = true;
        responses.nothing_to_cancel();
        assert!(responses.active.is_none());
    }
}
