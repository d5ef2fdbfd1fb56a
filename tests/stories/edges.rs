//! What the public listener says to those who are not Twilio, or not at their best.

use hume_bridge::sim::scenario::World;
use tokio::{io::AsyncWriteExt, net::TcpStream, task::JoinSet};

use crate::stage::{Answer, answer, close, exchange, world};

async fn ask(world: &World, request: &str) -> Answer {
    let request = request.replace('\n', "\r\n");
    exchange(world.bridge.http, request.as_bytes())
        .await
        .unwrap_or_else(|| panic!("no answer to {request:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_get_short_answers() {
    let world = world("").await;
    let cases = [
        ("GET / HTTP/1.1", "", 404, ""),
        ("GET /status HTTP/1.1", "", 404, ""),
        ("GET /metrics HTTP/1.1", "", 404, ""),
        ("POST /voice/incoming/ HTTP/1.1", "", 404, ""),
        ("GET /../etc/passwd HTTP/1.1", "", 404, ""),
        ("PUT /voice/incoming HTTP/1.1", "", 405, "allow: get, post"),
        ("DELETE /voice/after HTTP/1.1", "", 405, "allow: get, post"),
        ("POST /health HTTP/1.1", "", 405, "allow: get, head"),
        ("POST /media-stream HTTP/1.1", "", 405, "allow: get"),
        ("HEAD /media-stream HTTP/1.1", "", 405, "allow: get"),
        (
            "POST /voice/incoming HTTP/1.1",
            "Content-Type: application/json\nContent-Length: 2\n",
            415,
            "",
        ),
        (
            "POST /voice/incoming HTTP/1.1",
            "Content-Length: 0\n",
            415,
            "",
        ),
        (
            "POST /voice/incoming HTTP/1.1",
            "Content-Type: application/x-www-form-urlencoded\nContent-Length: 70000\n",
            413,
            "connection: close",
        ),
        (
            "POST /voice/incoming HTTP/1.1",
            "Content-Type: application/x-www-form-urlencoded\nContent-Length: 0\n",
            403,
            "",
        ),
        (
            "POST /voice/status HTTP/1.1",
            "Content-Type: application/x-www-form-urlencoded; charset=UTF-8\nX-Twilio-Signature: AAAA\nContent-Length: 0\n",
            403,
            "",
        ),
        ("GET /voice/incoming?CallSid=CA1 HTTP/1.1", "", 403, ""),
        ("GET /voice/after HTTP/1.1", "", 403, ""),
        ("GET /voice/stream HTTP/1.1", "", 403, ""),
        ("GET /media-stream HTTP/1.1", "", 426, "upgrade: websocket"),
        (
            "GET /media-stream HTTP/1.1",
            "Upgrade: websocket\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\n",
            426,
            "sec-websocket-version: 13",
        ),
        ("GET /health HTTP/1.1", "", 200, "application/json"),
        ("HEAD /health HTTP/1.1", "", 200, "application/json"),
    ];
    for (line, headers, status, expected) in cases {
        let upgrade = headers.contains("Upgrade");
        let connection = if upgrade { "Upgrade, close" } else { "close" };
        let request = format!("{line}\nHost: x\nConnection: {connection}\n{headers}\n");
        let answer = ask(&world, &request).await;
        assert_eq!(answer.status, status, "{line}: {answer:?}");
        assert!(answer.head.contains(expected), "{line}: {answer:?}");
        assert!(
            answer.head.contains("cache-control: no-store"),
            "{line}: {answer:?}"
        );
        assert!(!answer.head.contains("server:"), "{line}: {answer:?}");
        if status == 403 || line.starts_with("HEAD") {
            assert_eq!(answer.body, "", "{line}");
        }
    }
    let upgrade = "GET /media-stream HTTP/1.1\nHost: x\nConnection: Upgrade, close\nUpgrade: websocket\nSec-WebSocket-Version: 13\n";
    let short = "Sec-WebSocket-Key: AAAA\n";
    assert_eq!(ask(&world, &format!("{upgrade}\n")).await.status, 400);
    assert_eq!(
        ask(&world, &format!("{upgrade}{short}\n")).await.status,
        400
    );
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\n";
    assert_eq!(ask(&world, &format!("{upgrade}{key}\n")).await.status, 403);
    close(world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_big_or_broken_is_not_read_to_its_end() {
    let world = world("").await;
    let form = "POST /voice/incoming HTTP/1.1\nHost: x\nConnection: close\nContent-Type: application/x-www-form-urlencoded\n";
    let chunk = format!("8000\n{}\n", "a".repeat(0x8000));
    let chunked = format!(
        "{form}Transfer-Encoding: chunked\n\n{}0\n\n",
        chunk.repeat(3)
    );
    assert_eq!(ask(&world, &chunked).await.status, 413);
    let long = format!(
        "GET /health HTTP/1.1\nHost: x\nX-Long: {}\n\n",
        "a".repeat(40_000)
    );
    assert_eq!(ask(&world, &long).await.status, 431);
    let many = format!(
        "GET /health HTTP/1.1\nHost: x\n{}\n",
        "X-One: 1\n".repeat(200)
    );
    assert_eq!(ask(&world, &many).await.status, 431);
    assert_eq!(ask(&world, "no HTTP at all\n\n").await.status, 400);
    // The daemon is none the worse for it.
    let health = "GET /health HTTP/1.1\nHost: x\nConnection: close\n\n";
    assert_eq!(ask(&world, health).await.status, 200);
    close(world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_clients_are_not_waited_for() {
    let world = world("").await;
    let form = "POST /voice/incoming HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 1000\r\n\r\nCallSid=";
    let cases: [(&str, Option<u16>); 4] = [
        ("", None),
        ("GET /health HT", None),
        ("GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: ", None),
        (form, Some(408)),
    ];
    let mut clients = JoinSet::new();
    for (sent, expected) in cases {
        let address = world.bridge.http;
        clients.spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(sent.as_bytes()).await.unwrap();
            let status = answer(&mut stream).await.map(|answer| answer.status);
            // To say that it was too slow, or just to close, is both an end.
            let closed = status.is_none() || status == Some(408);
            assert!(
                closed && (expected.is_none() || status == expected),
                "{sent:?}: {status:?}"
            );
        });
    }
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    close(world).await;
}
