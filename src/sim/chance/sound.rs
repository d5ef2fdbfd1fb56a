//! Sound that tells where it is from: each sample of a stream can be found again.
//!
//! Sixteen bytes tell a position: a mark, then its sixteenth in digits, again and again. A caller speaks and is
//! quiet by turns, loud enough for a voice or not: the digits are of one alphabet or the other. None
//! of them is mu-law's silence nor its negative zero, so what is filled in by the bridge is told from
//! what was sent, and a way through linear samples and back changes nothing.

/// Mu-law silence: never part of a stream.
pub const SILENCE: u8 = 0xff;
const GROUP: u64 = 16;
/// The loudest sample there is, and one of the quietest.
const LOUD: u8 = 0x80;
const QUIET: u8 = 0xfe;
const LOUD_BASE: u32 = 238;
const QUIET_BASE: u32 = 28;

/// How a stream's samples sound.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tongue {
    /// Loud for so many groups, then quiet for as many. 0 is always loud.
    pub turn: u32,
    pub never_loud: bool,
}

impl Tongue {
    pub fn always_loud(self) -> bool {
        self.turn == 0 && !self.never_loud
    }

    fn loud(self, group: u32) -> bool {
        !self.never_loud && (self.turn == 0 || (group / self.turn).is_multiple_of(2))
    }

    fn group(self, number: u32) -> [u8; GROUP as usize] {
        // Two calls, so that the compiler knows by what it divides.
        let (mark, [a, b, c, d]) = match self.loud(number) {
            true => (LOUD, digits::<LOUD_BASE>(number).map(loud)),
            false => (QUIET, digits::<QUIET_BASE>(number).map(quiet)),
        };
        [mark, a, b, c, d, a, b, c, d, a, b, c, d, a, b, c]
    }

    /// Appends the stream's samples from `position` on.
    pub fn fill(self, position: u64, bytes: usize, out: &mut Vec<u8>) {
        let end = out.len() + bytes;
        let mut number = (position / GROUP) as u32;
        out.reserve(bytes + GROUP as usize);
        out.extend_from_slice(&self.group(number)[(position % GROUP) as usize..]);
        while out.len() < end {
            number += 1;
            out.extend_from_slice(&self.group(number));
        }
        out.truncate(end);
    }

    /// How much of the beginning of `sound` is the stream from `position` on.
    pub fn agrees(self, position: u64, sound: &[u8]) -> usize {
        let mut number = (position / GROUP) as u32;
        let first = &self.group(number)[(position % GROUP) as usize..];
        let mut agree = prefix(first, sound);
        if agree < first.len() {
            return agree;
        }
        for piece in sound[agree..].chunks(GROUP as usize) {
            number += 1;
            let group = self.group(number);
            if piece == group {
                agree += piece.len();
            } else {
                return agree + prefix(&group, piece);
            }
        }
        agree
    }
}

fn prefix(expected: &[u8], found: &[u8]) -> usize {
    let same = |(expected, found): &(&u8, &u8)| expected == found;
    expected.iter().zip(found).take_while(same).count()
}

/// The lowest comes first.
fn digits<const BASE: u32>(number: u32) -> [u8; 4] {
    let mut left = number;
    [(); 4].map(|()| {
        let lowest = (left % BASE) as u8;
        left /= BASE;
        lowest
    })
}

/// Everything from 0 to 239 but the mark and negative zero.
fn loud(digit: u8) -> u8 {
    if digit < 127 { digit } else { digit + 2 }
}

/// Beside silence, on either side.
fn quiet(digit: u8) -> u8 {
    if digit < 14 {
        0x70 + digit
    } else {
        0xe2 + digit
    }
}

/// Where in its stream this begins, if it is long enough to tell.
pub fn locate(sound: &[u8]) -> Option<u64> {
    let is_mark = |byte: &u8| [LOUD, QUIET].contains(byte);
    let mark = sound.iter().take(GROUP as usize).position(is_mark)?;
    let mut number = 0u32;
    for byte in sound.get(mark + 1..mark + 5)?.iter().rev() {
        let byte = *byte;
        number = match sound[mark] {
            LOUD => number
                .checked_mul(LOUD_BASE)?
                .checked_add(u32::from(if byte < 127 { byte } else { byte - 2 }))?,
            _ if byte < 0x7f => number * QUIET_BASE + u32::from(byte.checked_sub(0x70)?),
            _ => number * QUIET_BASE + u32::from(byte.checked_sub(0xf0)?) + 14,
        };
    }
    (u64::from(number) * GROUP).checked_sub(mark as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{audio::g711, session::uplink::Uplink};
    use std::time::Instant;

    const TONGUES: [Tongue; 3] = [
        Tongue {
            turn: 0,
            never_loud: false,
        },
        Tongue {
            turn: 0,
            never_loud: true,
        },
        Tongue {
            turn: 100,
            never_loud: false,
        },
    ];

    #[test]
    fn every_piece_says_where_it_is_from() {
        for tongue in TONGUES {
            for position in (0..4000).chain(4_000_000..4_000_500) {
                let mut sound = Vec::new();
                tongue.fill(position, 32, &mut sound);
                assert_eq!(locate(&sound), Some(position));
                assert_eq!(tongue.agrees(position, &sound), 32);
                assert!(tongue.agrees(position + 16, &sound) < 32);
            }
            assert_eq!(locate(&[SILENCE; 32]), None);
        }
    }

    #[test]
    fn sound_survives_a_way_through_linear_samples() {
        for tongue in TONGUES {
            let (mut sound, mut linear, mut back) = (Vec::new(), Vec::new(), Vec::new());
            tongue.fill(123_456, 5000, &mut sound);
            g711::decode_le_into(&sound, &mut linear);
            let samples: Vec<i16> = linear
                .chunks_exact(2)
                .map(|pair| i16::from_le_bytes([pair[0], pair[1]]))
                .collect();
            g711::encode_into(&samples, &mut back);
            assert_eq!(sound, back);
        }
    }

    #[test]
    fn a_caller_speaks_and_is_quiet_by_turns() {
        let start = Instant::now();
        let heard = |tongue: Tongue, position| {
            let (mut uplink, mut sound) = (Uplink::default(), Vec::new());
            tongue.fill(position, 160, &mut sound);
            uplink.listen(start, &sound);
            uplink.voice_since(start)
        };
        let [loud, quiet, both] = TONGUES;
        assert!(heard(loud, 0) && heard(loud, 1600) && !heard(quiet, 0));
        assert!(heard(both, 0) && !heard(both, 1600) && heard(both, 3200));
    }
}
