//! WAV, as an agent sends it: one complete file in every message.
//!
//! [`parse`] walks the chunks instead of assuming a 44-byte header: LIST, JUNK and fact may stand
//! before the data, odd chunks are padded, and a data size of 0, 0xFFFFFFFF or more than is there (what
//! a streaming writer leaves behind) means "to the end". The RIFF size is not looked at, for the same
//! reason. Accepted is 16-bit PCM, plain or WAVE_FORMAT_EXTENSIBLE, of 1 to 8 channels at 8,000 to
//! 192,000 Hz; everything else is refused by a [`WavError`] that names it.
//!
//! A [`Wav`] borrows the message and copies nothing until [`Wav::samples_into`]. No input panics, and
//! no size field makes anything allocate. [`write`] makes the complete files that the simulators send.

use thiserror::Error;

/// Why an agent's audio message cannot be played.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WavError {
    /// Nothing that names itself: most likely bare samples.
    #[error(
        "no RIFF header: raw PCM, not a WAV, so its rate is unknown; \
         let the agent send a complete WAV file in every message"
    )]
    RawPcm,
    /// Another container or codec, known by its first bytes.
    #[error("{0} audio, not a WAV; 16-bit PCM in a WAV file is wanted")]
    OtherContainer(&'static str),
    /// A RIFF file of another kind (AVI, WebP, ...).
    #[error("a RIFF file, but not of type WAVE; a WAV file is wanted")]
    NotWave,
    /// The message ends before the header does.
    #[error("the WAV is cut off inside its header; a complete file is wanted")]
    CutOff,
    /// The samples cannot be understood without a format before them.
    #[error("the WAV has no `fmt ` chunk before its data; write one first")]
    NoFormat,
    /// A format chunk too small for what it says it holds, in bytes.
    #[error("the WAV's `fmt ` chunk of {0} bytes is too short; PCM needs 16, extensible PCM 40")]
    ShortFormat(u32),
    /// A header and nothing to play.
    #[error("the WAV has no `data` chunk; a complete file is wanted")]
    NoData,
    /// A WAVE format tag that is not PCM, or the sub-format's tag of an extensible one.
    #[error(
        "WAV encoding {0:#06x} ({name}) is not supported; 16-bit PCM is wanted",
        name = encoding_name(*.0)
    )]
    Encoding(u16),
    #[error("{0}-bit PCM is not supported; 16-bit PCM is wanted")]
    BitsPerSample(u16),
    #[error(
        "a WAV of {0} channels is not supported; let the agent send 1 (up to 8 are mixed down)"
    )]
    Channels(u16),
    #[error("a WAV of {0} Hz is not supported; 8000 to 192000 Hz are")]
    Rate(u32),
}

fn encoding_name(tag: u16) -> &'static str {
    match tag {
        0x0002 | 0x0011 => "ADPCM",
        0x0003 => "floating point",
        0x0006 => "A-law",
        0x0007 => "mu-law",
        0x0055 => "MP3",
        EXTENSIBLE => "an unknown extensible sub-format",
        _ => "unknown",
    }
}

const PCM: u16 = 0x0001;
const EXTENSIBLE: u16 = 0xFFFE;
/// What follows the two tag bytes in the GUID of every sub-format that is an old format tag.
const TAG_GUID_TAIL: [u8; 14] = [0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xAA, 0, 0x38, 0x9B, 0x71];

/// A parsed WAV message; borrows its samples.
#[derive(Clone, Copy, Debug)]
pub struct Wav<'a> {
    /// Frames a second.
    pub rate: u32,
    /// Samples a frame, 1 to 8.
    pub channels: u16,
    data: &'a [u8],
}

impl Wav<'_> {
    /// How many complete frames (one sample of every channel) there are.
    pub fn frames(&self) -> usize {
        self.data.len() / (2 * usize::from(self.channels))
    }

    /// Appends one mono sample a frame to `out`, the mean of its channels. The bytes of an incomplete
    /// last frame are dropped.
    pub fn samples_into(&self, out: &mut Vec<i16>) {
        let (samples, _) = self.data.as_chunks::<2>();
        if self.channels == 1 {
            out.extend(samples.iter().map(|&pair| i16::from_le_bytes(pair)));
            return;
        }
        let channels = i32::from(self.channels);
        out.extend(
            samples
                .chunks_exact(usize::from(self.channels))
                .map(|frame| {
                    let sum: i32 = frame
                        .iter()
                        .map(|&pair| i32::from(i16::from_le_bytes(pair)))
                        .sum();
                    // Rounded to the nearest, so that the mix adds no offset; a mean always fits.
                    (sum + channels / 2).div_euclid(channels) as i16
                }),
        );
    }
}

/// Reads the header of a complete WAV file and finds its samples.
pub fn parse(bytes: &[u8]) -> Result<Wav<'_>, WavError> {
    if !bytes.starts_with(b"RIFF") {
        return Err(not_riff(bytes));
    }
    match bytes.get(8..12) {
        None => return Err(WavError::CutOff),
        Some(b"WAVE") => {}
        Some(_) => return Err(WavError::NotWave),
    }
    let mut rest = &bytes[12..];
    let mut format = None;
    while let Some((header, body)) = rest.split_first_chunk::<8>() {
        let [i0, i1, i2, i3, s0, s1, s2, s3] = *header;
        let declared = u32::from_le_bytes([s0, s1, s2, s3]);
        let size = usize::try_from(declared).unwrap_or(usize::MAX);
        match &[i0, i1, i2, i3] {
            b"fmt " => format = Some(parse_format(body, declared)?),
            b"data" => {
                let (rate, channels) = format.ok_or(WavError::NoFormat)?;
                let data = match size {
                    0 => body,
                    _ => &body[..size.min(body.len())],
                };
                return Ok(Wav {
                    rate,
                    channels,
                    data,
                });
            }
            _ => {}
        }
        let padded = size.saturating_add(size % 2);
        rest = body.get(padded..).unwrap_or_default();
    }
    Err(match format {
        Some(_) => WavError::NoData,
        None => WavError::CutOff,
    })
}

fn not_riff(bytes: &[u8]) -> WavError {
    match bytes {
        // Too short to be told from anything: an empty message, or less than a header's first word.
        [] | [_] | [_, _] | [_, _, _] => WavError::CutOff,
        [b'R', b'I', b'F', b'X', ..] => WavError::OtherContainer("big-endian RIFX"),
        [b'R', b'F', b'6', b'4', ..] => WavError::OtherContainer("RF64"),
        [b'O', b'g', b'g', b'S', ..] => WavError::OtherContainer("Ogg"),
        [b'f', b'L', b'a', b'C', ..] => WavError::OtherContainer("FLAC"),
        [b'I', b'D', b'3', ..] => WavError::OtherContainer("MP3"),
        [0x1A, 0x45, 0xDF, 0xA3, ..] => WavError::OtherContainer("WebM"),
        _ => WavError::RawPcm,
    }
}

/// Rate and channels of a `fmt ` chunk that says `declared` bytes.
fn parse_format(body: &[u8], declared: u32) -> Result<(u32, u16), WavError> {
    let u16_at = |at: usize| {
        body.get(at..at + 2)
            .map(|b| u16::from_le_bytes([b[0], b[1]]))
    };
    let u16_at = |at| u16_at(at).ok_or(WavError::CutOff);

    if declared < 16 {
        return Err(WavError::ShortFormat(declared));
    }
    let tag = u16_at(0)?;
    let channels = u16_at(2)?;
    let rate = u32::from(u16_at(4)?) | u32::from(u16_at(6)?) << 16;
    // Byte rate and block align follow from the rest, and careless writers get them wrong: not read.
    let bits = u16_at(14)?;

    let encoding = match tag {
        EXTENSIBLE if declared < 40 => return Err(WavError::ShortFormat(declared)),
        EXTENSIBLE => match body.get(26..40).ok_or(WavError::CutOff)? == TAG_GUID_TAIL {
            true => u16_at(24)?,
            false => EXTENSIBLE,
        },
        tag => tag,
    };
    if encoding != PCM {
        return Err(WavError::Encoding(encoding));
    }
    if bits != 16 {
        return Err(WavError::BitsPerSample(bits));
    }
    if !(1..=8).contains(&channels) {
        return Err(WavError::Channels(channels));
    }
    if !(8_000..=192_000).contains(&rate) {
        return Err(WavError::Rate(rate));
    }
    Ok((rate, channels))
}

/// A complete 16-bit PCM WAV file; `samples` are interleaved.
pub fn write(rate: u32, channels: u16, samples: &[i16]) -> Vec<u8> {
    const HEADER: usize = 44;
    // Beyond 4 GiB the sizes say "to the end", as a streaming writer's do.
    let size = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX).to_le_bytes();
    let data = 2 * samples.len();
    let frame = channels.saturating_mul(2);

    let mut wav = Vec::with_capacity(HEADER + data);
    wav.extend_from_slice(b"RIFF");
    wav.extend_from_slice(&size(HEADER - 8 + data));
    wav.extend_from_slice(b"WAVEfmt ");
    wav.extend_from_slice(&16u32.to_le_bytes());
    wav.extend_from_slice(&PCM.to_le_bytes());
    wav.extend_from_slice(&channels.to_le_bytes());
    wav.extend_from_slice(&rate.to_le_bytes());
    wav.extend_from_slice(&rate.saturating_mul(u32::from(frame)).to_le_bytes());
    wav.extend_from_slice(&frame.to_le_bytes());
    wav.extend_from_slice(&16u16.to_le_bytes());
    wav.extend_from_slice(b"data");
    wav.extend_from_slice(&size(data));
    wav.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
    wav
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: [u8; 16] = *b"\x01\0\x01\0\x80\xBB\0\0\0\x77\x01\0\x02\0\x10\0"; // PCM, mono, 48 kHz

    fn chunk(id: &[u8; 4], declared: u32, body: &[u8]) -> Vec<u8> {
        let mut chunk = [id.as_slice(), &declared.to_le_bytes(), body].concat();
        if body.len() % 2 == 1 {
            chunk.push(0);
        }
        chunk
    }

    fn sized(id: &[u8; 4], body: &[u8]) -> Vec<u8> {
        chunk(id, body.len() as u32, body)
    }

    fn riff(chunks: &[Vec<u8>]) -> Vec<u8> {
        let body = chunks.concat();
        [
            b"RIFF",
            (body.len() as u32 + 4).to_le_bytes().as_slice(),
            b"WAVE",
            &body,
        ]
        .concat()
    }

    fn format(change: impl FnOnce(&mut [u8; 16])) -> Vec<u8> {
        let mut format = PLAIN;
        change(&mut format);
        riff(&[sized(b"fmt ", &format), sized(b"data", &[1, 0])])
    }

    fn extensible(guid: &[u8; 16]) -> Vec<u8> {
        let mut format = PLAIN.to_vec();
        format[..2].copy_from_slice(&EXTENSIBLE.to_le_bytes());
        format.extend_from_slice(&[22, 0, 16, 0, 4, 0, 0, 0]); // extra bytes, valid bits, speakers
        format.extend_from_slice(guid);
        riff(&[sized(b"fmt ", &format), sized(b"data", &[1, 0, 2, 0])])
    }

    const PCM_GUID: [u8; 16] = *b"\x01\0\0\0\0\0\x10\0\x80\0\0\xAA\0\x38\x9B\x71";
    const FLOAT_GUID: [u8; 16] = *b"\x03\0\0\0\0\0\x10\0\x80\0\0\xAA\0\x38\x9B\x71";

    fn samples(bytes: &[u8]) -> Vec<i16> {
        let mut out = vec![];
        parse(bytes).expect("a playable WAV").samples_into(&mut out);
        out
    }

    #[test]
    fn what_we_write_is_what_the_agent_sends_and_what_we_read() {
        let wav = write(48_000, 1, &[0, 1, -1, i16::MAX, i16::MIN]);
        assert_eq!(wav.len(), 44 + 10);
        let read = parse(&wav).unwrap();
        assert_eq!((read.rate, read.channels, read.frames()), (48_000, 1, 5));
        assert_eq!(samples(&wav), [0, 1, -1, i16::MAX, i16::MIN]);
        assert_eq!(
            wav,
            riff(&[sized(b"fmt ", &wav[20..36]), sized(b"data", &wav[44..])])
        );
    }

    #[test]
    fn samples_are_appended_to_what_the_caller_already_holds() {
        let mut out = vec![7];
        parse(&write(8_000, 1, &[8, 9]))
            .unwrap()
            .samples_into(&mut out);
        assert_eq!(out, [7, 8, 9]);
    }

    #[test]
    fn lists_and_odd_chunks_before_the_data_are_no_click() {
        let wav = riff(&[
            sized(b"JUNK", &[0x55; 28]),
            sized(b"fmt ", &PLAIN),
            sized(b"LIST", b"INFOISFT\x05\0\0\0Lavf\0"), // 17 bytes and a pad
            sized(b"fact", &[3, 0, 0, 0]),
            sized(b"odd ", b"x"),
            sized(b"data", &[1, 0, 2, 0, 3, 0]),
            sized(b"LIST", b"INFO"),
        ]);
        assert_eq!(
            samples(&wav),
            [1, 2, 3],
            "neither the chunks before nor the one behind are played"
        );
    }

    #[test]
    fn a_streaming_writers_size_means_to_the_end() {
        for declared in [0, u32::MAX, u32::MAX - 1, 7, 1 << 31] {
            let wav = riff(&[
                sized(b"fmt ", &PLAIN),
                chunk(b"data", declared, &[1, 0, 2, 0, 3, 0]),
            ]);
            assert_eq!(samples(&wav), [1, 2, 3], "data size {declared}");
        }
    }

    #[test]
    fn an_empty_segment_is_playable_and_silent() {
        assert_eq!(parse(&write(48_000, 1, &[])).unwrap().frames(), 0);
    }

    #[test]
    fn stereo_is_mixed_down_and_half_a_frame_dropped() {
        let wav = write(
            44_100,
            2,
            &[
                100,
                200,
                -100,
                -201,
                i16::MAX,
                i16::MAX,
                i16::MIN,
                i16::MIN,
                5,
            ],
        );
        assert_eq!(parse(&wav).unwrap().frames(), 4);
        assert_eq!(samples(&wav), [150, -150, i16::MAX, i16::MIN]);

        let eight = write(48_000, 8, &[1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(samples(&eight), [5], "4.5, rounded");

        let mut odd = write(48_000, 1, &[1, 2]);
        odd.pop();
        assert_eq!(samples(&odd), [1], "an odd byte is no sample");
        assert_eq!(parse(&odd).unwrap().frames(), 1);
    }

    #[test]
    fn extensible_pcm_plays_and_extensible_float_does_not() {
        assert_eq!(samples(&extensible(&PCM_GUID)), [1, 2]);
        assert_eq!(
            parse(&extensible(&FLOAT_GUID)).unwrap_err(),
            WavError::Encoding(3)
        );
        assert_eq!(
            parse(&extensible(&[9; 16])).unwrap_err(),
            WavError::Encoding(EXTENSIBLE)
        );
    }

    #[test]
    fn every_refusal_names_what_was_sent_and_how_to_mend_it() {
        let no_guid = riff(&[sized(b"fmt ", &format(|f| f[..2].fill(0xFE))[20..36])]);
        let cases: [(Vec<u8>, WavError, &str); 20] = [
            (vec![0; 9_600], WavError::RawPcm, "raw PCM, not a WAV"),
            (b"RIFFish".to_vec(), WavError::CutOff, "complete file"),
            (vec![], WavError::CutOff, "complete file"),
            (
                b"OggS\0\x02".to_vec(),
                WavError::OtherContainer("Ogg"),
                "Ogg audio",
            ),
            (
                b"RIFX\0\0\0\0WAVE".to_vec(),
                WavError::OtherContainer("big-endian RIFX"),
                "RIFX",
            ),
            (
                b"ID3\x04".to_vec(),
                WavError::OtherContainer("MP3"),
                "MP3 audio",
            ),
            (
                b"RIFF\0\0\0\0AVI LIST".to_vec(),
                WavError::NotWave,
                "not of type WAVE",
            ),
            (b"RIFF\0\0\0\0WAVE".to_vec(), WavError::CutOff, "cut off"),
            (
                riff(&[sized(b"data", &[0, 0])]),
                WavError::NoFormat,
                "`fmt `",
            ),
            (
                riff(&[sized(b"fmt ", &PLAIN)]),
                WavError::NoData,
                "no `data`",
            ),
            (
                riff(&[sized(b"fmt ", &PLAIN[..14])]),
                WavError::ShortFormat(14),
                "of 14 bytes",
            ),
            (
                format(|f| f[0] = 3),
                WavError::Encoding(3),
                "0x0003 (floating point)",
            ),
            (
                format(|f| f[0] = 7),
                WavError::Encoding(7),
                "0x0007 (mu-law)",
            ),
            (
                format(|f| f[14] = 24),
                WavError::BitsPerSample(24),
                "24-bit",
            ),
            (format(|f| f[14] = 8), WavError::BitsPerSample(8), "8-bit"),
            (format(|f| f[2] = 0), WavError::Channels(0), "0 channels"),
            (format(|f| f[2] = 9), WavError::Channels(9), "9 channels"),
            (format(|f| f[4..8].fill(0)), WavError::Rate(0), "0 Hz"),
            (
                format(|f| f[4..8].fill(0xFF)),
                WavError::Rate(u32::MAX),
                "8000 to 192000",
            ),
            (no_guid, WavError::Encoding(0xFEFE), "0xfefe (unknown)"),
        ];
        for (bytes, error, words) in cases {
            assert_eq!(parse(&bytes).unwrap_err(), error);
            let message = error.to_string();
            assert!(message.contains(words), "{message:?} should say {words:?}");
        }
        let short = riff(&[sized(b"fmt ", &extensible(&PCM_GUID)[20..38])]);
        assert_eq!(parse(&short).unwrap_err(), WavError::ShortFormat(18));
    }

    /// Plays whatever parses, so that a lie in a header is found where it would hurt.
    fn play(bytes: &[u8]) {
        if let Ok(wav) = parse(bytes) {
            let mut out = vec![];
            wav.samples_into(&mut out);
            assert_eq!(out.len(), wav.frames());
            assert!(2 * out.len() <= bytes.len(), "samples from nowhere");
        }
    }

    #[test]
    fn no_cut_and_no_flipped_byte_panics() {
        let files = [
            write(48_000, 1, &[1, 2, 3]),
            write(44_100, 2, &[1, 2, 3, 4, 5]),
            extensible(&PCM_GUID),
            riff(&[
                sized(b"LIST", b"odd"),
                sized(b"fmt ", &PLAIN),
                chunk(b"data", u32::MAX, &[1, 2, 3]),
            ]),
        ];
        for file in files {
            for cut in 0..file.len() {
                play(&file[..cut]);
            }
            let mut mutant = file.clone();
            for at in 0..file.len() {
                for value in 0..=255 {
                    mutant[at] = value;
                    play(&mutant);
                }
                mutant[at] = file[at];
            }
        }
    }

    #[test]
    fn no_random_message_panics() {
        let mut state = 0x5EED_u64;
        let mut random = move || {
            // splitmix64
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            mixed ^ (mixed >> 31)
        };
        for _ in 0..20_000 {
            let mut bytes = write(48_000, 1, &[1, 2, 3, 4]);
            bytes.truncate(random() as usize % (bytes.len() + 1));
            for _ in 0..random() % 6 {
                if !bytes.is_empty() {
                    let at = random() as usize % bytes.len();
                    bytes[at] = random() as u8;
                }
            }
            play(&bytes);

            let noise: Vec<u8> = (0..random() % 64).map(|_| random() as u8).collect();
            play(&noise);
            // Noise behind a good beginning reaches the chunk walk.
            play(&[b"RIFF\0\0\0\0WAVE", noise.as_slice()].concat());
            play(&riff(&[sized(b"fmt ", &PLAIN), noise]));
        }
    }
}
