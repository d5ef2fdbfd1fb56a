//! `fuzz/run 60 evi_message`; see fuzz/README.md.
#![no_main]

#[path = "../src/evi_message.rs"]
mod evi_message;

libfuzzer_sys::fuzz_target!(|data: &[u8]| evi_message::run(data));
