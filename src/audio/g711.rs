//! G.711 mu-law, the telephone's eight bits a sample.
//!
//! Both directions are total and stateless: every byte decodes, every sample encodes, nothing fails.
//! [`decode`] gives the centre of a code's interval, scaled to 16 bits (the loudest is +-32124).
//! [`encode`] equals the classic C reference (bias 132, clip 32635) on all 65,536 samples; where a
//! sample lies exactly on a decision value, where G.711 lets both neighbours stand, it takes the outer.
//! `encode(decode(c)) == c` for every code but 0x7F, the negative zero, which comes back as [`SILENCE`].
//!
//! The `_into` functions append and never clear: the caller owns the buffer and its reuse.

/// The mu-law code of a zero sample: what a silent line carries.
pub const SILENCE: u8 = 0xFF;

/// Added to a magnitude so that every segment begins at a power of two.
const BIAS: i32 = 132;
/// The loudest magnitude with a code of its own; with the bias it just fills 15 bits.
const CLIP: i32 = 32_635;

const DECODED: [i16; 256] = {
    let mut table = [0; 256];
    let mut code = 0;
    while code < 256 {
        // On the line all bits are inverted, so that a silent line is full of ones.
        let bits = !(code as u8);
        let segment = (bits >> 4) & 7;
        let step = (bits & 0x0F) as i32;
        let magnitude = ((((step << 3) + BIAS) << segment) - BIAS) as i16;
        table[code] = if bits & 0x80 != 0 {
            -magnitude
        } else {
            magnitude
        };
        code += 1;
    }
    table
};

/// One mu-law code as a 16-bit sample.
#[inline]
pub fn decode(code: u8) -> i16 {
    DECODED[usize::from(code)]
}

/// One 16-bit sample as its mu-law code.
#[inline]
pub fn encode(sample: i16) -> u8 {
    let magnitude = i32::from(sample).abs().min(CLIP) + BIAS;
    // Segment and step are the exponent and the first four mantissa bits of the biased magnitude, and
    // an f32 holds it exactly in just that layout. Unlike counting leading zeros, the conversion
    // vectorises on plain x86-64: a quarter of the time.
    const FIRST_SEGMENT: u32 = (127 + 7) << 4;
    let segment_and_step = ((magnitude as f32).to_bits() >> 19) - FIRST_SEGMENT;
    let sign = ((sample >> 8) as u8) & 0x80;
    !(segment_and_step as u8 | sign)
}

/// Appends the samples of `mulaw` to `out`.
pub fn decode_into(mulaw: &[u8], out: &mut Vec<i16>) {
    out.extend(mulaw.iter().map(|&code| decode(code)));
}

/// Appends the codes of `samples` to `out`.
pub fn encode_into(samples: &[i16], out: &mut Vec<u8>) {
    out.extend(samples.iter().map(|&sample| encode(sample)));
}

/// Appends the samples of `mulaw` to `out` as little-endian bytes, two a sample: the linear16 that
/// goes up to EVI.
pub fn decode_le_into(mulaw: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + 2 * mulaw.len(), 0);
    let (pairs, _) = out[start..].as_chunks_mut::<2>();
    for (pair, &code) in pairs.iter_mut().zip(mulaw) {
        *pair = decode(code).to_le_bytes();
    }
}
