//! What becomes of each call and of each connection: drawn from the seed, known beforehand.

use std::time::Duration;

use crate::sim::faults::{Dice, Fault, Kind, Way, What, When};

/// Of a hundred calls, so many have a fault on the telephone's wire.
const PHONE_FAULTS: u64 = 10;
/// Of a hundred connections to the agent, so many have one.
const AGENT_FAULTS: u64 = 10;
/// A fault strikes when a call is well under way, and most calls are still there.
const STRIKES: std::ops::RangeInclusive<Duration> = Duration::from_secs(3)..=Duration::from_secs(9);
const LASTS: std::ops::RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(25);
/// Streams of chance that have nothing to do with one another.
const OF_CALLS: u64 = 0x6361_6c6c;
const OF_CHATS: u64 = 0x6368_6174;

/// Who ends a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The caller puts the receiver down.
    Caller,
    /// The agent calls `hang_up` and says goodbye.
    Agent,
    /// An order on the control socket; `now` does not wait for the agent's words.
    Operator { now: bool },
}

/// A call's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fate {
    pub lasts: Duration,
    pub end: End,
    /// On the telephone's wire.
    pub fault: Option<Fault>,
}

impl Fate {
    pub fn of(seed: u64, call: usize) -> Fate {
        let mut dice = Dice::new(seed ^ OF_CALLS, call as u64);
        Fate {
            lasts: dice.span(LASTS),
            end: match dice.among(0..=99) {
                0..=49 => End::Caller,
                50..=79 => End::Agent,
                80..=89 => End::Operator { now: false },
                _ => End::Operator { now: true },
            },
            fault: dice.percent(PHONE_FAULTS).then(|| fault(&mut dice)),
        }
    }
}

/// What befalls a connection to the agent.
pub fn of_chat(seed: u64, connection: u32) -> Option<Fault> {
    let mut dice = Dice::new(seed ^ OF_CHATS, u64::from(connection));
    dice.percent(AGENT_FAULTS).then(|| fault(&mut dice))
}

fn fault(dice: &mut Dice) -> Fault {
    let ms = Duration::from_millis;
    let what = match dice.of(&Kind::ALL) {
        Kind::Delay => What::Delay {
            constant: ms(dice.among(20..=200)),
            jitter: ms(dice.among(0..=100)),
        },
        Kind::Split => What::Split {
            most: dice.among(16..=200) as usize,
        },
        Kind::Corrupt => What::Corrupt {
            bytes: dice.among(1..=2000),
            flip: dice.among(1..=255) as u8,
        },
        Kind::Stall => What::Stall {
            lasts: dice.percent(70).then(|| ms(dice.among(500..=4000))),
        },
        Kind::HalfClose => What::HalfClose,
        Kind::Close => What::Close,
        Kind::Reset => What::Reset,
    };
    Fault {
        way: dice.of(&[Way::Out, Way::Back]),
        when: When::After(dice.span(STRIKES)),
        what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_means_the_same_fates_again() {
        let fates = |seed| (0..50).map(|call| Fate::of(seed, call)).collect::<Vec<_>>();
        assert_eq!(fates(5), fates(5));
        assert_ne!(fates(5), fates(6));
        let chats = |seed| (0..50).map(|n| of_chat(seed, n)).collect::<Vec<_>>();
        assert_eq!(chats(5), chats(5));
        assert_ne!(chats(5), chats(6));
    }

    #[test]
    fn all_that_may_happen_does_and_to_a_minority() {
        let fates: Vec<Fate> = (0..2000).map(|call| Fate::of(1, call)).collect();
        let share = |end: End| fates.iter().filter(|fate| fate.end == end).count();
        assert!((900..1100).contains(&share(End::Caller)));
        assert!((500..700).contains(&share(End::Agent)));
        for end in [false, true].map(|now| End::Operator { now }) {
            assert!((150..250).contains(&share(end)));
        }
        assert!(fates.iter().all(|fate| LASTS.contains(&fate.lasts)));
        let faults: Vec<Fault> = fates.iter().filter_map(|fate| fate.fault).collect();
        assert!((150..250).contains(&faults.len()), "{}", faults.len());
        let chats = (0..2000).filter(|n| of_chat(1, *n).is_some()).count();
        assert!((150..250).contains(&chats), "{chats}");
        for kind in Kind::ALL {
            assert!(
                faults.iter().any(|fault| fault.what.kind() == kind),
                "{kind:?}"
            );
        }
        let for_ever = What::Stall { lasts: None };
        assert!(faults.iter().any(|fault| fault.what == for_ever));
    }
}
