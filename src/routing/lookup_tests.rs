//! A service of the operator's, good and bad, on a loopback listener.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use http_body_util::{BodyExt as _, Full};
use hyper::{Request, body::Bytes, service::service_fn};
use hyper_util::rt::TokioIo;
use ring::hmac;
use tokio::{net::TcpListener, sync::Semaphore};

use super::*;
use crate::{config::HeaderValue as Written, routing::Known};

const ANN: &str = "+15551234567";
const SHOP: &str = "+15557654321";
const LONG: Duration = Duration::from_secs(20);

/// A request as it came.
type Asked = (hyper::HeaderMap, Vec<u8>);

/// What it answers, once it is let, and what it was asked.
struct Service {
    url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    may_answer: Arc<Semaphore>,
    came: Arc<AtomicUsize>,
    came_now: Arc<tokio::sync::Notify>,
}

impl Service {
    async fn answering(status: u16, body: impl Into<Bytes>) -> Service {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let service = Service {
            url: format!("http://{}/who", listener.local_addr().unwrap()),
            asked: Arc::default(),
            may_answer: Arc::new(Semaphore::new(1000)),
            came: Arc::default(),
            came_now: Arc::default(),
        };
        let (asked, may, came, came_now) = (
            service.asked.clone(),
            service.may_answer.clone(),
            service.came.clone(),
            service.came_now.clone(),
        );
        let body: Bytes = body.into();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (asked, may, body) = (asked.clone(), may.clone(), body.clone());
                let (came, came_now) = (came.clone(), came_now.clone());
                let answer = service_fn(move |request: Request<hyper::body::Incoming>| {
                    let (asked, may, body) = (asked.clone(), may.clone(), body.clone());
                    let (came, came_now) = (came.clone(), came_now.clone());
                    async move {
                        let (head, question) = request.into_parts();
                        let question = question.collect().await?.to_bytes().to_vec();
                        asked.lock().unwrap().push((head.headers, question));
                        came.fetch_add(1, SeqCst);
                        came_now.notify_one();
                        may.acquire().await.expect("it is never closed").forget();
                        let answer = hyper::Response::builder()
                            .status(status)
                            .header("location", "http://127.0.0.1:1/")
                            .body(Full::new(body));
                        Ok::<_, hyper::Error>(answer.expect("an answer"))
                    }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), answer),
                );
            }
        });
        service
    }

    fn hold(&self) {
        self.may_answer.forget_permits(1000);
    }

    fn count(&self) -> usize {
        self.came.load(SeqCst)
    }
}

fn config(url: &str) -> config::Lookup {
    config::Lookup {
        url: url.to_owned(),
        headers: BTreeMap::new(),
        sign_with: None,
        timeout: LONG,
        cache: Duration::from_secs(60),
    }
}

struct Desk {
    lookup: Arc<Lookup>,
    tasks: TaskTracker,
    metrics: Arc<Metrics>,
}

impl Desk {
    fn with(config: &config::Lookup) -> Desk {
        let metrics = Arc::new(Metrics::default());
        let secrets = BTreeMap::from([("crm".to_owned(), Secret::new("s3cret"))]);
        let lookup = Lookup::new(config, &secrets, None, metrics.clone());
        Desk {
            lookup: Arc::new(lookup.expect("a client")),
            tasks: TaskTracker::new(),
            metrics,
        }
    }

    fn facts<R>(n: u32, from: &str, with: impl FnOnce(&Facts<'_>) -> R) -> R {
        let call = sid(n);
        let known = Known::from([
            ("city".to_owned(), "Rome".to_owned()),
            ("param.Order".to_owned(), "77".to_owned()),
        ]);
        with(&Facts {
            call: &call,
            from,
            to: SHOP,
            route: "shop",
            known: &known,
        })
    }

    fn begin(&self, n: u32, from: &str) {
        Self::facts(n, from, |facts| self.lookup.begin(facts, LONG, &self.tasks));
    }

    async fn answer(&self, n: u32, from: &str) -> Briefing {
        let answer = Self::facts(n, from, |facts| self.lookup.answer(facts, &self.tasks));
        answer.await
    }

    fn counted(&self, what: LookedUp) -> u64 {
        self.metrics.lookups.of(what).get()
    }
}

fn sid(n: u32) -> CallSid {
    format!("CA{n:032x}").parse().unwrap()
}

fn text(briefing: &Briefing, name: &str) -> Option<String> {
    match briefing.variables.get(name)? {
        Variable::Text(text) => Some(text.clone()),
        other => Some(format!("{other:?}")),
    }
}

const ANN_IS: &str = r#"{"variables":{"name":"Ann","orders":3,"vip":true,"none":null},"context":"Ann calls\nabout\u0007 77.","more":[]}"#;

#[tokio::test]
async fn what_the_service_says_is_what_the_agent_is_told() {
    let service = Service::answering(200, ANN_IS).await;
    let desk = Desk::with(&config::Lookup {
        headers: BTreeMap::from([(
            "Authorization".to_owned(),
            Written("Bearer {credential:crm}".to_owned()),
        )]),
        sign_with: Some("crm".to_owned()),
        ..config(&service.url)
    });
    let briefing = desk.answer(1, ANN).await;
    let expected = [
        ("name", Variable::Text("Ann".into())),
        ("orders", Variable::Number(3.0)),
        ("vip", Variable::Flag(true)),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value));
    assert!(briefing.variables == expected.into());
    assert_eq!(briefing.context, "Ann calls\nabout 77.");
    assert!(briefing.fixed.is_empty());
    assert_eq!(desk.counted(LookedUp::Answered), 1);

    let asked = service.asked.lock().unwrap();
    let (headers, body) = &asked[0];
    let question: Value = serde_json::from_slice(body).unwrap();
    let expected = serde_json::json!({
        "call_sid": sid(1).as_str(), "from": ANN, "to": SHOP, "route": "shop",
        "city": "Rome", "param.Order": "77",
    });
    assert_eq!(question, expected);
    let header = |name: &str| headers[name].to_str().unwrap();
    assert_eq!(header("authorization"), "Bearer s3cret");
    assert_eq!(header("content-type"), "application/json");
    assert!(header("user-agent").starts_with("hume-bridge/"));
    // As the service would look at it.
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"s3cret");
    let signed = [header("x-hume-bridge-timestamp").as_bytes(), b".", body].concat();
    let hex = header("x-hume-bridge-signature")
        .strip_prefix("v1=")
        .unwrap();
    let mac: Vec<u8> = (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect();
    hmac::verify(&key, &signed, &mac).expect("the signature is ours");
}

#[tokio::test]
async fn what_was_begun_at_the_webhook_is_joined_at_the_socket() {
    let service = Service::answering(200, ANN_IS).await;
    service.hold();
    let desk = Desk::with(&config::Lookup {
        cache: Duration::ZERO,
        ..config(&service.url)
    });
    desk.begin(1, ANN);
    // Twilio repeats a webhook whose answer it did not get.
    desk.begin(1, ANN);
    service.may_answer.add_permits(1);
    assert_eq!(text(&desk.answer(1, ANN).await, "name").unwrap(), "Ann");
    assert_eq!(service.count(), 1);
    // Without a cache the next call asks again.
    service.may_answer.add_permits(1);
    desk.answer(2, ANN).await;
    assert_eq!(service.count(), 2);
}

#[tokio::test]
async fn two_calls_at_once_share_a_request_and_later_ones_its_answer() {
    let service = Service::answering(200, ANN_IS).await;
    service.hold();
    let desk = Desk::with(&config(&service.url));
    desk.begin(1, ANN);
    desk.begin(2, ANN);
    service.came_now.notified().await;
    service.may_answer.add_permits(1);
    assert_eq!(text(&desk.answer(1, ANN).await, "name").unwrap(), "Ann");
    assert_eq!(text(&desk.answer(2, ANN).await, "name").unwrap(), "Ann");
    assert_eq!(text(&desk.answer(3, ANN).await, "name").unwrap(), "Ann");
    assert_eq!(service.count(), 1);
    assert_eq!(desk.counted(LookedUp::Cached), 2);
    // Somebody else is somebody else.
    service.may_answer.add_permits(1);
    desk.answer(4, "+15559876543").await;
    assert_eq!(service.count(), 2);
}

#[tokio::test]
async fn who_withholds_the_number_gets_nobody_elses_answer() {
    let service = Service::answering(200, ANN_IS).await;
    let desk = Desk::with(&config(&service.url));
    desk.answer(1, "anonymous").await;
    desk.answer(2, "anonymous").await;
    assert_eq!(service.count(), 2);
    let asked = service.asked.lock().unwrap();
    let question: Value = serde_json::from_slice(&asked[0].1).unwrap();
    assert_eq!(question["from"], "");
}

#[tokio::test]
async fn an_answer_is_good_for_as_long_as_the_config_says() {
    let service = Service::answering(200, ANN_IS).await;
    let desk = Desk::with(&config::Lookup {
        cache: Duration::from_millis(1),
        ..config(&service.url)
    });
    desk.answer(1, ANN).await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    desk.answer(2, ANN).await;
    assert_eq!(service.count(), 2);
}

#[tokio::test]
async fn a_service_that_does_not_answer_holds_nobody_up() {
    let service = Service::answering(200, ANN_IS).await;
    service.hold();
    let desk = Desk::with(&config::Lookup {
        timeout: Duration::from_millis(50),
        ..config(&service.url)
    });
    assert!(desk.answer(1, ANN).await == Briefing::default());
    desk.tasks.close();
    desk.tasks.wait().await;
    assert_eq!(desk.counted(LookedUp::Timeout), 1);
    // It is asked again: a failure is not kept.
    service.may_answer.add_permits(10);
    let again = desk.answer(2, ANN).await;
    assert!(service.count() == 2 || again == Briefing::default());
    let gone = Desk::with(&config("http://127.0.0.1:1/"));
    assert!(gone.answer(1, ANN).await == Briefing::default());
    assert_eq!(gone.counted(LookedUp::Unreachable), 1);
}

#[tokio::test]
async fn whatever_else_goes_wrong_the_call_goes_on_without() {
    let many: Map<String, Value> = (0..51).map(|n| (format!("v{n}"), n.into())).collect();
    let long = format!(r#"{{"context":"{}"}}"#, "x".repeat(MAX_BODY));
    for (status, body, expected) in [
        (500, "{}".to_owned(), LookedUp::Status),
        (404, "{}".to_owned(), LookedUp::Status),
        // To elsewhere, perhaps with the caller's number: not followed.
        (307, "{}".to_owned(), LookedUp::Status),
        (200, "Ann".to_owned(), LookedUp::Senseless),
        (200, "[]".to_owned(), LookedUp::Senseless),
        (
            200,
            r#"{"variables":{"a":[]}}"#.to_owned(),
            LookedUp::Senseless,
        ),
        (
            200,
            r#"{"variables":{"a b":1}}"#.to_owned(),
            LookedUp::Senseless,
        ),
        (
            200,
            r#"{"variables":{"1a":1}}"#.to_owned(),
            LookedUp::Senseless,
        ),
        (200, r#"{"variables":7}"#.to_owned(), LookedUp::Senseless),
        (200, r#"{"context":7}"#.to_owned(), LookedUp::Senseless),
        (
            200,
            serde_json::json!({"variables": many}).to_string(),
            LookedUp::Senseless,
        ),
        (200, long, LookedUp::Senseless),
    ] {
        let service = Service::answering(status, body.clone()).await;
        let desk = Desk::with(&config(&service.url));
        let shown = body.chars().take(60).collect::<String>();
        for call in 1..3 {
            assert!(
                desk.answer(call, ANN).await == Briefing::default(),
                "{shown}"
            );
        }
        assert_eq!(desk.counted(expected), 2, "{shown}");
    }
}

#[test]
fn nothing_and_little_are_answers_and_too_long_is_cut() {
    for body in [
        "",
        " \n",
        "{}",
        r#"{"variables":null,"context":null}"#,
        r#"{"x":1}"#,
    ] {
        assert!(read(body.as_bytes()) == Some(Briefing::default()), "{body}");
    }
    let numbers =
        br#"{"variables":{"a":12345678901234567,"b":-9007199254740993,"c":1e300,"d":42}}"#;
    let told = read(numbers).unwrap();
    // Digits count more than what kind of value they are.
    assert_eq!(text(&told, "a").as_deref(), Some("12345678901234567"));
    assert_eq!(text(&told, "b").as_deref(), Some("-9007199254740993"));
    assert_eq!(text(&told, "c").as_deref(), Some("1e+300"));
    assert_eq!(text(&told, "d").as_deref(), Some("Number(42.0)"));
    let long = "\u{e9}".repeat(5000);
    let body = serde_json::json!({"variables": {"a": long}, "context": long});
    let briefing = read(body.to_string().as_bytes()).unwrap();
    assert_eq!(text(&briefing, "a").unwrap().chars().count(), 256);
    assert_eq!(briefing.context.chars().count(), LONGEST_CONTEXT);
}

#[tokio::test]
async fn what_is_kept_is_bounded() {
    let service = Service::answering(204, "").await;
    let desk = Desk::with(&config(&service.url));
    desk.answer(0, ANN).await;
    for n in 0..MOST_KEPT as u32 + 50 {
        let (tell, awaited) = watch::channel(Some(Arc::default()));
        let until = Some(Instant::now() + LONG + Duration::from_millis(n.into()));
        let mut book = desk.lookup.book();
        if book.answers.len() >= MOST_KEPT {
            book.forget_one();
        }
        book.answers
            .insert(n.to_string().into(), Answer { awaited, until });
        drop(tell);
    }
    assert_eq!(desk.lookup.book().answers.len(), MOST_KEPT);
    // The oldest went; what was asked a minute later by Ann is younger than all of them.
    assert!(!desk.lookup.book().answers.contains_key("0"));
    assert!(desk.lookup.book().answers.contains_key("1049"));
    for n in 0..MOST_KEPT as u32 + 50 {
        let from = format!("+1555{n:07}");
        desk.begin(n + 1, &from);
    }
    assert!(desk.lookup.book().begun.len() <= MOST_KEPT);
    assert!(desk.lookup.book().answers.len() <= MOST_KEPT);
}

#[test]
fn what_cannot_be_a_client_says_why() {
    let new = |config: &config::Lookup| {
        let made = Lookup::new(config, &BTreeMap::new(), None, Arc::default());
        made.err().expect("no client").to_string()
    };
    let url = "http://127.0.0.1:1/";
    let unsigned = config::Lookup {
        sign_with: Some("crm".into()),
        ..config(url)
    };
    assert!(new(&unsigned).contains("credential crm"));
    let header = config::Lookup {
        headers: BTreeMap::from([("x y".to_owned(), Written("z".to_owned()))]),
        ..config(url)
    };
    assert!(new(&header).contains("headers.x y"));
    assert!(new(&config("no url")).contains("url"));
}
