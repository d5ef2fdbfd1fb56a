//! `calls.hold_sound`: tones, nothing, or a recording, which is read and judged with the config.

use std::{fs::File, io::Read as _};

use super::{
    HoldSound, Recording,
    check::{self, Checked, Complaint},
};
use crate::audio::{g711, resample::Downsampler, wav};

/// A minute in CD quality.
const MOST_BYTES: u64 = 11 << 20;
/// What every call that waits would hear again and again, in bytes of mu-law: from a second to a minute.
const LENGTH: std::ops::RangeInclusive<usize> = 8_000..=480_000;

pub(super) fn hold_sound(text: &str) -> Checked<HoldSound> {
    match text {
        "" => Ok(HoldSound::Nothing),
        "tones" => Ok(HoldSound::Tones),
        path if path.starts_with('/') => {
            let file = check::absolute(path)?;
            let mulaw = recording(&file).map_err(|what| Complaint {
                what,
                mend: "name a WAV file, PCM of 16 bits, of one second to one minute".into(),
            })?;
            Ok(HoldSound::Recording(Recording {
                file,
                mulaw: mulaw.into(),
            }))
        }
        _ => Err(Complaint {
            what: "is not a sound".into(),
            mend: r#"write "tones", the full path of a WAV file, or "" for nothing"#.into(),
        }),
    }
}

fn recording(path: &std::path::Path) -> Result<Vec<u8>, String> {
    let unread = |error: std::io::Error| format!("cannot be read: {error}");
    // A pipe would be waited for without end.
    if !path.metadata().map_err(unread)?.is_file() {
        return Err("is not a file".into());
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut bytes))
        .map_err(unread)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(format!("is larger than {} MiB", MOST_BYTES >> 20));
    }
    let wav = wav::parse(&bytes).map_err(|error| format!("cannot be played: {error}"))?;
    let (mut wide, mut narrow, mut mulaw) = (Vec::new(), Vec::new(), Vec::new());
    wav.samples_into(&mut wide);
    let mut resampler = Downsampler::new(wav.rate)
        .map_err(|_| format!("has a sampling rate of {} Hz", wav.rate))?;
    resampler.push(&wide, &mut narrow);
    resampler.flush(&mut narrow);
    g711::encode_into(&narrow, &mut mulaw);
    match LENGTH.contains(&mulaw.len()) {
        true => Ok(mulaw),
        false => Err(format!("lasts {:.1} s", mulaw.len() as f64 / 8000.0)),
    }
}
