//! Twilio as a loopback server that answers what it is told to.

use std::{collections::VecDeque, sync::Mutex};

use http_body_util::{BodyExt, Full};
use hyper::{body::Bytes, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::{message::MessageSid, *};

const ACCOUNT: &str = "AC0123456789abcdef0123456789abcdef";
const CALL: &str = "CA0123456789abcdef0123456789abcdef";
const LONG: Duration = Duration::from_secs(20);

/// What the fake Twilio answers, in turn; the last answer stays. [`CUT`] is none at all.
type Answers = &'static [(u16, &'static str)];
const CUT: (u16, &str) = (0, "");
/// Request line, authorization, content type and body of each request.
type Seen = Arc<Mutex<Vec<[String; 4]>>>;

async fn twilio(answers: Answers) -> (String, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let seen = Seen::default();
    let record = seen.clone();
    let left: Arc<Mutex<VecDeque<_>>> = Arc::new(Mutex::new(answers.iter().collect()));
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (record, left) = (record.clone(), left.clone());
            let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                let (record, left) = (record.clone(), left.clone());
                async move {
                    let header = |name| {
                        let value = request.headers().get(name);
                        value.map_or("", |value| value.to_str().unwrap()).to_owned()
                    };
                    let line = format!("{} {}", request.method(), request.uri());
                    let (auth, kind) = (header("authorization"), header("content-type"));
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    let body = String::from_utf8(body.into()).unwrap();
                    record.lock().unwrap().push([line, auth, kind, body]);
                    let (status, body) = {
                        let mut left = left.lock().unwrap();
                        let answer = *left[0];
                        if left.len() > 1 {
                            left.pop_front();
                        }
                        answer
                    };
                    if (status, body) == CUT {
                        return Err(std::io::Error::other("cut"));
                    }
                    let response = hyper::Response::builder()
                        .status(status)
                        .header("location", "http://127.0.0.1:1/elsewhere")
                        .body(Full::new(Bytes::from_static(body.as_bytes())));
                    Ok(response.unwrap())
                }
            });
            let socket = TokioIo::new(socket);
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(socket, service),
            );
        }
    });
    (url, seen)
}

fn rest(url: &str) -> Rest {
    Rest::new(url, ACCOUNT, &Secret::new("12345"), None).unwrap()
}

async fn hang_up(answers: Answers, within: Duration) -> (Result<Completed, RestError>, usize) {
    let (url, seen) = twilio(answers).await;
    let result = rest(&url)
        .complete_call(&CALL.parse().unwrap(), within)
        .await;
    let requests = seen.lock().unwrap().len();
    (result, requests)
}

#[tokio::test]
async fn hanging_up_is_one_authenticated_form() {
    let (url, seen) = twilio(&[(200, r#"{"status":"completed"}"#)]).await;
    let rest = rest(&format!("{url}/"));
    assert_eq!(
        rest.complete_call(&CALL.parse().unwrap(), LONG)
            .await
            .unwrap(),
        Completed::Ended
    );
    let auth = base64_simd::STANDARD.encode_to_string(format!("{ACCOUNT}:12345"));
    assert_eq!(
        *seen.lock().unwrap(),
        [[
            format!("POST /2010-04-01/Accounts/{ACCOUNT}/Calls/{CALL}.json"),
            format!("Basic {auth}"),
            "application/x-www-form-urlencoded".to_owned(),
            "Status=completed".to_owned(),
        ]]
    );
    let shown = format!("{rest:?} {:?}", rest.inner.client);
    assert!(
        !shown.contains(&auth) && !shown.contains("12345\""),
        "{shown}"
    );
}

#[tokio::test]
async fn the_caller_was_faster() {
    for answers in [
        &[(404, r#"{"code":20404,"message":"x","status":404}"#)],
        &[(
            400,
            r#"{"code":21220,"message":"Call is not in-progress.","status":400}"#,
        )],
    ] {
        let (result, requests) = hang_up(answers, LONG).await;
        assert_eq!((result.unwrap(), requests), (Completed::AlreadyOver, 1));
    }
}

#[tokio::test]
async fn wrong_credentials_are_not_tried_twice() {
    let (result, requests) = hang_up(&[(401, r#"{"code":20003,"status":401}"#)], LONG).await;
    let error = result.unwrap_err();
    assert!(
        matches!(
            error,
            RestError::Auth {
                code: TwilioCode(Some(20003))
            }
        ),
        "{error:?}"
    );
    assert!(
        error
            .to_string()
            .contains("(error 20003): set twilio_auth_token"),
        "{error}"
    );
    assert_eq!(requests, 1);

    let (result, _) = hang_up(&[(403, "<html>")], LONG).await;
    assert!(matches!(
        result,
        Err(RestError::Auth {
            code: TwilioCode(None)
        })
    ));
}

#[tokio::test]
async fn a_busy_twilio_is_asked_again() {
    let answers = &[
        (429, r#"{"code":20429}"#),
        (503, ""),
        (500, r#"{"code":20500}"#),
        (200, "{}"),
    ];
    let (result, requests) = hang_up(answers, LONG).await;
    assert_eq!((result.unwrap(), requests), (Completed::Ended, 4));
}

#[tokio::test]
async fn a_twilio_that_stays_busy_is_given_up_in_time() {
    let started = Instant::now();
    let (result, requests) =
        hang_up(&[(429, r#"{"code":20429}"#)], Duration::from_millis(400)).await;
    let error = result.unwrap_err();
    let expected = RestError::Busy {
        operation: Operation::Complete,
        status: 429,
        code: TwilioCode(Some(20429)),
    };
    assert_eq!(format!("{error:?}"), format!("{expected:?}"));
    assert!(requests >= 2, "{requests}");
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn any_other_refusal_is_final() {
    for (answers, status) in [
        (&[(404, "not found")], 404),
        (&[(404, r#"{"code":"20404"}"#)], 404),
        (&[(400, r#"{"code":21218,"status":400}"#)], 400),
        // Followed, the redirect would carry the auth token elsewhere.
        (&[(307, "")], 307),
    ] {
        let (result, requests) = hang_up(answers, LONG).await;
        let error = result.unwrap_err();
        assert!(matches!(error, RestError::Refused { status: got, .. } if got == status));
        assert_eq!(requests, 1);
    }
}

#[tokio::test]
async fn an_endless_error_page_is_not_read() {
    static PAGE: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| {
        format!(
            "{{\"code\":21220,\"message\":\"{}\"}}",
            "x".repeat(MAX_BODY)
        )
    });
    let answers: Answers = Box::leak(Box::new([(400, PAGE.as_str())]));
    let (result, _) = hang_up(answers, LONG).await;
    assert!(matches!(
        result,
        Err(RestError::Refused {
            code: TwilioCode(None),
            ..
        })
    ));
}

#[tokio::test]
async fn nobody_there_is_an_error_in_time_without_secrets() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let rest = rest(&url);
    let result = rest
        .complete_call(&CALL.parse().unwrap(), Duration::from_millis(300))
        .await;
    let error = result.unwrap_err();
    let words = error.to_string();
    assert!(matches!(error, RestError::Unreachable { .. }), "{error:?}");
    assert!(
        words.contains("refused") && words.contains("127.0.0.1"),
        "{words}"
    );
}

#[tokio::test]
async fn a_silent_twilio_does_not_hold_the_call() {
    // Accepted by the kernel, answered by nobody.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rest = rest(&format!("http://{}", listener.local_addr().unwrap()));
    let started = Instant::now();
    let result = rest
        .complete_call(&CALL.parse().unwrap(), Duration::from_millis(200))
        .await;
    assert!(matches!(result, Err(RestError::Unreachable { .. })));
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[test]
fn the_token_never_travels_in_the_clear_or_to_an_odd_place() {
    let setup =
        |url: &str, account: &str| Rest::new(url, account, &Secret::new("12345"), None).map(|_| ());
    for url in [
        "http://127.0.0.1:9",
        "http://[::1]:9",
        "http://localhost:9/prefix",
    ] {
        setup(url, ACCOUNT).unwrap();
    }
    for url in [
        "",
        "api.twilio.com",
        "http://api.twilio.com",
        "http://127.0.0.1.example.com",
        "https://api.twilio.com",
        "ftp://127.0.0.1",
        "http://user@127.0.0.1",
        "http://:word@127.0.0.1",
        "http://127.0.0.1/?x",
    ] {
        assert!(
            matches!(setup(url, ACCOUNT), Err(RestError::ApiUrl(_))),
            "{url}"
        );
    }
    for account in ["", "AC123", "AC0123456789abcdef0123456789abcde/"] {
        let result = setup("http://127.0.0.1:9", account);
        assert!(matches!(result, Err(RestError::AccountSid)));
    }
    let tls = Some(no_tls().unwrap());
    Rest::new(
        "https://api.twilio.com",
        ACCOUNT,
        &Secret::new("12345"),
        tls,
    )
    .unwrap();
}

#[test]
fn pauses_grow_apart() {
    let backoff = Duration::from_millis(100);
    for _ in 0..1_000 {
        let pause = jittered(backoff);
        assert!((backoff / 2..=backoff).contains(&pause), "{pause:?}");
    }
}

async fn redirect(answers: Answers, within: Duration) -> (Result<Updated, RestError>, usize) {
    let (url, seen) = twilio(answers).await;
    let result = rest(&url)
        .update_call(&CALL.parse().unwrap(), "<Response/>", within)
        .await;
    let requests = seen.lock().unwrap().len();
    (result, requests)
}

async fn message(
    answers: Answers,
    within: Duration,
) -> (Result<Option<MessageSid>, RestError>, usize) {
    let (url, seen) = twilio(answers).await;
    let rest = rest(&url);
    let sent = rest.send_message("+61400000007", "+15557654321", "Hello", within);
    let result = sent.await;
    let requests = seen.lock().unwrap().len();
    (result, requests)
}

#[tokio::test]
async fn a_call_is_redirected_by_one_form() {
    let (url, seen) = twilio(&[(200, r#"{"status":"in-progress"}"#)]).await;
    let twiml = r#"<Response><Play digits="1#"/></Response>"#;
    let result = rest(&url)
        .update_call(&CALL.parse().unwrap(), twiml, LONG)
        .await;
    assert_eq!(result.unwrap(), Updated::Redirected);
    let [[line, _, kind, body]] = seen.lock().unwrap().clone().try_into().unwrap();
    assert_eq!(
        line,
        format!("POST /2010-04-01/Accounts/{ACCOUNT}/Calls/{CALL}.json")
    );
    assert_eq!(kind, "application/x-www-form-urlencoded");
    let form: Vec<_> = form_urlencoded::parse(body.as_bytes()).collect();
    assert_eq!(form, [("Twiml".into(), twiml.into())]);
}

#[tokio::test]
async fn a_caller_who_has_left_is_not_redirected() {
    for answers in [&[(404, r#"{"code":20404}"#)], &[(400, r#"{"code":21220}"#)]] {
        let (result, requests) = redirect(answers, LONG).await;
        assert_eq!((result.unwrap(), requests), (Updated::AlreadyOver, 1));
    }
    let (result, _) = redirect(&[(400, r#"{"code":21218}"#)], LONG).await;
    let error = result.unwrap_err().to_string();
    assert!(error.contains("refused to redirect the call"), "{error}");
}

#[tokio::test]
async fn a_redirect_is_repeated_when_twilio_says_that_it_failed() {
    let answers = &[
        (429, r#"{"code":20429}"#),
        (503, ""),
        (500, ""),
        (200, "{}"),
    ];
    let (result, requests) = redirect(answers, LONG).await;
    assert_eq!((result.unwrap(), requests), (Updated::Redirected, 4));
}

/// Keys that are sounded twice may be a PIN that is wrong; a telephone that rings would be called again.
#[tokio::test]
async fn a_redirect_that_may_have_been_done_is_not_repeated() {
    let (result, requests) = redirect(&[CUT, (200, "{}")], LONG).await;
    assert!(matches!(
        result,
        Err(RestError::Unreachable {
            perhaps_done: true,
            ..
        })
    ));
    assert_eq!(requests, 1);
    for answers in [&[(502, ""), (200, "{}")], &[(504, ""), (200, "{}")]] {
        let (result, requests) = redirect(answers, LONG).await;
        assert!(matches!(result, Err(RestError::Busy { .. })));
        assert_eq!(requests, 1);
    }
    // To end a call twice does no harm.
    let (result, requests) = hang_up(&[CUT, (502, ""), (200, "{}")], LONG).await;
    assert_eq!((result.unwrap(), requests), (Completed::Ended, 3));
}

#[tokio::test]
async fn a_message_is_one_form_and_its_name_comes_back() {
    let sid = "SM0123456789abcdef0123456789abcdef";
    let answer: Answers = Box::leak(Box::new([(
        201,
        &*format!(r#"{{"sid":"{sid}","status":"queued","num_segments":"1"}}"#).leak(),
    )]));
    let (url, seen) = twilio(answer).await;
    let text = "Your code & more: caf\u{e9}+1";
    let sent = rest(&url)
        .send_message("+61400000007", "+15557654321", text, LONG)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(sent.to_string(), sid);
    let [[line, _, _, body]] = seen.lock().unwrap().clone().try_into().unwrap();
    assert_eq!(
        line,
        format!("POST /2010-04-01/Accounts/{ACCOUNT}/Messages.json")
    );
    let form: Vec<_> = form_urlencoded::parse(body.as_bytes()).collect();
    let expected = [
        ("To", "+61400000007"),
        ("From", "+15557654321"),
        ("Body", text),
    ];
    assert_eq!(
        form,
        expected.map(|(name, value)| (name.into(), value.into()))
    );
}

#[tokio::test]
async fn a_message_that_twilio_has_taken_is_sent_whatever_else_it_says() {
    for answers in [
        &[(201, "")],
        &[(201, "{}")],
        &[(201, r#"{"sid":"SM1\r\nx"}"#)],
        &[(200, "<html>")],
    ] {
        let (result, requests) = message(answers, LONG).await;
        assert_eq!((result.unwrap(), requests), (None, 1));
    }
}

#[tokio::test]
async fn a_message_is_sent_again_only_if_twilio_has_not_looked_at_it() {
    let answers = &[(429, r#"{"code":20429}"#), (429, ""), (201, "{}")];
    let (result, requests) = message(answers, LONG).await;
    assert_eq!((result.unwrap(), requests), (None, 3));

    for answers in [
        &[CUT, (201, "{}")],
        &[(500, r#"{"code":20500}"#), (201, "{}")],
        &[(503, ""), (201, "{}")],
    ] {
        let (result, requests) = message(answers, LONG).await;
        assert_eq!(requests, 1);
        let error = result.unwrap_err();
        assert!(error.about_message().contains("not known"), "{error}");
    }
    let (result, requests) = message(&[(429, "")], Duration::from_millis(400)).await;
    assert!(requests >= 2, "{requests}");
    let error = result.unwrap_err();
    assert!(error.about_message().contains("was not sent"), "{error}");
}

#[tokio::test]
async fn a_message_of_which_nothing_is_heard_may_have_been_sent() {
    // Accepted by the kernel, answered by nobody.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rest = rest(&format!("http://{}", listener.local_addr().unwrap()));
    let sent = rest.send_message("+6", "+1", "Hello", Duration::from_millis(200));
    let error = sent.await.unwrap_err();
    assert!(error.about_message().contains("not known"), "{error}");

    drop(listener);
    let sent = rest.send_message("+6", "+1", "Hello", Duration::from_millis(300));
    let error = sent.await.unwrap_err();
    assert!(error.about_message().contains("was not sent"), "{error:?}");
}

#[tokio::test]
async fn why_a_message_was_refused_is_told_without_numbers_and_words() {
    for (answers, agent, operator) in [
        (
            &[(400, r#"{"code":21211}"#)],
            "is not valid",
            "[sms] numbers",
        ),
        (
            &[(400, r#"{"code":21603}"#)],
            "not set up",
            "set [sms] from",
        ),
        (&[(400, r#"{"code":21604}"#)], "no number", "[sms] numbers"),
        (
            &[(400, r#"{"code":21606}"#)],
            "cannot send",
            "set [sms] from",
        ),
        (&[(400, r#"{"code":21608}"#)], "may not send", "trial"),
        (&[(400, r#"{"code":21610}"#)], "opted out", "opted out"),
        (
            &[(400, r#"{"code":21614}"#)],
            "landline",
            "takes no messages",
        ),
        (&[(400, r#"{"code":21617}"#)], "too long", "1600"),
        (
            &[(400, r#"{"code":29999,"message":"to +61400000007"}"#)],
            "was not sent.",
            "errors",
        ),
        // Of a message this means something else than of a call.
        (&[(404, r#"{"code":20404}"#)], "was not sent.", "20404"),
    ] {
        let (result, requests) = message(answers, LONG).await;
        let error = result.unwrap_err();
        assert_eq!(requests, 1, "{error}");
        let (told, logged) = (error.about_message(), error.to_string());
        assert!(told.contains(agent), "{told}");
        assert!(
            logged.contains("refused to send the message") && logged.contains(operator),
            "{logged}"
        );
        for word in ["6140", "1555", "Hello"] {
            assert!(
                !format!("{told} {logged} {error:?}").contains(word),
                "{logged}"
            );
        }
    }
    let (result, _) = message(&[(401, r#"{"code":20003}"#)], LONG).await;
    let error = result.unwrap_err();
    assert!(matches!(error, RestError::Auth { .. }), "{error}");
    assert!(error.about_message().contains("was not sent"));
}
