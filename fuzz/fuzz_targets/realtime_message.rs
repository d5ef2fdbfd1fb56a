//! `fuzz/run 60 realtime_message`; see fuzz/README.md.
#![no_main]

#[path = "../src/realtime_message.rs"]
mod realtime_message;

libfuzzer_sys::fuzz_target!(|data: &[u8]| realtime_message::run(data));
