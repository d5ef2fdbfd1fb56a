//! stub
/// Why a WAV message cannot be played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WavError {
    NotRiff,
}
