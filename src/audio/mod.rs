//! Sound: G.711 mu-law, WAV, and resampling to the telephone's 8 kHz.
//!
//! Everything here is pure and keeps its state across chunks: how a stream was cut never changes
//! a sample. Nothing allocates per frame; callers hand in the buffers.

pub mod g711;
pub mod resample;
pub mod wav;
