//! What the agent says, what of it is heard, and what it is asked to say.

use super::*;
use crate::config::realtime::{Format, Interrupt, Say, Truncate};

#[test]
fn a_turn_in_either_dialect() {
    for [audio, audio_end, words, words_end] in [
        [
            "response.output_audio.delta",
            "response.output_audio.done",
            "response.output_audio_transcript.delta",
            "response.output_audio_transcript.done",
        ],
        [
            "response.audio.delta",
            "response.audio.done",
            "response.audio_transcript.delta",
            "response.audio_transcript.done",
        ],
    ] {
        let mut call = Call::new();
        let of = |kind: &str, more: Value| {
            let mut message = json!({ "type": kind, "event_id": "e", "response_id": "r",
                "item_id": "i", "output_index": 0, "content_index": 0 });
            message
                .as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            message
        };
        call.hears(created("r"), &[], &[]);
        call.hears(of(words, json!({ "delta": "Hel" })), &[], &[]);
        call.hears(
            of(audio, json!({ "delta": "VVVVVQ==" })),
            &["audio 1 4"],
            &[],
        );
        call.hears(of(audio, json!({ "delta": "" })), &[], &[]);
        call.hears(of(words, json!({ "delta": "lo." })), &[], &[]);
        call.hears(of(audio_end, json!({})), &["end 1"], &[]);
        call.hears(
            of(words_end, json!({ "transcript": "Hello." })),
            &["agent: Hello."],
            &[],
        );
        call.hears(of(words_end, json!({ "transcript": "Hello." })), &[], &[]);
        call.hears(done("r"), &["turn"], &[]);
    }
}

#[test]
fn a_server_that_announces_nothing_and_ends_nothing_but_the_response() {
    let mut call = Call::new();
    call.hears(delta("r", "a", 160), &["audio 1 160"], &[]);
    let words = json!({ "type": "response.output_audio_transcript.delta", "response_id": "r",
        "item_id": "a", "delta": "Hello." });
    call.hears(words, &[], &[]);
    call.hears(delta("r", "b", 160), &["end 1", "audio 2 160"], &[]);
    call.hears(done("r"), &["agent: Hello.", "end 2", "turn"], &[]);
    // Without any names.
    let audio = json!({ "type": "response.audio.delta", "delta": "VVVV" });
    let end = json!({ "type": "response.done", "response": {} });
    call.hears(audio.clone(), &["audio 3 3"], &[]);
    call.hears(audio.clone(), &["audio 3 3"], &[]);
    call.hears(end.clone(), &["end 3", "turn"], &[]);
    call.hears(audio, &["audio 4 3"], &[]);
    call.hears(end, &["end 4", "turn"], &[]);
    // Audio under another name, and a second content of the same item.
    let mut other = delta("r2", "c", 8);
    let data = other.as_object_mut().unwrap().remove("delta").unwrap();
    other["audio"] = data;
    call.hears(other.clone(), &["audio 5 8"], &[]);
    other["content_index"] = json!(1);
    call.hears(other, &["end 5", "audio 6 8"], &[]);
}

#[test]
fn the_caller_talks_over_what_is_being_generated() {
    let mut call = Call::new();
    call.hears(created("r1"), &[], &[]);
    call.hears(delta("r1", "i1", 16_000), &["audio 1 16000"], &[]);
    call.hears(speech_started("u1"), &["speaks"], &[]);
    // The server ends it by itself.
    call.heard(1, 700, &[truncate("i1", 700)]);
    call.hears(delta("r1", "i1", 160), &["ignored Stale"], &[]);
    call.hears(delta("r1", "i2", 160), &["ignored Stale"], &[]);
    call.hears(audio_done("r1", "i1"), &[], &[]);
    // Of its words those that were heard, as far as anybody can tell.
    let text = "We are open from nine to five on every day but Sunday.";
    call.hears(
        transcript("r1", "i1", text),
        &["agent: We are open from"],
        &[],
    );
    call.hears(done_as("r1", "cancelled"), &["turn"], &[]);
    call.hears(committed("u1"), &["spoke"], &[]);
    call.says("r2", "i3", 2, "Yes.");
    // Each is cut once.
    call.heard(1, 100, &[]);
}

#[test]
fn the_caller_talks_over_what_was_generated_long_ago() {
    let mut call = Call::new();
    call.says("r1", "i1", 1, "We are open from nine.");
    call.says("r2", "i2", 2, "And on Saturdays.");
    call.hears(speech_started("u1"), &["speaks"], &[]);
    call.heard(1, 500, &[truncate("i1", 500)]);
    call.heard(2, 0, &[delete("i2")]);
    call.hears(committed("u1"), &["spoke"], &[]);
    // The next session is told what was heard; what was not answered is said to it once more.
    call.hears(heard_words("u1", "Thanks."), &["caller: Thanks."], &[]);
    call.lost();
    let said = [message("assistant", "output_text", "We are open")];
    call.hears(updated(), &["resumed sess_1"], &said);
    // What was replayed has no audio, and its numbers are gone.
    call.heard(1, 100, &[]);
    call.heard(2, 100, &[]);
    call.says("r1", "i1", 3, "Hello again.");
}

#[test]
fn what_the_server_is_told_of_a_cut() {
    let heard = |ms| move |call: &mut Call, frames: &[Value]| call.heard(1, ms, frames);
    // A second was sent.
    for (truncate_how, ms, frames) in [
        (Truncate::Delete, 0, vec![delete("i1")]),
        (Truncate::Keep, 0, vec![]),
        (Truncate::Off, 0, vec![]),
        (Truncate::Delete, 400, vec![truncate("i1", 400)]),
        (Truncate::Keep, 400, vec![truncate("i1", 400)]),
        (Truncate::Off, 400, vec![]),
        (Truncate::Delete, 1000, vec![]),
        (Truncate::Delete, 9999, vec![]),
        (Truncate::Keep, 1000, vec![]),
    ] {
        let mut call = Call::with(|config| config.truncate = truncate_how);
        call.says("r1", "i1", 1, "Hello.");
        call.hears(speech_started("u"), &["speaks"], &[]);
        heard(ms)(&mut call, &frames);
    }
    // One that never was, one of which nothing came, one without a name.
    let mut call = Call::new();
    call.heard(7, 100, &[]);
    call.hears(transcript("r", "i", "Hello."), &["agent: Hello."], &[]);
    call.heard(1, 100, &[cancel("r")]);
    let mut call = Call::new();
    call.hears(
        json!({ "type": "response.audio.delta", "delta": "VVVV" }),
        &["audio 1 3"],
        &[],
    );
    call.heard(1, 0, &[json!({ "type": "response.cancel" })]);
}

#[test]
fn a_cut_that_is_not_the_callers_ends_the_response() {
    let mut call = Call::new();
    call.hears(created("r1"), &[], &[]);
    call.hears(delta("r1", "i1", 8000), &["audio 1 8000"], &[]);
    call.heard(1, 300, &[cancel("r1"), truncate("i1", 300)]);
    let late = json!({ "type": "error", "error": { "code": "response_cancel_not_active" } });
    // It was done already, and its end was never told.
    call.hears(late, &["turn"], &[]);
    // So does one over which the caller speaks, where the server leaves it to us.
    let mut call = Call::with(|config| config.interrupt = Interrupt::Client);
    call.hears(created("r1"), &[], &[]);
    call.hears(delta("r1", "i1", 8000), &["audio 1 8000"], &[]);
    call.hears(speech_started("u"), &["speaks"], &[]);
    call.heard(1, 300, &[cancel("r1"), truncate("i1", 300)]);
    call.hears(done_as("r1", "cancelled"), &["turn"], &[]);
    // And one of which nothing has been heard.
    call.hears(created("r2"), &[], &[]);
    call.hears(speech_started("u"), &["speaks"], &[cancel("r2")]);
    call.hears(delta("r2", "i2", 80), &["ignored Stale"], &[]);
    call.hears(done_as("r2", "cancelled"), &["turn"], &[]);
    // But not what we asked for: a noise must not cost the caller the greeting.
    call.codec
        .command(Command::Say { text: "One." }, &mut |_| {});
    call.hears(speech_started("u"), &["speaks"], &[]);
    call.hears(created("r3"), &[], &[]);
    call.hears(speech_started("u"), &["speaks"], &[]);
    call.hears(delta("r3", "i3", 80), &["audio 2 80"], &[]);
}

#[test]
fn another_response_is_not_mistaken_for_the_one_that_was_cut() {
    let mut call = Call::new();
    call.hears(created("r1"), &[], &[]);
    call.hears(delta("r1", "i1", 8000), &["audio 1 8000"], &[]);
    call.hears(speech_started("u"), &["speaks"], &[]);
    call.heard(1, 300, &[truncate("i1", 300)]);
    // It was never said to be done.
    call.hears(committed("u"), &["spoke"], &[]);
    call.hears(created("r2"), &[], &[]);
    call.hears(delta("r1", "i1", 160), &["ignored Stale"], &[]);
    call.hears(delta("r2", "i2", 160), &["audio 2 160"], &[]);
    call.hears(done_as("r1", "cancelled"), &[], &[]);
    call.hears(done("r2"), &["end 2", "turn"], &[]);
}

#[test]
fn words_that_the_agent_is_given() {
    let said = |text: &str| {
        json!({ "type": "response.create", "response": { "input": [], "tool_choice": "none",
            "instructions": format!(
                "Say exactly this to the caller, word for word, and nothing else: {text}") } })
    };
    let mut call = Call::new();
    call.told(Command::Say { text: "One." }, &[said("One.")]);
    // One after the other, each with a turn of its own.
    call.told(Command::Say { text: "Two." }, &[]);
    call.hears(created("r1"), &[], &[]);
    call.hears(delta("r1", "i1", 160), &["audio 1 160"], &[]);
    call.hears(done("r1"), &["end 1", "turn"], &[said("Two.")]);

    let mut call = Call::with(|config| config.say = Say::Force);
    let force = json!({ "type": "conversation.item.create", "item": {
        "type": "force_message", "role": "assistant",
        "content": [{ "type": "output_text", "text": "One." }] } });
    call.told(Command::Say { text: "One." }, &[force]);
    call.told(Command::Prompt { text: "5" }, &[user("5")]);
    call.hears(delta("r1", "i1", 160), &["audio 1 160"], &[]);
    call.hears(done("r1"), &["end 1", "turn"], &[create()]);
    let mut call = Call::with(|config| config.say = Say::No);
    call.told(Command::Say { text: "One." }, &[]);
}

#[test]
fn samples_go_through_the_resampler_both_ways() {
    let mut call = Call::with(|config| {
        config.audio_in = Format::Pcm(24_000);
        config.audio_out = Format::Pcm(24_000);
    });
    let mut sent = Vec::new();
    call.codec
        .command(Command::AudioIn(&[0xFF; 160]), &mut |frame| {
            sent.push(frame)
        });
    let frame: Value = serde_json::from_str(&sent[0]).unwrap();
    let audio = base64_simd::STANDARD.decode_to_vec(frame["audio"].as_str().unwrap());
    assert_eq!(audio.unwrap(), [0; 960]);
    call.told(Command::AudioIn(&[]), &[]);
    // A sample cut in half, and the filter's tail at the end.
    call.hears(delta("r", "i", 4801), &["audio 1 800"], &[]);
    call.hears(delta("r", "i", 1), &["audio 1 1"], &[]);
    call.hears(audio_done("r", "i"), &["audio 1 31", "end 1"], &[]);
}
