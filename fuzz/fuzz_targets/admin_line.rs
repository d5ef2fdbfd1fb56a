//! `fuzz/run 60 admin_line`; see fuzz/README.md.
#![no_main]

#[path = "../src/admin_line.rs"]
mod admin_line;

libfuzzer_sys::fuzz_target!(|data: &[u8]| admin_line::run(data));
