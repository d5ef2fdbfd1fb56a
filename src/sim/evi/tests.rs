//! Stories told to the simulator over a real socket by a client that is not the bridge.

mod client;

use std::sync::Arc;

use futures_util::SinkExt;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use super::*;
use client::*;

#[tokio::test]
async fn only_a_correct_request_is_let_in() {
    let evi = evi("").await;
    let key = Some("simulated-hume-key");
    assert_eq!(status(&evi, "/v0/evi/chat", key).await, 101);
    assert_eq!(status(&evi, "/v0/evi/chat", Some("another")).await, 401);
    assert_eq!(status(&evi, "/v0/evi/chat", None).await, 401);
    assert!(evi.record().violations().is_empty());
    assert_eq!(status(&evi, "/v0/evi/chat/", key).await, 404);
    assert_eq!(status(&evi, "/v0/evi/chat?evi_version=3", key).await, 400);
    assert_eq!(
        status(&evi, "/v0/evi/chat?api_key=simulated-hume-key", None).await,
        401
    );
    let record = evi.stop().await;
    for violation in ["path /v0/evi/chat/", "query: evi_version", "query: the key"] {
        assert_violation(&record, violation);
    }
}

#[tokio::test]
async fn handshakes_fail_as_scripted_in_their_order() {
    let evi = evi(r#"handshake = [401, 403, 429, 500, 503, "close", "silent", "accept"]"#).await;
    let key = Some("simulated-hume-key");
    for expected in [401, 403, 429, 500, 503] {
        assert_eq!(status(&evi, "/v0/evi/chat", key).await, expected);
    }
    assert!(connect(&evi, "/v0/evi/chat", key).await.is_err());
    let mut silent = TcpStream::connect(evi.addr).await.unwrap();
    until_event(
        &evi,
        |w| matches!(w, What::Refused { why, .. } if why == "Silent"),
    )
    .await;
    assert_eq!(status(&evi, "/v0/evi/chat", key).await, 101);
    evi.stop().await;
    let mut byte = [0];
    assert_eq!(
        tokio::io::AsyncReadExt::read(&mut silent, &mut byte)
            .await
            .unwrap(),
        0
    );
}

#[tokio::test]
async fn a_chat_is_ready_when_it_says_who_it_is() {
    let evi = evi_at(r#"ready_after = "10s""#, 1000.0).await;
    let mut client = call(&evi).await;
    let metadata = client.next().await;
    assert_eq!(metadata["type"], "chat_metadata");
    assert_eq!(metadata["chat_id"].as_str().unwrap().len(), 36);
    assert_eq!(metadata["custom_session_id"], Value::Null);
    let record = evi.stop().await;
    let at = |is: fn(&What) -> bool| record.events.iter().find(|e| is(&e.what)).unwrap().at_ms;
    let waited =
        at(|w| matches!(w, What::Ready { .. })) - at(|w| matches!(w, What::Connected { .. }));
    assert!(waited >= 10_000.0, "{waited}");
}

#[tokio::test]
async fn credits_run_out_after_the_upgrade() {
    let evi = evi(r#"opening = ["E0300", "never"]"#).await;
    let mut client = call(&evi).await;
    let error = client.next().await;
    assert_eq!(
        (&error["type"], &error["code"]),
        (&json!("error"), &json!("E0300"))
    );
    assert_eq!(client.rest().await, (vec![], closed(1000)));

    let mut never = call(&evi).await;
    never.utterance().await;
    until_event(&evi, |w| matches!(w, What::SpeechEnded { .. })).await;
    evi.stop().await;
    assert_eq!(never.rest().await, (vec![], End::Lost));
}

#[tokio::test]
async fn a_message_that_cannot_be_read_ends_the_chat() {
    let evi = evi("").await;
    for (text, code, path) in [
        ("hello", "E0100", ""),
        (r#"{"type":"audio_input"}"#, "E0101", "audio_input.data"),
        (
            r#"{"type":"audio_input","data":"?"}"#,
            "E0201",
            "audio_input.data",
        ),
        (r#"{"type":"dance"}"#, "E0101", "type"),
    ] {
        let mut client = call(&evi).await;
        client.await_type("chat_metadata").await;
        client.text(text).await;
        let error = client.next().await;
        assert_eq!(error["code"], code);
        assert!(error["message"].as_str().unwrap().contains(path), "{error}");
        assert_eq!(client.rest().await, (vec![], closed(1000)));
    }
    let mut client = call(&evi).await;
    client.await_type("chat_metadata").await;
    let file = base64_simd::STANDARD.encode_to_string(vec![0u8; 16_000 * 11]);
    client
        .send(json!({ "type": "audio_input", "data": file }))
        .await;
    assert_eq!(client.next().await["code"], "E0723");
    assert_eq!(evi.stop().await.violations().len(), 5);
}

#[tokio::test]
async fn smaller_faults_are_put_on_record_and_the_chat_goes_on() {
    let evi = evi("").await;
    let mut client = call(&evi).await;
    client.await_type("chat_metadata").await;
    client
        .send(json!({ "type": "session_settings", "voice": "x" }))
        .await;
    client
        .send(json!({ "type": "audio_input", "data": "AAAA" }))
        .await;
    client.ws.send(Message::binary(vec![0; 320])).await.unwrap();
    client
        .send(json!({ "type": "tool_response", "tool_call_id": "no", "content": "" }))
        .await;
    let other = json!({ "encoding": "linear16", "sample_rate": 16000, "channels": 1 });
    client
        .send(json!({ "type": "session_settings", "audio": other }))
        .await;
    client
        .send(json!({ "type": "user_input", "text": "still there?" }))
        .await;
    let echo = client.await_type("user_message").await;
    assert_eq!(echo["from_text"], true);
    assert_eq!(
        echo["message"],
        json!({ "role": "user", "content": "still there?" })
    );
    let record = evi.stop().await;
    assert_eq!(record.violations().len(), 5);
    for violation in [
        "session_settings.voice",
        "audio_input.data: 3 bytes",
        "a binary frame of 320",
        "an answer to \"no\"",
        "session_settings.audio: the format changes",
    ] {
        assert_violation(&record, violation);
    }
    assert_eq!(record.jsonl().lines().count(), 5, "text frames only");
}

#[tokio::test]
async fn audio_ahead_of_its_settings_falls_on_deaf_ears() {
    let evi = evi("").await;
    let mut client = connect(&evi, "/v0/evi/chat", Some("simulated-hume-key"))
        .await
        .unwrap();
    client.audio(20, 0).await;
    let audio = json!({ "encoding": "linear16", "sample_rate": 8000, "channels": 1 });
    client
        .send(json!({ "type": "session_settings", "audio": audio }))
        .await;
    client.utterance().await;
    client
        .send(json!({ "type": "user_input", "text": "do you hear me?" }))
        .await;
    assert_eq!(
        types(&client.upto("user_message").await),
        ["chat_metadata", "user_message"]
    );
    let record = evi.stop().await;
    assert_violation(&record, "audio_input before any audio settings");
    assert!(record.uplinks[&0].audio.is_empty());
    assert_eq!(record.uplinks[&0].audio_frames, 51);
}

#[tokio::test]
async fn settings_may_come_as_the_first_frame_but_not_later() {
    let evi = evi("mirror_settings = true").await;
    let audio = json!({ "encoding": "linear16", "sample_rate": 8000, "channels": 1 });
    let settings =
        json!({ "type": "session_settings", "audio": audio, "custom_session_id": "ours" });
    let mut first = connect(&evi, "/v0/evi/chat", Some("simulated-hume-key"))
        .await
        .unwrap();
    first.send(settings.clone()).await;
    assert_eq!(first.await_type("session_settings").await, settings);
    first.utterance().await;
    assert_eq!(
        first.await_type("user_message").await["custom_session_id"],
        "ours"
    );
    assert!(evi.record().violations().is_empty());

    let mut later = connect(&evi, "/v0/evi/chat", Some("simulated-hume-key"))
        .await
        .unwrap();
    later
        .send(json!({ "type": "user_input", "text": "x" }))
        .await;
    later.send(settings).await;
    later.await_type("session_settings").await;
    assert_violation(&evi.stop().await, "session_settings.audio: neither");
}

#[tokio::test]
async fn the_caller_is_heard_sample_by_sample() {
    let evi = evi("").await;
    let mut client = call(&evi).await;
    let pcm: Vec<i16> = (0..4_000)
        .map(|n| (n * 8_191 % 65_536 - 32_768) as i16)
        .collect();
    for frame in pcm.chunks(160) {
        let bytes: Vec<u8> = frame.iter().flat_map(|s| s.to_le_bytes()).collect();
        let data = base64_simd::STANDARD.encode_to_string(bytes);
        client
            .send(json!({ "type": "audio_input", "data": data }))
            .await;
    }
    let all = evi.until(|r| r.uplinks.get(&0).is_some_and(|u| u.audio.len() == 4_000));
    tokio::time::timeout(PATIENCE, all).await.unwrap();
    assert_eq!(evi.stop().await.uplinks[&0].audio, pcm);
}

#[tokio::test]
async fn the_greeting_is_words_first_then_wavs_of_odd_lengths() {
    let evi =
        evi(r#"greeting = [{ say = "agent-greeting" }, { say = "agent-more" }, { end = true }]"#)
            .await;
    let mut client = call(&evi).await;
    let all = client.upto("assistant_end").await;
    assert_eq!(
        types(&all)[..3],
        ["chat_metadata", "assistant_message", "audio_output"]
    );
    assert_eq!(all[1]["message"]["content"], "Good day.");
    let id = &all[1]["id"];
    let greeting: Vec<&Value> = all
        .iter()
        .filter(|m| m["type"] == "audio_output" && m["id"] == *id)
        .collect();
    let mut whole = Vec::new();
    for (index, message) in greeting.iter().enumerate() {
        let (rate, channels, pcm) = unwav(message);
        assert_eq!(
            (message["index"].as_u64(), rate, channels),
            (Some(index as u64), 48_000, 1)
        );
        let ms = [200, 333, 517, 333, 517, 333, 267][index];
        assert_eq!(pcm.len(), ms * 48, "message {index}");
        whole.extend(pcm);
    }
    assert_eq!(whole.len(), 2_500 * 48);
    assert!(whole.iter().any(|s| *s > 7_000));
    // The second segment counts from 0 again, under its own id.
    let second = &all[2 + greeting.len()..];
    assert_eq!(second[0]["type"], "assistant_message");
    assert_ne!(second[0]["id"], *id);
    assert_eq!(second[1]["index"], 0);
    until_event(&evi, |w| {
        matches!(w, What::Said { clip, messages: 7, duration_ms, .. }
        if clip == "agent-greeting" && *duration_ms == 2_500.0)
    })
    .await;
}

#[tokio::test]
async fn wavs_vary_as_the_script_says() {
    let evi = evi(r#"
        greeting = [
            { say = "agent-goodbye", rate = 24000, stereo = true, list_chunk = true, message_ms = [700] },
            { say = "agent-goodbye", rate = 44100, streaming_size = true, message_ms = [700] },
            { end = true },
        ]"#)
    .await;
    let mut client = call(&evi).await;
    let all = client.upto("assistant_end").await;
    let audio: Vec<&Value> = all.iter().filter(|m| m["type"] == "audio_output").collect();
    assert_eq!(audio.len(), 4);
    let (rate, channels, pcm) = unwav(audio[0]);
    assert_eq!((rate, channels, pcm.len()), (24_000, 2, 700 * 24 * 2));
    let raw = |m: &Value| {
        base64_simd::STANDARD
            .decode_to_vec(m["data"].as_str().unwrap())
            .unwrap()
    };
    assert_eq!(&raw(audio[0])[36..40], b"LIST");
    assert_eq!(raw(audio[2])[40..44], [0xff; 4]);
    assert_eq!(raw(audio[3])[40..44], [0; 4]);
    assert_eq!(
        unwav(audio[2]).2.len() + unwav(audio[3]).2.len(),
        1_200 * 441 / 10
    );
}

#[tokio::test]
async fn an_unknown_clip_fails_before_anyone_calls() {
    let script: Script = toml::from_str(r#"greeting = [{ say = "agent-song" }]"#).unwrap();
    let error = Evi::start(script, Options::default()).await.unwrap_err();
    assert!(matches!(error, StartError::NoSuchClip(name) if name == "agent-song"));
    let backwards = Options {
        pace: -1.0,
        ..Options::default()
    };
    assert!(matches!(
        Evi::start(Script::default(), backwards).await,
        Err(StartError::Pace(_))
    ));
}

#[tokio::test]
async fn an_utterance_becomes_a_message_and_starts_the_next_reply() {
    let evi = evi(r#"
        prosody = true
        extra_fields = true
        [[replies]]
        heard = "when are you open"
        interims = ["when"]
        earlier_finals = ["when are"]
        steps = [{ say = "agent-hours" }, { end = true }]
        [[replies]]
        steps = [{ end = true }]"#)
    .await;
    let mut client = call_with(&evi, "&verbose_transcription=true").await;
    client.audio(200, 0).await;
    client.utterance().await;
    let all = client.upto("assistant_end").await;
    let heard: Vec<(bool, &str)> = all
        .iter()
        .filter(|m| m["type"] == "user_message")
        .map(|m| {
            (
                m["interim"].as_bool().unwrap(),
                m["message"]["content"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        heard,
        [
            (true, "when"),
            (false, "when are"),
            (false, "when are you open")
        ]
    );
    let last = all.iter().rfind(|m| m["type"] == "user_message").unwrap();
    assert_eq!(last["time"], json!({ "begin": 200, "end": 600 }));
    assert_eq!(
        last["models"]["prosody"]["scores"]
            .as_object()
            .unwrap()
            .len(),
        48
    );
    assert!(all.iter().all(|m| m.get("field_of_the_future").is_some()));
    assert_eq!(
        types(&all)
            .iter()
            .filter(|t| **t == "assistant_prosody")
            .count(),
        1
    );

    // The agent's voice still plays, so these words would interrupt; let it end first.
    client.audio(8_000, 0).await;
    client.utterance().await;
    let all = client.upto("assistant_end").await;
    assert_eq!(types(&all), ["user_message", "assistant_end"]);
    assert_eq!(all[0]["message"]["content"], "(utterance 1)");
}

#[tokio::test]
async fn interims_are_only_for_those_who_ask() {
    let evi = evi("[[replies]]\ninterims = [\"when\"]\nsteps = [{ end = true }]").await;
    let mut client = call(&evi).await;
    client.utterance().await;
    let all = client.upto("assistant_end").await;
    assert_eq!(
        types(&all),
        ["chat_metadata", "user_message", "assistant_end"]
    );
}

#[tokio::test]
async fn a_caller_who_speaks_over_the_agent_is_an_interruption() {
    // Paced in real time: the clip would take 7.5 s and is cut off at once.
    let evi = evi(r#"
        end_on_interruption = true
        greeting = [{ say = "agent-hours", realtime_factor = 1.0 }, { say = "agent-more" }]
        [[replies]]
        on = "interruption"
        steps = [{ stale_audio = true }]
        [[replies]]
        steps = [{ end = true }]"#)
    .await;
    let mut client = call(&evi).await;
    let id = client.await_type("audio_output").await["id"].clone();
    client.audio(400, 5_000).await;
    client.await_type("user_interruption").await;
    assert_eq!(client.next().await["type"], "assistant_end");
    for _ in 0..2 {
        let stale = client.next().await;
        assert_eq!(
            (&stale["type"], &stale["id"]),
            (&json!("audio_output"), &id)
        );
    }
    client.audio(600, 0).await;
    assert_eq!(
        types(&client.upto("assistant_end").await),
        ["user_message", "assistant_end"]
    );
    let record = evi.stop().await;
    let interruptions = record
        .events
        .iter()
        .filter(|e| matches!(e.what, What::Interrupted { .. }))
        .count();
    assert_eq!(interruptions, 1, "one utterance interrupts once");
}

#[tokio::test]
async fn what_is_sent_but_not_yet_played_can_be_interrupted_too() {
    for (interruptible, expected) in [("speaking", 1), ("generating", 0), ("never", 0)] {
        let evi = evi(&format!(
            "interruptible = \"{interruptible}\"\n\
             greeting = [{{ say = \"agent-hours\" }}, {{ end = true }}]"
        ))
        .await;
        let mut client = call(&evi).await;
        client.upto("assistant_end").await;
        // 180 ms is a cough.
        client.audio(180, 5_000).await;
        client.audio(600, 0).await;
        client.utterance().await;
        client.await_type("user_message").await;
        let all = client.upto("user_message").await;
        let count = types(&all)
            .iter()
            .filter(|t| **t == "user_interruption")
            .count();
        assert_eq!(count, expected, "{interruptible}");
    }
}

#[tokio::test]
async fn after_the_agent_has_been_heard_out_nothing_is_an_interruption() {
    let evi = evi(r#"greeting = [{ say = "agent-goodbye" }, { end = true }]"#).await;
    let mut client = call(&evi).await;
    client.upto("assistant_end").await;
    client.audio(1_300, 0).await;
    client.utterance().await;
    assert_eq!(types(&client.upto("user_message").await), ["user_message"]);
}

#[tokio::test]
async fn a_tool_call_holds_the_reply_until_it_is_answered() {
    let evi = evi(r#"
        greeting = [
            { tool = { name = "book", parameters = '{"day":1}', kind = "none" } },
            { end = true },
        ]
        [[replies]]
        on = "tool_answer"
        steps = [{ tool = { name = "hang_up", kind = "builtin", response_required = false } }]"#)
    .await;
    let mut client = call(&evi).await;
    let call = client.await_type("tool_call").await;
    assert_eq!(call["parameters"], r#"{"day":1}"#);
    assert!(call.get("tool_type").is_none());
    let id = call["tool_call_id"].as_str().unwrap();
    let answer = json!({ "type": "tool_response", "tool_call_id": id, "content": "done" });
    client.send(answer.clone()).await;
    assert_eq!(
        types(&client.upto("assistant_end").await),
        ["assistant_end"]
    );
    let builtin = client.next().await;
    assert_eq!(builtin["tool_type"], "builtin");
    client.send(answer).await;
    let id = builtin["tool_call_id"].as_str().unwrap();
    client
        .send(json!({ "type": "tool_error", "tool_call_id": id, "error": "x" }))
        .await;
    client
        .send(json!({ "type": "user_input", "text": "x" }))
        .await;
    client.await_type("user_message").await;
    let record = evi.stop().await;
    assert_eq!(record.violations().len(), 2);
    assert_violation(&record, "a second answer");
    assert!(record.violations()[1].ends_with("a call that wants none"));
    assert!(record.events.iter().any(|e| matches!(&e.what,
        What::ToolAnswered { ok: true, content, late: false, latency_ms, .. }
            if content == "done" && *latency_ms >= 0.0)));
}

#[tokio::test]
async fn a_tool_call_that_nobody_answers_is_answered_by_the_server() {
    let evi = evi_at(
        r#"
        tool_timeout = "20s"
        greeting = [{ tool = { name = "book" } }, { end = true }]"#,
        1000.0,
    )
    .await;
    let mut client = call(&evi).await;
    let all = client.upto("assistant_end").await;
    assert_eq!(
        types(&all),
        ["chat_metadata", "tool_call", "tool_error", "assistant_end"]
    );
    let id = &all[1]["tool_call_id"];
    assert_eq!(all[2]["tool_call_id"], *id);
    // Too late, and harmless.
    client
        .send(json!({ "type": "tool_error", "tool_call_id": id, "error": "slow" }))
        .await;
    until_event(&evi, |w| {
        matches!(
            w,
            What::ToolAnswered {
                ok: false,
                late: true,
                ..
            }
        )
    })
    .await;
    assert!(evi.stop().await.violations().is_empty());
}

#[tokio::test]
async fn a_newer_tool_call_takes_the_place_of_the_older() {
    let evi = evi(r#"
        greeting = [
            { tool = { name = "one", wait = false } },
            { tool = { name = "two" } },
            { end = true },
        ]"#)
    .await;
    let mut client = call(&evi).await;
    let one = client.await_type("tool_call").await["tool_call_id"].clone();
    let two = client.await_type("tool_call").await["tool_call_id"].clone();
    for id in [&one, &two] {
        client
            .send(json!({ "type": "tool_response", "tool_call_id": id, "content": "" }))
            .await;
    }
    client.await_type("assistant_end").await;
    let record = evi.stop().await;
    let late: Vec<bool> = record
        .events
        .iter()
        .filter_map(|e| match &e.what {
            What::ToolAnswered { late, .. } => Some(*late),
            _ => None,
        })
        .collect();
    assert_eq!(late, [true, false]);
}

#[tokio::test]
async fn what_is_said_while_a_tool_works_is_heard_before_its_answer() {
    let evi = evi(r#"
        greeting = [{ tool = { name = "book", arguments = { day = "Monday" } } }, { end = true }]
        [[replies]]
        on = "tool_answer"
        ok = true
        steps = [{ raw = '{"type":"never"}' }]
        [[replies]]
        on = "tool_answer"
        ok = false
        content = "booked out"
        steps = [{ raw = '{"type":"apology"}' }]"#)
    .await;
    let mut client = call(&evi).await;
    let call = client.await_type("tool_call").await;
    assert_eq!(call["parameters"], r#"{"day":"Monday"}"#);
    client
        .send(json!({ "type": "assistant_input", "text": "One moment." }))
        .await;
    let aside = client.upto("assistant_end").await;
    assert_eq!(aside[0]["message"]["content"], "One moment.");
    assert_eq!(aside[0]["from_text"], true);
    assert!(aside.len() > 2, "it has a voice: {aside:?}");
    let id = &call["tool_call_id"];
    let error = json!({ "type": "tool_error", "tool_call_id": id, "error": "x", "content": "All booked out." });
    client.send(error).await;
    let rest = client.upto("apology").await;
    assert_eq!(types(&rest), ["assistant_end", "apology"]);
    assert!(evi.stop().await.violations().is_empty());
}

#[tokio::test]
async fn a_prompt_has_replies_of_its_own() {
    let evi = evi(r#"
        [[replies]]
        steps = [{ raw = '{"type":"utterance"}' }]
        [[replies]]
        on = "prompt"
        content = "12"
        steps = [{ raw = '{"type":"twelve"}' }]"#)
    .await;
    let mut client = call(&evi).await;
    for (text, answer) in [("The caller pressed 12", "twelve"), ("And 12", "utterance")] {
        client
            .send(json!({ "type": "user_input", "text": text }))
            .await;
        client.upto(answer).await;
    }
    assert!(evi.stop().await.violations().is_empty());
}

#[tokio::test]
async fn what_a_chat_is_told_of_its_call_is_on_record() {
    let evi = evi("").await;
    let query = "&voice_id=v-1&session_settings[variables][city]=Perth";
    let mut client = call_with(&evi, query).await;
    client.await_type("chat_metadata").await;
    client
        .send(json!({
            "type": "session_settings",
            "variables": { "city": "Cairns", "n": 2 },
            "voice_id": "v-2",
            "context": { "text": "They are back.", "type": "persistent" },
            "tools": [{ "type": "function", "name": "book", "parameters": "{\"type\":\"object\"}", "description": "Books." }],
        }))
        .await;
    let told = |w: &What| {
        matches!(
            w,
            What::Settings {
                in_query: false,
                ..
            }
        )
    };
    until_event(&evi, told).await;
    let record = evi.stop().await;
    let told = record.events.iter().filter_map(|e| match &e.what {
        What::Settings {
            voice_id,
            context,
            declared,
            variables,
            ..
        } => Some((
            voice_id.clone(),
            context.clone(),
            declared.clone(),
            variables.clone(),
        )),
        _ => None,
    });
    let told: Vec<_> = told.collect();
    assert_eq!(told[0].0.as_deref(), Some("v-1"));
    assert_eq!(told[0].3["city"], "Perth");
    assert_eq!(told[1].0.as_deref(), Some("v-2"));
    assert_eq!(told[1].1.as_deref(), Some("They are back."));
    assert_eq!(told[1].2[0].name, "book");
    assert_eq!(told[1].2[0].parameters, json!({ "type": "object" }));
    assert_eq!(told[1].3["n"], "2");
    assert!(record.violations().is_empty());
}

#[tokio::test]
async fn every_other_step_does_what_it_says() {
    let evi = evi_at(
        r#"
        greeting = [
            { web_search = true },
            { server_tool_error = true },
            { spurious_interruption = true },
            { raw = '{"type":"from_the_future"}' },
            { error = "E0712", slug = "slow_model" },
            { wait = "5s" },
            { binary = true },
            { error = "E0714", slug = "inactivity_timeout", message = "nobody spoke" },
            { close = 1000, reason = "" },
        ]"#,
        1000.0,
    )
    .await;
    let mut client = call(&evi).await;
    let all = client.upto("error").await;
    assert_eq!(
        types(&all),
        [
            "chat_metadata",
            "tool_call",
            "tool_response",
            "tool_call",
            "tool_error",
            "user_interruption",
            "from_the_future",
            "error"
        ]
    );
    assert_eq!(
        (&all[1]["tool_type"], &all[1]["response_required"]),
        (&json!("builtin"), &json!(false))
    );
    assert_eq!(all[2]["tool_call_id"], all[1]["tool_call_id"]);
    assert!(client.message().await.unwrap().is_binary());
    assert_eq!(client.next().await["slug"], "inactivity_timeout");
    assert_eq!(client.rest().await, (vec![], closed(1000)));
    until_event(&evi, |w| {
        matches!(
            w,
            What::Closed {
                by: By::Agent,
                code: Some(1000),
                ..
            }
        )
    })
    .await;
}

#[tokio::test]
async fn a_dropped_connection_has_no_close_frame() {
    let evi = evi("greeting = [{ end = true }, { drop = true }]").await;
    let mut client = call(&evi).await;
    client.await_type("assistant_end").await;
    assert_eq!(client.rest().await, (vec![], End::Lost));
}

#[tokio::test]
async fn what_was_said_before_a_drop_reaches_a_peer_that_reads_late_and_still_speaks() {
    let evi = evi(r#"greeting = [{ say = "agent-saturday" }, { drop = true }]"#).await;
    let mut client = call(&evi).await;
    client.audio(400, 0).await;
    until_event(&evi, |w| {
        matches!(
            w,
            What::Closed {
                by: By::Agent,
                code: None,
                ..
            }
        )
    })
    .await;
    // Into a socket that is closed this would be answered with a reset, which takes all unread with it.
    client.audio(400, 0).await;
    let (all, end) = client.rest().await;
    assert_eq!(end, End::Lost);
    let heard: usize = all
        .iter()
        .filter_map(|message| serde_json::from_str(message.to_text().unwrap()).ok())
        .filter(|message: &Value| message["type"] == "audio_output")
        .map(|message| unwav(&message).2.len() * 8000 / unwav(&message).0 as usize)
        .sum();
    let said = voice::test_tones("agent-saturday").unwrap().0.len();
    assert!(heard.abs_diff(said) <= 160, "{heard} samples of {said}");
    drop(client);
    assert_eq!(evi.stop().await.violations(), [""; 0]);
}

#[tokio::test]
async fn pings_are_answered_unless_the_script_forbids() {
    // Between the two ends lies time enough for a pong.
    let greeting =
        r#"greeting = [{ end = true }, { wait = "20s" }, { end = true }, { close = 1000 }]"#;
    for (never_pong, pongs) in [(false, 1), (true, 0)] {
        let evi = evi_at(&format!("never_pong = {never_pong}\n{greeting}"), 100.0).await;
        let mut client = call(&evi).await;
        client.await_type("assistant_end").await;
        client.ws.send(Message::Ping("x".into())).await.unwrap();
        let (rest, end) = client.rest().await;
        assert_eq!(
            rest.iter().filter(|m| m.is_pong()).count(),
            pongs,
            "{rest:?}"
        );
        assert_eq!(
            rest.iter().filter(|m| m.is_text()).count(),
            1,
            "speech goes on"
        );
        assert_eq!(end, closed(1000));
    }
}

#[tokio::test]
async fn a_frozen_connection_stands_and_says_nothing() {
    let evi = evi("greeting = [{ end = true }, { freeze = true }, { end = true }]").await;
    let mut client = call(&evi).await;
    client.await_type("assistant_end").await;
    client.ws.send(Message::Ping("x".into())).await.unwrap();
    until_event(&evi, |w| *w == What::Frozen).await;
    evi.stop().await;
    assert_eq!(client.rest().await, (vec![], End::Lost));
}

#[tokio::test]
async fn a_paused_agent_listens_and_answers_the_last_words_when_resumed() {
    let evi = evi(r#"
        [[replies]]
        steps = [{ error = "E1", slug = "first" }]
        [[replies]]
        steps = [{ error = "E2", slug = "second" }]"#)
    .await;
    let mut client = call(&evi).await;
    client
        .send(json!({ "type": "pause_assistant_message" }))
        .await;
    client.utterance().await;
    client.utterance().await;
    client.await_type("user_message").await;
    client.await_type("user_message").await;
    client
        .send(json!({ "type": "resume_assistant_message" }))
        .await;
    assert_eq!(client.next().await["slug"], "second");
}

#[tokio::test]
async fn words_given_to_the_agent_are_spoken() {
    let evi = evi("").await;
    let mut client = call(&evi).await;
    client
        .send(json!({ "type": "assistant_input", "text": "Please hold." }))
        .await;
    let all = client.upto("assistant_end").await;
    assert_eq!(all[1]["from_text"], true);
    assert_eq!(all[1]["message"]["content"], "Please hold.");
    assert_eq!(all[2]["type"], "audio_output");
}

#[tokio::test]
async fn a_resumed_chat_goes_on_where_it_was() {
    let evi = evi(r#"
        greeting = [{ say = "agent-goodbye" }, { end = true }]
        resumed = [{ raw = '{"type":"back"}' }]
        [[replies]]
        steps = [{ drop = true }]
        [[replies]]
        steps = [{ error = "E2", slug = "second" }]"#)
    .await;
    let mut client = call(&evi).await;
    let first = client.next().await;
    client.await_type("assistant_end").await;
    client
        .send(json!({ "type": "user_input", "text": "x" }))
        .await;
    assert_eq!(client.rest().await.1, End::Lost);

    let group = first["chat_group_id"].as_str().unwrap();
    let mut again = call_with(&evi, &format!("&resumed_chat_group_id={group}")).await;
    let second = again.next().await;
    assert_eq!(second["chat_group_id"], first["chat_group_id"]);
    assert_ne!(second["chat_id"], first["chat_id"]);
    assert_eq!(again.next().await["type"], "back");
    again
        .send(json!({ "type": "user_input", "text": "x" }))
        .await;
    assert_eq!(again.await_type("error").await["slug"], "second");
    assert!(evi.record().violations().is_empty());

    let mut stranger = call_with(&evi, "&resumed_chat_group_id=nobody").await;
    assert_eq!(stranger.next().await["code"], "E0708");
    assert_eq!(stranger.rest().await.1, closed(1000));
    assert_violation(&evi.stop().await, "resumed_chat_group_id \"nobody\"");
}

#[tokio::test]
async fn a_second_chat_of_a_group_can_be_refused_until_the_first_is_closed() {
    let evi = evi("one_chat_a_group = true").await;
    let mut first = call(&evi).await;
    let metadata = first.next().await;
    let group = metadata["chat_group_id"].as_str().unwrap();
    let query = format!("&resumed_chat_group_id={group}");
    let mut second = call_with(&evi, &query).await;
    assert_eq!(second.next().await["code"], "E0301");
    assert_eq!(second.rest().await.1, closed(1000));
    first.ws.close(None).await.unwrap();
    first.rest().await;
    let mut third = call_with(&evi, &query).await;
    assert_eq!(third.next().await["chat_group_id"], group);
}

#[tokio::test]
async fn a_bridge_that_leaves_is_known_by_its_code() {
    use tokio_tungstenite::tungstenite::protocol::CloseFrame;
    let evi = evi("").await;
    let mut polite = call(&evi).await;
    polite.await_type("chat_metadata").await;
    let frame = CloseFrame {
        code: 1001.into(),
        reason: "drained".into(),
    };
    polite.ws.close(Some(frame)).await.unwrap();
    assert_eq!(polite.rest().await.1, End::Closed(1001, "drained".into()));
    drop(call(&evi).await);
    until_event(&evi, |w| matches!(w, What::Closed { by: By::Lost, .. })).await;
    until_event(&evi, |w| {
        matches!(w, What::Closed { by: By::Bridge, code: Some(1001), reason } if reason == "drained")
    })
    .await;
}

#[tokio::test]
async fn the_load_agent_talks_without_pause_and_tells_when() {
    let sent = Arc::new(std::sync::Mutex::new(Vec::new()));
    let heard = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let (sent_, heard_) = (sent.clone(), heard.clone());
    let hooks = Hooks {
        on_sent: Some(Arc::new(move |connection, n, _| {
            sent_.lock().unwrap().push((connection, n))
        })),
        on_uplink: Some(Arc::new(move |_, frame, _| {
            assert!(frame.contains("audio_input"));
            heard_.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        })),
        ..Hooks::default()
    };
    let options = Options {
        pace: 100.0,
        hooks,
        ..Options::default()
    };
    let evi = Evi::start(Script::echo_load(), options).await.unwrap();
    let mut client = call(&evi).await;
    client.audio(200, 0).await;
    let mut all = client.upto("assistant_end").await;
    assert_eq!(
        types(&all)[..3],
        ["chat_metadata", "assistant_message", "audio_output"]
    );
    assert_eq!(all.len(), 2 + 100 + 1);
    assert_eq!(unwav(&all[2]).2.len(), 4_800);
    assert_eq!(all[101]["index"], 99);
    let next = client.upto("audio_output").await;
    assert_ne!(next[0]["id"], all[1]["id"]);
    assert_eq!(
        (&next[1]["id"], &next[1]["index"]),
        (&next[0]["id"], &json!(0))
    );
    all.extend(next);
    client.ws.close(None).await.unwrap();
    until_event(&evi, |w| matches!(w, What::Closed { by: By::Bridge, .. })).await;
    let record = evi.stop().await;
    assert_eq!(record.uplinks[&0].audio_frames, 10);
    assert_eq!(heard.load(std::sync::atomic::Ordering::Relaxed), 10);
    let sent = sent.lock().unwrap();
    assert!(sent.iter().enumerate().all(|(i, s)| *s == (0, i as u64)));
    assert!(sent.len() >= 100);
}

#[tokio::test]
async fn a_load_agent_that_has_enough_says_goodbye_and_wants_an_answer() {
    for answers in [true, false] {
        let options = Options {
            pace: 100.0,
            hooks: Hooks {
                leaves: Some(Arc::new(|connection| connection == 0)),
                ..Hooks::default()
            },
            ..Options::default()
        };
        let evi = Evi::start(Script::echo_load(), options).await.unwrap();
        let mut client = call(&evi).await;
        let words = client.upto("tool_call").await;
        assert_eq!(types(&words)[1..3], ["assistant_message", "audio_output"]);
        let called = words.last().unwrap();
        assert_eq!(called["name"], "hang_up");
        if answers {
            let id = &called["tool_call_id"];
            let answer = json!({ "type": "tool_response", "tool_call_id": id, "content": "ok" });
            client.send(answer).await;
        }
        let goodbye = client.upto("assistant_end").await;
        assert_eq!(goodbye.len(), 11, "{:?}", types(&goodbye));
        // In the segment that was under way, and nothing behind it.
        assert!(
            goodbye[..10]
                .iter()
                .all(|word| word["id"] == words[1]["id"])
        );
        client.ws.close(None).await.unwrap();
        assert!(client.rest().await.0.is_empty());
        until_event(&evi, |w| matches!(w, What::Closed { by: By::Bridge, .. })).await;
        let record = evi.stop().await;
        let violations = record.violations();
        match answers {
            true => assert!(violations.is_empty(), "{violations:?}"),
            false => assert_eq!(violations, ["the bridge left without an answer to hang_up"]),
        }
    }
}

#[tokio::test]
async fn a_simulator_let_go_takes_its_connections_along() {
    let evi = evi("").await;
    let mut client = call(&evi).await;
    client.await_type("chat_metadata").await;
    drop(evi);
    assert_eq!(client.rest().await, (vec![], End::Lost));
}
