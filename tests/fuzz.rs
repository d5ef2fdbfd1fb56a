//! Every input that the fuzzers began with, or once found something with, through the same
//! functions.

use std::{fs, path::Path};

#[path = "../fuzz/src/admin_line.rs"]
mod admin_line;

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
