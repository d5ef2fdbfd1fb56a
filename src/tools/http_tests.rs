use std::time::Duration;

use ring::hmac;
use serde_json::json;

use crate::{
    config::{HeaderValue, HttpTool, Method, Secret, Tool, ToolKind},
    metrics::labels::{self, ToolCall, ToolEnd},
    tools::{
        Runner, SetupError,
        stage_tests::{Act, CALL, Desk, SECRET, Seen, config, http, ok, service, tool},
    },
};

/// A desk with the tool `book`, and what its service sees.
async fn booking(acts: Vec<Act>, change: impl FnOnce(&mut Tool, &mut HttpTool)) -> (Desk, Seen) {
    let (url, seen) = service(acts).await;
    let mut http = http(&url);
    let mut book = tool("book", ToolKind::Exec { command: vec![] });
    change(&mut book, &mut http);
    book.kind = ToolKind::Http(http);
    (Desk::with(book), seen)
}

fn idempotent(_: &mut Tool, http: &mut HttpTool) {
    http.idempotent = true;
}

fn unchanged(_: &mut Tool, _: &mut HttpTool) {}

fn count(seen: &Seen) -> usize {
    seen.lock().unwrap().len()
}

#[tokio::test]
async fn a_service_is_told_the_call_and_the_arguments_and_answers_the_agent() {
    let (desk, seen) = booking(vec![ok(r#"{"content":"Booked.","id":7}"#)], |_, http| {
        let value = HeaderValue("Bearer {credential:booking-key}".to_owned());
        http.headers.insert("Authorization".to_owned(), value);
        http.sign_with = Some("booking-key".to_owned());
    })
    .await;
    assert_eq!(desk.done("book", r#"{"n":2}"#).await, "Booked.");
    assert_eq!(desk.done("book", "").await, "Booked.");

    let seen = seen.lock().unwrap();
    let request = &seen[0];
    assert_eq!(request.line, "POST /book");
    assert_eq!(
        request.json(),
        json!({
            "tool": "book",
            "call_id": "call-1",
            "call": {
                "call_sid": CALL,
                "from": "+61400000001",
                "to": "+61299990000",
                "route": "front desk",
                "agent": "hume",
                "started_at": "2023-11-14T22:13:20Z",
                "test": false,
                "known": { "city": "SYDNEY" }
            },
            "arguments": { "n": 2 }
        })
    );
    assert_eq!(seen[1].json()["arguments"], json!({}));
    assert_eq!(request.header("content-type"), Some("application/json"));
    let version = format!("hume-bridge/{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(request.header("user-agent"), Some(&*version));
    let bearer = format!("Bearer {SECRET}");
    assert_eq!(request.header("authorization"), Some(&*bearer));
    let once = request.header("idempotency-key").unwrap();
    let hash = once.strip_prefix(&format!("{CALL}-")).unwrap();
    assert!(hash.len() == 32 && !once.contains("call-1"), "{once}");

    // As the operator's service does it, not as we do.
    let timestamp = request.header("x-hume-bridge-timestamp").unwrap();
    let signature = request.header("x-hume-bridge-signature").unwrap();
    let signature = signature.strip_prefix("v1=").unwrap();
    let bytes: Vec<u8> = (0..signature.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&signature[at..at + 2], 16).unwrap())
        .collect();
    let signed = [timestamp.as_bytes(), b".", &request.body].concat();
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    hmac::verify(&key, &signed, &bytes).expect("the signature holds");
    let age = jiff::Timestamp::now().as_second() - timestamp.parse::<i64>().unwrap();
    assert!((0..600).contains(&age), "{age}");
}

#[tokio::test]
async fn a_get_has_no_body() {
    let (desk, seen) = booking(vec![ok("open until nine\n")], |_, http| {
        http.method = Method::Get;
    })
    .await;
    assert_eq!(desk.done("book", "{}").await, "open until nine");
    let seen = seen.lock().unwrap();
    assert_eq!((&*seen[0].line, seen[0].body.len()), ("GET /book", 0));
    assert_eq!(seen[0].header("content-type"), None);
    assert_eq!(seen[0].header("x-hume-bridge-signature"), None);
}

#[tokio::test]
async fn what_may_be_done_twice_is_tried_twice() {
    for first in [Act::Answer(500, vec![]), Act::Answer(429, vec![]), Act::Cut] {
        let (desk, seen) = booking(vec![first, ok("Booked.")], idempotent).await;
        assert_eq!(desk.done("book", "{}").await, "Booked.");
        let seen = seen.lock().unwrap();
        assert_eq!(seen.len(), 2);
        let once = |n: usize| seen[n].header("idempotency-key").unwrap();
        assert_eq!(once(0), once(1));
        let counted = ToolCall::Ran(labels::Tool::Http, ToolEnd::Ok);
        assert_eq!(desk.metrics.tool_calls.of(counted).get(), 1);
    }
    let (desk, seen) = booking(vec![Act::Answer(503, vec![])], idempotent).await;
    assert_eq!(desk.failed("book", "{}").await.0, "status");
    assert_eq!(count(&seen), 2, "and no more often");
}

#[tokio::test]
async fn what_may_not_be_done_twice_is_not() {
    for (first, word) in [
        (Act::Answer(500, vec![]), "status"),
        (Act::Answer(429, vec![]), "status"),
        (Act::Cut, "unreachable"),
    ] {
        let (desk, seen) = booking(vec![first, ok("Booked.")], unchanged).await;
        assert_eq!(desk.failed("book", "{}").await.0, word);
        assert_eq!(count(&seen), 1);
    }
}

#[tokio::test]
async fn a_refusal_is_not_tried_again_and_its_words_reach_the_agent() {
    let refused = Act::Answer(409, br#"{"error":"The table is taken."}"#.to_vec());
    let (desk, seen) = booking(vec![refused], |book, http| {
        book.fallback = "The book is closed.".to_owned();
        idempotent(book, http);
    })
    .await;
    let (word, content) = desk.failed("book", "{}").await;
    assert_eq!((word, &*content), ("status", "The table is taken."));
    assert_eq!(count(&seen), 1);
}

#[tokio::test]
async fn without_words_of_its_own_a_failure_has_the_operators() {
    for body in ["<h1>no</h1>", r#"{"error":17}"#, ""] {
        let refused = Act::Answer(404, body.into());
        let (desk, _) = booking(vec![refused], |book, _| {
            book.fallback = "The book is closed.".to_owned();
        })
        .await;
        let (_, content) = desk.failed("book", "{}").await;
        assert_eq!(content, "The book is closed.");
    }
    let (desk, _) = booking(vec![Act::Answer(404, vec![])], unchanged).await;
    let (_, content) = desk.failed("book", "{}").await;
    assert!(content.contains("did not work"), "{content}");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    for status in [301, 302, 307] {
        let (desk, seen) = booking(vec![Act::Answer(status, vec![])], idempotent).await;
        assert_eq!(desk.failed("book", "{}").await.0, "status");
        assert_eq!(count(&seen), 1);
    }
}

#[tokio::test]
async fn an_answer_is_whole_or_a_failure() {
    let much = |n: usize| ok(&"x".repeat(n));
    let (desk, _) = booking(vec![much(1000), much(1001)], |book, _| {
        book.max_output = 1000
    })
    .await;
    assert_eq!(desk.done("book", "{}").await.len(), 1000);
    assert_eq!(desk.failed("book", "{}").await.0, "too-large");
    let latin = Act::Answer(200, b"caf\xe9".to_vec());
    let (desk, _) = booking(vec![latin], unchanged).await;
    assert_eq!(desk.failed("book", "{}").await.0, "not-text");
    let (desk, _) = booking(vec![Act::Answer(204, vec![])], unchanged).await;
    assert_eq!(desk.done("book", "{}").await, "Done.");
}

#[tokio::test]
async fn a_silent_service_costs_the_tools_time_and_no_more() {
    let short = |book: &mut Tool, _: &mut HttpTool| book.timeout = Duration::from_millis(300);
    let (desk, seen) = booking(vec![Act::Silence], short).await;
    assert_eq!(desk.failed("book", "{}").await.0, "timeout");
    assert_eq!(count(&seen), 1);
    let (desk, seen) = booking(vec![Act::Silence, ok("Booked.")], |book, http| {
        short(book, http);
        idempotent(book, http);
    })
    .await;
    assert_eq!(desk.failed("book", "{}").await.0, "timeout");
    assert_eq!(count(&seen), 1, "slowness is no reason to ask again");
    let counted = ToolCall::Ran(labels::Tool::Http, ToolEnd::Timeout);
    assert_eq!(desk.metrics.tool_calls.of(counted).get(), 1);
}

#[tokio::test]
async fn a_service_that_needs_most_of_the_time_has_it_and_does_its_work_once() {
    let late = Act::Late(Duration::from_millis(2600));
    let (desk, seen) = booking(vec![late], |book, http| {
        book.timeout = Duration::from_secs(4);
        idempotent(book, http);
    })
    .await;
    assert_eq!(desk.done("book", "{}").await, "Booked.");
    assert_eq!(count(&seen), 1);
}

#[tokio::test]
async fn an_error_whose_words_do_not_come_is_told_by_its_status() {
    for (status, again) in [(409, false), (503, true)] {
        let (desk, seen) = booking(vec![Act::Stuck(status)], |book, http| {
            book.timeout = Duration::from_secs(4);
            book.fallback = "The book is closed.".to_owned();
            idempotent(book, http);
        })
        .await;
        let told = desk.failed("book", "{}").await;
        assert_eq!(told, ("status", "The book is closed.".to_owned()));
        assert_eq!(count(&seen), if again { 2 } else { 1 });
    }
}

#[tokio::test]
async fn a_service_that_is_not_there_is_unreachable() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let desk = Desk::with(tool("book", ToolKind::Http(http(&url))));
    assert_eq!(desk.failed("book", "{}").await.0, "unreachable");
    let asked = super::client(None).unwrap().get(&url).send();
    let why = super::unreachable(asked.await.unwrap_err()).why.unwrap();
    assert!(why.starts_with("Connection refused"), "{why}");
}

#[tokio::test]
async fn arguments_that_do_not_fit_ask_nobody() {
    let (desk, seen) = booking(vec![ok("Booked.")], unchanged).await;
    let (word, content) = desk.failed("book", r#"{"n":"SECRET"}"#).await;
    assert_eq!(word, "arguments");
    assert!(content.contains("n: it is not of type"), "{content}");
    assert!(!content.contains("SECRET"), "{content}");
    assert_eq!(count(&seen), 0);
    let counted = ToolCall::Ran(labels::Tool::Http, ToolEnd::Refused);
    assert_eq!(desk.metrics.tool_calls.of(counted).get(), 1);
}

#[test]
fn a_tool_that_cannot_work_is_told_at_the_start_without_secrets() {
    let fails = |change: &dyn Fn(&mut HttpTool), secret: &str| {
        let mut http = http("http://127.0.0.1:9/");
        change(&mut http);
        let mut config = config();
        config.tools.push(tool("book", ToolKind::Http(http)));
        let named = [("booking-key".to_owned(), Secret::new(secret))].into();
        match Runner::new(&config, &named, None, None, Default::default()) {
            Ok(_) => panic!("it was taken"),
            Err(error) => {
                assert!(!error.to_string().contains(secret), "{error}");
                error
            }
        }
    };
    for url in ["http://example.com/", "ftp://127.0.0.1/", "book"] {
        let error = fails(&|http| http.url = url.to_owned(), SECRET);
        assert!(matches!(error, SetupError::Url(_)), "{error}");
    }
    let header = |http: &mut HttpTool| {
        let value = HeaderValue("{credential:booking-key}".to_owned());
        http.headers.insert("X-Key".to_owned(), value);
    };
    let error = fails(&header, "two\nlines");
    assert!(matches!(error, SetupError::Header { .. }), "{error}");
    let unknown = |http: &mut HttpTool| http.sign_with = Some("other-key".to_owned());
    let error = fails(&unknown, SECRET).to_string();
    assert!(
        error.contains("other-key") && error.contains("book"),
        "{error}"
    );
}
