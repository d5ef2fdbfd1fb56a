//! Telephone stories against a bridge of a few lines, counted in frames, bytes and marks.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use super::*;

const TWIML: &str = "<Response><Connect action='/voice/after'><Stream url='wss://bridge.example.com/media-stream' \
    name='evi' statusCallback='https://bridge.example.com/voice/stream'><Parameter name='token' value='t&amp;1'/>\
    </Stream></Connect></Response>";

type Socket = WebSocketStream<TcpStream>;
type Behaviour = Arc<dyn Fn(Leg) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

#[derive(Default)]
struct Seen {
    /// Path and form of each webhook.
    forms: Vec<(String, HashMap<String, String>)>,
    /// Heads of all requests, as they were.
    heads: Vec<String>,
    /// Everything that came over sockets, after `connected`.
    messages: Vec<Value>,
    close_codes: Vec<Option<u16>>,
}

/// The bridge's side of one stream.
struct Leg {
    socket: Socket,
    stream_sid: String,
    seen: Arc<Mutex<Seen>>,
}

impl Leg {
    async fn send(&mut self, text: String) {
        let _ = self.socket.send(Message::text(text)).await;
    }

    async fn media(&mut self, audio: &[u8]) {
        let payload = base64_simd::STANDARD.encode_to_string(audio);
        self.send(
            json!({"event": "media", "streamSid": self.stream_sid, "media": {"payload": payload}})
                .to_string(),
        )
        .await;
    }

    async fn mark(&mut self, name: &str) {
        self.send(
            json!({"event": "mark", "streamSid": self.stream_sid, "mark": {"name": name}})
                .to_string(),
        )
        .await;
    }

    async fn clear(&mut self) {
        self.send(json!({"event": "clear", "streamSid": self.stream_sid}).to_string())
            .await;
    }

    /// Reads on until such a message; `None` at the end of the stream.
    async fn until(&mut self, mut what: impl FnMut(&Value) -> bool) -> Option<Value> {
        while let Some(Ok(message)) = self.socket.next().await {
            match message {
                Message::Text(text) => {
                    let value: Value =
                        serde_json::from_str(&text).unwrap_or(Value::String(text.to_string()));
                    self.seen.lock().unwrap().messages.push(value.clone());
                    if what(&value) {
                        return Some(value);
                    }
                }
                Message::Close(frame) => {
                    self.seen
                        .lock()
                        .unwrap()
                        .close_codes
                        .push(frame.map(|frame| frame.code.into()));
                }
                _ => {}
            }
        }
        None
    }

    async fn listen(&mut self) {
        self.until(|_| false).await;
    }

    async fn close(&mut self) {
        let _ = self
            .socket
            .close(Some(CloseFrame {
                code: 1000.into(),
                reason: "done".into(),
            }))
            .await;
        self.listen().await;
    }
}

struct Bridge {
    phone: Phone,
    seen: Arc<Mutex<Seen>>,
    _tasks: JoinSet<()>,
}

impl Bridge {
    /// A bridge that answers these documents by path, and behaves so on its streams.
    async fn new<F>(
        documents: &[(&str, &str)],
        behaviour: impl Fn(Leg) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let documents: Arc<HashMap<String, String>> = Arc::new(
            documents
                .iter()
                .map(|(path, body)| ((*path).into(), (*body).into()))
                .collect(),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut phone = Phone::new(
            "https://bridge.example.com",
            listener.local_addr().unwrap(),
            "AC0123456789abcdef0123456789abcdef",
            "12345",
        );
        phone.pace = 10.0;
        let seen = Arc::new(Mutex::new(Seen::default()));
        let behaviour: Behaviour = Arc::new(move |leg| Box::pin(behaviour(leg)));
        let mut tasks = JoinSet::new();
        let for_task = seen.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                connections.spawn(serve(
                    tcp,
                    documents.clone(),
                    behaviour.clone(),
                    for_task.clone(),
                ));
            }
        });
        Self {
            phone,
            seen,
            _tasks: tasks,
        }
    }

    async fn listening(documents: &[(&str, &str)]) -> Self {
        Self::new(documents, async |mut leg: Leg| leg.listen().await).await
    }

    fn paths(&self) -> Vec<String> {
        self.seen
            .lock()
            .unwrap()
            .forms
            .iter()
            .map(|(path, _)| path.clone())
            .collect()
    }

    fn messages(&self, event: &str) -> Vec<Value> {
        self.seen
            .lock()
            .unwrap()
            .messages
            .iter()
            .filter(|message| message["event"] == event)
            .cloned()
            .collect()
    }
}

async fn serve(
    mut tcp: TcpStream,
    documents: Arc<HashMap<String, String>>,
    behaviour: Behaviour,
    seen: Arc<Mutex<Seen>>,
) {
    let mut start = [0; 18];
    while tcp.peek(&mut start).await.unwrap() < start.len() {
        tokio::task::yield_now().await;
    }
    if start.starts_with(b"GET /media-stream ") {
        let heads = seen.clone();
        // The crate's own type for the refusal is large; it is never made.
        #[allow(clippy::result_large_err)]
        let socket =
            tokio_tungstenite::accept_hdr_async(tcp, |request: &Request, response: Response| {
                heads
                    .lock()
                    .unwrap()
                    .heads
                    .push(format!("{:?}", request.headers()));
                Ok(response)
            });
        let mut socket = socket.await.unwrap();
        let connected = socket.next().await.unwrap().unwrap();
        assert_eq!(
            connected,
            Message::text(r#"{"event":"connected","protocol":"Call","version":"1.0.0"}"#)
        );
        let mut leg = Leg {
            socket,
            stream_sid: String::new(),
            seen,
        };
        if let Some(start) = leg.until(|message| message["event"] == "start").await {
            leg.stream_sid = start["streamSid"].as_str().unwrap().to_owned();
            behaviour(leg).await;
        }
        return;
    }
    let mut bytes = Vec::new();
    let (head, body) = loop {
        tcp.read_buf(&mut bytes).await.unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "))
            .map_or(0, |n| n.parse().unwrap());
        if body.len() >= length {
            break (head.to_owned(), body.to_owned());
        }
    };
    let path = head.split(' ').nth(1).unwrap().to_owned();
    let form = form_urlencoded::parse(body.as_bytes())
        .into_owned()
        .collect();
    seen.lock().unwrap().forms.push((path.clone(), form));
    seen.lock().unwrap().heads.push(head);
    let answer = match documents.get(path.split('?').next().unwrap()) {
        Some(body) if body.starts_with("HTTP/1.1") => body.clone(),
        Some(body) => format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ),
        None => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
    };
    let _ = tcp.write_all(answer.as_bytes()).await;
}

/// Audio that counts: never a code that silence uses.
fn tone(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index % 100) as u8).collect()
}

fn is_tone(heard: &[u8]) -> usize {
    heard.iter().filter(|&&code| code < 100).count()
}

fn wait_for(what: Awaited) -> Step {
    Step::WaitFor {
        what,
        timeout: Duration::from_secs(60),
    }
}

#[track_caller]
fn clean(report: &CallReport) {
    assert_eq!(report.violations, [], "{:#?}", report.entries);
}

#[tokio::test]
async fn a_caller_speaks_and_every_frame_of_it_arrives_in_order() {
    let bridge = Bridge::listening(&[("/voice/incoming", TWIML)]).await;
    let report = bridge
        .phone
        .call(CallSetup::new(vec![
            Step::Say("caller-wait".into()),
            Step::HangUp,
        ]))
        .await;
    clean(&report);
    assert_eq!(report.ended, Ended::CallerHungUp);

    let media = bridge.messages("media");
    let clip = speech::clip("caller-wait").unwrap();
    let mut arrived = Vec::new();
    for (index, message) in media.iter().enumerate() {
        assert_eq!(message["sequenceNumber"], (index + 2).to_string());
        assert_eq!(message["media"]["chunk"], (index + 1).to_string());
        assert_eq!(message["media"]["track"], "inbound");
        let timestamp: u64 = message["media"]["timestamp"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        assert!(
            (102 + 20 * index as u64..105 + 20 * index as u64).contains(&timestamp),
            "{timestamp} for {index}"
        );
        arrived.extend(
            base64_simd::STANDARD
                .decode_to_vec(message["media"]["payload"].as_str().unwrap())
                .unwrap(),
        );
    }
    assert_eq!(media[0]["media"]["timestamp"], "102");
    assert_eq!(
        media.len(),
        clip.len().div_ceil(160),
        "one frame for every 20 ms, and then the end"
    );
    assert_eq!(&arrived[..clip.len()], clip);
    assert_eq!(report.frames_sent as usize, media.len());
    assert!(report.spoken.ends_with(&arrived));
    assert!(report.heard.len().abs_diff(report.spoken.len()) <= 160);

    let start = &bridge.messages("start")[0];
    assert_eq!(start["start"]["customParameters"], json!({"token": "t&1"}));
    assert_eq!(start["start"]["callSid"], report.call_sid);
    let stop = &bridge.messages("stop")[0];
    assert_eq!(stop["sequenceNumber"], (media.len() + 2).to_string());
    assert_eq!(bridge.seen.lock().unwrap().close_codes, [Some(1000)]);
    let mut paths = bridge.paths();
    paths.sort();
    assert_eq!(
        paths,
        ["/voice/incoming", "/voice/stream", "/voice/stream"],
        "no action after a hang-up"
    );
}

#[tokio::test]
async fn requests_look_like_twilios() {
    let bridge = Bridge::listening(&[("/voice/incoming", TWIML)]).await;
    let report = bridge.phone.call(CallSetup::new(vec![Step::HangUp])).await;
    clean(&report);
    let seen = bridge.seen.lock().unwrap();
    let form = &seen.forms[0].1;
    assert_eq!(form["CallStatus"], "ringing");
    assert_eq!(form["FromCity"], "SAN JOSÉ");
    assert_eq!(form["FromZip"], "");
    assert!(seen.heads[0].contains("User-Agent: TwilioProxy/1.1\r\n"));
    let upgrade = seen
        .heads
        .iter()
        .find(|head| head.contains("Twilio.TmeWs/1.0"))
        .unwrap();
    let signature = webhook::signature("12345", "wss://bridge.example.com/media-stream", &[]);
    assert!(
        upgrade.contains(&format!("{:?}: {signature:?}", "x-twilio-signature")),
        "{upgrade}"
    );
    for never in ["origin", "protocol", "extensions"] {
        assert!(!upgrade.contains(never), "{upgrade}");
    }
    let events: Vec<_> = seen
        .forms
        .iter()
        .filter_map(|(_, form)| form.get("StreamEvent"))
        .collect();
    assert!(events.iter().any(|event| *event == "stream-started"));
    assert!(events.iter().any(|event| *event == "stream-stopped"));
}

#[tokio::test]
async fn the_caller_hears_everything_and_the_mark_comes_back_when_it_was_heard() {
    let bridge = Bridge::new(&[("/voice/incoming", TWIML)], async |mut leg: Leg| {
        leg.mark("idle").await;
        leg.media(&tone(7950)).await;
        leg.media(&tone(50)).await;
        leg.mark("end").await;
        leg.listen().await;
    });
    let bridge = bridge.await;
    let call = bridge.phone.start(CallSetup::new(vec![]));
    let echoed = |name: &'static str| move |event: &Event| matches!(event, Event::MarkEchoed { name: found, how: Echo::Played } if found == name);
    let idle = call
        .until(Duration::from_secs(60), echoed("idle"))
        .await
        .unwrap();
    let end = call
        .until(Duration::from_secs(60), echoed("end"))
        .await
        .unwrap();
    call.hang_up().await;
    let report = call.finish().await;
    clean(&report);
    let received = report
        .first(|event| matches!(event, Event::AudioReceived { .. }))
        .unwrap();
    let began = report
        .first(|event| matches!(event, Event::PlayingBegan))
        .unwrap();
    assert!(idle.at <= began);
    assert!(began >= received);
    assert_eq!(
        end.at - began,
        Duration::from_secs(1),
        "a second of audio was heard, to the sample"
    );
    assert_eq!(
        report.count(|event| matches!(event, Event::PlayingEnded { bytes: 8000 })),
        1
    );
    let at = (began.as_micros() / 125) as usize;
    assert_eq!(is_tone(&report.heard), 8000);
    assert_eq!(
        is_tone(&report.heard[at..at + 8000]),
        8000,
        "the recording stands at its time"
    );
}

#[tokio::test]
async fn a_clear_silences_the_agent_and_brings_back_every_mark() {
    let bridge = Bridge::new(&[("/voice/incoming", TWIML)], async |mut leg: Leg| {
        for name in ["one", "two", "three"] {
            leg.media(&tone(40_000)).await;
            leg.mark(name).await;
        }
        // The caller breaks in after some of the first five seconds.
        leg.until(|message| message["event"] == "dtmf").await;
        leg.clear().await;
        leg.listen().await;
    });
    let bridge = bridge.await;
    let after = Step::After {
        speaking: Duration::from_secs(1),
        timeout: Duration::from_secs(60),
    };
    let script = vec![
        after,
        Step::Dtmf("5".into()),
        wait_for(Awaited::Clear),
        wait_for(Awaited::AgentQuiet),
        Step::HangUp,
    ];
    let report = bridge.phone.call(CallSetup::new(script)).await;
    clean(&report);
    assert_eq!(report.ended, Ended::CallerHungUp);
    let flushed = report.entries.iter().find_map(|entry| match entry.event {
        Event::ClearReceived { flushed, marks } => Some((flushed, marks)),
        _ => None,
    });
    let (flushed, marks) = flushed.unwrap();
    assert_eq!(
        is_tone(&report.heard) + flushed,
        120_000,
        "what was not heard was flushed"
    );
    assert!(is_tone(&report.heard) >= 8000);
    let echoes: Vec<_> = bridge
        .messages("mark")
        .iter()
        .map(|mark| mark["mark"]["name"].clone())
        .collect();
    assert_eq!(echoes, ["one", "two", "three"]);
    assert_eq!(
        report.count(|event| matches!(
            event,
            Event::MarkEchoed {
                how: Echo::Flushed,
                ..
            }
        )),
        marks
    );
    assert_eq!(
        bridge.messages("dtmf")[0]["dtmf"],
        json!({"track": "inbound_track", "digit": "5"})
    );
}

#[tokio::test]
async fn the_bridge_hangs_up_and_the_action_says_what_comes_next() {
    let after = "<Response><Say>Please hold.</Say><Dial action='/voice/dialled'>+61255550100</Dial></Response>";
    let documents = [
        ("/voice/incoming", TWIML),
        ("/voice/after", after),
        ("/voice/dialled", "<Response><Hangup/></Response>"),
    ];
    let bridge = Bridge::new(&documents, async |mut leg: Leg| {
        leg.media(&tone(800)).await;
        leg.close().await;
    });
    let mut bridge = bridge.await;
    bridge.phone.options.status_path = Some("/voice/status".into());
    let report = bridge.phone.call(CallSetup::new(vec![])).await;
    clean(&report);
    assert_eq!(report.ended, Ended::Hangup);
    assert_eq!(
        report.count(|event| matches!(event, Event::StopSent)),
        0,
        "there is nobody to send it to"
    );
    let closed = Event::SocketClosed {
        by: Party::Bridge,
        code: Some(1000),
        reason: "done".into(),
    };
    assert_eq!(report.count(|event| *event == closed), 1);
    let unplayed = report.entries.iter().find_map(|entry| match entry.event {
        Event::StreamOver { unplayed, .. } => Some(unplayed),
        _ => None,
    });
    assert_eq!(
        unplayed.unwrap() + is_tone(&report.heard),
        800,
        "what a close cuts off is not hidden"
    );
    assert_eq!(
        report.count(
            |event| matches!(event, Event::Dialled { numbers } if numbers == &["+61255550100"])
        ),
        1
    );
    let said = report
        .first(|event| matches!(event, Event::Said { .. }))
        .unwrap();
    let dialled = report
        .first(|event| matches!(event, Event::Dialled { .. }))
        .unwrap();
    assert!(dialled - said >= Duration::from_millis(12 * 60));
    let seen = bridge.seen.lock().unwrap();
    let form = |path: &str| {
        seen.forms
            .iter()
            .find(|(found, _)| found == path)
            .unwrap()
            .1
            .clone()
    };
    assert_eq!(form("/voice/after")["CallStatus"], "in-progress");
    assert_eq!(form("/voice/dialled")["DialCallStatus"], "completed");
    assert_eq!(form("/voice/status")["CallStatus"], "completed");
}

#[tokio::test]
async fn a_call_can_end_without_a_stream() {
    let at = async |document: &'static str| {
        let bridge = Bridge::listening(&[("/voice/incoming", document)]).await;
        bridge.phone.call(CallSetup::new(vec![])).await
    };
    let report = at("<Response><Reject reason='busy'/></Response>").await;
    clean(&report);
    assert_eq!(report.ended, Ended::Rejected { busy: true });
    let report = at("<Response><Say>Closed.</Say></Response>").await;
    clean(&report);
    assert_eq!(report.ended, Ended::NothingLeft);
    let report = at("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").await;
    clean(&report);
    assert!(matches!(report.ended, Ended::ApplicationError { .. }));
    let report =
        at("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 11\r\n\r\n<Response/>")
            .await;
    assert!(
        report.violations[0].0.starts_with("12300"),
        "{:?}",
        report.violations
    );
    let report = at("<Response><Redirect>/voice/incoming</Redirect></Response>").await;
    assert!(
        report.violations[0].0.starts_with("11215"),
        "{:?}",
        report.violations
    );
    let report = at(
        "<Response><Connect><Stream url='wss://bridge.example.com/nowhere'/></Connect></Response>",
    )
    .await;
    assert_eq!(report.ended, Ended::NothingLeft);
    assert_eq!(
        report.count(|event| matches!(event, Event::UpgradeRefused { status: 204 })),
        1
    );
}

#[tokio::test]
async fn everything_that_twilio_would_not_take_is_written_down_and_ignored() {
    let bridge = Bridge::new(&[("/voice/incoming", TWIML)], async |mut leg: Leg| {
        let sid = leg.stream_sid.clone();
        leg.send("hello".into()).await;
        leg.send(json!({"event": "clear", "streamSid": "MZ0"}).to_string())
            .await;
        leg.send(json!({"event": "clear", "stream_sid": sid}).to_string())
            .await;
        leg.send(
            json!({"event": "media", "streamSid": sid, "media": {"payload": "*"}}).to_string(),
        )
        .await;
        leg.media(b"RIFF\x00\x00\x00\x00WAVE").await;
        leg.media(&[]).await;
        let _ = leg.socket.send(Message::binary(vec![0xff; 160])).await;
        leg.mark("after all that").await;
        leg.listen().await;
    });
    let bridge = bridge.await;
    let call = bridge.phone.start(CallSetup::new(vec![]));
    assert!(
        call.until(Duration::from_secs(60), |event| matches!(
            event,
            Event::MarkEchoed { .. }
        ))
        .await
        .is_some()
    );
    call.hang_up().await;
    let report = call.finish().await;
    assert_eq!(report.violations.len(), 7, "{:?}", report.violations);
    assert_eq!(
        report.count(|event| matches!(
            event,
            Event::AudioReceived { .. } | Event::ClearReceived { .. }
        )),
        0
    );
}

#[tokio::test]
async fn ten_minutes_of_audio_overflow_the_queue_once() {
    let bridge = Bridge::new(&[("/voice/incoming", TWIML)], async |mut leg: Leg| {
        for _ in 0..12 {
            leg.media(&vec![1; 480_000]).await;
        }
        leg.mark("m").await;
        leg.clear().await;
        leg.listen().await;
    });
    let bridge = bridge.await;
    let report = bridge
        .phone
        .call(CallSetup::new(vec![wait_for(Awaited::Clear), Step::HangUp]))
        .await;
    assert_eq!(report.violations.len(), 1, "{:?}", report.violations);
    assert!(report.violations[0].0.starts_with("31931"));
}

#[tokio::test]
async fn a_gap_sends_nothing_and_the_timestamps_jump() {
    let bridge = Bridge::listening(&[("/voice/incoming", TWIML)]).await;
    let script = vec![
        Step::Wait(Duration::from_millis(100)),
        Step::Gap(Duration::from_millis(200)),
        Step::Say("caller-yes".into()),
        Step::HangUp,
    ];
    let report = bridge.phone.call(CallSetup::new(script)).await;
    clean(&report);
    let stamps: Vec<u64> = bridge
        .messages("media")
        .iter()
        .map(|message| {
            message["media"]["timestamp"]
                .as_str()
                .unwrap()
                .parse()
                .unwrap()
        })
        .collect();
    let jumps: Vec<u64> = stamps
        .windows(2)
        .map(|pair| pair[1] - pair[0])
        .filter(|&step| step > 30)
        .collect();
    assert_eq!(jumps.len(), 1, "{stamps:?}");
    assert!((218..=224).contains(&jumps[0]), "{jumps:?}");
}

#[tokio::test]
async fn a_lost_connection_says_nothing_before_it_goes() {
    let bridge = Bridge::listening(&[("/voice/incoming", TWIML)]).await;
    let report = bridge
        .phone
        .call(CallSetup::new(vec![
            Step::Wait(Duration::from_secs(1)),
            Step::Drop,
        ]))
        .await;
    clean(&report);
    assert_eq!(report.ended, Ended::Dropped);
    assert_eq!(bridge.messages("stop").len(), 0);
    assert_eq!(bridge.seen.lock().unwrap().close_codes, []);
}

#[tokio::test]
async fn a_bridge_that_breaks_off_is_told_from_one_that_closes() {
    let bridge = Bridge::new(
        &[("/voice/incoming", TWIML), ("/voice/after", "<Response/>")],
        async |leg: Leg| drop(leg),
    );
    let report = bridge.await.phone.call(CallSetup::new(vec![])).await;
    assert_eq!(report.violations.len(), 1, "{:?}", report.violations);
    assert!(report.violations[0].0.starts_with("31903"));
    assert_eq!(report.ended, Ended::NothingLeft);
}

#[tokio::test]
async fn nobody_waits_for_ever() {
    let bridge = Bridge::listening(&[("/voice/incoming", TWIML)]).await;
    let script = vec![Step::WaitFor {
        what: Awaited::AgentSpeaking,
        timeout: Duration::from_secs(2),
    }];
    let report = bridge.phone.call(CallSetup::new(script)).await;
    assert!(
        matches!(&report.ended, Ended::StepTimedOut { step } if step.contains("AgentSpeaking"))
    );
    let mut phone = bridge.phone.clone();
    phone.options.linger = Duration::from_secs(1);
    let report = phone.call(CallSetup::new(vec![])).await;
    clean(&report);
    assert_eq!(report.ended, Ended::Lingered);
    assert_eq!(
        report.frames_sent, 50,
        "a second of frames, then the receiver goes down"
    );
}

#[tokio::test]
async fn the_story_goes_on_behind_the_stream() {
    let documents = [
        ("/voice/incoming", TWIML),
        (
            "/voice/after",
            "<Response><Pause length='60'/><Say>Too late.</Say></Response>",
        ),
    ];
    let bridge = Bridge::new(&documents, async |mut leg: Leg| leg.close().await).await;
    let script = vec![
        wait_for(Awaited::StreamOver),
        Step::Wait(Duration::from_secs(1)),
        Step::HangUp,
    ];
    let report = bridge.phone.call(CallSetup::new(script)).await;
    clean(&report);
    assert_eq!(report.ended, Ended::CallerHungUp);
    assert_eq!(report.count(|event| matches!(event, Event::Said { .. })), 0);
}

#[tokio::test]
async fn the_faults_are_what_they_say() {
    let with = async |fault: Fault| {
        let mut bridge = Bridge::listening(&[("/voice/incoming", TWIML)]).await;
        bridge.phone.options.faults = vec![fault];
        let report = bridge
            .phone
            .call(CallSetup::new(vec![
                Step::Wait(Duration::from_secs(1)),
                Step::HangUp,
            ]))
            .await;
        clean(&report);
        let heads = bridge.seen.lock().unwrap().heads.join("\n");
        (bridge, report, heads)
    };
    let url = "wss://bridge.example.com/media-stream";
    let signed = |token, url: &str| webhook::signature(token, url, &[]);

    let (bridge, _, _) = with(Fault::NoToken).await;
    assert_eq!(
        bridge.messages("start")[0]["start"]["customParameters"],
        json!({})
    );
    let (bridge, _, _) = with(Fault::StolenToken).await;
    let sids: Vec<_> = bridge
        .seen
        .lock()
        .unwrap()
        .forms
        .iter()
        .map(|(_, form)| form["CallSid"].clone())
        .collect();
    assert_ne!(sids[0], sids[1]);
    let (bridge, _, _) = with(Fault::NoWebhook).await;
    assert!(bridge.paths().is_empty());
    assert_eq!(bridge.messages("start").len(), 1);
    let (bridge, _, _) = with(Fault::BareNumbers).await;
    assert_eq!(bridge.messages("media")[0]["media"]["timestamp"], 102);
    let (bridge, _, _) = with(Fault::NeverStart).await;
    assert!(bridge.seen.lock().unwrap().messages.is_empty());
    let (bridge, report, _) = with(Fault::SecondSocket).await;
    assert_eq!(bridge.messages("start").len(), 2);
    assert_eq!(
        report.count(
            |event| matches!(event, Event::SecondSocket { outcome } if outcome.contains("silent"))
        ),
        1
    );
    let (_, _, heads) = with(Fault::UpgradeSignature).await;
    assert!(!heads.contains(&signed("12345", url)));
    let (_, _, heads) = with(Fault::TrailingSlash).await;
    assert!(heads.contains(&signed("12345", "wss://bridge.example.com/media-stream/")));
    let (_, _, heads) = with(Fault::Port443).await;
    assert!(heads.contains(&signed(
        "12345",
        "wss://bridge.example.com:443/media-stream"
    )));
    let (bridge, _, heads) = with(Fault::GetWebhook).await;
    assert!(heads.starts_with("GET /voice/incoming?AccountSid=AC"));
    assert!(bridge.paths()[0].contains("CallStatus=ringing"));
}

#[tokio::test]
async fn a_reader_that_lags_still_gets_to_the_end() {
    let mut bridge = Bridge::new(&[("/voice/incoming", TWIML)], async |mut leg: Leg| {
        // More than the socket holds; this blocks until the phone goes.
        leg.media(&tone(2_000_000)).await;
        leg.media(&tone(2_000_000)).await;
    })
    .await;
    bridge.phone.options.faults = vec![Fault::SlowReader];
    let report = bridge
        .phone
        .call(CallSetup::new(vec![
            Step::Wait(Duration::from_secs(2)),
            Step::HangUp,
        ]))
        .await;
    assert_eq!(report.ended, Ended::CallerHungUp);
    assert_eq!(
        report.count(|event| matches!(event, Event::AudioReceived { .. })),
        0
    );
}

#[tokio::test]
async fn a_load_call_counts_and_keeps_nothing() {
    #[derive(Default)]
    struct Counts {
        sent: u64,
        media: usize,
    }
    struct Counter(Arc<Mutex<Counts>>);
    impl Probe for Counter {
        fn frame(&mut self, number: u64, payload: &mut [u8; FRAME_SAMPLES]) {
            payload.fill(number as u8);
        }
        fn sent(&mut self, number: u64, _at: Instant) {
            let mut counts = self.0.lock().unwrap();
            assert_eq!(number, counts.sent);
            counts.sent += 1;
        }
        fn media(&mut self, mulaw: &[u8], _at: Instant) {
            self.0.lock().unwrap().media += mulaw.len();
        }
    }
    let bridge = Bridge::new(&[("/voice/incoming", TWIML)], async |mut leg: Leg| {
        while let Some(message) = leg.until(|message| message["event"] == "media").await {
            let audio = base64_simd::STANDARD
                .decode_to_vec(message["media"]["payload"].as_str().unwrap())
                .unwrap();
            leg.media(&audio).await;
        }
    })
    .await;
    let counts = Arc::new(Mutex::new(Counts::default()));
    let probe = Box::new(Counter(counts.clone()));
    let report = bridge
        .phone
        .load_call(CallSetup::new(vec![]), Duration::from_secs(4), probe)
        .await;
    clean(&report);
    assert_eq!(report.frames_sent, 200);
    assert_eq!(counts.lock().unwrap().sent, 200);
    let echoed = counts.lock().unwrap().media;
    assert!(
        echoed > 0 && echoed <= 200 * 160 && echoed.is_multiple_of(160),
        "{echoed}"
    );
    assert!(report.heard.is_empty() && report.spoken.is_empty());
    assert_eq!(
        bridge.messages("media")[7]["media"]["payload"],
        base64_simd::STANDARD.encode_to_string([7; 160])
    );
}
