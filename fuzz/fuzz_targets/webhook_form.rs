//! `fuzz/run 60 webhook_form`; see fuzz/README.md.
#![no_main]

#[path = "../src/webhook_form.rs"]
mod webhook_form;

libfuzzer_sys::fuzz_target!(|data: &[u8]| webhook_form::run(data));
