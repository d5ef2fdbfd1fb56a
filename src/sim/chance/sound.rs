//! Sound that tells where it is from: each sample of a stream can be found again.
//!
//! Four bytes tell a position: a mark, then the position's quarter in three digits to the base of
//! 250. None of them is mu-law's silence nor its negative zero, so what is filled in by the bridge is
//! told from what was sent, and a way through linear samples and back changes nothing.

/// Mu-law silence: never part of a stream.
pub const SILENCE: u8 = 0xff;
const GROUP: u64 = 4;
const BASE: u64 = 250;
const MARK: u8 = 251;

/// The groups of a stream, one after the other.
struct Groups {
    digits: [u8; 3],
}

impl Groups {
    fn from(number: u64) -> Self {
        let digit = |digit: u64| (digit % BASE) as u8;
        Groups {
            digits: [
                digit(number / (BASE * BASE)),
                digit(number / BASE),
                digit(number),
            ],
        }
    }

    /// Counted up by hand: to divide for every sample would cost more than the call itself.
    fn next(&mut self) -> [u8; GROUP as usize] {
        // 127 is negative zero.
        let [a, b, c] = self.digits.map(|digit| digit + u8::from(digit >= 127));
        for digit in self.digits.iter_mut().rev() {
            *digit += 1;
            if u64::from(*digit) < BASE {
                break;
            }
            *digit = 0;
        }
        [MARK, a, b, c]
    }
}

/// Appends the stream's samples from `position` on.
pub fn fill(position: u64, bytes: usize, out: &mut Vec<u8>) {
    let end = out.len() + bytes;
    let mut groups = Groups::from(position / GROUP);
    out.reserve(bytes + GROUP as usize);
    out.extend_from_slice(&groups.next()[(position % GROUP) as usize..]);
    while out.len() < end {
        out.extend_from_slice(&groups.next());
    }
    out.truncate(end);
}

/// Where in its stream this begins, if it is long enough to tell.
pub fn locate(sound: &[u8]) -> Option<u64> {
    let mark = sound.iter().take(4).position(|byte| *byte == MARK)?;
    let mut group = 0;
    for byte in sound.get(mark + 1..mark + 4)? {
        group = group * BASE + u64::from(*byte - u8::from(*byte > 127));
    }
    (group * GROUP).checked_sub(mark as u64)
}

/// How much of the beginning of `sound` is the stream from `position` on.
pub fn agrees(position: u64, sound: &[u8]) -> usize {
    let mut groups = Groups::from(position / GROUP);
    let first = &groups.next()[(position % GROUP) as usize..];
    let mut agree = prefix(first, sound);
    if agree < first.len() {
        return agree;
    }
    for piece in sound[agree..].chunks(GROUP as usize) {
        let group = groups.next();
        if piece == group {
            agree += piece.len();
        } else {
            return agree + prefix(&group, piece);
        }
    }
    agree
}

fn prefix(expected: &[u8], found: &[u8]) -> usize {
    let same = |(expected, found): &(&u8, &u8)| expected == found;
    expected.iter().zip(found).take_while(same).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::g711;

    #[test]
    fn every_piece_says_where_it_is_from() {
        for position in (0..2000).chain(4_000_000..4_000_500) {
            let mut sound = Vec::new();
            fill(position, 8, &mut sound);
            assert_eq!(locate(&sound), Some(position));
            assert_eq!(agrees(position, &sound), 8);
            assert!(agrees(position + 4, &sound) < 8);
        }
        assert_eq!(locate(&[SILENCE; 8]), None);
    }

    #[test]
    fn sound_survives_a_way_through_linear_samples() {
        let (mut sound, mut linear, mut back) = (Vec::new(), Vec::new(), Vec::new());
        fill(123_456, 5000, &mut sound);
        g711::decode_le_into(&sound, &mut linear);
        let samples: Vec<i16> = linear
            .chunks_exact(2)
            .map(|pair| i16::from_le_bytes([pair[0], pair[1]]))
            .collect();
        g711::encode_into(&samples, &mut back);
        assert_eq!(sound, back);
    }
}
