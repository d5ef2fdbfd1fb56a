//! Where chance comes from: bytes, and nothing else.
//!
//! A call is a list of [records](Draw) of [`RECORD`] bytes, each of which decides one thing that
//! happens. A seed stands for such a list, a fuzzer makes its own, a failing call is printed as one;
//! so all of them are replayed by the same function. Records have a fixed width, so that a changed
//! byte changes one happening and leaves the others what they were: that is what lets a fuzzer learn
//! and [`shrink`](super::shrink) take things away. When the records are used up, the caller hangs up.

use super::temper::HEAD;

/// Bytes that decide one happening.
pub const RECORD: usize = 4;

/// Sebastiano Vigna's SplitMix64: small, fast, and good for any seed, 0 too.
#[derive(Clone, Copy)]
pub struct SplitMix(pub u64);

impl SplitMix {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// The bytes that a seed stands for: a call of up to some forty happenings, now and then a long one.
pub fn bytes_of(seed: u64) -> Vec<u8> {
    let mut random = SplitMix(seed);
    let length = random.next();
    let most = if length >> 60 == 0 { 200 } else { 40 };
    let records = HEAD + (length % most) as usize;
    let mut bytes = Vec::with_capacity(records * RECORD);
    while bytes.len() < records * RECORD {
        bytes.extend_from_slice(&random.next().to_le_bytes());
    }
    bytes.truncate(records * RECORD);
    bytes
}

/// The records of one call, taken one after the other.
pub struct Draws<'a> {
    left: &'a [u8],
}

impl<'a> Draws<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Draws { left: bytes }
    }

    /// The next record; the last one may be short and is then filled up. `None`: used up.
    pub fn next(&mut self) -> Option<Draw> {
        if self.left.is_empty() {
            return None;
        }
        let (now, left) = self.left.split_at(RECORD.min(self.left.len()));
        self.left = left;
        let mut record = [0; RECORD];
        record[..now.len()].copy_from_slice(now);
        Some(Draw::new(record))
    }
}

/// One record: what happens, when, and two bytes for the particulars. Whoever needs more of those
/// gets what the record itself determines.
pub struct Draw {
    pub what: u8,
    pub when: u8,
    particulars: [u8; 2],
    taken: usize,
    more: SplitMix,
}

impl Draw {
    fn new(record: [u8; RECORD]) -> Self {
        let [what, when, a, b] = record;
        Draw {
            what,
            when,
            particulars: [a, b],
            taken: 0,
            more: SplitMix(u64::from(u32::from_le_bytes(record))),
        }
    }

    /// One of `n`, 0 for a byte of 0. `n` is 1 to 256.
    pub fn below(&mut self, n: u32) -> u32 {
        let byte = match self.particulars.get(self.taken) {
            Some(byte) => u32::from(*byte),
            None => (self.more.next() & 0xff) as u32,
        };
        self.taken += 1;
        byte % n
    }

    pub fn one_in(&mut self, n: u32) -> bool {
        self.below(n) == n - 1
    }

    pub fn of<T: Copy>(&mut self, these: &[T]) -> T {
        these[self.below(these.len() as u32) as usize]
    }

    /// Often short, now and then as long as `most`, in milliseconds.
    pub fn ms(&mut self, most: u64) -> u64 {
        let byte = u64::from(self.below(256));
        byte * byte * most / (255 * 255)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_stands_for_the_same_bytes() {
        assert_eq!(bytes_of(7), bytes_of(7));
        assert_ne!(bytes_of(7), bytes_of(8));
        for seed in 0..1000 {
            let bytes = bytes_of(seed);
            assert!(bytes.len() >= HEAD * RECORD && bytes.len().is_multiple_of(RECORD));
        }
        // Vigna's own first value for seed 0.
        assert_eq!(SplitMix(0).next(), 0xe220_a839_7b1d_cdaf);
    }

    #[test]
    fn a_changed_byte_changes_one_record() {
        let bytes: Vec<u8> = (0..40).collect();
        let mut changed = bytes.clone();
        changed[5] ^= 1;
        let all = |bytes: &[u8]| {
            let mut draws = Draws::new(bytes);
            let mut found = Vec::new();
            while let Some(mut draw) = draws.next() {
                let more: Vec<u32> = (0..5).map(|_| draw.below(256)).collect();
                found.push((draw.what, draw.when, more));
            }
            found
        };
        let (one, other) = (all(&bytes), all(&changed));
        let different = one.iter().zip(&other).filter(|(a, b)| a != b).count();
        assert_eq!((one.len(), different), (10, 1));
    }
}
