//! Every input that the fuzzers began with, or once found something with, through the same
//! functions: whole, cut short, and with a byte that does not belong there.

use std::{fs, path::Path};

/// A target by its file in fuzz/src, which is also its corpus' name.
macro_rules! targets {
    ($($story:ident: $target:ident = $file:literal),* $(,)?) => {$(
        #[path = $file]
        mod $target;

        #[test]
        fn $story() {
            replay(stringify!($target), $target::run);
        }
    )*

        const TARGETS: &[&str] = &[$(stringify!($target)),*];
    };
}

targets! {
    the_corpus_of_the_control_sockets_lines: admin_line = "../fuzz/src/admin_line.rs",
    the_corpus_of_the_operators_files: config = "../fuzz/src/config.rs",
    the_corpus_of_conversations_with_evi: evi_message = "../fuzz/src/evi_message.rs",
    the_corpus_of_conversations_with_realtime_servers: realtime_message = "../fuzz/src/realtime_message.rs",
    the_corpus_of_whole_calls: session = "../fuzz/src/session.rs",
    the_corpus_of_tools_arguments: tool_arguments = "../fuzz/src/tool_arguments.rs",
    the_corpus_of_the_media_streams_frames: twilio_frame = "../fuzz/src/twilio_frame.rs",
    the_corpus_of_sounds: wav = "../fuzz/src/wav.rs",
    the_corpus_of_webhooks: webhook_form = "../fuzz/src/webhook_form.rs",
}

/// An input this long is mutated at some of its places only.
const MOST_MUTATIONS: usize = 200;

fn replay(target: &str, run: fn(&[u8])) {
    let directory = fuzz().join("corpus").join(target);
    let files: Vec<_> = fs::read_dir(&directory).unwrap().collect();
    assert!(files.len() >= 20, "{} inputs of {target}", files.len());
    for file in files {
        let input = fs::read(file.unwrap().path()).unwrap();
        run(&input);
        for at in (0..input.len()).step_by(input.len().div_ceil(MOST_MUTATIONS).max(1)) {
            run(&input[..at]);
            let mut broken = input.clone();
            broken[at] ^= 0x1b;
            run(&broken);
        }
    }
}

fn fuzz() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz"))
}

/// A target that is not in all of these places is not fuzzed, or its findings are not kept.
#[test]
fn every_target_is_built_documented_and_replayed() {
    let mut there: Vec<String> = fs::read_dir(fuzz().join("fuzz_targets"))
        .unwrap()
        .map(|file| {
            file.unwrap()
                .path()
                .file_stem()
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    there.sort();
    assert_eq!(there, TARGETS);
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    let readme = fs::read_to_string(fuzz().join("README.md")).unwrap();
    for target in TARGETS {
        assert!(
            manifest.contains(&format!("name = \"{target}\"")),
            "{target}"
        );
        assert!(readme.contains(&format!("| `{target}` |")), "{target}");
    }
}
