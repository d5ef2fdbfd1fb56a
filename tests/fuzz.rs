//! Every input that the fuzzers began with, or once found something with, through the same
//! functions.

use std::{fs, path::Path};

#[path = "../fuzz/src/admin_line.rs"]
mod admin_line;
#[path = "../fuzz/src/session.rs"]
mod session;

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let files = fs::read_dir(&directory).unwrap();
    let inputs: Vec<_> = files
        .map(|file| fs::read(file.unwrap().path()).unwrap())
        .collect();
    assert!(inputs.len() > 20, "{} inputs of {target}", inputs.len());
    inputs
}

#[test]
fn the_corpus_of_the_control_sockets_lines() {
    for input in corpus("admin_line") {
        admin_line::run(&input);
        // Cut short, and with a byte that does not belong there.
        for at in 0..input.len() {
            admin_line::run(&input[..at]);
            let mut broken = input.clone();
            broken[at] ^= 0x1b;
            admin_line::run(&broken);
        }
    }
}

#[test]
fn the_corpus_of_whole_calls() {
    for input in corpus("session") {
        session::run(&input);
        // With one thing less, and with one thing changed.
        for at in (8..input.len()).step_by(4) {
            session::run(&[&input[..at], input.get(at + 4..).unwrap_or_default()].concat());
            let mut other = input.clone();
            other[at] ^= 0x15;
            session::run(&other);
        }
    }
}
