//! What is read, and what is complained of.

use super::*;

const HOME: &str = "https://bridge.example.com/voice/incoming";

fn connect(inner: &str) -> (Vec<Verb>, Vec<String>) {
    read(format!("<Response>{inner}</Response>").as_bytes(), HOME).unwrap()
}

fn complaint(inner: &str) -> String {
    let (_, violations) = connect(inner);
    assert_eq!(violations.len(), 1, "{inner}: {violations:?}");
    violations.into_iter().next().unwrap()
}

#[test]
fn reads_what_a_bridge_answers() {
    let (verbs, violations) = read(
        br#"<?xml version="1.0" encoding="UTF-8"?><Response><Connect action="/voice/after" method="POST">
          <Stream name="evi" statusCallback="https://bridge.example.com/voice/stream" track="inbound_track"
          url="wss://bridge.example.com/media-stream"><Parameter name="token" value="a&amp;b" /></Stream>
          </Connect><Say language="en-GB">Sorry &lt;3</Say><Hangup/></Response>"#,
        HOME,
    )
    .unwrap();
    assert_eq!(violations, Vec::<String>::new());
    let expected = Stream {
        url: "wss://bridge.example.com/media-stream".into(),
        name: Some("evi".into()),
        status_callback: Some(Request {
            url: "https://bridge.example.com/voice/stream".into(),
            get: false,
        }),
        parameters: vec![("token".into(), "a&b".into())],
    };
    let action = Some(Request {
        url: "https://bridge.example.com/voice/after".into(),
        get: false,
    });
    assert_eq!(
        verbs,
        [
            Verb::Connect {
                action,
                stream: expected
            },
            Verb::Say("Sorry <3".into()),
            Verb::Hangup
        ]
    );
}

#[test]
fn a_relative_stream_takes_the_scheme_that_fits() {
    let (verbs, violations) = read(
        b"<Response><Connect><Stream url='/m'/></Connect></Response>",
        "http://127.0.0.1:8080/v",
    )
    .unwrap();
    assert_eq!(violations, Vec::<String>::new());
    assert!(
        matches!(&verbs[..], [Verb::Connect { stream, .. }] if stream.url == "ws://127.0.0.1:8080/m")
    );
}

#[test]
fn complains_of_all_that_twilio_would() {
    let stream = |attributes: &str, inner: &str| {
        complaint(&format!(
            "<Connect><Stream {attributes}>{inner}</Stream></Connect>"
        ))
    };
    let good = "url='wss://bridge.example.com/m'";
    assert!(stream("url='ws://bridge.example.com:443/m'", "").starts_with("31922"));
    assert!(stream("url='wss://bridge.example.com/m?token=1'", "").starts_with("31920"));
    assert!(stream("url='wss://elsewhere.example.com/m'", "").contains("another host"));
    assert!(stream(&format!("{good} track='both_tracks'"), "").starts_with("31941"));
    assert!(stream(&format!("{good} Name='x'"), "").starts_with("12200"));
    assert!(stream(&format!("{good} statusCallback='/voice/stream'"), "").contains("absolute"));
    assert!(stream(good, "<Parameter name='x'/>").starts_with("12200"));
    let long = format!("<Parameter name='x' value='{}'/>", "é".repeat(499));
    assert!(stream(good, &long).starts_with("31942"));
    assert!(stream(good, "words").contains("text directly"));
    assert!(complaint("<Connect><Conversation/></Connect>").starts_with("12200"));
    assert!(complaint("<Start><Stream url='wss://x/'/></Start>").contains("no verb"));
    assert!(complaint("<say>no</say>").contains("no verb"));
    assert!(complaint("<Say/>").contains("empty"));
    assert!(complaint("<Say>Hello</Say><Reject/>").contains("first verb"));
    assert!(complaint("<Reject reason='mood'/>").contains("mood"));
    assert!(complaint("<Dial>0800 reverse</Dial>").starts_with("13224"));
    assert!(complaint("<Dial timeout='3'>+15551234567</Dial>").contains("timeout"));
    assert!(complaint("<Hangup>now</Hangup>").contains("must be empty"));
}

#[test]
fn a_document_that_cannot_be_executed_is_an_error() {
    let of = |body: &[u8]| read(body, HOME).unwrap_err().to_string();
    assert!(of(b"<Response><Say>Tom & Jerry</Say></Response>").starts_with("12100"));
    assert!(of(b"{}").starts_with("12100"));
    assert!(of(b"").starts_with("12100"));
    assert!(of(b"<response/>").starts_with("12100"));
    assert!(of(&vec![b' '; LARGEST + 1]).starts_with("11750"));
}

#[test]
fn reads_whom_to_call_and_what_to_ask() {
    let (verbs, violations) = connect(
        "<Play digits='ww12#'/><Dial action='/voice/transferred' timeout='20' timeLimit='600' \
         callerId='+15557654321' answerOnBridge='true'><Number url='/voice/announce' \
         statusCallback='https://bridge.example.com/voice/status' statusCallbackEvent='answered completed' \
         statusCallbackMethod='POST'>+61255501234</Number></Dial>\
         <Gather numDigits='1' timeout='8' action='/voice/accept' finishOnKey=''><Say>Press a key.</Say></Gather>",
    );
    assert_eq!(violations, Vec::<String>::new());
    let ours = |path: &str| {
        Some(Request {
            url: format!("https://bridge.example.com{path}"),
            get: false,
        })
    };
    let dial = Dial {
        number: "+61255501234".into(),
        action: ours("/voice/transferred"),
        timeout: Duration::from_secs(20),
        time_limit: Duration::from_secs(600),
        caller_id: Some("+15557654321".into()),
        answer_on_bridge: true,
        url: ours("/voice/announce"),
        status_callback: ours("/voice/status"),
        events: vec![Progress::Answered, Progress::Completed],
    };
    let gather = Gather {
        action: ours("/voice/accept"),
        count: Some(1),
        timeout: Duration::from_secs(8),
        end: None,
        on_empty: false,
        meanwhile: vec![Verb::Say("Press a key.".into())],
    };
    assert_eq!(
        verbs,
        [
            Verb::PlayDigits("ww12#".into()),
            Verb::Dial(dial),
            Verb::Gather(gather)
        ]
    );
}

#[test]
fn complains_of_errands_that_twilio_would_not_run() {
    assert!(complaint("<Play>https://example.com/a.mp3</Play>").contains("no files"));
    assert!(complaint("<Play digits='12x'/>").starts_with("12200"));
    assert!(complaint("<Gather finishOnKey='12' action='/a'/>").starts_with("13310"));
    assert!(complaint("<Gather numDigits='0' action='/a'/>").starts_with("13314"));
    assert!(complaint("<Gather action='/a'><Hangup/></Gather>").starts_with("13320"));
    assert!(complaint("<Gather action='/a' input='speech'/>").contains("keys only"));
    let number = "<Number>+61255501234</Number>";
    assert!(complaint(&format!("<Dial>{number}{number}</Dial>")).contains("one number"));
    assert!(complaint("<Dial><Sip>sip:a@b</Sip></Dial>").starts_with("13215"));
    let event = "<Dial><Number statusCallback='https://x/' statusCallbackEvent='rang'>+1555</Number></Dial>";
    assert!(complaint(event).contains("rang"));
    assert!(complaint("<Dial answerOnBridge='yes'>+1555</Dial>").contains("answerOnBridge"));
}

#[test]
fn a_document_without_an_address_has_nothing_relative() {
    let given = |inner: &str| {
        let document = format!("<Response>{inner}</Response>");
        read_given(document.as_bytes(), "https://bridge.example.com").unwrap()
    };
    let (verbs, violations) = given(
        "<Connect action='https://bridge.example.com/a'><Stream url='wss://bridge.example.com/m'/></Connect>",
    );
    assert_eq!((verbs.len(), violations), (1, Vec::new()));
    for relative in [
        "<Redirect>/a</Redirect>",
        "<Dial action='/a'>+1555</Dial>",
        "<Connect><Stream url='/m'/></Connect>",
        "<Gather/>",
    ] {
        assert_eq!(given(relative).1.len(), 1, "{relative}");
    }
}
