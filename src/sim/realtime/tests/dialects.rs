//! Servers that are not OpenAI's.

use serde_json::{Value, json};

use super::client::*;
use crate::sim::{evi::What, realtime::Dialect};

const TALK: &str = r#"
    greeting = [{ say = "agent-greeting" }, { end = true }]
    [[replies]]
    heard = "when are you open"
    steps = [{ say = "agent-hours" }, { tool = { name = "x" } }]"#;

fn linear() -> Value {
    let mut session = session();
    let pcm = json!({ "type": "audio/pcm", "rate": 24000 });
    session["audio"]["input"]["format"] = pcm.clone();
    session["audio"]["output"]["format"] = pcm;
    session
}

/// Everything that is sent in a call with a greeting and one turn.
async fn told(client: &mut Client) -> Vec<Value> {
    client.create().await;
    let mut events = client.upto("response.done").await;
    client.audio(4_000, false).await;
    client.utterance().await;
    events.extend(client.upto("response.done").await);
    events
}

#[tokio::test]
async fn linear_audio_is_heard_and_spoken_too() {
    let server = server_of(Dialect::Ga, TALK).await;
    let mut client = call_with(&server, linear()).await;
    client.create().await;
    let said = client.upto("response.done").await;
    assert_eq!(audio(&said).len(), 2_500 * 48);
    client.utterance().await;
    client.upto("response.done").await;
    let record = clean(server).await;
    assert_eq!(
        record.uplinks[&0].audio.len(),
        1_000 * 8,
        "the record has 8 kHz whatever came"
    );
}

#[tokio::test]
async fn a_self_hosted_server_says_less() {
    let server = server_of(Dialect::Plain, TALK).await;
    let mut client = connect(&server, "/v1/realtime", &[]).await.unwrap();
    client.await_type("session.created").await;
    drop(client);
    let mut client = call_with(&server, linear()).await;
    let events = told(&mut client).await;
    let kinds = types(&events);
    for missing in [
        "response.created",
        "response.output_item.done",
        "conversation.item.done",
        "rate_limits.updated",
    ] {
        assert!(!kinds.contains(&missing), "{missing}");
    }
    for there in [
        "response.output_audio.delta",
        "response.function_call_arguments.done",
        "input_audio_buffer.committed",
    ] {
        assert!(kinds.contains(&there), "{there}");
    }
    assert_eq!(server.record().violations(), [""; 0]);
    // Mu-law is agreed to, and heard as something else.
    client
        .send(json!({ "type": "session.update", "session": session() }))
        .await;
    let updated = client.await_type("session.updated").await;
    assert_eq!(
        updated["session"]["audio"]["input"]["format"]["type"],
        "audio/pcmu"
    );
    assert_eq!(server.stop().await.violations().len(), 2);
}

#[tokio::test]
async fn the_older_names() {
    let server = server_of(Dialect::Beta, TALK).await;
    let session = json!({
        "modalities": ["audio", "text"],
        "instructions": "x",
        "voice": "alloy",
        "input_audio_format": "pcm16",
        "output_audio_format": "pcm16",
        "input_audio_transcription": { "model": "whisper-1" },
        "turn_detection": { "type": "server_vad" },
    });
    let mut client = call_with(&server, session).await;
    let events = told(&mut client).await;
    let kinds = types(&events);
    for there in [
        "response.created",
        "response.audio.delta",
        "response.audio.done",
        "response.audio_transcript.delta",
        "response.audio_transcript.done",
        "response.output_item.done",
        "conversation.item.created",
        "conversation.item.input_audio_transcription.completed",
    ] {
        assert!(kinds.contains(&there), "{there}");
    }
    let newer = |kind: &&str| {
        kind.starts_with("response.output_audio")
            || ["conversation.item.added", "conversation.item.done"].contains(kind)
    };
    assert_eq!(kinds.iter().copied().find(newer), None);
    let greeted = events.iter().find(|event| event["type"] == "response.done");
    assert_eq!(
        greeted.unwrap()["response"]["output"][0]["content"][0]["type"],
        "audio"
    );
    // Another format is refused.
    client
        .send(json!({ "type": "session.update", "session": { "input_audio_format": "g711_ulaw" } }))
        .await;
    let error = client.await_type("error").await;
    assert_eq!(error["error"]["param"], "session.input_audio_format");
}

#[tokio::test]
async fn a_server_that_leaves_the_cutting_to_its_client() {
    let server = server_of(
        Dialect::Xai,
        r#"
        greeting = [{ say = "agent-hours", realtime_factor = 1.0 }, { end = true }]
        [[replies]]
        heard = "when are you open"
        steps = [{ say = "agent-saturday" }, { end = true }]"#,
    )
    .await;
    let session = json!({
        "type": "realtime",
        "voice": "ara",
        "turn_detection": { "type": "server_vad" },
        "audio": {
            "input": { "format": { "type": "audio/pcmu" }, "transcription": { "model": "grok-transcribe" } },
            "output": { "format": { "type": "audio/pcmu" } },
        },
    });
    let mut client = call_with(&server, session).await;
    client.create().await;
    client.await_type("response.output_audio.delta").await;
    client.audio(400, true).await;
    let started = client.await_type("input_audio_buffer.speech_started").await;
    assert_eq!(started["audio_start_ms"], Value::Null);
    client.send(json!({ "type": "response.cancel" })).await;
    let done = client.await_type("response.done").await;
    assert_eq!(done["response"]["status"], "cancelled");
    client.audio(600, false).await;
    let events = client.upto("response.done").await;
    let words: Vec<&Value> = events
        .iter()
        .filter(|event| {
            let kind = event["type"].as_str().unwrap();
            kind.ends_with("input_audio_transcription.updated")
        })
        .map(|event| &event["transcript"])
        .collect();
    assert_eq!(words, ["when are", "when are you open"]);
    assert!(is_said(&events, &["agent-saturday"]));
    let item = json!({ "type": "force_message", "role": "assistant", "content": [{ "type": "output_text", "text": "One moment." }] });
    client
        .send(json!({ "type": "conversation.item.create", "item": item }))
        .await;
    let events = client.upto("response.done").await;
    assert!(!audio(&events).is_empty());
    let record = clean(server).await;
    assert_eq!(
        all(&record, |what| match what {
            What::AssistantInput { text } => Some(text.clone()),
            _ => None,
        }),
        ["One moment."]
    );
}

#[tokio::test]
async fn the_ping_of_one_and_the_conversation_of_two() {
    for (dialect, expected) in [
        (Dialect::Ga, &["session.created"][..]),
        (Dialect::Plain, &["session.created"]),
        (Dialect::Beta, &["session.created", "conversation.created"]),
        (
            Dialect::Xai,
            &["session.created", "conversation.created", "ping"],
        ),
    ] {
        let server = server_of(dialect, "").await;
        let mut client = dial(&server).await;
        let mut kinds = vec!["session.created".to_owned()];
        for _ in 1..expected.len() {
            kinds.push(client.next().await["type"].as_str().unwrap().to_owned());
        }
        assert_eq!(kinds, expected, "{dialect:?}");
        clean(server).await;
    }
}
