//! What the fake takes, refuses and breaks.

use super::*;
use crate::sim::phone::{CallSetup, Ended, Event, Phone};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const ACCOUNT: &str = "AC0123456789abcdef0123456789abcdef";
const CALL: &str = "CA0123456789abcdef0123456789abcdef";
const FORM: &str = "Content-Type: application/x-www-form-urlencoded";

async fn api(script: RestScript) -> (RestHandle, Arc<Switchboard>) {
    let switchboard = Switchboard::new();
    (
        Rest::start(switchboard.clone(), ACCOUNT, "12345", script)
            .await
            .unwrap(),
        switchboard,
    )
}

/// Status and JSON of one exchange; `None` if the connection ended without an answer.
async fn exchange(
    api: &RestHandle,
    method: &str,
    path: &str,
    token: &str,
    header: &str,
    body: &str,
) -> Option<(u16, Value)> {
    let mut tcp = tokio::net::TcpStream::connect(api.addr).await.unwrap();
    let basic = base64_simd::STANDARD.encode_to_string(format!("{ACCOUNT}:{token}"));
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {basic}\r\n{header}\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    tcp.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n")?;
    assert!(head.contains("twilio-request-id: RQ"), "{head}");
    Some((
        head[9..12].parse().unwrap(),
        serde_json::from_str(body).unwrap_or(Value::Null),
    ))
}

fn path() -> String {
    format!("/2010-04-01/Accounts/{ACCOUNT}/Calls/{CALL}.json")
}

async fn complete(api: &RestHandle) -> Option<(u16, Value)> {
    exchange(api, "POST", &path(), "12345", FORM, "Status=completed").await
}

/// A call on a line where nobody speaks, until the API ends it.
fn calling(switchboard: &Arc<Switchboard>, webhook: SocketAddr) -> crate::sim::phone::OngoingCall {
    let mut phone = Phone::new("https://bridge.example.com", webhook, ACCOUNT, "12345");
    phone.pace = 10.0;
    phone.switchboard = switchboard.clone();
    phone.start(CallSetup {
        call_sid: CALL.into(),
        ..CallSetup::new(vec![])
    })
}

/// Answers one webhook with a long pause.
async fn pausing() -> (SocketAddr, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        let _ = tcp.read(&mut request).await.unwrap();
        let body = "<Response><Pause length='600'/></Response>";
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        tcp.write_all(answer.as_bytes()).await.unwrap();
    });
    (addr, task)
}

#[tokio::test]
async fn a_live_call_is_ended_once() {
    for (ended, expected) in [
        (EndedAnswer::NotFound, (404, 20404)),
        (EndedAnswer::NotInProgress, (400, 21220)),
    ] {
        let (api, switchboard) = api(RestScript {
            ended,
            ..RestScript::default()
        })
        .await;
        let (webhook, _task) = pausing().await;
        let call = calling(&switchboard, webhook);
        let paused = call
            .until(Duration::from_secs(60), |event| {
                matches!(event, Event::Paused { .. })
            })
            .await;
        assert!(paused.is_some());
        let (status, resource) = exchange(&api, "GET", &path(), "12345", "X: y", "")
            .await
            .unwrap();
        assert_eq!((status, &resource["status"]), (200, &"in-progress".into()));
        let (status, resource) = complete(&api).await.unwrap();
        assert_eq!(
            (status, &resource["status"], &resource["sid"]),
            (200, &"completed".into(), &CALL.into())
        );
        assert_eq!(call.finish().await.ended, Ended::RestCompleted);
        let (status, error) = complete(&api).await.unwrap();
        assert_eq!((status, error["code"].as_u64().unwrap()), expected);
        assert_eq!(error["status"], status);
        assert_eq!(api.violations(), []);
        let statuses: Vec<_> = api
            .requests()
            .iter()
            .map(|request| request.status.unwrap())
            .collect();
        assert_eq!(statuses, [200, 200, expected.0]);
    }
}

#[tokio::test]
async fn refuses_what_twilio_refuses() {
    let (api, _) = api(RestScript::default()).await;
    let path = path();
    let json = "Content-Type: application/json";
    let elsewhere = format!(
        "/2010-04-01/Accounts/AC{}/Calls/{CALL}.json",
        "0".repeat(32)
    );
    let requests = [
        (
            "POST",
            &*path,
            "wrong",
            FORM,
            "Status=completed",
            (401, 20003),
        ),
        (
            "POST",
            &path,
            "12345",
            json,
            "{\"Status\":\"completed\"}",
            (415, 20415),
        ),
        ("POST", &path, "12345", FORM, "Status=done", (400, 20001)),
        (
            "POST",
            &path,
            "12345",
            FORM,
            "Status=completed&Twiml=x",
            (400, 20001),
        ),
        (
            "POST",
            &elsewhere,
            "12345",
            FORM,
            "Status=completed",
            (404, 20404),
        ),
        ("DELETE", &path, "12345", FORM, "", (405, 20004)),
    ];
    let count = requests.len();
    for (method, path, token, header, body, (status, code)) in requests {
        let (found, error) = exchange(&api, method, path, token, header, body)
            .await
            .unwrap();
        assert_eq!(
            (found, error["code"].as_u64()),
            (status, Some(code)),
            "{method} {path} {body}"
        );
        assert_eq!(
            error["more_info"],
            format!("https://www.twilio.com/docs/errors/{code}")
        );
    }
    assert_eq!(api.violations().len(), count);
    // Nobody's fault: there is no such call.
    assert_eq!(complete(&api).await.unwrap().0, 404);
    assert_eq!(api.violations().len(), count);
}

#[tokio::test]
async fn fails_as_the_story_says_and_is_well_again() {
    let script: RestScript =
        toml::from_str(r#"fail = ["429", "500", "503", "auth", "html", "cut", "ok"]"#).unwrap();
    let (api, _) = api(script).await;
    let mut statuses = Vec::new();
    for _ in 0..7 {
        statuses.push(complete(&api).await.map(|(status, _)| status));
    }
    assert_eq!(
        statuses,
        [
            Some(429),
            Some(500),
            Some(503),
            Some(401),
            Some(502),
            None,
            Some(404)
        ]
    );
    assert_eq!(api.violations(), []);
    api.fail([Failure::Stall]);
    let stalled = tokio::spawn(async move {
        let _ = complete(&api).await;
        api
    });
    tokio::task::yield_now().await;
    assert!(!stalled.is_finished());
    stalled.abort();
    assert!(toml::from_str::<RestScript>(r#"fail = ["418"]"#).is_err());
}

async fn post(api: &RestHandle, path: &str, body: &str) -> (u16, Value) {
    let path = format!("/2010-04-01/Accounts/{ACCOUNT}{path}");
    exchange(api, "POST", &path, "12345", FORM, body)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_live_call_is_led_elsewhere_and_one_that_is_over_is_not() {
    let (api, switchboard) = api(RestScript::default()).await;
    let (webhook, _task) = pausing().await;
    let call = calling(&switchboard, webhook);
    let paused = |event: &Event| matches!(event, Event::Paused { .. });
    call.until(Duration::from_secs(60), paused).await.unwrap();
    let update = format!("/Calls/{CALL}.json");
    let twiml = form_urlencoded::Serializer::new(String::new())
        .append_pair("Twiml", "<Response><Say>Elsewhere.</Say></Response>")
        .finish();
    let (status, resource) = post(&api, &update, &twiml).await;
    assert_eq!((status, &resource["status"]), (200, &"in-progress".into()));
    let report = call.finish().await;
    assert_eq!(report.ended, Ended::NothingLeft);
    assert_eq!(
        report.count(|event| matches!(event, Event::Said { text } if text == "Elsewhere.")),
        1
    );
    assert_eq!(post(&api, &update, &twiml).await.1["code"], 20404);
    assert_eq!(api.violations(), []);

    let long = format!("Twiml={}", "x".repeat(4001));
    for (body, code) in [
        (long.as_str(), 32018),
        ("Twiml=", 20001),
        ("Twiml=x&Url=https%3A%2F%2Fb.example.com%2F", 20001),
        ("Twiml=x&Twiml=y", 20001),
        ("Url=nowhere", 21205),
        ("Url=https%3A%2F%2Fb.example.com%2F&Method=PUT", 21205),
        ("Twiml=x&Digits=1", 20001),
        ("Status=completed&TimeLimit=1", 20001),
        ("", 20001),
    ] {
        let (status, error) = post(&api, &update, body).await;
        assert_eq!(
            (status, error["code"].as_u64()),
            (400, Some(code)),
            "{body:.40}"
        );
    }
    assert_eq!(api.violations().len(), 9);
}

#[tokio::test]
async fn a_call_that_only_rings_is_not_led_elsewhere() {
    let (api, switchboard) = api(RestScript::default()).await;
    // Placed over the API, and nobody has taken it.
    let placed = "To=%2B61255501234&From=%2B15557654321&Twiml=%3CResponse%2F%3E";
    let (status, resource) = post(&api, "/Calls.json", placed).await;
    assert_eq!((status, resource["status"].as_str()), (201, Some("queued")));
    assert_eq!(resource["direction"], "outbound-api");
    let sid = resource["sid"].as_str().unwrap();
    let update = format!("/Calls/{sid}.json");
    let (status, error) = post(&api, &update, "Twiml=%3CResponse%2F%3E").await;
    assert_eq!((status, &error["code"]), (400, &json!(21220)));
    let (status, resource) = post(&api, &update, "Status=canceled").await;
    assert_eq!(
        (status, resource["status"].as_str()),
        (200, Some("canceled"))
    );
    assert!(!switchboard.call(sid).unwrap().status.is_live());
    assert_eq!(api.violations(), []);
    for (body, code) in [
        ("From=%2B15557654321&Twiml=x", 21201),
        ("To=%2B61255501234&Twiml=x", 21213),
        ("To=0800&From=%2B15557654321&Twiml=x", 21211),
        ("To=%2B61255501234&From=me&Twiml=x", 21212),
        ("To=%2B61255501234&From=%2B15550000000&Twiml=x", 21210),
        ("To=%2B61255501234&From=%2B15557654321", 21205),
        ("To=%2B61255501234&From=%2B15557654321&Url=x", 21205),
    ] {
        let (status, error) = post(&api, "/Calls.json", body).await;
        assert_eq!(
            (status, error["code"].as_u64()),
            (400, Some(code)),
            "{body}"
        );
    }
    assert_eq!(api.violations().len(), 7);
}

#[tokio::test]
async fn a_message_is_taken_or_refused_as_twilio_does() {
    let script: RestScript = toml::from_str(
        r#"
        sms.opted_out = ["+61255500001"]
        sms.landlines = ["+61255500002"]
        sms.services = ["MG0123456789abcdef0123456789abcdef"]
        "#,
    )
    .unwrap();
    let (api, _) = api(script).await;
    let good = "To=%2B61255501234&From=%2B15557654321&Body=Monday%20at%20nine.";
    let (status, message) = post(&api, "/Messages.json", good).await;
    assert_eq!((status, message["status"].as_str()), (201, Some("queued")));
    assert!(message["sid"].as_str().unwrap().starts_with("SM"));
    assert_eq!(message["num_segments"], "1");
    assert_eq!(message["error_code"], Value::Null);
    let created = message["date_created"].as_str().unwrap();
    assert!(jiff::fmt::rfc2822::parse(created).is_ok(), "{created}");
    let service = "To=%2B61255501234&MessagingServiceSid=MG0123456789abcdef0123456789abcdef&Body=x";
    let (status, message) = post(&api, "/Messages.json", service).await;
    assert_eq!(
        (status, message["status"].as_str()),
        (201, Some("accepted"))
    );
    let sent = api.messages();
    assert_eq!((sent.len(), sent[0].body.as_str()), (2, "Monday at nine."));

    // Not the bridge's fault: it could not know.
    for (body, code) in [
        ("To=%2B61255501234&From=%2B15550000000&Body=x", 21606),
        ("To=%2B61255500001&From=%2B15557654321&Body=x", 21610),
        ("To=%2B61255500002&From=%2B15557654321&Body=x", 21614),
        ("To=%2B61255501234&MessagingServiceSid=MGx&Body=x", 21705),
    ] {
        let (status, error) = post(&api, "/Messages.json", body).await;
        assert_eq!(
            (status, error["code"].as_u64()),
            (400, Some(code)),
            "{body}"
        );
    }
    assert_eq!(api.violations(), []);
    let long = format!(
        "To=%2B61255501234&From=%2B15557654321&Body={}",
        "x".repeat(1601)
    );
    for (body, code) in [
        ("From=%2B15557654321&Body=x", 21604),
        ("To=%2B61255501234&Body=x", 21603),
        ("To=%2B61255501234&From=%2B15557654321", 21602),
        ("To=mum&From=%2B15557654321&Body=x", 21211),
        ("To=%2B15557654321&From=%2B15557654321&Body=x", 21266),
        ("To=%2B61255501234&From=shop!&Body=x", 21212),
        (&long, 21617),
        ("To=%2B61255501234&From=%2B15557654321&Body=x&Text=y", 20001),
    ] {
        let (status, error) = post(&api, "/Messages.json", body).await;
        assert_eq!(
            (status, error["code"].as_u64()),
            (400, Some(code)),
            "{body:.60}"
        );
    }
    assert_eq!(api.violations().len(), 8);
    api.fail([Failure::TooManyRequests, Failure::Auth]);
    assert_eq!(post(&api, "/Messages.json", good).await.1["code"], 20429);
    assert_eq!(post(&api, "/Messages.json", good).await.1["code"], 20003);
    assert_eq!(api.messages().len(), 2);
}

async fn look(api: &RestHandle, path: &str) -> (u16, Value) {
    let path = format!("/2010-04-01/Accounts/{ACCOUNT}{path}");
    let answer = exchange(api, "GET", &path, "12345", "X: y", "").await;
    answer.unwrap()
}

#[tokio::test]
async fn an_account_shows_itself_and_what_it_owns() {
    let (api, _) = api(RestScript::default()).await;
    let (status, body) = look(&api, ".json").await;
    let shown = (status, body["status"].as_str(), body["type"].as_str());
    assert_eq!(shown, (200, Some("active"), Some("Full")));
    let number = account::Number {
        voice_url: "https://b.example.com/voice/incoming".into(),
        ..account::Number::default()
    };
    let application = account::Application::default();
    let (pn, ap) = (number.sid.clone(), application.sid.clone());
    api.with_account(|account| {
        account.numbers = vec![number];
        account.applications = vec![application];
    });
    // The filter takes parts of a number; a plus is written %2B.
    for (query, found) in [
        ("", 1),
        ("?PhoneNumber=%2B15557654321", 1),
        ("?PhoneNumber=7654*", 1),
        ("?PhoneNumber=%2B15550000000", 0),
    ] {
        let (status, body) = look(&api, &format!("/IncomingPhoneNumbers.json{query}")).await;
        let numbers = body["incoming_phone_numbers"].as_array().unwrap();
        assert_eq!((status, numbers.len()), (200, found), "{query}");
        assert_eq!(body["next_page_uri"], Value::Null);
        if let Some(number) = numbers.first() {
            assert_eq!(number["sid"], pn);
            assert_eq!(number["trunk_sid"], Value::Null);
            assert_eq!(number["voice_application_sid"], "");
        }
    }
    let (status, body) = look(&api, &format!("/Applications/{ap}.json")).await;
    assert_eq!((status, body["sid"].as_str()), (200, Some(ap.as_str())));
    let (status, body) = look(&api, &format!("/Applications/{}.json", sid("AP"))).await;
    assert_eq!((status, &body["code"]), (404, &json!(20404)));
    assert_eq!(api.violations(), []);

    // Nothing is filtered by what Twilio does not know, and nothing is changed from here.
    look(&api, "/IncomingPhoneNumbers.json?Number=1").await;
    let path = format!("/2010-04-01/Accounts/{ACCOUNT}.json");
    let refused = exchange(&api, "POST", &path, "12345", FORM, "Status=closed").await;
    assert_eq!(refused.unwrap().0, 405);
    assert_eq!(api.violations().len(), 2);
    let path = format!("/2010-04-01/Accounts/{ACCOUNT}.json");
    let refused = exchange(&api, "GET", &path, "wrong", "X: y", "").await;
    assert_eq!(refused.unwrap().1["code"], 20003);

    api.with_account(|account| account.status = "suspended".into());
    assert_eq!(look(&api, ".json").await.1["status"], "suspended");
    assert_eq!(look(&api, "/IncomingPhoneNumbers.json").await.0, 401);
}
