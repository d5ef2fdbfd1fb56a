//! The media socket, spoken to by hand: tokens, frames and formats that no telephone of ours sends.

use hume_bridge::sim::{bridge::ACCOUNT_SID, phone::sid, scenario::World};
use serde_json::{Map, Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{
        Message,
        protocol::frame::{
            Frame,
            coding::{Data, OpCode},
        },
    },
};

use futures_util::{SinkExt, StreamExt};

use crate::stage::{causes, close, exchange, in_time, status, world};

const UNSIGNED: &str = "config = 'twilio.validate_signatures = false'\n\
                        [agent]\ngreeting = [{ say = \"agent-more\" }, { end = true }]";

type Socket = WebSocketStream<TcpStream>;

struct Call {
    sid: String,
    parameters: Map<String, Value>,
}

/// A webhook, and the parameters that its TwiML holds.
async fn rings(world: &World) -> Call {
    let sid = sid("CA");
    let form = format!(
        "CallSid={sid}&AccountSid={ACCOUNT_SID}&From=%2B15551234567&To=%2B15557654321&CallStatus=ringing\
         &FromCity=PARIS"
    );
    let request = format!(
        "POST /voice/incoming HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    );
    let answer = exchange(world.bridge.http, request.as_bytes())
        .await
        .expect("TwiML");
    let twiml = roxmltree::Document::parse(&answer.body).expect("TwiML");
    let parameters = twiml.descendants().filter_map(|node| {
        let value = node.attribute("value")?;
        Some((node.attribute("name")?.to_owned(), json!(value)))
    });
    Call {
        sid,
        parameters: parameters.collect(),
    }
}

impl Call {
    fn token(&self) -> &str {
        self.parameters["token"].as_str().expect("a token")
    }

    fn start(&self) -> Value {
        json!({
            "event": "start", "sequenceNumber": "1", "streamSid": sid("MZ"),
            "start": {
                "accountSid": ACCOUNT_SID, "streamSid": sid("MZ"), "callSid": self.sid,
                "tracks": ["inbound"],
                "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
                "customParameters": self.parameters,
            },
        })
    }
}

async fn connect(world: &World) -> Socket {
    let tcp = TcpStream::connect(world.bridge.http).await.unwrap();
    let (socket, _) = client_async("ws://bridge.example.com/media-stream", tcp)
        .await
        .unwrap();
    socket
}

async fn text(socket: &mut Socket, value: &Value) {
    socket.send(Message::text(value.to_string())).await.unwrap();
}

/// The next media message's arrival: the agent is heard.
async fn heard(socket: &mut Socket) {
    in_time(async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Text(text))) if text.contains("\"media\"") => return,
                Some(Ok(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    })
    .await;
}

/// How the bridge closes.
async fn closed(socket: &mut Socket) -> Option<u16> {
    in_time(async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Close(frame))) => return frame.map(|frame| frame.code.into()),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return None,
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_opens_one_stream_of_one_call() {
    let world = world(UNSIGNED).await;
    let (ann, bob) = (rings(&world).await, rings(&world).await);

    let mut first = connect(&world).await;
    text(&mut first, &ann.start()).await;
    heard(&mut first).await;
    let mut second = connect(&world).await;
    text(&mut second, &ann.start()).await;
    assert_eq!(
        closed(&mut second).await,
        Some(1008),
        "while the first is live"
    );
    first.close(None).await.unwrap();
    assert_eq!(closed(&mut first).await, None, "our own close had no code");
    while status(&world).await["activeSessions"] != 0 {}
    let mut third = connect(&world).await;
    text(&mut third, &ann.start()).await;
    assert_eq!(
        closed(&mut third).await,
        Some(1008),
        "when the first is over"
    );

    // Somebody else's call, caller or number; a token that was changed; none at all.
    let mut cases = Vec::new();
    for (path, value) in [
        ("/start/callSid", json!(sid("CA"))),
        ("/start/customParameters/from", json!("+15550000000")),
        ("/start/customParameters/to", json!("+15550000000")),
        ("/start/customParameters/route", json!("another")),
        ("/start/customParameters/city", json!("ROME")),
        ("/start/customParameters/token", json!(ann.token())),
        (
            "/start/customParameters/token",
            json!(bob.token().replace("v2.", "v2.9")),
        ),
        (
            "/start/customParameters/token",
            json!(format!("{}A", bob.token())),
        ),
        ("/start/customParameters/token", json!("")),
        ("/start/customParameters", json!({})),
        ("/start/mediaFormat/sampleRate", json!(16000)),
        ("/start/mediaFormat/channels", json!(2)),
        ("/start/mediaFormat/encoding", json!("audio/l16")),
    ] {
        let mut start = bob.start();
        *start.pointer_mut(path).unwrap() = value;
        cases.push(start);
    }
    for start in cases {
        let mut socket = connect(&world).await;
        text(&mut socket, &start).await;
        assert_eq!(closed(&mut socket).await, Some(1008), "{start}");
    }
    // None of which has used up the call itself.
    let mut socket = connect(&world).await;
    text(
        &mut socket,
        &json!({"event": "connected", "protocol": "Call", "version": "9.9"}),
    )
    .await;
    text(&mut socket, &bob.start()).await;
    heard(&mut socket).await;
    drop(socket);
    assert_eq!(
        causes(&close(world).await),
        ["carrier-lost", "carrier-lost"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_in_pieces_are_put_together_and_broken_ones_end_their_own_call_only() {
    let world = world(UNSIGNED).await;
    let frame = |bytes: &[u8], code, last| {
        Message::Frame(Frame::message(bytes.to_vec(), OpCode::Data(code), last))
    };
    let start = |call: &Call| call.start().to_string().into_bytes();

    let mut whole = connect(&world).await;
    let call = rings(&world).await;
    let bytes = start(&call);
    whole
        .send(frame(&bytes[..100], Data::Text, false))
        .await
        .unwrap();
    whole.send(Message::Ping("between".into())).await.unwrap();
    whole
        .send(frame(&bytes[100..], Data::Continue, true))
        .await
        .unwrap();
    heard(&mut whole).await;

    for (bytes, code, expected) in [
        (&b"\xff\xfe no UTF-8"[..], Data::Text, 1007),
        (b"a piece of nothing", Data::Continue, 1002),
        (b"reserved", Data::Reserved(3), 1002),
    ] {
        let mut socket = connect(&world).await;
        let call = rings(&world).await;
        text(&mut socket, &call.start()).await;
        heard(&mut socket).await;
        socket.send(frame(bytes, code, true)).await.unwrap();
        assert_eq!(closed(&mut socket).await, Some(expected), "{code:?}");
    }

    // The first call has noticed nothing.
    whole
        .send(Message::Ping("still there?".into()))
        .await
        .unwrap();
    let pong = async {
        while let Some(Ok(message)) = whole.next().await {
            if matches!(&message, Message::Pong(bytes) if &bytes[..] == b"still there?") {
                return true;
            }
        }
        false
    };
    assert!(in_time(pong).await);
    text(&mut whole, &json!({"event": "stop", "stop": {}})).await;
    assert_eq!(closed(&mut whole).await, Some(1000));
    let causes = causes(&close(world).await);
    assert_eq!(causes.len(), 4, "{causes:?}");
    assert_eq!(causes.last().map(String::as_str), Some("caller-hung-up"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_that_only_pings_is_nobodys() {
    let world = world(UNSIGNED).await;
    let mut socket = connect(&world).await;
    let code = in_time(async {
        loop {
            let _ = socket.send(Message::Ping("".into())).await;
            match socket.next().await {
                Some(Ok(Message::Close(frame))) => return frame.map(|frame| u16::from(frame.code)),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return None,
            }
        }
    })
    .await;
    assert_eq!(code, Some(1008));
    close(world).await;
}
