use std::{
    fs::Permissions, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc, time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::{
    config::{Tool, ToolKind},
    metrics::labels::{self, ToolCall, ToolEnd},
    tools::{
        Failure, Outcome,
        stage_tests::{Desk, Script, facts, members, tool, until},
    },
};

fn desk(script: &Script) -> Desk {
    changed(script, |_| {})
}

fn changed(script: &Script, change: impl FnOnce(&mut Tool)) -> Desk {
    let mut run = tool("run", script.kind.clone());
    change(&mut run);
    Desk::with(run)
}

async fn reaped(pid: &str) {
    let process = Path::new("/proc").join(pid);
    until(|| (!process.exists()).then_some(())).await;
}

#[tokio::test]
async fn a_program_reads_the_question_and_what_it_says_is_the_answer() {
    let script = Script::new("cat");
    let said = desk(&script).done("run", r#"{"n": 2}"#).await;
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["tool"], "run");
    assert_eq!(said["call"]["from"], "+61400000001");
    assert_eq!(said["arguments"], json!({ "n": 2 }));
    let script = Script::new(r#"echo '{"content": "Booked.", "id": 7}'"#);
    assert_eq!(desk(&script).done("run", "").await, "Booked.");
    let script = Script::new("exec true");
    assert_eq!(desk(&script).done("run", "").await, "Done.");
}

#[tokio::test]
async fn a_program_finds_a_small_world() {
    let script = Script::new(
        "env | sort | grep -v '^_=' | grep -v '^PWD='; pwd; echo \"$#:$2\"; echo lost >&2",
    );
    let said = desk(&script).done("run", "").await;
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(
        lines,
        [
            "LANG=C.UTF-8",
            "PATH=/usr/local/bin:/usr/bin:/bin",
            "/",
            "2:two words"
        ]
    );
}

#[tokio::test]
async fn at_the_deadline_the_whole_group_is_gone() {
    let script = Script::new("sleep 1000 & sleep 1000 & echo $$ >$1/group; wait");
    let desk = changed(&script, |run| run.timeout = Duration::from_secs(2));
    let facts = Arc::new(facts());
    let run = desk.runner.run(desk.offer("run"), "call-1", "", facts);
    let run = tokio::spawn(run);
    let group = script.wrote("group").await;
    assert_eq!(members(&group), 3, "the shell and two of its own");
    let outcome = run.await.unwrap();
    assert!(matches!(
        outcome,
        Outcome::Failed {
            error: "timeout",
            ..
        }
    ));
    until(|| (members(&group) == 0).then_some(())).await;
    reaped(&group).await;
    let counted = ToolCall::Ran(labels::Tool::Exec, ToolEnd::Timeout);
    assert_eq!(desk.metrics.tool_calls.of(counted).get(), 1);
}

#[tokio::test]
async fn nothing_outlives_a_call_that_no_longer_waits() {
    for replaced in [false, true] {
        let script =
            Script::new("trap '' TERM HUP INT; sleep 1000 & echo $$ >$1/group; wait; wait");
        let desk = desk(&script);
        let facts = Arc::new(facts());
        let run = desk
            .runner
            .run(desk.offer("run"), "call-1", "", facts.clone());
        let run = tokio::spawn(run);
        let group = script.wrote("group").await;
        assert_eq!(members(&group), 2);
        if replaced {
            desk.runner.replaced(&facts.call, "call-1");
        }
        run.abort();
        assert!(run.await.unwrap_err().is_cancelled());
        until(|| (members(&group) == 0).then_some(())).await;
        reaped(&group).await;
        let count = |end| {
            let counted = ToolCall::Ran(labels::Tool::Exec, end);
            desk.metrics.tool_calls.of(counted).get()
        };
        assert_eq!(count(ToolEnd::Replaced), u64::from(replaced));
        assert_eq!(count(ToolEnd::Cancelled), u64::from(!replaced));
    }
}

#[tokio::test]
async fn a_program_that_leaves_others_behind_is_done_when_it_has_ended() {
    let script = Script::new("sleep 1000 & echo $$ >$1/group; echo Started.");
    assert_eq!(desk(&script).done("run", "").await, "Started.");
    let group = script.wrote("group").await;
    until(|| (members(&group) == 0).then_some(())).await;
}

#[tokio::test]
async fn one_that_has_left_the_group_holds_nobody_up() {
    let script = Script::new(
        "setsid sh -c 'echo $$ >\"$0\"/away; exec sleep 1000' \"$1\" &\n\
         while ! [ -s $1/away ]; do :; done; echo Started.",
    );
    assert_eq!(desk(&script).done("run", "").await, "Started.");
    // It has what it wanted; the test does not leave it behind.
    let away: i32 = script.wrote("away").await.parse().unwrap();
    kill_process(Pid::from_raw(away).unwrap(), Signal::KILL).expect("it was left alone");
}

#[tokio::test]
async fn a_flood_is_a_failure_and_is_stopped() {
    let script = Script::new("echo $$ >$1/group; yes; echo never >$1/never");
    let desk = changed(&script, |run| run.max_output = 100_000);
    assert_eq!(desk.failed("run", "").await.0, "too-large");
    let group = script.wrote("group").await;
    until(|| (members(&group) == 0).then_some(())).await;
    assert!(!script.directory.path().join("never").exists());
}

#[tokio::test]
async fn just_so_much_is_not_too_much() {
    let script = Script::new("head -c 100000 /dev/zero | tr '\\0' x");
    let desk = changed(&script, |run| run.max_output = 100_000);
    assert_eq!(desk.done("run", "").await.len(), 100_000);
}

#[tokio::test]
async fn a_program_that_does_not_listen_is_no_worse_for_it() {
    // More than a pipe holds.
    let mut facts = facts();
    facts
        .known
        .insert("param.long".to_owned(), "x".repeat(300_000));
    let facts = Arc::new(facts);
    for text in [
        "echo Done anyway.",
        "exec <&-; echo Done anyway.; sleep 0.05",
    ] {
        let script = Script::new(text);
        let desk = desk(&script);
        let run = desk
            .runner
            .run(desk.offer("run"), "call-1", "", facts.clone());
        let Outcome::Done(words) = run.await else {
            panic!("{text}");
        };
        assert_eq!(words.0, "Done anyway.");
    }
    // And one that says much before it listens.
    let script = Script::new("head -c 200000 /dev/zero | tr '\\0' x; wc -c");
    let desk = changed(&script, |run| run.max_output = 1_000_000);
    let run = desk.runner.run(desk.offer("run"), "call-1", "", facts);
    let Outcome::Done(words) = run.await else {
        panic!();
    };
    let heard: usize = words.0.trim_start_matches('x').trim().parse().unwrap();
    assert!(heard > 300_000, "{heard}");
}

#[tokio::test]
async fn a_failure_has_its_reason_and_what_the_program_says_of_it() {
    for (text, error, said) in [
        (
            "echo '{\"error\": \"No such booking.\"}'; exit 3",
            "exit",
            "No such booking.",
        ),
        (
            "echo No such booking.; exit 3",
            "exit",
            "The book is closed.",
        ),
        ("kill -KILL $$", "killed", "The book is closed."),
        ("printf 'caf\\351'", "not-text", "The book is closed."),
    ] {
        let script = Script::new(text);
        let desk = changed(&script, |run| {
            run.fallback = "The book is closed.".to_owned()
        });
        assert_eq!(
            desk.failed("run", "").await,
            (error, said.to_owned()),
            "{text}"
        );
    }
    let command = vec!["/nowhere/at/all".to_owned()];
    let desk = Desk::with(tool("run", ToolKind::Exec { command }));
    assert_eq!(desk.failed("run", "").await.0, "not-started");
}

#[tokio::test]
async fn why_a_program_did_not_start_is_told_in_words() {
    let directory = tempfile::tempdir().unwrap();
    let written = |name: &str, mode: u32, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let file = |name: &str, mode: u32| written(name, mode, "echo it has no first line\n");
    let windows = "#!/bin/sh\r\necho never\r\n";
    let no_interpreter =
        "the interpreter in its first line is not found; has it Windows line ends?";
    for (program, why) in [
        ("/nowhere/at/all".to_owned(), "there is no such program"),
        (written("windows", 0o755, windows), no_interpreter),
        (file("plain", 0o644), "permission denied"),
        (file("bare", 0o755), "it is no program; has it a #! line?"),
    ] {
        let failure = super::run(&[program], Vec::new(), 1000).await.unwrap_err();
        assert_eq!(failure, Failure::because("not-started", why));
    }
}

#[tokio::test]
async fn how_a_program_ended_is_told() {
    for (text, failure) in [
        ("exit 3", Failure::because("exit", "status 3")),
        ("kill -KILL $$", Failure::because("killed", "signal 9")),
    ] {
        let command = ["/bin/sh", "-c", text].map(str::to_owned);
        let met = super::run(&command, Vec::new(), 1000).await.unwrap_err();
        assert_eq!(met, failure);
    }
}
