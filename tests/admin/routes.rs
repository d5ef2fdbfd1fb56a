//! Which route a call would take, as an operator asks.

use super::*;

const CALLER: &str = "+12025550123";
const CALLED: &str = "+12025550199";

#[tokio::test]
async fn a_route_is_shown_with_what_speaks_for_and_against_it() {
    let daemon = Daemon::start().await;
    let asked = [
        "route-test",
        "--from",
        CALLER,
        "--to",
        CALLED,
        "--at",
        "2026-12-24T18:00:00+01:00",
    ];
    let people = daemon.ctl(&asked).await;
    assert_eq!((people.code, people.err.as_str()), (0, ""));
    let expected = format!("shop   yes  {CALLED} {CALLER} 2026-12-24T17:00:00Z\n");
    assert!(people.out.contains(&expected), "{}", people.out);
    assert!(people.out.contains("closed:         a sentence\n"));
    let json = daemon.ctl(&[&["--json"], &asked[..]].concat()).await.json();
    assert_eq!(json["route"], "shop");
    assert_eq!(json["why"][0]["fits"], false);
    assert_eq!(json["plan"]["fallback"], "dial");
    assert_eq!(json["plan"]["maxPerCaller"], 1);
    assert!(json["plan"].get("configId").is_none());
}

#[tokio::test]
async fn what_cannot_be_asked_is_said() {
    let daemon = Daemon::start().await;
    // The config has no number to stand in for it.
    let unclear = daemon.ctl(&["route-test", "--from", "anonymous"]).await;
    assert_eq!(unclear.code, 1);
    assert!(unclear.err.contains("`to` is missing"), "{}", unclear.err);
    for wrong in [
        &["route-test"][..],
        &["route-test", "--from", "0412345678"],
        &["route-test", "--from", CALLER, "--to", "anonymous"],
        &["route-test", "--from", CALLER, "--at", "tomorrow"],
        &["route-test", CALLER],
    ] {
        let ran = daemon.ctl(wrong).await;
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{wrong:?}");
        assert!(!ran.err.is_empty(), "{wrong:?}");
    }
}
