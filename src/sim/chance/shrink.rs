//! From a call that breaks a promise to a small one that breaks the same.

use super::{draw::RECORD, temper::HEAD};

/// Takes records away, and makes the bytes of those that are left small, as long as `breaks` still
/// says yes. The first records say what kind of call it is and stay.
pub fn shrink(bytes: &[u8], breaks: &mut dyn FnMut(&[u8]) -> bool) -> Vec<u8> {
    let mut best = bytes.to_vec();
    let head = (HEAD * RECORD).min(best.len());
    loop {
        let before = best.clone();
        let mut size = ((best.len() - head) / RECORD).max(1);
        loop {
            let mut at = head;
            while at < best.len() {
                let end = (at + size * RECORD).min(best.len());
                let mut fewer = best[..at].to_vec();
                fewer.extend_from_slice(&best[end..]);
                if breaks(&fewer) {
                    best = fewer;
                } else {
                    at = end;
                }
            }
            if size == 1 {
                break;
            }
            size /= 2;
        }
        for at in 0..best.len() {
            for byte in [0, best[at] / 2, best[at].saturating_sub(1)] {
                let was = best[at];
                if byte >= was {
                    continue;
                }
                best[at] = byte;
                if breaks(&best) {
                    break;
                }
                best[at] = was;
            }
        }
        if best == before {
            return best;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_matters_is_kept_and_nothing_else() {
        let mut bytes = vec![9; 25 * RECORD];
        bytes[13 * RECORD] = 200;
        let mut breaks = |bytes: &[u8]| {
            bytes
                .chunks(RECORD)
                .skip(HEAD)
                .any(|record| record[0] >= 100)
        };
        let small = shrink(&bytes, &mut breaks);
        let mut expected = [0; (HEAD + 1) * RECORD];
        expected[HEAD * RECORD] = 100;
        assert_eq!(small, expected);
    }
}
