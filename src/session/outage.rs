//! A call without its agent: how long it may last, and when to try again.
//!
//! Attempts are spread by full jitter under a doubling bound, since an agent that restarts has lost
//! all its calls at once. The time without an agent has a budget; an agent that comes back only to
//! be lost again is not given a new one before it has held out for [`HEALED`]. Pure: time is handed
//! in, chance comes from a seed.

use std::time::{Duration, Instant};

/// The bound of the first wait, and of all.
const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(4);
/// An agent that has been there for so long owes nothing for earlier losses.
const HEALED: Duration = Duration::from_secs(60);

/// The time that a call spends without its agent.
#[derive(Debug)]
pub struct Outage {
    /// Spent before this loss and not forgiven.
    spent: Duration,
    attempts: u32,
    /// Without an agent since.
    since: Option<Instant>,
    /// Not because we wanted it so, since.
    failing: Option<Instant>,
    /// With one since.
    back: Option<Instant>,
    chance: u64,
}

impl Outage {
    /// A call begins, and has no agent yet.
    pub fn new(seed: u64, now: Instant) -> Outage {
        Outage {
            spent: Duration::ZERO,
            attempts: 0,
            since: Some(now),
            failing: Some(now),
            back: None,
            chance: seed,
        }
    }

    /// The agent is changed for another. That costs nothing unless it fails.
    pub fn plan(&mut self, now: Instant) {
        self.since = Some(now);
        self.failing = None;
    }

    /// The agent is lost. A loss during a loss changes nothing.
    pub fn begin(&mut self, now: Instant) {
        if self.failing.is_some() {
            return;
        }
        if self.back.is_some_and(|back| now >= back + HEALED) {
            self.spent = Duration::ZERO;
            self.attempts = 0;
        }
        self.since.get_or_insert(now);
        self.failing = Some(now);
    }

    /// The agent is there; returns how long it was not.
    pub fn over(&mut self, now: Instant) -> Duration {
        self.back = Some(now);
        let Some(since) = self.since.take() else {
            return Duration::ZERO;
        };
        if let Some(failing) = self.failing.take() {
            self.spent += now.saturating_duration_since(failing);
        }
        now.saturating_duration_since(since)
    }

    /// Since when there is no agent.
    pub fn since(&self) -> Option<Instant> {
        self.since
    }

    /// When a budget of this much will be used up.
    pub fn gives_up_at(&self, budget: Duration) -> Option<Instant> {
        Some(self.failing? + budget.saturating_sub(self.spent))
    }

    /// How long to wait before the next attempt.
    pub fn wait(&mut self) -> Duration {
        let bound = (FIRST * 2_u32.saturating_pow(self.attempts)).min(LONGEST);
        self.attempts = (self.attempts + 1).min(16);
        // SplitMix64: short, and as random as a back-off needs.
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.chance;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let share = (mixed >> 40) as f64 / f64::from(1 << 24);
        bound.mul_f64(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn waits_are_spread_below_a_doubling_bound() {
        let now = Instant::now();
        let mut bound = FIRST;
        let mut calls: Vec<_> = (0..200).map(|seed| Outage::new(seed, now)).collect();
        for _ in 0..20 {
            let mut waits: Vec<_> = calls.iter_mut().map(Outage::wait).collect();
            assert!(waits.iter().all(|wait| *wait < bound), "{bound:?}");
            waits.sort();
            let middle = waits[100];
            assert!(middle > bound / 3 && middle < bound * 2 / 3, "{middle:?}");
            bound = (bound * 2).min(LONGEST);
        }
    }

    #[test]
    fn the_budget_is_for_all_losses_until_the_agent_has_held_out() {
        let start = Instant::now();
        let mut outage = Outage::new(1, start);
        assert_eq!(outage.gives_up_at(3 * S), Some(start + 3 * S));
        assert_eq!(outage.over(start + S), S);
        assert_eq!(outage.gives_up_at(3 * S), None);

        outage.begin(start + 2 * S);
        outage.begin(start + 3 * S);
        assert_eq!(outage.gives_up_at(30 * S), Some(start + 31 * S));
        assert_eq!(outage.over(start + 7 * S), 5 * S);
        outage.begin(start + 8 * S);
        assert_eq!(outage.gives_up_at(30 * S), Some(start + 32 * S));
        outage.over(start + 9 * S);

        // A change of agents has no budget and costs none, unless it fails.
        outage.plan(start + 20 * S);
        assert_eq!(outage.since(), Some(start + 20 * S));
        assert_eq!(outage.gives_up_at(30 * S), None);
        outage.over(start + 25 * S);
        outage.plan(start + 30 * S);
        outage.begin(start + 31 * S);
        assert_eq!(outage.since(), Some(start + 30 * S));
        assert_eq!(outage.gives_up_at(30 * S), Some(start + 54 * S));
        assert_eq!(outage.over(start + 31 * S), S);

        let start = start + 22 * S;
        outage.begin(start + 9 * S + HEALED);
        assert_eq!(outage.gives_up_at(30 * S), Some(start + 39 * S + HEALED));
    }
}
