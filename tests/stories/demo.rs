//! `hume-bridge demo` as a newcomer runs it, and what it leaves behind.

use std::{path::Path, process::Stdio, time::Duration};

use hume_bridge::{
    audio::{g711, wav},
    sim::{ear, speech},
};
use tokio::process::Command;

use crate::{PROGRAM, stage::in_time};

async fn demo(out: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = in_time(
        Command::new(PROGRAM)
            .args(["demo", "--fast", "--out"])
            .arg(out)
            .args(arguments)
            .output(),
    )
    .await
    .expect("the program runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    (
        output.status.code(),
        said + &String::from_utf8_lossy(&output.stderr),
    )
}

/// One side of the recording, as mu-law.
fn side(recording: &[u8], channel: usize) -> Vec<u8> {
    assert_eq!(&recording[..4], b"RIFF");
    let pcm = &recording[44..];
    let samples: Vec<i16> = pcm
        .chunks_exact(4)
        .map(|frame| i16::from_le_bytes([frame[2 * channel], frame[2 * channel + 1]]))
        .collect();
    let mut mulaw = Vec::new();
    g711::encode_into(&samples, &mut mulaw);
    mulaw
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_recording_holds_what_the_demo_says() {
    let out = tempfile::tempdir().unwrap();
    // The newcomer's own words, with the silence that recorders leave around them.
    let words = speech::clip("caller-yes").unwrap();
    let mut samples = vec![0i16; 8000];
    samples.extend(words.iter().map(|code| g711::decode(*code)));
    samples.extend(vec![0i16; 12_000]);
    let own = out.path().join("own.wav");
    std::fs::write(&own, wav::write(8000, 1, &samples)).unwrap();

    let (code, said) = demo(out.path(), &["--caller", own.to_str().unwrap()]).await;
    assert_eq!(code, Some(0), "{said}");
    for words in [
        "the caller interrupts",
        "calls the tool hang_up",
        "after the caller's last word",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let recording = std::fs::read(out.path().join("call.wav")).unwrap();
    let header = wav::parse(&recording).unwrap();
    assert_eq!((header.rate, header.channels), (8000, 2));
    let (caller, agent) = (side(&recording, 0), side(&recording, 1));
    for (recording, clip) in [
        (&caller, "caller-interrupt"),
        (&caller, "caller-thanks"),
        (&agent, "agent-greeting"),
        (&agent, "agent-saturday"),
        (&agent, "agent-goodbye"),
    ] {
        let found = ear::find(recording, speech::clip(clip).unwrap());
        assert!(
            found.is_some_and(|found| found.is_whole()),
            "{clip}: {found:?}"
        );
    }
    let hours = ear::find(&agent, speech::clip("agent-hours").unwrap()).expect("its beginning");
    assert!(
        !hours.is_whole(),
        "the interrupted reply was played to its end"
    );

    let call: serde_json::Value =
        serde_json::from_slice(&std::fs::read(out.path().join("call.json")).unwrap()).unwrap();
    assert_eq!(call["observed"], true);
    assert_eq!(call["ended"], "rest");
    assert_eq!(call["cause"], "agent-hung-up");
    assert_eq!(call["turns"].as_array().unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_that_cannot_be_played_is_explained() {
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("own.wav");
    for (bytes, expected) in [
        (b"just text".to_vec(), "WAV"),
        (wav::write(8000, 1, &[0; 8000]), "no speech louder than"),
    ] {
        std::fs::write(&file, bytes).unwrap();
        let (code, said) = demo(out.path(), &["--caller", file.to_str().unwrap()]).await;
        assert_eq!(code, Some(1), "{said}");
        assert!(
            said.contains("own.wav") && said.contains(expected),
            "{said}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_demo_that_is_stopped_leaves_no_daemon_and_no_credentials() {
    let out = tempfile::tempdir().unwrap();
    let mut demo = Command::new(PROGRAM)
        .args(["demo", "--out"])
        .arg(out.path())
        .env("TMPDIR", out.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let daemon_files = || {
        let entries = std::fs::read_dir(out.path()).unwrap();
        entries
            .filter(|entry| entry.as_ref().unwrap().path().join("control.sock").exists())
            .count()
    };
    in_time(async {
        while daemon_files() == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let pid = demo.id().unwrap().to_string();
    assert!(
        Command::new("kill")
            .args(["-s", "TERM", &pid])
            .status()
            .await
            .unwrap()
            .success()
    );
    let status = in_time(demo.wait()).await.unwrap();
    assert_eq!(status.code(), Some(1));
    assert_eq!(daemon_files(), 0, "the daemon's directory is left behind");
}
