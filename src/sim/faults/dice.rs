//! Chance that can be had again: the same seed throws the same numbers.

use std::{ops::RangeInclusive, time::Duration};

/// SplitMix64 (Steele, Lea, Flood 2014): small, and every seed is as good as the next.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// A seed for each of many: two that differ in either number have nothing in common.
    pub fn new(seed: u64, which: u64) -> Dice {
        let mut dice = Dice(seed);
        let mixed = dice.throw();
        Dice(mixed ^ which.wrapping_mul(0xd134_2543_de82_ef95))
    }

    pub fn throw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// All are as likely, but for a bias that nobody can measure in ranges as small as ours.
    pub fn among(&mut self, range: RangeInclusive<u64>) -> u64 {
        let (low, high) = range.into_inner();
        match (high - low).checked_add(1) {
            Some(count) => low + self.throw() % count,
            None => self.throw(),
        }
    }

    /// True so many times in a hundred.
    pub fn percent(&mut self, share: u64) -> bool {
        self.among(0..=99) < share
    }

    pub fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.among(0..=choices.len() as u64 - 1) as usize]
    }

    /// To the millisecond.
    pub fn span(&mut self, range: RangeInclusive<Duration>) -> Duration {
        let ms = |duration: &Duration| duration.as_millis() as u64;
        Duration::from_millis(self.among(ms(range.start())..=ms(range.end())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_throws_the_same_again_and_its_neighbour_does_not() {
        let thrown = |seed, which| -> Vec<u64> {
            let mut dice = Dice::new(seed, which);
            (0..8).map(|_| dice.throw()).collect()
        };
        assert_eq!(thrown(7, 3), thrown(7, 3));
        assert_ne!(thrown(7, 3), thrown(7, 4));
        assert_ne!(thrown(7, 3), thrown(8, 3));
        assert_ne!(thrown(0, 0), thrown(0, 1));
    }

    #[test]
    fn a_range_is_kept_and_filled() {
        let mut dice = Dice::new(1, 1);
        let thrown: Vec<u64> = (0..1000).map(|_| dice.among(3..=7)).collect();
        assert!((3..=7).all(|n| thrown.contains(&n)));
        assert!(thrown.iter().all(|n| (3..=7).contains(n)));
        assert_eq!(dice.among(5..=5), 5);
        assert!(!(0..100).any(|_| dice.percent(0)) && (0..100).all(|_| dice.percent(100)));
        let tenth = (0..10_000).filter(|_| dice.percent(10)).count();
        assert!((800..1200).contains(&tenth), "{tenth}");
    }
}
