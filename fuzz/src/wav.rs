//! Sound from an agent that sends what it likes: WAV, resampling, G.711.
//!
//! Nothing panics; what is played lies within what was sent, and no size field changes that; a
//! file of ours is read as it was written. How a stream was cut never changes a sample of its
//! resampling, and a flushed stream is as new.
//!
//! The whole input is a message. It is a recipe as well: two bytes for the rate, one for the
//! channels, one for the cuts, and samples.

use hume_bridge::audio::{g711, resample::Downsampler, wav};

/// Takes any bytes. Panics when a promise is broken.
pub fn run(data: &[u8]) {
    message(data);
    codes(data);
    let [r0, r1, channels, cuts, samples @ ..] = data else {
        return;
    };
    // Two bytes reach every rate that is a multiple of 25, the most usual among them.
    let rate = u32::from(u16::from_le_bytes([*r0, *r1])) * 25 % 200_000;
    let (samples, _) = samples.as_chunks::<2>();
    let samples: Vec<i16> = samples
        .iter()
        .map(|pair| i16::from_le_bytes(*pair))
        .collect();
    written(rate, u16::from(*channels % 10), &samples);
    resampled(rate, &samples, *cuts);
}

fn message(data: &[u8]) {
    let wav = match wav::parse(data) {
        Ok(wav) => wav,
        Err(error) => {
            let told = error.to_string();
            assert!(
                told.len() < 200 && !told.chars().any(char::is_control),
                "{told}"
            );
            return;
        }
    };
    assert!((8_000..=192_000).contains(&wav.rate));
    assert!((1..=8).contains(&wav.channels));
    let mut samples = vec![7];
    wav.samples_into(&mut samples);
    assert_eq!((samples[0], samples.len()), (7, 1 + wav.frames()));
    // A header has 44 bytes at the least.
    assert!(wav.frames() * 2 * usize::from(wav.channels) + 44 <= data.len());
    samples.remove(0);
    if wav.channels == 1 {
        // They are a run of the message's bytes, as they stand there.
        let bytes: Vec<u8> = samples
            .iter()
            .flat_map(|sample| sample.to_le_bytes())
            .collect();
        assert!(bytes.is_empty() || data[44..].windows(bytes.len()).any(|run| run == bytes));
    }
    written(wav.rate, 1, &samples);
    let cuts = data
        .iter()
        .fold(0u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(*byte));
    resampled(wav.rate, &samples, cuts);
}

/// What we write is what we read, if it is a file that agents may send.
fn written(rate: u32, channels: u16, samples: &[i16]) {
    let file = wav::write(rate, channels, samples);
    assert_eq!(file.len(), 44 + 2 * samples.len());
    let read = wav::parse(&file);
    let good = (8_000..=192_000).contains(&rate) && (1..=8).contains(&channels);
    assert_eq!(read.is_ok(), good, "{rate} Hz, {channels} channels");
    let Ok(read) = read else { return };
    assert_eq!((read.rate, read.channels), (rate, channels));
    assert_eq!(read.frames(), samples.len() / usize::from(channels));
    let mut mono = Vec::new();
    read.samples_into(&mut mono);
    let frames = samples.chunks_exact(channels.into());
    assert_eq!(mono.len(), frames.len());
    for (mean, frame) in mono.iter().zip(frames) {
        // Nowhere beyond the loudest and the quietest of its channels.
        let (least, most) = (frame.iter().min(), frame.iter().max());
        assert!(least.is_some_and(|least| least <= mean) && most.is_some_and(|most| most >= mean));
    }
    // Cut short anywhere in the samples, it is what has come so far.
    let part = &file[..44 + samples.len()];
    let frames = wav::parse(part).expect("a header").frames();
    assert_eq!(frames, samples.len() / (2 * usize::from(channels)));
}

fn resampled(rate: u32, samples: &[i16], cuts: u8) {
    // The ratio's denominator, and the length of the filter that it takes.
    let phases = 8_000 / common_divisor(8_000, rate);
    let taps = rate / 250 * phases;
    if taps > 20_000 && phases <= 640 {
        // Right, but too slow to be tried thousands of times: the coefficients of rates that
        // nobody has are not at hand.
        return;
    }
    let usable = (8_000..=192_000).contains(&rate) && phases <= 640;
    let Ok(fresh) = Downsampler::new(rate) else {
        assert!(!usable, "{rate} Hz");
        return;
    };
    assert!(usable && fresh.from_rate() == rate, "{rate} Hz");

    let mut stream = fresh.clone();
    let mut whole = Vec::new();
    stream.push(samples, &mut whole);
    let pushed = whole.len();
    stream.flush(&mut whole);
    // Four milliseconds of filter, at most.
    let most = samples.len() as u64 * 8_000 / u64::from(rate) + 1;
    assert!(
        pushed as u64 <= most && whole.len() as u64 <= most + 33,
        "{} for {most}",
        whole.len()
    );
    if let (8_000, false) = (rate, samples.is_empty()) {
        assert_eq!(whole, samples);
    }

    let mut cut = fresh.clone();
    // The second time, after the flush, it is as new.
    for _ in 0..2 {
        let mut out = Vec::new();
        let mut left = samples;
        let mut size = usize::from(cuts);
        while !left.is_empty() {
            let (piece, rest) = left.split_at((size % 401).min(left.len()));
            cut.push(piece, &mut out);
            left = rest;
            // Small, large, none: whatever comes.
            size = size * 37 + 11;
        }
        assert_eq!(out.len(), pushed);
        cut.flush(&mut out);
        assert_eq!(out, whole);
        // A second flush has nothing to bring.
        cut.flush(&mut out);
        assert_eq!(out.len(), whole.len());
    }
}

fn common_divisor(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Every byte is a sound, and comes back as itself.
fn codes(data: &[u8]) {
    let (mut samples, mut bytes, mut back) = (Vec::new(), Vec::new(), Vec::new());
    g711::decode_into(data, &mut samples);
    g711::decode_le_into(data, &mut bytes);
    g711::encode_into(&samples, &mut back);
    let (pairs, rest) = bytes.as_chunks::<2>();
    assert!(rest.is_empty());
    assert!(
        pairs
            .iter()
            .map(|pair| i16::from_le_bytes(*pair))
            .eq(samples.iter().copied())
    );
    // The negative zero is silence.
    assert!(
        data.iter()
            .zip(&back)
            .all(|(code, back)| code == back || (*code, *back) == (0x7f, 0xff))
    );
    assert_eq!(data.len(), back.len());
}
