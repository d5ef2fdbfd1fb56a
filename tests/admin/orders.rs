//! Orders that calls answer, configs that are checked, and who may give them.

use std::os::unix::fs::MetadataExt as _;

use hume_bridge::{
    session::{
        news::{Away, News},
        order::{Refusal, Words},
    },
    tools::Transfer,
};

use super::*;

fn words(text: &str) -> Words {
    Words(text.into())
}

#[tokio::test]
async fn an_agent_is_told_what_to_say_and_to_know() {
    let daemon = Daemon::start().await;
    let mut ann = daemon.obedient(ANN);
    let said = daemon.ctl(&["say", "CAaa", " One\nmoment, please. "]).await;
    assert_eq!(
        (said.code, said.out),
        (0, format!("{ANN}\n")),
        "{}",
        said.err
    );
    assert_eq!(ann.order(), Some(Order::Say(words("One moment, please."))));
    let known = daemon.ctl(&["--json", "context", ANN, "Ann calls."]).await;
    assert_eq!(known.json(), json!({"call": ANN, "characters": 10}));
    assert_eq!(ann.order(), Some(Order::AddContext(words("Ann calls."))));

    let nobody = daemon.ctl(&["say", ZOE, "Hello?"]).await;
    assert_eq!((nobody.code, &*nobody.out), (3, ""));
    assert!(!nobody.err.contains("Hello?"), "{}", nobody.err);
    for text in ["", " \n", "\u{1b}[2J"] {
        assert_eq!(daemon.ctl(&["say", ANN, text]).await.code, 2);
    }
    assert_eq!(ann.order(), None);

    let long = "é".repeat(2000);
    let told = fed(&daemon, &["say", ANN, "-"], &format!("{long}\n")).await;
    assert_eq!(
        (told.code, told.out),
        (0, format!("{ANN}\n")),
        "{}",
        told.err
    );
    assert_eq!(ann.order(), Some(Order::Say(words(&long))));
    let longer = fed(&daemon, &["say", ANN, "-"], &format!("{long}é")).await;
    assert_eq!(longer.code, 2);
    assert_eq!(
        longer.err,
        "humebridgectl: the TEXT is longer than 2000 characters\n"
    );
    assert_eq!(ann.order(), None);
}

#[tokio::test]
async fn who_has_words_said_learns_that_they_may_be_others() {
    let daemon = Daemon::start().await;
    let _ann = daemon.obedient(ANN);
    let _abe = Obedient::new(daemon.call(ABE), Verdict::Nearly);
    let said = daemon.ctl(&["say", ANN, "Hello"]).await;
    assert_eq!((said.code, &*said.err), (0, ""));
    let said = daemon.ctl(&["say", ABE, "Hello"]).await;
    assert_eq!((said.code, said.out), (0, format!("{ABE}\n")));
    let expected = "humebridgectl: this call's agent may put it in other words\n";
    assert_eq!(said.err, expected);
    for (call, exact) in [(ANN, true), (ABE, false)] {
        let said = daemon.ctl(&["--json", "say", call, "Hello"]).await;
        let expected = json!({"call": call, "characters": 5, "exact": exact});
        assert_eq!(said.json(), expected);
    }
}

#[tokio::test]
async fn an_agent_is_paused_and_resumed() {
    let daemon = Daemon::start().await;
    let mut ann = daemon.obedient(ANN);
    let abe = Obedient::new(daemon.call(ABE), Verdict::Already);
    let paused = daemon.ctl(&["pause", "CAaa"]).await;
    assert_eq!((paused.code, paused.out), (0, format!("{ANN}  paused\n")));
    assert_eq!(ann.order(), Some(Order::Pause));
    let resumed = daemon.ctl(&["resume", ANN, "--json"]).await.json();
    assert_eq!(
        resumed,
        json!({"call": ANN, "paused": false, "changed": true})
    );
    assert_eq!(ann.order(), Some(Order::Resume));
    let again = daemon.ctl(&["pause", ABE]).await;
    assert_eq!(
        (again.code, again.out),
        (0, format!("{ABE}  paused, already\n"))
    );
    let again = daemon.ctl(&["--json", "resume", ABE]).await.json();
    assert_eq!(
        again,
        json!({"call": ABE, "paused": false, "changed": false})
    );
    abe.end().await;

    let zoe = daemon.call(ZOE);
    zoe.tell(News::AgentConnected);
    zoe.tell(News::Paused);
    let shown = daemon.ctl(&["show", ZOE]).await.out;
    assert!(shown.contains("state:           paused\n"), "{shown}");
    let table = daemon.ctl(&["sessions"]).await.out;
    assert!(table.contains(&format!("{ZOE}  paused ")), "{table}");
    assert_eq!(
        daemon.ctl(&["show", ZOE, "--json"]).await.json()["paused"],
        true
    );
}

#[tokio::test]
async fn a_caller_is_put_through() {
    let daemon = Daemon::start().await;
    let mut ann = daemon.obedient(ANN);
    let transfer = |announce: Option<&str>| {
        Some(Order::Transfer(Transfer {
            number: "+12025550123".into(),
            announce: announce.map(words),
        }))
    };
    let cold = daemon.ctl(&["transfer", "CAaa", "+12025550123"]).await;
    assert_eq!(
        (cold.code, cold.out),
        (0, format!("{ANN}  transferring\n")),
        "{}",
        cold.err
    );
    assert_eq!(ann.order(), transfer(None));
    let warm = [
        "--json",
        "transfer",
        ANN,
        "+12025550123",
        "--announce",
        "Ann\ncalls.",
    ];
    let warm = daemon.ctl(&warm).await.json();
    assert_eq!(warm, json!({"call": ANN, "announced": true}));
    assert_eq!(ann.order(), transfer(Some("Ann calls.")));
    // Where no other user of the machine can read it.
    let quiet = fed(&daemon, &["transfer", ANN, "-"], "+12025550123\n").await;
    assert_eq!(quiet.code, 0, "{}", quiet.err);
    assert_eq!(ann.order(), transfer(None));

    for number in ["911", "+1 202 555 0123", "+1202555012345678", ""] {
        let refused = daemon.ctl(&["transfer", ANN, number]).await;
        assert_eq!((refused.code, &*refused.out), (2, ""));
        let expected =
            "humebridgectl: NUMBER: write a number with its country, like +12025550123\n";
        assert_eq!(refused.err, expected);
    }
    assert_eq!(ann.order(), None);
    let nobody = daemon.ctl(&["transfer", ZOE, "+12025550123"]).await;
    assert_eq!((nobody.code, &*nobody.out), (3, ""));
    assert!(!nobody.err.contains("2025550123"), "{}", nobody.err);

    let away = Verdict::Refused(Refusal::Away);
    let _abe = Obedient::new(daemon.call(ABE), away);
    let refused = daemon.ctl(&["transfer", ABE, "+12025550123"]).await;
    assert_eq!((refused.code, &*refused.out), (1, ""));
    let expected = "humebridgectl: the call is being transferred, or its keys are being sounded; \
                    try again when it is back\n";
    assert_eq!(refused.err, expected);
}

#[tokio::test]
async fn a_call_that_is_away_is_shown_as_such() {
    let daemon = Daemon::start().await;
    let ann = daemon.call(ANN);
    ann.tell(News::AgentConnected);
    let shown = async || daemon.ctl(&["show", ANN, "--json"]).await.json()["away"].clone();
    for (why, state, word) in [
        (Away::Transfer, "transferring", "transfer"),
        (Away::Digits, "sounding keys", "digits"),
    ] {
        ann.tell(News::Away { why });
        let table = daemon.ctl(&["sessions"]).await.out;
        assert!(table.contains(&format!("{ANN}  {state} ")), "{table}");
        assert_eq!(shown().await, word);
    }
    ann.tell(News::Back);
    assert_eq!(shown().await, Value::Null);
    let shown = daemon.ctl(&["show", ANN]).await.out;
    assert!(shown.contains("state:           talking\n"), "{shown}");
}

#[tokio::test]
async fn a_refusal_is_no_success() {
    let daemon = Daemon::start().await;
    let refused = Verdict::Refused(Refusal::NotReady);
    let _ann = Obedient::new(daemon.call(ANN), refused);
    for args in [
        &["say", ANN, "Hello"][..],
        &["context", ANN, "Ann calls."],
        &["pause", ANN],
        &["--json", "resume", ANN],
    ] {
        let ran = daemon.ctl(args).await;
        assert_eq!((ran.code, &*ran.out), (1, ""), "{args:?}");
        let expected = "humebridgectl: the call's agent is not ready yet; try again in a moment\n";
        assert_eq!(ran.err, expected);
    }
    let mut raw = daemon.connect().await;
    let reply = raw
        .ask(&format!(r#"{{"protocol":1,"op":"pause","call":"{ANN}"}}"#))
        .await;
    assert_eq!(reply["error"]["code"], "refused");
}

#[tokio::test]
async fn what_an_agent_cannot_do_is_refused_not_done() {
    for (args, why, expected) in [
        (
            &["say", ABE, "Hello"][..],
            Refusal::CannotSay,
            "this call's agent cannot be given words to say",
        ),
        (
            &["context", ABE, "Abe calls."],
            Refusal::CannotLearn,
            "this call's agent cannot be told anything in mid-call",
        ),
        (
            &["pause", ABE],
            Refusal::CannotPause,
            "this call's agent cannot be paused",
        ),
        (
            &["--json", "resume", ABE],
            Refusal::CannotPause,
            "this call's agent cannot be paused",
        ),
    ] {
        let daemon = Daemon::start().await;
        let _abe = Obedient::new(daemon.call(ABE), Verdict::Refused(why));
        let ran = daemon.ctl(args).await;
        assert_eq!((ran.code, &*ran.out), (1, ""), "{args:?}");
        assert_eq!(ran.err, format!("humebridgectl: {expected}\n"));
    }
}

#[tokio::test]
async fn a_call_that_does_not_answer_does_not_do_it_later_either() {
    let daemon = Daemon::start().await;
    let mut ann = daemon.call(ANN);
    let ran = daemon.ctl(&["say", ANN, "Hello"]).await;
    assert_eq!((ran.code, &*ran.out), (1, ""));
    let expected = "humebridgectl: the call does not answer; the order is withdrawn\n";
    assert_eq!(ran.err, expected);
    let letter = ann.mailbox.try_recv().unwrap();
    assert!(letter.reply.is_some_and(|reply| reply.is_closed()));

    // One that ends meanwhile is no call any more.
    let asking = daemon.ctl(&["hangup", ANN]);
    let ending = async {
        let letter = ann.mailbox.recv().await;
        drop(ann);
        drop(letter);
    };
    let (ran, ()) = tokio::join!(asking, ending);
    assert_eq!(ran.code, 3, "{}", ran.err);
}

#[tokio::test]
async fn a_config_is_checked_before_it_is_taken() {
    let daemon = Daemon::start().await;
    let file = daemon.dir.path().join("new.toml");
    let name = file.to_str().unwrap();
    fs::write(&file, "good = true\n").unwrap();
    let good = daemon.ctl(&["check", name]).await;
    assert_eq!(good.code, 0, "{}", good.err);
    assert_eq!(
        good.out,
        "would change: good\nwould need a restart: listen.http\n"
    );
    let json = daemon.ctl(&["check", name, "--json"]).await.json();
    assert_eq!(
        json,
        json!({"changed": ["good"], "needRestart": ["listen.http"]})
    );
    let piped = fed(&daemon, &["check", "-"], "good = true\n").await;
    assert_eq!((piped.code, piped.out), (0, good.out));

    fs::write(&file, "bad = true\n").unwrap();
    let bad = daemon.ctl(&["check", name]).await;
    assert_eq!((bad.code, &*bad.out), (78, ""));
    assert_eq!(
        bad.err,
        format!("humebridgectl: {name}:1: bad: is no key; leave it out\n")
    );
    let piped = fed(&daemon, &["check", "-"], "bad = true\n").await;
    assert_eq!(piped.code, 78);
    assert!(piped.err.contains("standard input:1: bad"), "{}", piped.err);

    let missing = daemon.ctl(&["check", "/no/such/file"]).await;
    assert_eq!(missing.code, 78);
    assert!(
        missing.err.contains("/no/such/file: cannot be read"),
        "{}",
        missing.err
    );
    fs::write(&file, b"caf\xe9 = 1\n").unwrap();
    let latin = daemon.ctl(&["check", name]).await;
    assert!(
        latin.code == 78 && latin.err.contains("not UTF-8"),
        "{}",
        latin.err
    );
    // Escaped it is longer than a line may be.
    fs::write(&file, "\"".repeat(40_000)).unwrap();
    let large = daemon.ctl(&["check", name]).await;
    assert_eq!((large.code, &*large.out), (1, ""));
    assert!(large.err.contains("at most 64 KiB"), "{}", large.err);
    fs::write(&file, "#".repeat(1 << 20)).unwrap();
    assert_eq!(daemon.ctl(&["check", name]).await.code, 1);
    assert_eq!(daemon.ctl(&["check", "/dev/zero"]).await.code, 1);
}

/// A command with something on its standard input.
async fn fed(daemon: &Daemon, args: &[&str], input: &str) -> Ran {
    let mut child = command(&daemon.socket(), args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).await.unwrap();
    drop(stdin);
    let output = timeout(Duration::from_secs(30), child.wait_with_output()).await;
    output.expect("humebridgectl ends").unwrap().into()
}

#[tokio::test]
async fn completions_need_no_daemon() {
    let nowhere = PathBuf::from("/no/such/socket");
    for shell in ["bash", "zsh", "fish"] {
        let ran = ctl(&nowhere, &["completions", shell]).await;
        assert_eq!((ran.code, &*ran.err), (0, ""));
        assert!(ran.out.contains("humebridgectl") && ran.out.contains(shell));
    }
}

/// Another user, in no group of ours. Only root can become one: others have to say that the test
/// was not made.
#[tokio::test]
async fn who_is_not_in_the_group_is_told_how_to_get_into_it() {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        eprintln!(
            "SKIPPED: who_is_not_in_the_group_is_told_how_to_get_into_it needs root to become \
             another user"
        );
        return;
    }
    let daemon = Daemon::start().await;
    let open = |path: &std::path::Path| {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    open(daemon.dir.path());
    // Where another user can run it, wherever it was built.
    let program = daemon.dir.path().join("humebridgectl");
    fs::copy(env!("CARGO_BIN_EXE_humebridgectl"), &program).unwrap();
    open(&program);
    let as_nobody = async |args: &[&str]| -> Ran {
        let output = Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
            .arg(&program)
            .arg("--socket")
            .arg(daemon.socket())
            .args(args)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = timeout(Duration::from_secs(30), output).await;
        output.expect("it ends").unwrap().into()
    };
    for args in [&["status"][..], &["events"], &["drain", "--wait"]] {
        let ran = as_nobody(args).await;
        assert_eq!((ran.code, &*ran.out), (77, ""), "{args:?}: {}", ran.err);
        // The group that the socket has, by name: in this test root's.
        assert!(
            ran.err.contains("for root and the group root")
                && ran.err.contains("usermod -aG root YOU"),
            "{}",
            ran.err
        );
    }
    assert!(!daemon.registry.draining());
    // Where not even the directory may be searched, the group cannot be seen.
    fs::create_dir(daemon.dir.path().join("closed")).unwrap();
    let closed = daemon.dir.path().join("closed");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    let ran = as_nobody(&["--socket", closed.join("s").to_str().unwrap(), "status"]).await;
    assert_eq!(ran.code, 77, "{}", ran.err);
    assert!(
        ran.err.contains("its directory is not open to you"),
        "{}",
        ran.err
    );
}
