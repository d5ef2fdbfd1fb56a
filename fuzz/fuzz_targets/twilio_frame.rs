//! `fuzz/run 60 twilio_frame`; see fuzz/README.md.
#![no_main]

#[path = "../src/twilio_frame.rs"]
mod twilio_frame;

libfuzzer_sys::fuzz_target!(|data: &[u8]| twilio_frame::run(data));
