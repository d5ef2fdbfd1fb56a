//! `fuzz/run 60 tool_arguments`; see fuzz/README.md.
#![no_main]

#[path = "../src/tool_arguments.rs"]
mod tool_arguments;

libfuzzer_sys::fuzz_target!(|data: &[u8]| tool_arguments::run(data));
