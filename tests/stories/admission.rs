//! Who may call, and how often: limits of one caller and one number, lists, and strangers.

use hume_bridge::sim::{
    phone::{Ended, Fault, OngoingCall},
    scenario::World,
};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::{
    metrics::Families,
    stage::{
        ANN, Answer, BOB, SHOP, answer, close, dial, exchange, faulty, greeting_under, in_time,
        reload, start, status, talking, world,
    },
};

async fn refused(world: &World, from: &str, to: &str) -> Ended {
    let report = in_time(dial(world, from, to).finish()).await;
    assert!(report.violations.is_empty(), "{:?}", report.violations);
    report.ended
}

async fn hang_up(world: &World, call: OngoingCall) {
    call.hang_up().await;
    assert_eq!(call.finish().await.ended, Ended::CallerHungUp);
    while status(world).await["activeSessions"] != 0 {}
}

const BUSY: Ended = Ended::Rejected { busy: true };
const REJECTED: Ended = Ended::Rejected { busy: false };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_with_too_many_calls_hears_the_busy_tone_and_nobody_else_does() {
    let world = world(&greeting_under("calls.max_per_caller = 1")).await;
    let ann = talking(&world, ANN, SHOP).await;
    assert_eq!(refused(&world, ANN, SHOP).await, BUSY);
    let bob = talking(&world, BOB, SHOP).await;
    bob.hang_up().await;
    bob.finish().await;
    hang_up(&world, ann).await;
    let ann = talking(&world, ANN, SHOP).await;

    let changed = reload(&world, "max_per_caller = 1", "max_per_caller = 2").await;
    assert_eq!(changed, "changed: calls.max_per_caller\n");
    let again = talking(&world, ANN, SHOP).await;
    assert_eq!(refused(&world, ANN, SHOP).await, BUSY);
    let counted = Families::of(&world).await;
    let series = "hume_bridge_calls_refused_total{reason=\"caller-full\"}";
    assert_eq!(counted.value(series), 2.0);
    assert_eq!(counted.sum("hume_bridge_calls_refused_total"), 2.0);
    again.hang_up().await;
    again.finish().await;
    hang_up(&world, ann).await;
    let log = close(world).await;
    discreet(&log);
    let lines = log
        .iter()
        .filter(|line| line.contains("calls.max_per_caller is reached"));
    assert!(lines.clone().count() == 2, "{log:#?}");
    assert!(
        lines.clone().all(|line| line.contains("CALL_SID")),
        "{log:#?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn withheld_numbers_are_no_one_caller_but_a_called_number_has_its_limit() {
    let world = world(&greeting_under(
        "calls.max_per_caller = 1\ncalls.max_per_number = 2",
    ))
    .await;
    let one = talking(&world, "anonymous", SHOP).await;
    let two = talking(&world, "anonymous", SHOP).await;
    assert_eq!(refused(&world, ANN, SHOP).await, BUSY);
    let elsewhere = talking(&world, ANN, "+15550000000").await;
    let counted = Families::of(&world).await;
    let series = "hume_bridge_calls_refused_total{reason=\"number-full\"}";
    assert_eq!(counted.value(series), 1.0);
    for call in [one, two] {
        call.hang_up().await;
        call.finish().await;
    }
    hang_up(&world, elsewhere).await;
    let ann = talking(&world, ANN, SHOP).await;
    hang_up(&world, ann).await;
    discreet(&close(world).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lists_say_who_may_call_and_a_reload_says_otherwise() {
    let lists = "calls.allow = [\"+1555123\", \"client:\"]\ncalls.deny = [\"+15551239\"]";
    let world = world(&greeting_under(lists)).await;
    let ann = talking(&world, ANN, SHOP).await;
    for from in [
        "+15551239999",
        BOB,
        "anonymous",
        "",
        "+266696687",
        "sip:bob@example.com",
    ] {
        assert_eq!(refused(&world, from, SHOP).await, REJECTED, "{from}");
    }
    let app = talking(&world, "client:Zoe", SHOP).await;
    app.hang_up().await;
    app.finish().await;
    let counted = Families::of(&world).await;
    for (reason, expected) in [("denied", 1.0), ("not-allowed", 5.0)] {
        let series = format!("hume_bridge_calls_refused_total{{reason=\"{reason}\"}}");
        assert_eq!(counted.value(&series), expected, "{reason}");
    }

    let changed = reload(&world, "[\"+1555123\", \"client:\"]", "[]").await;
    assert_eq!(changed, "changed: calls.allow\n");
    let bob = talking(&world, BOB, SHOP).await;
    bob.hang_up().await;
    bob.finish().await;
    assert_eq!(refused(&world, "+15551239999", SHOP).await, REJECTED);
    reload(&world, "[\"+15551239\"]", "[\"anonymous\", \"+1555123\"]").await;
    assert_eq!(refused(&world, "Restricted", SHOP).await, REJECTED);
    assert_eq!(refused(&world, ANN, SHOP).await, REJECTED);
    // Her present call is none of the list's business.
    hang_up(&world, ann).await;
    let log = close(world).await;
    discreet(&log);
    assert!(
        log.iter().any(|line| line.contains("calls.deny")),
        "{log:#?}"
    );
    assert!(
        log.iter().any(|line| line.contains("not in calls.allow")),
        "{log:#?}"
    );
}

fn discreet(log: &[String]) {
    for number in [
        "5551234567",
        "5559876543",
        "5557654321",
        "5551239",
        "266696687",
    ] {
        assert!(!log.iter().any(|line| line.contains(number)), "{log:#?}");
    }
}

const UNSIGNED: &str = "POST /voice/incoming HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
    Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 7\r\n\r\nFrom=me";

async fn unsigned(world: &World) -> Answer {
    exchange(world.bridge.http, UNSIGNED.as_bytes())
        .await
        .expect("an answer")
}

/// Sends what Twilio has not signed until that is too much.
async fn flood(world: &World) {
    for _ in 0..1000 {
        match unsigned(world).await.status {
            403 => {}
            429 => return,
            other => panic!("{other}"),
        }
    }
    panic!("a thousand requests and no end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_is_told_to_wait_and_twilio_behind_the_same_proxy_is_not() {
    let world = world(&greeting_under(
        "listen.unsigned_rate = 1\ncalls.max_per_caller = 0",
    ))
    .await;
    assert_eq!(unsigned(&world).await.status, 403);
    flood(&world).await;

    // The same address, all of it: Twilio's call comes through, to its last request.
    let call = talking(&world, ANN, SHOP).await;
    flood(&world).await;
    hang_up(&world, call).await;

    // Told before the body is read: it is announced and never comes.
    flood(&world).await;
    let head = UNSIGNED.replace(
        "Content-Length: 7\r\n\r\nFrom=me",
        "Content-Length: 50000\r\n\r\n",
    );
    let mut stream = TcpStream::connect(world.bridge.http).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let told = answer(&mut stream).await.expect("an answer");
    assert_eq!((told.status, told.body.as_str()), (429, ""));
    assert!(told.head.contains("retry-after: 1\r\n"), "{}", told.head);
    assert!(told.head.contains("connection: close"), "{}", told.head);

    // The media socket's door is the same one.
    flood(&world).await;
    let media = "GET /media-stream HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let media = exchange(world.bridge.http, media.as_bytes()).await.unwrap();
    assert_eq!(media.status, 429);

    // Signatures are looked at, and forged ones gain nothing.
    let forged = faulty(&world, Fault::WebhookSignature);
    for _ in 0..50 {
        let report = start(&forged, vec![]).finish().await;
        let Ended::ApplicationError { what } = report.ended else {
            panic!("{:?}", report.ended);
        };
        if what.ends_with("429") {
            break;
        }
        assert!(what.ends_with("403"), "{what}");
    }
    let counted = Families::of(&world).await;
    let limited = |endpoint: &str| {
        let series = format!("hume_bridge_requests_limited_total{{endpoint=\"{endpoint}\"}}");
        counted.value(&series)
    };
    assert!(limited("incoming") >= 5.0 && limited("media") == 1.0);
    assert_eq!(limited("status"), 0.0);
    let sockets = "hume_bridge_media_sockets_refused_total{reason=\"limited\"}";
    assert_eq!(counted.value(sockets), 1.0);
    let health = "GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let health = exchange(world.bridge.http, health.as_bytes())
        .await
        .unwrap();
    assert_eq!(health.status, 200);

    // Switched off, the stranger meets what everybody meets.
    let changed = reload(&world, "unsigned_rate = 1", "unsigned_rate = 0").await;
    assert_eq!(changed, "changed: listen.unsigned_rate\n");
    for _ in 0..100 {
        assert_eq!(unsigned(&world).await.status, 403);
    }
    let log = close(world).await;
    assert!(
        log.iter()
            .any(|line| line.contains("listen.unsigned_rate") && line.contains("127.0.0.1")),
        "{log:#?}"
    );
}
