//! A client without a fault: what the server does, and that nothing of it is a violation.

use serde_json::{Value, json};

use super::client::*;
use crate::sim::evi::What;

const HOURS: &str = r#"
    [[replies]]
    heard = "when are you open"
    steps = [{ say = "agent-hours" }, { end = true }]"#;

#[tokio::test]
async fn a_session_begins_with_its_defaults_and_is_what_was_asked() {
    let server = server("").await;
    let mut client = connect(
        &server,
        "/v1/realtime?model=m",
        &[("Authorization", &bearer())],
    )
    .await
    .unwrap();
    let created = client.next().await;
    assert_eq!(created["type"], "session.created");
    let default = &created["session"];
    assert_eq!(default["model"], "m");
    assert_eq!(
        default["audio"]["input"]["format"],
        json!({ "type": "audio/pcm", "rate": 24000 })
    );
    assert_eq!(default["audio"]["input"]["transcription"], Value::Null);
    assert_eq!(
        default["audio"]["input"]["turn_detection"]["silence_duration_ms"],
        500
    );
    assert!(default["expires_at"].as_u64().unwrap() > 1_700_000_000);
    client
        .send(json!({ "type": "session.update", "session": session() }))
        .await;
    let updated = client.next().await;
    assert_eq!(updated["type"], "session.updated");
    let now = &updated["session"];
    assert_eq!(
        now["audio"]["input"]["format"],
        json!({ "type": "audio/pcmu" })
    );
    assert_eq!(now["audio"]["output"]["voice"], "marin");
    assert_eq!(now["audio"]["output"]["speed"], 1.0);
    assert_eq!(now["instructions"], "Be brief.");
    assert_ne!(created["event_id"], updated["event_id"]);
    let record = clean(server).await;
    let told = all(&record, |what| match what {
        What::Settings {
            context, voice_id, ..
        } => Some((context.clone(), voice_id.clone())),
        _ => None,
    });
    assert_eq!(told, [(Some("Be brief.".into()), Some("marin".into()))]);
}

#[tokio::test]
async fn the_greeting_comes_when_it_is_asked_for_and_as_the_clip_is() {
    let server = server(
        r#"greeting = [{ say = "agent-greeting" }, { say = "agent-more" }, { end = true }]"#,
    )
    .await;
    let mut client = call(&server).await;
    client.create().await;
    let all_of_it = client.upto("response.done").await;
    let mut kinds = types(&all_of_it);
    kinds.dedup();
    let item = [
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
        "response.output_audio_transcript.delta",
        "response.output_audio.delta",
        "response.output_audio.done",
        "response.output_audio_transcript.done",
        "response.content_part.done",
        "conversation.item.done",
        "response.output_item.done",
    ];
    let expected: Vec<&str> = ["response.created"]
        .into_iter()
        .chain(item)
        .chain(item)
        .chain(["response.done"])
        .collect();
    assert_eq!(kinds, expected);
    assert!(is_said(&all_of_it, &["agent-greeting", "agent-more"]));
    let lengths: Vec<usize> = all_of_it
        .iter()
        .filter(|event| event["type"] == "response.output_audio.delta")
        .map(|event| audio(std::slice::from_ref(event)).len())
        .collect();
    assert!(lengths.iter().any(|length| length % 2 == 1), "{lengths:?}");
    let done = all_of_it.last().unwrap();
    assert_eq!(done["response"]["status"], "completed");
    assert_eq!(done["response"]["output"].as_array().unwrap().len(), 2);
    assert_eq!(
        done["response"]["output"][0]["content"],
        json!([{ "type": "output_audio", "transcript": "Good day." }])
    );
    // There is only one greeting; a model that is asked for more than the script has is not without an
    // answer, but it is without words.
    client.await_type("rate_limits.updated").await;
    client.create().await;
    let more = client.upto("response.done").await;
    assert_eq!(audio(&more), [0xff; 160]);
    assert_eq!(more.last().unwrap()["response"]["status"], "completed");
    // And nobody had anything to ask for.
    let record = server.stop().await;
    assert_eq!(
        record.violations(),
        ["response.create: the server answers by itself, and there is nothing else to answer"]
    );
}

#[tokio::test]
async fn a_turn_of_the_caller_is_answered_by_itself() {
    let server = server(HOURS).await;
    let mut client = call(&server).await;
    client.audio(200, false).await;
    client.utterance().await;
    let events = client.upto("response.output_audio.delta").await;
    let kinds = types(&events);
    assert_eq!(
        kinds[..12],
        [
            "input_audio_buffer.speech_started",
            "input_audio_buffer.speech_stopped",
            "input_audio_buffer.committed",
            "conversation.item.added",
            "conversation.item.done",
            "response.created",
            "conversation.item.input_audio_transcription.delta",
            "conversation.item.input_audio_transcription.delta",
            "conversation.item.input_audio_transcription.completed",
            "response.output_item.added",
            "conversation.item.added",
            "response.content_part.added",
        ]
    );
    assert_eq!(events[0]["audio_start_ms"], 200);
    assert_eq!(events[1]["audio_end_ms"], 600);
    assert_eq!(events[8]["transcript"], "when are you open");
    let id = &events[0]["item_id"];
    assert!([1, 2, 8].iter().all(|n| events[*n]["item_id"] == *id));
    client.upto("response.done").await;
    let record = clean(server).await;
    assert_eq!(record.uplinks[&0].audio.len(), 1_200 * 8);
}

#[tokio::test]
async fn a_model_without_words_of_its_own_does_not_talk_over_the_caller() {
    let server = server(HOURS).await;
    let mut client = call(&server).await;
    client.create().await;
    client.await_type("response.created").await;
    client.utterance().await;
    let events = client.upto("response.done").await;
    assert!(audio(&events).is_empty());
    assert_eq!(
        events.last().unwrap()["response"]["status_details"]["reason"],
        "turn_detected"
    );
    assert!(is_said(
        &client.upto("response.done").await,
        &["agent-hours"]
    ));
    clean(server).await;
}

#[tokio::test]
async fn words_are_written_down_and_answered_only_if_the_session_says_so() {
    let server = server(HOURS).await;
    let mut quiet = session();
    let input = &mut quiet["audio"]["input"];
    input["transcription"] = Value::Null;
    input["turn_detection"]["create_response"] = false.into();
    let mut client = call_with(&server, quiet).await;
    client.utterance().await;
    let events = client.upto("conversation.item.done").await;
    assert_eq!(types(&events).len(), 5);
    client.create().await;
    assert_eq!(client.next().await["type"], "response.created");
    client.await_type("response.done").await;
    clean(server).await;
}

#[tokio::test]
async fn the_caller_cuts_a_response_that_is_under_way() {
    // In real time the clip would take 7.5 s.
    let server = server(
        r#"
        greeting = [{ say = "agent-hours", realtime_factor = 1.0 }, { tool = { name = "x" } }]
        [[replies]]
        on = "interruption"
        steps = [{ stale_audio = true }]
        [[replies]]
        steps = [{ say = "agent-saturday" }, { end = true }]"#,
    )
    .await;
    let mut client = call(&server).await;
    client.create().await;
    let first = client.await_type("response.output_audio.delta").await;
    client.audio(400, true).await;
    client.upto("input_audio_buffer.speech_started").await;
    let events = client.upto("response.done").await;
    assert_eq!(
        types(&events),
        [
            "response.output_audio.done",
            "response.output_audio_transcript.done",
            "response.content_part.done",
            "conversation.item.done",
            "response.output_item.done",
            "response.done",
        ]
    );
    assert_eq!(events[4]["item"]["status"], "incomplete");
    let done = &events[5]["response"];
    assert_eq!(done["status"], "cancelled");
    assert_eq!(
        done["status_details"],
        json!({ "type": "cancelled", "reason": "turn_detected" })
    );
    client.await_type("rate_limits.updated").await;
    for _ in 0..2 {
        let stale = client.next().await;
        assert_eq!(stale["type"], "response.output_audio.delta");
        assert_eq!(stale["item_id"], first["item_id"]);
    }
    client.audio(600, false).await;
    let second = client.upto("response.done").await;
    assert!(is_said(&second, &["agent-saturday"]));
    let record = clean(server).await;
    assert_eq!(
        all(&record, |what| matches!(what, What::Interrupted { .. })
            .then_some(()))
        .len(),
        1
    );
    assert_eq!(
        all(&record, |what| matches!(what, What::ToolCalled { .. })
            .then_some(()))
        .len(),
        0
    );
}

#[tokio::test]
async fn a_call_that_was_being_written_down_comes_as_a_fragment_and_is_none() {
    let server = server(
        r#"greeting = [{ wait = "1h" }, { tool = { name = "book", parameters = '{"day":1}' } }]"#
            .replace("1h", "60m")
            .as_str(),
    )
    .await;
    let mut client = call(&server).await;
    client.create().await;
    client.await_type("response.created").await;
    client.send(json!({ "type": "response.cancel" })).await;
    let events = client.upto("response.done").await;
    let done = events
        .iter()
        .find(|event| event["type"] == "response.function_call_arguments.done");
    assert_eq!(done.unwrap()["arguments"], "{");
    let item = events
        .iter()
        .find(|event| event["type"] == "response.output_item.done");
    assert_eq!(item.unwrap()["item"]["status"], "incomplete");
    assert_eq!(
        events.last().unwrap()["response"]["status_details"]["reason"],
        "client_cancelled"
    );
    // A second cancel has nothing to cut; that is a race, and nobody's fault.
    client
        .send(json!({ "type": "response.cancel", "event_id": "late" }))
        .await;
    let error = client.await_type("error").await;
    assert_eq!(error["error"]["code"], "response_cancel_not_active");
    assert_eq!(error["error"]["event_id"], "late");
    clean(server).await;
}

#[tokio::test]
async fn after_a_tool_call_the_server_waits_to_be_asked() {
    let server = server(
        r#"
        [[replies]]
        steps = [
            { say = "agent-more" },
            { end = true },
            { tool = { name = "first", wait = false } },
            { tool = { name = "book", parameters = '{"day":1}' } },
            { say = "agent-goodbye" },
            { end = true },
        ]
        [[replies]]
        on = "tool_answer"
        ok = false
        steps = [{ say = "agent-saturday" }, { end = true }]"#,
    )
    .await;
    let mut client = call(&server).await;
    client.utterance().await;
    let events = client.upto("response.done").await;
    let done = &events.last().unwrap()["response"];
    assert_eq!(done["status"], "completed");
    let output: Vec<&str> = done["output"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["type"].as_str().unwrap())
        .collect();
    assert_eq!(output, ["message", "function_call", "function_call"]);
    let arguments = events
        .iter()
        .filter(|event| event["type"] == "response.function_call_arguments.done");
    let last = arguments.clone().next_back().unwrap();
    assert_eq!(
        (last["name"].as_str(), arguments.count()),
        (Some("book"), 2)
    );
    assert_eq!(last["arguments"], r#"{"day":1}"#);
    let calls = [&done["output"][1]["call_id"], &done["output"][2]["call_id"]];
    client.output(calls[0], "done").await;
    client.output(calls[1], r#"{"error":"closed"}"#).await;
    client
        .send(json!({ "type": "input_audio_buffer.clear" }))
        .await;
    // Nothing of a response so far.
    let events = client.upto("input_audio_buffer.cleared").await;
    assert!(!types(&events).contains(&"response.created"), "{events:?}");
    client.create().await;
    let events = client.upto("response.done").await;
    assert!(is_said(&events, &["agent-goodbye", "agent-saturday"]));
    let record = clean(server).await;
    let answers = all(&record, |what| match what {
        What::ToolAnswered { ok, content, .. } => Some((*ok, content.clone())),
        _ => None,
    });
    assert_eq!(
        answers,
        [
            (true, "done".to_owned()),
            (false, r#"{"error":"closed"}"#.to_owned())
        ]
    );
}

#[tokio::test]
async fn what_was_not_heard_is_cut_from_the_conversation() {
    let server =
        server(r#"greeting = [{ say = "agent-hours" }, { say = "agent-more" }, { end = true }]"#)
            .await;
    let mut client = call(&server).await;
    client.create().await;
    let done = client.await_type("response.done").await;
    let items = [
        done["response"]["output"][0]["id"].clone(),
        done["response"]["output"][1]["id"].clone(),
    ];
    // Long generated, still playing: this interrupts too.
    client.audio(400, true).await;
    client.upto("input_audio_buffer.speech_started").await;
    client
        .send(json!({ "type": "conversation.item.truncate", "item_id": items[0], "content_index": 0, "audio_end_ms": 1234 }))
        .await;
    let ack = client.await_type("conversation.item.truncated").await;
    assert_eq!(
        (&ack["item_id"], &ack["audio_end_ms"]),
        (&items[0], &json!(1234))
    );
    client
        .send(json!({ "type": "conversation.item.delete", "item_id": items[1] }))
        .await;
    client.await_type("conversation.item.deleted").await;
    client
        .send(json!({ "type": "conversation.item.retrieve", "item_id": items[0] }))
        .await;
    let kept = client.await_type("conversation.item.retrieved").await;
    assert_eq!(
        kept["item"]["content"],
        json!([{ "type": "output_audio" }]),
        "the words are gone with the voice"
    );
    let record = clean(server).await;
    let cut = all(&record, |what| match what {
        What::Truncated {
            clip,
            heard_ms,
            of_ms,
            ..
        } => Some((clip.clone(), *heard_ms, *of_ms)),
        What::Deleted { clip, .. } => Some((clip.clone(), 0, 0)),
        _ => None,
    });
    assert_eq!(
        cut,
        [
            ("agent-hours".to_owned(), 1234, 7_500),
            ("agent-more".to_owned(), 0, 0)
        ]
    );
    assert_eq!(
        all(&record, |what| matches!(what, What::Interrupted { .. })
            .then_some(()))
        .len(),
        1
    );
}

#[tokio::test]
async fn context_prompts_and_words_to_say_are_on_record() {
    let server = server(
        r#"
        greeting = [{ say = "agent-greeting" }, { end = true }]
        [[replies]]
        on = "prompt"
        content = "12"
        steps = [{ say = "agent-goodbye" }, { end = true }]"#,
    )
    .await;
    let mut client = call(&server).await;
    client.create().await;
    client.upto("response.done").await;
    for (role, text) in [("system", "They are back."), ("user", "Keys: 12.")] {
        let item = json!({ "type": "message", "role": role, "content": [{ "type": "input_text", "text": text }] });
        client
            .send(json!({ "type": "conversation.item.create", "item": item }))
            .await;
        client.await_type("conversation.item.done").await;
    }
    client.create().await;
    let said = client.upto("response.done").await;
    assert!(is_said(&said, &["agent-goodbye"]));
    let words = "Say exactly the following and nothing else:\n\nIs there anything else?";
    client
        .send(json!({ "type": "response.create", "response": { "instructions": words, "input": [], "tool_choice": "none" } }))
        .await;
    let said = client.upto("response.done").await;
    let transcript = said
        .iter()
        .find(|event| event["type"] == "response.output_audio_transcript.done");
    assert_eq!(transcript.unwrap()["transcript"], "Is there anything else?");
    assert!(!audio(&said).is_empty());

    // A pause is a turn that is not answered.
    for creates in [false, true] {
        let mut update = json!({ "type": "realtime", "audio": session()["audio"] });
        update["audio"]["output"]
            .as_object_mut()
            .unwrap()
            .remove("voice");
        update["audio"]["input"]["turn_detection"]["create_response"] = creates.into();
        client
            .send(json!({ "type": "session.update", "session": update }))
            .await;
        client.await_type("session.updated").await;
    }
    let record = clean(server).await;
    let told = all(&record, |what| match what {
        What::Settings {
            context: Some(context),
            ..
        } => Some(format!("context {context}")),
        What::UserInput { text } => Some(format!("prompt {text}")),
        What::AssistantInput { text } => Some(format!("say {text}")),
        What::Paused => Some("paused".into()),
        What::Resumed => Some("resumed".into()),
        _ => None,
    });
    assert_eq!(
        told,
        [
            "context Be brief.",
            "context They are back.",
            "prompt Keys: 12.",
            "say Is there anything else?",
            "paused",
            "resumed",
        ]
    );
}

#[tokio::test]
async fn a_session_that_is_told_what_was_said_goes_on_with_it() {
    let server = server(
        r#"
        greeting = [{ say = "agent-greeting" }, { end = true }]
        resumed = [{ say = "agent-more" }, { end = true }]
        [[replies]]
        heard = "when are you open"
        steps = [{ say = "agent-hours" }, { end = true }, { drop = true }]
        [[replies]]
        steps = [{ say = "agent-saturday" }, { end = true }]"#,
    )
    .await;
    let mut client = call(&server).await;
    client.create().await;
    client.upto("response.done").await;
    client.utterance().await;
    client.upto("response.done").await;
    assert_eq!(client.end().await, End::Lost);

    let mut client = call(&server).await;
    for (role, kind, text) in [
        ("assistant", "output_text", "Good day."),
        ("user", "input_text", "when are you open"),
        ("assistant", "output_text", "We are open"),
    ] {
        let item =
            json!({ "type": "message", "role": role, "content": [{ "type": kind, "text": text }] });
        client
            .send(json!({ "type": "conversation.item.create", "item": item }))
            .await;
    }
    client.create().await;
    let said = client.upto("response.done").await;
    // It is not greeted again.
    assert!(is_said(&said, &["agent-more"]));
    client.utterance().await;
    let said = client.upto("response.done").await;
    assert!(is_said(&said, &["agent-saturday"]));
    let record = clean(server).await;
    let told = all(&record, |what| match what {
        What::Replayed { role, text } => Some(format!("{role}: {text}")),
        _ => None,
    });
    assert_eq!(
        told,
        [
            "assistant: Good day.",
            "user: when are you open",
            "assistant: We are open"
        ]
    );
}

#[tokio::test]
async fn a_response_may_fail_or_be_in_writing() {
    let server = server(
        r#"
        greeting = [{ fail = "insufficient_quota" }]
        [[replies]]
        steps = [{ mute = true }, { end = true }]"#,
    )
    .await;
    let mut client = call(&server).await;
    client.create().await;
    let done = client.await_type("response.done").await;
    assert_eq!(done["response"]["status"], "failed");
    assert_eq!(
        done["response"]["status_details"]["error"]["code"],
        "insufficient_quota"
    );
    client.utterance().await;
    let events = client.upto("response.done").await;
    let text = events
        .iter()
        .find(|event| event["type"] == "response.output_text.done");
    assert_eq!(text.unwrap()["text"], "(in writing)");
    assert!(audio(&events).is_empty());
    clean(server).await;
}

#[tokio::test]
async fn a_session_ends_at_its_limit() {
    let server = server(r#"session_limit = "150ms""#).await;
    let mut client = call(&server).await;
    let error = client.await_type("error").await;
    assert_eq!(error["error"]["code"], "session_expired");
    let End::Closed(code, reason) = client.end().await else {
        panic!("no close");
    };
    assert_eq!(code, 1001);
    assert!(reason.contains("maximum duration"), "{reason}");
    clean(server).await;
}

#[tokio::test]
async fn evi_does_not_know_what_is_not_its_own() {
    use crate::sim::evi::{Evi, Options, Script, StartError};
    for script in [
        "session_limit = \"1m\"",
        "greeting = [{ mute = true }]",
        "greeting = [{ fail = \"x\" }]",
    ] {
        let script: Script = toml::from_str(script).unwrap();
        let error = Evi::start(script, Options::default()).await.unwrap_err();
        assert!(matches!(error, StartError::Foreign(_)), "{error}");
    }
}
