//! Sound: G.711 mu-law, WAV, and resampling to the telephone's 8 kHz.
//!
//! Everything here is pure and keeps its state across chunks: how a stream was cut never changes
//! a sample. Nothing allocates per frame once warm; callers hand in the buffers, and every `_into`
//! appends. The way down is [`wav::parse`] -> [`wav::Wav::samples_into`] -> [`resample::Downsampler`]
//! -> [`g711::encode_into`]; the way up is [`g711::decode_le_into`] alone, for the agent takes 8 kHz as
//! it is.

pub mod g711;
pub mod resample;
pub mod wav;
