//! A frame's number, written into its sound.
//!
//! The bridge turns mu-law into 16-bit samples and those into base64, so a stamp must survive both:
//! each hexadecimal digit is one of sixteen mu-law codes, and fifteen of them are thirty bytes of
//! PCM, which are exactly forty characters of base64. Reading one costs no JSON.

use base64_simd::AsOut as _;

const CALL_DIGITS: usize = 6;
const NUMBER_DIGITS: usize = 8;
const DIGITS: usize = CALL_DIGITS + NUMBER_DIGITS + 1;
const BYTES: usize = 2 * DIGITS;
const CHARACTERS: usize = BYTES / 3 * 4;

const fn code(digit: u8) -> u8 {
    0x80 | (digit << 3)
}

/// G.711's linear value of each digit's code (bias 0x84, as in the standard's own table).
const LINEAR: [i16; 16] = {
    let mut values = [0; 16];
    let mut digit = 0;
    while digit < 16 {
        let bits = !code(digit as u8) & 0x7f;
        let (exponent, mantissa) = (bits >> 4, (bits & 0x0f) as i16);
        values[digit] = (((mantissa << 3) + 0x84) << exponent) - 0x84;
        digit += 1;
    }
    values
};

/// Marks the beginning of a frame.
pub fn write(call: usize, number: u64, frame: &mut [u8]) {
    let mut digits = ((call as u64) << (4 * NUMBER_DIGITS)) | (number & 0xffff_ffff);
    let mut sum = 0;
    for place in frame[..DIGITS - 1].iter_mut().rev() {
        let digit = (digits & 0x0f) as u8;
        *place = code(digit);
        sum ^= digit;
        digits >>= 4;
    }
    frame[DIGITS - 1] = code(sum ^ 0x05);
}

/// The call and number in an `audio_input` frame; `None` for any other frame or sound.
pub fn read(frame: &str) -> Option<(usize, u64)> {
    const DATA: &str = r#""data":""#;
    // It stands near the front, or this is no audio.
    let head = frame.as_bytes();
    let at = head[..head.len().min(80)]
        .windows(DATA.len())
        .position(|window| window == DATA.as_bytes())?;
    let base64 = head.get(at + DATA.len()..)?.get(..CHARACTERS)?;
    let mut bytes = [0; BYTES];
    let pcm = base64_simd::STANDARD
        .decode(base64, bytes.as_mut_slice().as_out())
        .ok()?;
    let (mut digits, mut sum, mut last) = (0u64, 0x05, 0);
    for (place, sample) in pcm.as_chunks().0.iter().enumerate() {
        let sample = i16::from_le_bytes(*sample);
        let digit = LINEAR.iter().position(|value| *value == sample)? as u64;
        if place < DIGITS - 1 {
            digits = digits << 4 | digit;
            sum ^= digit;
        }
        last = digit;
    }
    let (call, number) = (digits >> (4 * NUMBER_DIGITS), digits & 0xffff_ffff);
    (last == sum).then_some((call as usize, number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::g711;

    fn through_the_bridge(frame: &[u8]) -> String {
        let mut pcm = Vec::new();
        g711::decode_le_into(frame, &mut pcm);
        let data = base64_simd::STANDARD.encode_to_string(&pcm);
        format!(r#"{{"type":"audio_input","data":"{data}"}}"#)
    }

    #[test]
    fn a_stamp_survives_the_bridges_decoding() {
        for (call, number) in [
            (0, 0),
            (1, 2),
            (99_999, 0xffff_ffff),
            (54_321, 0x0123_4567),
            (7, 0x89ab_cdef),
        ] {
            let mut frame = [0xff; 160];
            write(call, number, &mut frame);
            assert_eq!(read(&through_the_bridge(&frame)), Some((call, number)));
        }
    }

    #[test]
    fn other_sounds_and_frames_bear_no_stamp() {
        let mut damaged = [0xff; 160];
        write(3, 9, &mut damaged);
        damaged[4] ^= 0x08;
        for frame in [[0xff; 160], [0x7f; 160], [0x80; 160], damaged] {
            assert_eq!(read(&through_the_bridge(&frame)), None);
        }
        assert_eq!(read(r#"{"type":"session_settings"}"#), None);
        assert_eq!(read(r#"{"type":"audio_input","data":"AAAA"}"#), None);
        assert_eq!(read(""), None);
    }
}
