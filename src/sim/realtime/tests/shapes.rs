//! A client that makes mistakes: each is answered with the error that the real server has for it.

use serde_json::{Value, json};

use super::client::*;
use crate::sim::realtime::Dialect;

const GREETING: &str = r#"greeting = [{ say = "agent-greeting" }, { end = true }]"#;

#[tokio::test]
async fn only_a_correct_request_is_let_in() {
    let server = server("handshake = [\"accept\", 503]").await;
    let bearer = bearer();
    let key = [("Authorization", bearer.as_str())];
    let path = "/v1/realtime?model=m";
    assert_eq!(status(&server, path, &key).await, 101);
    assert_eq!(status(&server, path, &key).await, 503);
    assert_eq!(status(&server, path, &[]).await, 401);
    assert_eq!(
        status(&server, path, &[("Authorization", "Bearer other")]).await,
        401
    );
    assert_eq!(
        status(&server, "/openai/v1/realtime?model=m", &[("api-key", KEY)]).await,
        101
    );
    assert_eq!(server.record().violations(), [""; 0]);
    for (path, headers, expected, violation) in [
        ("/v1/chat?model=m", &key[..], 404, "path /v1/chat"),
        ("/v1/realtime", &key[..], 400, "query: no model"),
        ("/v1/realtime?model=m&x=1", &key[..], 101, "query: x is no"),
        (path, &[key[0], key[0]][..], 401, "more than one"),
    ] {
        assert_eq!(status(&server, path, headers).await, expected, "{path}");
        let record = server.record();
        let last = record.violations().last().copied().unwrap().to_owned();
        assert!(last.starts_with(violation), "{last}");
    }
}

#[tokio::test]
async fn the_shape_of_the_beta_is_switched_off() {
    let server = server("").await;
    let bearer = bearer();
    let headers = [
        ("Authorization", bearer.as_str()),
        ("OpenAI-Beta", "realtime=v1"),
    ];
    let mut client = connect(&server, "/v1/realtime?model=m", &headers)
        .await
        .unwrap();
    let error = client.next().await;
    assert_eq!(error["error"]["code"], "beta_api_shape_disabled");
    assert_eq!(
        client.end().await,
        End::Closed(4000, "invalid_request_error.beta_api_shape_disabled".into())
    );
    assert_eq!(server.stop().await.violations().len(), 1);
}

/// An update of the session in which one thing is otherwise.
fn with(path: &[&str], value: Value) -> Value {
    let mut session = session();
    let mut at = &mut session;
    for key in path {
        at = &mut at[*key];
    }
    *at = value;
    json!({ "type": "session.update", "session": session })
}

/// What is sent, and the code and the field of the one error that answers it.
fn mistakes() -> Vec<(Value, &'static str, &'static str)> {
    let item = |item: Value| json!({ "type": "conversation.item.create", "item": item });
    let message = |role: &str, kind: &str| {
        item(json!({ "type": "message", "role": role, "content": [{ "type": kind, "text": "x" }] }))
    };
    vec![
        (json!({}), "missing_required_parameter", "type"),
        (json!({ "type": 1 }), "invalid_type", "type"),
        (json!({ "type": "response.start" }), "invalid_value", "type"),
        (
            json!({ "type": "response.create", "modalities": ["audio"] }),
            "unknown_parameter",
            "modalities",
        ),
        (
            json!({ "type": "session.update", "session": { "voice": "marin" } }),
            "missing_required_parameter",
            "session.type",
        ),
        (
            with(&["voice"], "marin".into()),
            "unknown_parameter",
            "session.voice",
        ),
        (
            with(&["temperature"], 0.8.into()),
            "unknown_parameter",
            "session.temperature",
        ),
        (
            with(&["output_modalities"], json!(["audio", "text"])),
            "invalid_value",
            "session.output_modalities",
        ),
        (
            with(&["audio", "input", "format", "rate"], 8000.into()),
            "unknown_parameter",
            "session.audio.input.format.rate",
        ),
        (
            with(
                &["audio", "output", "format"],
                json!({ "type": "audio/pcm", "rate": 8000 }),
            ),
            "integer_below_min_value",
            "session.audio.output.format.rate",
        ),
        (
            with(&["audio", "output", "format"], "g711_ulaw".into()),
            "invalid_type",
            "session.audio.output.format",
        ),
        (
            with(&["audio", "output", "speed"], 2.into()),
            "decimal_above_max_value",
            "session.audio.output.speed",
        ),
        (
            with(
                &["audio", "input", "turn_detection"],
                json!({ "type": "server_vad", "eagerness": "low" }),
            ),
            "unknown_parameter",
            "session.audio.input.turn_detection.eagerness",
        ),
        (
            with(
                &["audio", "input", "turn_detection", "threshold"],
                "0.5".into(),
            ),
            "invalid_type",
            "session.audio.input.turn_detection.threshold",
        ),
        (
            with(
                &["tools"],
                json!([{ "type": "function", "name": "x", "parameters": "{}" }]),
            ),
            "invalid_type",
            "session.tools[0].parameters",
        ),
        (
            with(
                &["tools"],
                json!([{ "type": "function", "function": { "name": "x" } }]),
            ),
            "unknown_parameter",
            "session.tools[0].function",
        ),
        (
            json!({ "type": "input_audio_buffer.append", "audio": "not base64" }),
            "invalid_value",
            "audio",
        ),
        (
            json!({ "type": "input_audio_buffer.append", "audio": "" }),
            "invalid_value",
            "audio",
        ),
        (
            message("assistant", "text"),
            "invalid_value",
            "item.content[0].type",
        ),
        (
            message("assistant", "input_text"),
            "invalid_value",
            "item.content[0].type",
        ),
        (
            message("user", "text"),
            "invalid_value",
            "item.content[0].type",
        ),
        (
            item(json!({ "type": "function_call_output", "call_id": "x", "output": {} })),
            "invalid_type",
            "item.output",
        ),
        (
            item(json!({ "type": "function_call_output", "call_id": "x", "output": "" })),
            "invalid_tool_call_id",
            "item.call_id",
        ),
        (
            item(json!({ "type": "force_message", "role": "assistant", "content": [] })),
            "invalid_value",
            "item.type",
        ),
        (
            json!({ "type": "conversation.item.truncate", "item_id": "x", "content_index": 0, "audio_end_ms": 12.5 }),
            "invalid_type",
            "audio_end_ms",
        ),
        (
            json!({ "type": "conversation.item.truncate", "item_id": "x", "content_index": 0, "audio_end_ms": "12" }),
            "invalid_type",
            "audio_end_ms",
        ),
        (
            json!({ "type": "conversation.item.truncate", "item_id": "x", "content_index": 0, "audio_end_ms": 12 }),
            "item_truncate_invalid_item_id",
            "item_id",
        ),
        (
            json!({ "type": "conversation.item.delete", "item_id": "x" }),
            "item_delete_invalid_item_id",
            "item_id",
        ),
        (
            json!({ "type": "response.create", "response": { "output_modalities": "audio" } }),
            "invalid_type",
            "response.output_modalities",
        ),
        (
            json!({ "type": "response.create", "response": { "metadata": { "n": 1 } } }),
            "invalid_type",
            "response.metadata.n",
        ),
    ]
}

#[tokio::test]
async fn every_wrong_shape_has_its_error_and_is_a_violation() {
    let server = server("").await;
    let mut client = call(&server).await;
    for (n, (mut event, code, param)) in mistakes().into_iter().enumerate() {
        event["event_id"] = format!("event {n}").into();
        client.send(event.clone()).await;
        let error = client.next().await;
        assert_eq!(error["type"], "error", "{event}: {error}");
        let error = &error["error"];
        assert_eq!(error["code"], code, "{event}: {error}");
        assert_eq!(error["param"], param, "{event}: {error}");
        assert_eq!(error["event_id"], event["event_id"]);
        assert_eq!(error["type"], "invalid_request_error");
        assert_eq!(server.record().violations().len(), n + 1, "{event}");
    }
    client.text("hello").await;
    assert_eq!(client.next().await["error"]["code"], "invalid_json");
    client
        .send(json!({ "type": "output_audio_buffer.clear" }))
        .await;
    assert_eq!(client.next().await["type"], "error");
    // And the session is none the worse for it.
    client.create().await;
    client.await_type("response.done").await;
}

#[tokio::test]
async fn all_the_fields_of_the_types_are_taken() {
    let server = server("").await;
    let mut client = call(&server).await;
    let mut whole = session();
    whole["audio"]["input"]["noise_reduction"] = json!({ "type": "near_field" });
    whole["audio"]["input"]["turn_detection"] =
        json!({ "type": "semantic_vad", "eagerness": "low", "create_response": true });
    whole["audio"]["output"]["speed"] = 1.into();
    whole["tools"] = json!([{ "type": "function", "name": "x", "description": "y", "parameters": { "type": "object" } }]);
    whole["tool_choice"] = "auto".into();
    whole["max_output_tokens"] = "inf".into();
    whole["truncation"] = json!({ "type": "retention_ratio", "retention_ratio": 0.8, "token_limits": { "post_instructions": 9 } });
    whole["reasoning"] = json!({ "effort": "low" });
    whole["parallel_tool_calls"] = true.into();
    whole["prompt"] = json!({ "id": "p", "version": "1", "variables": {} });
    whole["tracing"] = Value::Null;
    whole["include"] = json!(["item.input_audio_transcription.logprobs"]);
    client
        .send(json!({ "type": "session.update", "session": whole }))
        .await;
    client.await_type("session.updated").await;
    let item = json!({ "type": "message", "role": "user", "id": "item-1", "content": [{ "type": "input_text", "text": "x" }] });
    client
        .send(
            json!({ "type": "conversation.item.create", "previous_item_id": "root", "item": item }),
        )
        .await;
    client.await_type("conversation.item.done").await;
    client
        .send(json!({ "type": "response.create", "response": {
            "instructions": "x", "input": [item], "conversation": "auto", "output_modalities": ["audio"],
            "audio": { "output": { "voice": "marin" } }, "tools": [], "tool_choice": "none",
            "metadata": { "a": "b" }, "max_output_tokens": 100,
        } }))
        .await;
    let done = client.await_type("response.done").await;
    assert_eq!(done["response"]["metadata"], json!({ "a": "b" }));
    clean(server).await;
}

#[tokio::test]
async fn audio_ahead_of_the_session_is_noise() {
    let server = server("[[replies]]\nsteps = [{ say = \"agent-more\" }]").await;
    let mut client = dial(&server).await;
    client.audio(1_000, true).await;
    client
        .send(json!({ "type": "session.update", "session": session() }))
        .await;
    client.await_type("session.updated").await;
    let record = server.stop().await;
    assert_eq!(record.violations().len(), 1);
    assert!(record.violations()[0].starts_with("audio ahead of session.update"));
}

#[tokio::test]
async fn there_is_one_response_at_a_time() {
    let server = server(
        r#"
        [[replies]]
        steps = [{ wait = "60m" }]
        [[replies]]
        on = "prompt"
        steps = [{ wait = "60m" }]"#,
    )
    .await;
    let mut client = call(&server).await;
    // The server's own: a race.
    client.utterance().await;
    client
        .await_type("conversation.item.input_audio_transcription.completed")
        .await;
    client.create().await;
    let error = client.await_type("error").await;
    assert_eq!(
        error["error"]["code"],
        "conversation_already_has_active_response"
    );
    assert_eq!(error["error"]["event_id"], "ours");
    assert_eq!(server.record().violations(), [""; 0]);
    client.send(json!({ "type": "response.cancel" })).await;
    client.await_type("response.done").await;
    // The client's own: a mistake.
    let item = json!({ "type": "message", "role": "user", "content": [{ "type": "input_text", "text": "x" }] });
    client
        .send(json!({ "type": "conversation.item.create", "item": item }))
        .await;
    client.create().await;
    client.create().await;
    client.await_type("error").await;
    assert_eq!(server.record().violations().len(), 1);
}

#[tokio::test]
async fn what_was_heard_is_not_truncated_nor_what_was_never_said() {
    let server = server(GREETING).await;
    let mut client = call(&server).await;
    client.create().await;
    let done = client.await_type("response.done").await;
    client.await_type("rate_limits.updated").await;
    let said = done["response"]["output"][0]["id"].clone();
    let truncate = |id: &Value, ms: u64| json!({ "type": "conversation.item.truncate", "item_id": id, "content_index": 0, "audio_end_ms": ms });
    client.send(truncate(&said, 2_501)).await;
    let error = client.next().await;
    assert_eq!(
        error["error"]["message"],
        "Audio content of 2500ms is already shorter than 2501ms"
    );
    client.send(truncate(&said, 2_500)).await;
    assert_eq!(client.next().await["type"], "conversation.item.truncated");
    let item = json!({ "type": "message", "role": "user", "id": "item-1", "content": [{ "type": "input_text", "text": "x" }] });
    client
        .send(json!({ "type": "conversation.item.create", "item": item }))
        .await;
    client.await_type("conversation.item.done").await;
    client.send(truncate(&json!("item-1"), 1)).await;
    let error = client.next().await;
    assert_eq!(error["error"]["code"], "unsupported_content_type");
    let mut other = session();
    other["audio"]["output"]["voice"] = "cedar".into();
    client
        .send(json!({ "type": "session.update", "session": other }))
        .await;
    assert_eq!(client.next().await["error"]["code"], "cannot_update_voice");
    client
        .send(json!({ "type": "session.update", "session": { "type": "realtime", "audio": { "input": { "turn_detection": null } } } }))
        .await;
    client.await_type("session.updated").await;
    let record = server.stop().await;
    let violations = record.violations();
    assert_eq!(violations.len(), 5, "{violations:?}");
    assert!(violations[4].starts_with("session.audio: not both formats again"));
}

#[tokio::test]
async fn a_call_is_answered_once() {
    let server = server(r#"greeting = [{ tool = { name = "x" } }]"#).await;
    let mut client = call(&server).await;
    client.create().await;
    let done = client.await_type("response.done").await;
    let call_id = &done["response"]["output"][0]["call_id"];
    client.output(call_id, "").await;
    client.await_type("conversation.item.done").await;
    assert_eq!(server.record().violations(), [""; 0]);
    client.output(call_id, "").await;
    assert_eq!(
        client.await_type("error").await["error"]["code"],
        "invalid_tool_call_id"
    );
    assert_eq!(server.record().violations().len(), 1);
}

#[tokio::test]
async fn an_empty_buffer_cannot_be_committed() {
    let server = server("").await;
    let mut manual = session();
    manual["audio"]["input"]["turn_detection"] = Value::Null;
    let mut client = call_with(&server, manual).await;
    client.audio(80, true).await;
    client
        .send(json!({ "type": "input_audio_buffer.commit" }))
        .await;
    assert_eq!(
        client.next().await["error"]["code"],
        "input_audio_buffer_commit_empty"
    );
    client.audio(400, true).await;
    client
        .send(json!({ "type": "input_audio_buffer.commit" }))
        .await;
    assert_eq!(client.next().await["type"], "input_audio_buffer.committed");
    clean(server).await;
}

#[test]
fn what_one_dialect_takes_another_refuses() {
    use crate::sim::realtime::tables;
    let force = json!({ "type": "conversation.item.create", "item": {
        "type": "force_message", "role": "assistant", "content": [{ "type": "output_text", "text": "x" }] } });
    let top = json!({ "type": "session.update", "session": { "voice": "ara", "turn_detection": { "type": "server_vad" } } });
    let flat = json!({ "type": "session.update", "session": { "modalities": ["audio", "text"], "input_audio_format": "pcm16" } });
    let text = json!({ "type": "conversation.item.create", "item": {
        "type": "message", "role": "assistant", "content": [{ "type": "text", "text": "x" }] } });
    let ga = json!({ "type": "session.update", "session": session() });
    use Dialect::{Beta, Ga, Plain, Xai};
    for (event, takers) in [
        (force, &[Xai][..]),
        (top, &[Xai, Beta]),
        (flat, &[Beta]),
        (text, &[Beta]),
        (ga, &[Ga, Plain]),
    ] {
        for dialect in [Ga, Beta, Xai, Plain] {
            let taken = tables::event(dialect).check(&event, "").is_ok();
            assert_eq!(taken, takers.contains(&dialect), "{dialect:?}: {event}");
        }
    }
}
