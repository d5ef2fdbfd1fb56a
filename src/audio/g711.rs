//! stub
pub const SILENCE: u8 = 0xFF;
