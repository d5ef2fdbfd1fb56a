//! Telephone stories, told to the codec in EVI's own words.

mod reconnect;

use serde_json::{Value, json};

use super::{Codec, Settings};
use crate::agent::scratch::scratch_kept;
use crate::agent::{
    Closed, Codec as _, Command, Declared, Event, Ignored, Persona, Role, SegmentId, ToolResult,
};
use crate::config::Secret;

/// An [`Event`] that outlives its message.
#[derive(Clone, Debug, PartialEq)]
enum Heard {
    /// The chat, and whether it is one that goes on.
    Ready(String, bool),
    /// Segment, bytes.
    Audio(u32, Vec<u8>),
    SegmentEnd(u32),
    TurnDone,
    Interrupt,
    /// Text, interim, replace.
    Caller(String, bool, bool),
    Agent(String),
    /// Id, name, arguments, expects a reply.
    ToolCall(String, String, String, bool),
    ToolCancelled(String),
    Error(String, Option<Closed>),
    Ignored(Ignored),
}

impl From<Event<'_>> for Heard {
    fn from(event: Event<'_>) -> Heard {
        match event {
            Event::Ready { chat, resumed } => Heard::Ready(chat.into(), resumed),
            Event::Audio { segment, mulaw } => Heard::Audio(segment.0, mulaw.to_vec()),
            Event::SegmentEnd { segment } => Heard::SegmentEnd(segment.0),
            Event::TurnDone => Heard::TurnDone,
            Event::Interrupt => Heard::Interrupt,
            Event::Expires { .. } | Event::CallerSpeaks | Event::CallerSpoke => {
                panic!("EVI tells no such thing")
            }
            Event::Transcript {
                role: Role::Caller,
                text,
                interim,
                replace,
            } => Heard::Caller(text.into(), interim, replace),
            Event::Transcript {
                role: Role::Agent,
                text,
                interim,
                replace,
            } => {
                assert!(!interim && !replace);
                Heard::Agent(text.into())
            }
            Event::ToolCall {
                call_id,
                name,
                arguments,
                expects_reply,
            } => Heard::ToolCall(call_id.into(), name.into(), arguments.into(), expects_reply),
            Event::ToolCancelled { call_id } => Heard::ToolCancelled(call_id.into()),
            Event::Error { code, ends } => Heard::Error(code.into(), ends),
            Event::Ignored { why } => Heard::Ignored(why),
        }
    }
}

fn settings() -> Settings {
    Settings {
        url: "wss://api.hume.ai/v0/evi/chat".into(),
        api_key: Secret::new("the-key"),
        config_id: None,
        persona: Persona::default(),
    }
}

fn codec() -> Codec {
    Codec::new(settings())
}

/// EVI is never answered by its codec alone.
fn unasked(frame: String) {
    panic!("nobody asked for {frame}");
}

fn hear(codec: &mut Codec, message: &str) -> Vec<Heard> {
    let mut events = Vec::new();
    codec.message(
        message,
        &mut |event| events.push(event.into()),
        &mut unasked,
    );
    events
}

fn say(codec: &mut Codec, command: Command<'_>) -> Vec<String> {
    let mut frames = Vec::new();
    codec.command(command, &mut |frame| frames.push(frame));
    frames
}

fn cut(codec: &mut Codec, segment: u32) {
    assert!(
        say(
            codec,
            Command::Heard {
                segment: SegmentId(segment),
                heard_ms: 0
            }
        )
        .is_empty()
    );
}

/// A complete WAV file, mono, 16-bit.
fn wav(rate: u32, samples: &[i16]) -> Vec<u8> {
    let size = samples.len() as u32 * 2;
    let mut wav = b"RIFF".to_vec();
    wav.extend((36 + size).to_le_bytes());
    wav.extend(b"WAVEfmt ");
    wav.extend(16u32.to_le_bytes());
    wav.extend(1u16.to_le_bytes());
    wav.extend(1u16.to_le_bytes());
    wav.extend(rate.to_le_bytes());
    wav.extend((rate * 2).to_le_bytes());
    wav.extend(2u16.to_le_bytes());
    wav.extend(16u16.to_le_bytes());
    wav.extend(b"data");
    wav.extend(size.to_le_bytes());
    wav.extend(samples.iter().flat_map(|s| s.to_le_bytes()));
    wav
}

/// A 400 Hz tone.
fn tone(rate: u32, samples: usize) -> Vec<i16> {
    let step = 400.0 * std::f64::consts::TAU / f64::from(rate);
    (0..samples)
        .map(|n| ((n as f64 * step).sin() * 12_000.0) as i16)
        .collect()
}

fn audio_output(id: &str, wav: &[u8]) -> String {
    let data = base64_simd::STANDARD.encode_to_string(wav);
    format!(r#"{{"type":"audio_output","id":"{id}","index":0,"data":"{data}"}}"#)
}

/// 100 ms at 48 kHz.
fn speech(id: &str) -> String {
    audio_output(id, &wav(48_000, &tone(48_000, 4800)))
}

fn assistant(id: &str, text: &str) -> String {
    json!({"type": "assistant_message", "id": id, "from_text": false, "is_quick_response": false,
           "message": {"role": "assistant", "content": text}, "models": {}})
    .to_string()
}

fn user(text: &str, begin: u64, end: u64) -> String {
    json!({"type": "user_message", "from_text": false, "interim": false,
           "message": {"role": "user", "content": text}, "models": {},
           "time": {"begin": begin, "end": end}})
    .to_string()
}

fn error(code: &str, slug: &str) -> String {
    json!({"type": "error", "code": code, "slug": slug, "message": "words", "request_id": "r"})
        .to_string()
}

const METADATA: &str = r#"{"type":"chat_metadata","chat_group_id":"g-1","chat_id":"c-1","request_id":"r","custom_session_id":null}"#;
const END: &str = r#"{"type":"assistant_end","custom_session_id":null}"#;
const INTERRUPTION: &str = r#"{"type":"user_interruption","time":1758000000123}"#;
const HANG_UP_CALL: &str = r#"{"type":"tool_call","name":"hang_up","parameters":"{}","response_required":false,"tool_call_id":"call_9","tool_type":"builtin"}"#;

/// Total bytes of mu-law, and the segments it came under.
fn audio(events: &[Heard]) -> (usize, Vec<u32>) {
    let mut segments = Vec::new();
    let mut bytes = 0;
    for event in events {
        if let Heard::Audio(segment, mulaw) = event {
            bytes += mulaw.len();
            if segments.last() != Some(segment) {
                segments.push(*segment);
            }
        }
    }
    (bytes, segments)
}

fn without_audio(events: Vec<Heard>) -> Vec<Heard> {
    events
        .into_iter()
        .filter(|event| !matches!(event, Heard::Audio(..)))
        .collect()
}

// --- what is sent ---

#[test]
fn connects_with_the_key_in_a_header_only_and_the_audio_format_in_the_query() {
    let request = Codec::new(Settings {
        config_id: Some("c0 ff&ee".into()),
        ..settings()
    })
    .request();
    assert_eq!(
        request.url,
        "wss://api.hume.ai/v0/evi/chat?config_id=c0+ff%26ee\
         &session_settings%5Baudio%5D%5Bencoding%5D=linear16\
         &session_settings%5Baudio%5D%5Bsample_rate%5D=8000\
         &session_settings%5Baudio%5D%5Bchannels%5D=1"
    );
    assert_eq!(
        (&*request.headers[0].0, request.headers[0].1.expose()),
        ("X-Hume-Api-Key", "the-key")
    );
    assert_eq!(request.max_message, 16 << 20);
}

#[test]
fn a_url_may_bring_a_query_of_its_own() {
    let url = "ws://127.0.0.1:9/chat?allow_connection=true".to_owned();
    let request = Codec::new(Settings { url, ..settings() }).request();
    assert!(
        request.url.starts_with(
            "ws://127.0.0.1:9/chat?allow_connection=true&session_settings%5Baudio%5D%5Bencoding%5D="
        ),
        "{}",
        request.url
    );
}

#[test]
fn the_first_frame_settles_the_audio_format() {
    let mut frames = Vec::new();
    codec().opened(&mut |frame| frames.push(frame));
    assert_eq!(
        frames,
        [
            r#"{"type":"session_settings","audio":{"encoding":"linear16","sample_rate":8000,"channels":1}}"#
        ]
    );
}

fn hang_up() -> Declared {
    Declared {
        name: "hang_up".into(),
        description: "End the phone call.".into(),
        parameters: r#"{"type":"object","properties":{}}"#.into(),
        fallback: None,
    }
}

#[test]
fn a_hang_up_tool_is_declared_with_its_schema_as_a_string() {
    let mut frames = Vec::new();
    Codec::new(Settings {
        persona: Persona {
            tools: vec![hang_up()],
            ..Persona::default()
        },
        ..settings()
    })
    .opened(&mut |frame| frames.push(frame));
    let frame: Value = serde_json::from_str(&frames[0]).unwrap();
    let tool = &frame["tools"][0];
    assert_eq!(
        (&tool["type"], &tool["name"]),
        (&json!("function"), &json!("hang_up"))
    );
    let schema: Value = serde_json::from_str(tool["parameters"].as_str().unwrap()).unwrap();
    assert_eq!(schema["type"], "object");
    strict(&frames[0]);
}

#[test]
fn the_callers_voice_goes_up_as_linear16_in_one_exact_allocation() {
    // Silence, the smallest negative step's neighbour, both extremes.
    let frames = say(&mut codec(), Command::AudioIn(&[0xff, 0x7f, 0x80, 0x00]));
    let pcm: Vec<u8> = [0i16, 0, 32124, -32124]
        .iter()
        .flat_map(|s| s.to_le_bytes())
        .collect();
    let data = base64_simd::STANDARD.encode_to_string(&pcm);
    assert_eq!(
        frames,
        [format!(r#"{{"type":"audio_input","data":"{data}"}}"#)]
    );

    let frames = say(&mut codec(), Command::AudioIn(&[0xff; 160]));
    assert_eq!(frames[0].len(), 428 + 32);
    assert_eq!(frames[0].capacity(), frames[0].len());
    assert!(say(&mut codec(), Command::AudioIn(&[])).is_empty());
}

#[test]
fn commands_become_messages() {
    let codec = &mut codec();
    let ok = Command::ToolResult {
        call_id: "call_1",
        result: ToolResult::Ok("it is \"noon\""),
    };
    assert_eq!(
        say(codec, ok),
        [r#"{"type":"tool_response","tool_call_id":"call_1","content":"it is \"noon\""}"#]
    );
    let failed = ToolResult::Failed {
        error: "timeout",
        content: "Say that you do not know.",
    };
    assert_eq!(
        say(
            codec,
            Command::ToolResult {
                call_id: "call_2",
                result: failed
            }
        ),
        [
            r#"{"type":"tool_error","tool_call_id":"call_2","error":"timeout","content":"Say that you do not know.","level":"warn"}"#
        ]
    );
    assert_eq!(
        say(
            codec,
            Command::Say {
                text: "One moment."
            }
        ),
        [r#"{"type":"assistant_input","text":"One moment."}"#]
    );
    assert_eq!(
        say(codec, Command::Pause),
        [r#"{"type":"pause_assistant_message"}"#]
    );
    assert_eq!(
        say(codec, Command::Resume),
        [r#"{"type":"resume_assistant_message"}"#]
    );
    cut(codec, 1);
}

#[test]
fn added_context_stays_and_adds_up() {
    let codec = &mut codec();
    assert_eq!(
        say(
            codec,
            Command::AddContext {
                text: "The caller is Ms Park."
            }
        ),
        [
            r#"{"type":"session_settings","context":{"text":"The caller is Ms Park.","type":"persistent"}}"#
        ]
    );
    let context = |frames: Vec<String>| -> String {
        strict(&frames[0]);
        let frame: Value = serde_json::from_str(&frames[0]).unwrap();
        frame["context"]["text"].as_str().unwrap().to_owned()
    };
    let both = context(say(
        codec,
        Command::AddContext {
            text: "Order 4711.",
        },
    ));
    assert_eq!(both, "The caller is Ms Park.\nOrder 4711.");
    let long = "\u{65e5}".repeat(2000);
    let all = context(say(codec, Command::AddContext { text: &long }));
    assert_eq!(all, format!("The caller is Ms Park.\nOrder 4711.\n{long}"));
}

/// Everything that may be sent, by the SDK types' field names; anything else is a defect.
fn strict(frame: &str) {
    let frame: Value = serde_json::from_str(frame).unwrap();
    let keys = |value: &Value, required: &[&str], optional: &[&str]| {
        let object = value.as_object().unwrap();
        for key in required {
            assert!(object.contains_key(*key), "{key} is missing: {value}");
        }
        for key in object.keys() {
            let known = required.contains(&key.as_str()) || optional.contains(&key.as_str());
            assert!(known, "{key} does not belong: {value}");
        }
    };
    match frame["type"].as_str().unwrap() {
        "audio_input" => keys(&frame, &["type", "data"], &[]),
        "session_settings" => {
            keys(&frame, &["type"], &["audio", "context", "tools"]);
            if let Some(audio) = frame.get("audio") {
                keys(audio, &["encoding", "sample_rate", "channels"], &[]);
            }
            if let Some(context) = frame.get("context") {
                keys(context, &["text", "type"], &[]);
            }
            for tool in frame
                .get("tools")
                .into_iter()
                .flat_map(|t| t.as_array().unwrap())
            {
                keys(tool, &["type", "name", "parameters"], &["description"]);
            }
        }
        "assistant_input" => keys(&frame, &["type", "text"], &[]),
        "tool_response" => keys(&frame, &["type", "tool_call_id", "content"], &["tool_name"]),
        "tool_error" => keys(
            &frame,
            &["type", "tool_call_id", "error"],
            &["content", "level"],
        ),
        "pause_assistant_message" | "resume_assistant_message" => keys(&frame, &["type"], &[]),
        other => panic!("{other} is never sent"),
    }
}

// --- what is heard ---

#[test]
fn a_greeting_from_ready_to_the_end_of_the_turn() {
    let codec = &mut codec();
    assert_eq!(hear(codec, METADATA), [Heard::Ready("c-1".into(), false)]);
    assert_eq!(hear(codec, METADATA), [], "ready only once");
    assert_eq!(
        hear(codec, &assistant("a", "Hello.")),
        [Heard::Agent("Hello.".into())]
    );
    let mut events = hear(codec, &speech("a"));
    events.extend(hear(codec, &speech("a")));
    let (before_end, _) = audio(&events);
    assert!(
        (1500..=1600).contains(&before_end),
        "200 ms less what the filter holds: {before_end}"
    );
    // The second utterance of the turn ends the first.
    let next = hear(codec, &assistant("b", "How can I help?"));
    assert_eq!(
        next,
        [Heard::SegmentEnd(1), Heard::Agent("How can I help?".into())]
    );
    events.extend(hear(codec, &speech("b")));
    let end = hear(codec, END);
    assert!(
        matches!(
            end[..],
            [Heard::Audio(2, _), Heard::SegmentEnd(2), Heard::TurnDone]
        ),
        "{end:?}"
    );
    events.extend(end);
    let (bytes, segments) = audio(&events);
    assert_eq!(segments, [1, 2]);
    assert!(
        (2400..2450).contains(&bytes),
        "300 ms with the filter's tail: {bytes}"
    );
}

#[test]
fn how_speech_was_cut_into_messages_is_not_audible() {
    let samples = tone(48_000, 48_000);
    let listen = |chunk: usize| {
        let codec = &mut codec();
        let mut mulaw = Vec::new();
        let mut take = |events: Vec<Heard>| {
            for event in events {
                if let Heard::Audio(_, bytes) = event {
                    mulaw.extend(bytes);
                }
            }
        };
        for part in samples.chunks(chunk) {
            take(hear(codec, &audio_output("a", &wav(48_000, part))));
        }
        take(hear(codec, END));
        mulaw
    };
    let whole = listen(48_000);
    assert!(
        (8000..8100).contains(&whole.len()),
        "one second and the filter's tail"
    );
    for chunk in [4800, 4801, 960, 17_003] {
        assert!(listen(chunk) == whole, "chunks of {chunk}");
    }
}

#[test]
fn the_rate_changes_in_mid_sentence_and_nothing_is_lost() {
    let codec = &mut codec();
    let mut events = hear(codec, &speech("a"));
    events.extend(hear(
        codec,
        &audio_output("a", &wav(24_000, &tone(24_000, 2400))),
    ));
    events.extend(hear(
        codec,
        &audio_output("a", &wav(8_000, &tone(8_000, 800))),
    ));
    events.extend(hear(codec, END));
    let (bytes, segments) = audio(&events);
    assert_eq!(segments, [1]);
    assert!(
        (2400..2500).contains(&bytes),
        "300 ms and two tails: {bytes}"
    );
}

#[test]
fn caller_interrupts_and_what_still_comes_of_the_reply_is_not_heard() {
    let codec = &mut codec();
    hear(codec, &assistant("a", "Let me tell you a long story."));
    hear(codec, &speech("a"));
    assert_eq!(hear(codec, INTERRUPTION), [Heard::Interrupt]);
    cut(codec, 1);
    let stale = [Heard::Ignored(Ignored::Stale)];
    assert_eq!(hear(codec, &speech("a")), stale);
    assert_eq!(hear(codec, &speech("a")), stale);
    assert_eq!(
        hear(codec, END),
        [Heard::SegmentEnd(1), Heard::TurnDone],
        "and no tail either"
    );
    assert_eq!(hear(codec, &speech("a")), stale, "not even after its turn");
    let next = hear(codec, &assistant("b", "Yes?"));
    assert_eq!(next, [Heard::Agent("Yes?".into())]);
    assert_eq!(audio(&hear(codec, &speech("b"))).1, [2]);
    assert_eq!(hear(codec, &speech("a")), stale, "while the next one plays");
}

#[test]
fn an_interruption_that_the_host_does_not_confirm_costs_no_audio() {
    let codec = &mut codec();
    assert_eq!(
        hear(codec, INTERRUPTION),
        [Heard::Interrupt],
        "on the first silence"
    );
    hear(codec, &assistant("a", "Hello."));
    assert_eq!(audio(&hear(codec, &speech("a"))).1, [1]);
    assert_eq!(hear(codec, INTERRUPTION), [Heard::Interrupt]);
    assert_eq!(audio(&hear(codec, &speech("a"))).1, [1]);
}

#[test]
fn a_sentence_announced_before_the_interruption_is_part_of_what_was_cut() {
    let codec = &mut codec();
    hear(codec, &speech("a"));
    hear(codec, &assistant("b", "And furthermore,"));
    hear(codec, INTERRUPTION);
    // The next turn may begin before the host has learnt how much was heard.
    hear(codec, &assistant("c", "Go ahead."));
    cut(codec, 1);
    assert_eq!(hear(codec, &speech("b")), [Heard::Ignored(Ignored::Stale)]);
    assert_eq!(audio(&hear(codec, &speech("c"))).1, [3]);
}

#[test]
fn a_cut_of_what_never_was_does_not_mute_the_agent() {
    let codec = &mut codec();
    cut(codec, u32::MAX);
    assert_eq!(audio(&hear(codec, &speech("a"))).1, [1]);
}

#[test]
fn audio_without_an_id_belongs_to_what_is_being_said() {
    let codec = &mut codec();
    let nameless = speech("a").replace(r#""id":"a","#, "");
    assert_eq!(audio(&hear(codec, &nameless)).1, [1]);
    assert_eq!(audio(&hear(codec, &nameless)).1, [1]);
    hear(codec, END);
    assert_eq!(audio(&hear(codec, &nameless)).1, [2], "a new turn");
    cut(codec, 2);
    assert_eq!(hear(codec, &nameless), [Heard::Ignored(Ignored::Stale)]);
    let words = assistant("", "Yes?").replace(r#""id":"","#, "");
    assert_eq!(
        hear(codec, &words),
        [Heard::SegmentEnd(2), Heard::Agent("Yes?".into())]
    );
    assert_eq!(audio(&hear(codec, &nameless)).1, [3], "its text came first");
}

#[test]
fn a_straggler_keeps_its_place() {
    let codec = &mut codec();
    hear(codec, &speech("a"));
    assert_eq!(
        without_audio(hear(codec, &speech("b"))),
        [Heard::SegmentEnd(1)]
    );
    let late = hear(codec, &speech("a"));
    assert_eq!(audio(&late).1, [1]);
    assert_eq!(without_audio(late), []);
    assert_eq!(
        without_audio(hear(codec, END)),
        [Heard::SegmentEnd(2), Heard::TurnDone]
    );
}

#[test]
fn a_thousand_utterances_are_a_thousand_segments() {
    let codec = &mut codec();
    for n in 1..=1000 {
        assert_eq!(audio(&hear(codec, &speech(&format!("id-{n}")))).1, [n]);
    }
}

#[test]
fn final_transcripts_that_grow_replace_each_other() {
    let codec = &mut codec();
    let caller = |text: &str, replace| [Heard::Caller(text.into(), false, replace)];
    assert_eq!(
        hear(codec, &user("I need help.", 1000, 2000)),
        caller("I need help.", false)
    );
    let more = "I need help with my bill.";
    assert_eq!(
        hear(codec, &user(more, 1000, 3000)),
        caller(more, true),
        "the same beginning"
    );
    let most = "I need help, with my bill from May";
    assert_eq!(
        hear(codec, &user(most, 1200, 4500)),
        caller(most, true),
        "a superset, overlapping"
    );
    assert_eq!(hear(codec, &user("No.", 9000, 9500)), caller("No.", false));
    let again = "No, really not.";
    assert_eq!(
        hear(codec, &user(again, 9900, 11_000)),
        caller(again, false),
        "said after, not instead"
    );
}

#[test]
fn transcripts_without_times_replace_only_what_they_extend() {
    let codec = &mut codec();
    let untimed = |text: &str| user(text, 0, 0).replace(r#""time":{"begin":0,"end":0},"#, "");
    for (message, text, replace) in [
        (untimed("Good"), "Good", false),
        (untimed("good morning"), "good morning", true),
        (untimed("Evening"), "Evening", false),
        (user("Evening all", 0, 0), "Evening all", true),
        (user("Something else", 0, 0), "Something else", false),
    ] {
        assert_eq!(
            hear(codec, &message),
            [Heard::Caller(text.into(), false, replace)]
        );
    }
}

#[test]
fn an_interim_transcript_is_replaced_by_the_final_one() {
    let codec = &mut codec();
    let interim = user("I knead", 500, 700).replace(r#""interim":false"#, r#""interim":true"#);
    assert_eq!(
        hear(codec, &interim),
        [Heard::Caller("I knead".into(), true, false)]
    );
    let last = hear(codec, &user("I need bread.", 500, 1500));
    assert_eq!(last, [Heard::Caller("I need bread.".into(), false, true)]);
}

#[test]
fn typed_text_never_replaces_speech() {
    let codec = &mut codec();
    let typed = user("Hi", 0, 10).replace(r#""from_text":false"#, r#""from_text":true"#);
    for _ in 0..2 {
        assert_eq!(
            hear(codec, &typed),
            [Heard::Caller("Hi".into(), false, false)]
        );
    }
}

#[test]
fn messages_without_words_are_fine() {
    let codec = &mut codec();
    for message in [
        r#"{"type":"assistant_message","id":"a","message":{"role":"assistant","content":null},"models":{}}"#,
        r#"{"type":"assistant_message","message":{"role":"assistant"}}"#,
        r#"{"type":"user_message","message":{"role":"user"},"time":null}"#,
        r#"{"type":"assistant_prosody","id":"a","models":{"prosody":{"scores":{"Surprise (negative)":0.1}}}}"#,
        r#"{"type":"session_settings","audio":{"encoding":"linear16","sample_rate":8000,"channels":1}}"#,
    ] {
        assert_eq!(hear(codec, message), []);
    }
}

// --- tools ---

#[test]
fn a_function_is_called_and_answered() {
    let codec = &mut codec();
    let call = r#"{"type":"tool_call","name":"weather","parameters":"{\"city\":\"Perth\"}","response_required":true,"tool_call_id":"call_1","tool_type":"function"}"#;
    let called = Heard::ToolCall(
        "call_1".into(),
        "weather".into(),
        r#"{"city":"Perth"}"#.into(),
        true,
    );
    assert_eq!(hear(codec, call), [called]);
    assert_eq!(hear(codec, call), [], "a repetition must not run it twice");
    say(
        codec,
        Command::ToolResult {
            call_id: "call_1",
            result: ToolResult::Ok("warm"),
        },
    );
    let echo = r#"{"type":"tool_response","tool_call_id":"call_1","content":"warm"}"#;
    assert_eq!(hear(codec, echo), [], "an echo of our answer");
}

#[test]
fn a_call_without_its_optional_fields_wants_an_answer() {
    let call = r#"{"type":"tool_call","name":"weather","tool_call_id":"call_1"}"#;
    let called = Heard::ToolCall("call_1".into(), "weather".into(), "{}".into(), true);
    assert_eq!(hear(&mut codec(), call), [called]);
}

#[test]
fn a_call_that_the_server_settles_is_cancelled() {
    let codec = &mut codec();
    let call = |id: &str| {
        format!(r#"{{"type":"tool_call","name":"slow","parameters":"{{}}","tool_call_id":"{id}"}}"#)
    };
    hear(codec, &call("call_1"));
    hear(codec, &call("call_2"));
    let timeout = r#"{"type":"tool_error","tool_call_id":"call_1","error":"timed out"}"#;
    assert_eq!(
        hear(codec, timeout),
        [Heard::ToolCancelled("call_1".into())]
    );
    assert_eq!(hear(codec, timeout), []);
    let answer = r#"{"type":"tool_response","tool_call_id":"call_2","content":"cached"}"#;
    assert_eq!(hear(codec, answer), [Heard::ToolCancelled("call_2".into())]);
}

#[test]
fn a_built_in_tool_needs_nothing_from_us() {
    let codec = &mut codec();
    let search = HANG_UP_CALL
        .replace("hang_up", "web_search")
        .replace(":false", ":true");
    let events = hear(codec, &search);
    assert_eq!(
        events,
        [Heard::ToolCall(
            "call_9".into(),
            "web_search".into(),
            "{}".into(),
            false
        )]
    );
    let result = r#"{"type":"tool_response","tool_call_id":"call_9","content":"...","tool_name":"web_search","tool_type":"builtin"}"#;
    assert_eq!(hear(codec, result), []);
}

// --- the end ---

#[test]
fn the_built_in_hang_up_says_goodbye_and_closes() {
    let codec = &mut codec();
    hear(codec, METADATA);
    hear(codec, &assistant("a", "Goodbye!"));
    hear(codec, &speech("a"));
    let events = hear(codec, HANG_UP_CALL);
    assert_eq!(
        events,
        [Heard::ToolCall(
            "call_9".into(),
            "hang_up".into(),
            "{}".into(),
            false
        )]
    );
    hear(codec, END);
    assert_eq!(codec.closed(Some(1000), ""), Closed::HungUp);
}

#[test]
fn an_error_and_then_1000_is_not_a_hang_up() {
    for (code, slug, closed) in [
        ("E0714", "inactivity_timeout", Closed::Inactive),
        ("E0715", "max_duration_timeout", Closed::Expired),
        ("E0300", "zero_credits", Closed::Quota),
        ("E0301", "", Closed::Quota),
        ("E0399", "some_zero_credits_thing", Closed::Quota),
        ("E0399", "subscription_limit", Closed::Quota),
        ("E0708", "", Closed::Rejected),
        ("E0720", "", Closed::Rejected),
        ("E0101", "malformed", Closed::Rejected),
        ("I0100", "internal", Closed::Lost),
        ("I0116", "transcription_failure", Closed::Lost),
        ("", "inactivity_timeout", Closed::Inactive),
        ("?", "", Closed::Lost),
    ] {
        let codec = &mut codec();
        hear(codec, METADATA);
        assert_eq!(
            hear(codec, &error(code, slug)),
            [Heard::Error(code.into(), Some(closed))]
        );
        assert_eq!(codec.closed(Some(1000), ""), closed, "{code} {slug}");
        assert_eq!(
            codec.closed(None, ""),
            closed,
            "{code} {slug}, without a close frame"
        );
    }
}

#[test]
fn a_slow_language_model_does_not_spoil_the_hang_up() {
    let codec = &mut codec();
    let slow = error("E0712", "custom_language_model_timed_out");
    assert_eq!(hear(codec, &slow), [Heard::Error("E0712".into(), None)]);
    assert_eq!(codec.closed(Some(1000), ""), Closed::HungUp);
}

#[test]
fn an_error_long_ago_does_not_spoil_the_hang_up() {
    for sign_of_life in [user("Hello?", 1, 2), assistant("a", "Hello."), speech("a")] {
        let codec = &mut codec();
        hear(codec, &error("I0100", "internal"));
        hear(codec, &sign_of_life);
        assert_eq!(codec.closed(Some(1000), ""), Closed::HungUp);
    }
}

#[test]
fn closes_without_an_error() {
    for (code, closed) in [
        (Some(1000), Closed::HungUp),
        (Some(1001), Closed::Lost),
        (Some(1006), Closed::Lost),
        (None, Closed::Lost),
        (Some(1011), Closed::Lost),
        (Some(1012), Closed::Lost),
        (Some(1013), Closed::Lost),
        (Some(1014), Closed::Lost),
        (Some(4999), Closed::Lost),
        (Some(1002), Closed::Rejected),
        (Some(1003), Closed::Rejected),
        (Some(1007), Closed::Rejected),
        (Some(1008), Closed::Rejected),
        (Some(1009), Closed::Rejected),
        (Some(1010), Closed::Rejected),
    ] {
        assert_eq!(codec().closed(code, ""), closed, "{code:?}");
    }
}

// --- hostile ---

#[test]
fn what_is_not_understood_is_skipped_and_reported() {
    let malformed = [Heard::Ignored(Ignored::Malformed)];
    let unknown = [Heard::Ignored(Ignored::UnknownType)];
    for message in [
        r#"{"type":"something_new"}"#,
        r#"{"type":"something_new","id":{"deep":[1,{"er":null}]},"data":[true,1.5,-3,"x"]}"#,
        r#"{"type":"something_new","id":7,"data":false}"#,
        r#"{"type":"something_new","id":-7,"data":0.5}"#,
        r#"{"type":"","id":null}"#,
    ] {
        assert_eq!(hear(&mut codec(), message), unknown, "{message}");
    }
    let nested = format!(
        r#"{{"type":"x","data":{}{}}}"#,
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    let long_id = METADATA.replace("c-1", &"c".repeat(100_000));
    for message in [
        "",
        " ",
        "null",
        "7",
        "\"audio_output\"",
        "[]",
        r#"["audio_output","a","UklGRg=="]"#,
        "{}",
        "{",
        r#"{"type":null}"#,
        r#"{"type":["audio_output"]}"#,
        r#"{"type":"audio_output","id":"a"}"#,
        r#"{"type":"audio_output","id":"a","data":null}"#,
        r#"{"type":"audio_output","id":"a","data":7}"#,
        r#"{"type":"audio_output","id":"a","data":"not base64!"}"#,
        r#"{"type":"audio_output","id":"a","data":"UklGR"}"#,
        r#"{"type":"chat_metadata"}"#,
        r#"{"type":"chat_metadata","chat_id":""}"#,
        r#"{"type":"assistant_message","message":"Hello."}"#,
        r#"{"type":"user_message","message":{"content":"x"},"time":{"begin":"0","end":1}}"#,
        r#"{"type":"tool_call","name":"x","tool_call_id":7}"#,
        r#"{"type":"tool_error"}"#,
        r#"{"type":"error","code":300}"#,
        &long_id,
    ] {
        assert_eq!(hear(&mut codec(), message), malformed, "{:.80}", message);
    }
    // As deep as it likes: skipped without recursion.
    assert_eq!(hear(&mut codec(), &nested), unknown);
}

#[test]
fn a_tool_call_is_told_as_long_as_it_can_be_answered() {
    let long = "n".repeat(513);
    for (rest, name, arguments) in [
        (r#""name":"""#.to_owned(), "(nameless)", "{}"),
        (format!(r#""name":"{long}""#), "(nameless)", "{}"),
        (r#""name":7"#.to_owned(), "(nameless)", "{}"),
        (r#""parameters":"{}""#.to_owned(), "(nameless)", "{}"),
        (
            r#""name":"w","response_required":"yes""#.to_owned(),
            "(nameless)",
            "{}",
        ),
        (r#""name":"w","parameters":null"#.to_owned(), "w", "{}"),
        (r#""name":"w","parameters":"""#.to_owned(), "w", ""),
        (
            r#""name":"w","parameters":{"a":123456789012345678901}"#.to_owned(),
            "w",
            r#"{"a":123456789012345678901}"#,
        ),
        (r#""name":"w","parameters":[1]"#.to_owned(), "w", "[1]"),
    ] {
        let codec = &mut codec();
        let call = format!(r#"{{"type":"tool_call","tool_call_id":"call_1",{rest}}}"#);
        let told = Heard::ToolCall("call_1".into(), name.into(), arguments.into(), true);
        assert_eq!(hear(codec, &call), [told], "{call:.80}");
        assert_eq!(hear(codec, &call), [], "once");
    }
    // Without an id there is nobody to answer, and what EVI runs itself is not answered.
    let malformed = [Heard::Ignored(Ignored::Malformed)];
    let nobody = r#"{"type":"tool_call","name":"","tool_call_id":""}"#;
    assert_eq!(hear(&mut codec(), nobody), malformed);
}

#[test]
fn audio_that_cannot_be_played_is_skipped_and_the_next_is_heard() {
    let codec = &mut codec();
    let events = hear(codec, &audio_output("a", b"not a WAV file at all"));
    assert!(
        matches!(events[..], [Heard::Ignored(Ignored::BadAudio(_))]),
        "{events:?}"
    );
    let events = hear(codec, &audio_output("a", &wav(3, &tone(8000, 100))));
    assert_eq!(events.len(), 1);
    assert!(
        matches!(
            events[0],
            Heard::Ignored(Ignored::BadRate | Ignored::BadAudio(_))
        ),
        "{events:?}"
    );
    assert_eq!(audio(&hear(codec, &speech("a"))).1, [1]);
}

#[test]
fn escapes_in_base64_are_undone() {
    let plain = audio_output("a", &wav(8000, &[-1i16; 400]));
    assert!(plain.contains("///"));
    let escaped = plain.replace('/', "\\/");
    assert_eq!(hear(&mut codec(), &escaped), hear(&mut codec(), &plain));
}

#[test]
fn an_error_code_as_long_as_a_novel_is_cut_short() {
    let events = hear(&mut codec(), &error(&"ä".repeat(10_000), ""));
    assert_eq!(events, [Heard::Error("ä".repeat(32), Some(Closed::Lost))]);
}

#[test]
fn a_huge_message_is_played_and_its_room_is_given_back() {
    let codec = &mut codec();
    let samples = vec![0i16; 6_000_000];
    let message = audio_output("a", &wav(8_000, &samples));
    assert!(message.len() > 15 << 20);
    assert_eq!(audio(&hear(codec, &message)).0, samples.len());
    assert!(scratch_kept() <= 4 << 20, "{}", scratch_kept());
}

#[test]
fn a_handler_may_call_back_into_the_codecs() {
    let mut other = codec();
    let mut frames = 0;
    codec().message(
        &speech("a"),
        &mut |event| {
            if let Event::Audio { mulaw, .. } = event {
                other.command(Command::AudioIn(mulaw), &mut |_| frames += 1);
            }
        },
        &mut unasked,
    );
    assert_eq!(frames, 1);
}

/// One of each type.
fn samples() -> Vec<String> {
    vec![
        METADATA.into(),
        END.into(),
        INTERRUPTION.into(),
        HANG_UP_CALL.into(),
        assistant("a", "Grüß Gott \u{1f44b} \"quoted\""),
        user("Hello", 1, 2),
        audio_output("a", &wav(24_000, &tone(24_000, 30))),
        error("E0714", "inactivity_timeout"),
        r#"{"type":"tool_call","name":"w","parameters":"{\"a\":1}","response_required":true,"tool_call_id":"call_1","tool_type":"function"}"#.into(),
        r#"{"type":"tool_response","tool_call_id":"call_1","content":"x","tool_name":"w","tool_type":"function"}"#.into(),
        r#"{"type":"tool_error","tool_call_id":"call_1","error":"x","content":"y","level":"warn"}"#.into(),
        r#"{"type":"assistant_prosody","id":"a","models":{"prosody":{"scores":{"Joy":0.5}}}}"#.into(),
        r#"{"type":"session_settings","audio":{"encoding":"linear16"},"variables":{"a":1}}"#.into(),
    ]
}

#[test]
fn a_message_torn_off_anywhere_is_malformed() {
    for sample in samples() {
        let codec = &mut codec();
        for at in (0..sample.len()).filter(|at| sample.is_char_boundary(*at)) {
            let events = hear(codec, &sample[..at]);
            assert_eq!(
                events,
                [Heard::Ignored(Ignored::Malformed)],
                "{}",
                &sample[..at]
            );
        }
    }
}

#[test]
fn any_value_in_any_place_is_survived() {
    fn places(value: &Value, at: String, found: &mut Vec<String>) {
        if !at.is_empty() {
            found.push(at.clone());
        }
        for (key, value) in value.as_object().into_iter().flatten() {
            places(value, format!("{at}/{key}"), found);
        }
    }
    let odd = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(1e300),
        json!(u64::MAX),
        json!(""),
        json!("x"),
        json!("call_1"),
        json!([]),
        json!([[1], {}]),
        json!({}),
        json!({"content": 1}),
    ];
    for sample in samples() {
        let whole: Value = serde_json::from_str(&sample).unwrap();
        let mut found = Vec::new();
        places(&whole, String::new(), &mut found);
        // One codec for all: what one leaves behind must not break the next.
        let codec = &mut codec();
        for place in &found {
            for odd in &odd {
                let mut message = whole.clone();
                *message.pointer_mut(place).unwrap() = odd.clone();
                hear(codec, &message.to_string());
                hear(codec, &sample);
            }
            let mut message = whole.clone();
            let (parent, key) = place.rsplit_once('/').unwrap();
            message
                .pointer_mut(parent)
                .unwrap()
                .as_object_mut()
                .unwrap()
                .remove(key);
            hear(codec, &message.to_string());
        }
        codec.closed(Some(1000), "");
        hear(codec, METADATA);
        assert!(
            audio(&hear(codec, &speech("fresh"))).0 > 0,
            "still speaks after {sample:.60}"
        );
    }
}
