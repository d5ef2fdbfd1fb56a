//! The caller, and their words.

use super::*;
use crate::config::realtime::UserTranscript;

fn words(kind: &str, more: Value) -> Value {
    let kind = format!("conversation.item.input_audio_transcription.{kind}");
    let mut message = json!({ "type": kind, "item_id": "u1", "content_index": 0 });
    message
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    message
}

#[test]
fn the_telephones_bytes_go_up_as_they_are() {
    let mut call = Call::new();
    let frame = json!({ "type": "input_audio_buffer.append", "audio": "AH//VQ==" });
    call.told(Command::AudioIn(&[0, 0x7F, 0xFF, 0x55]), &[frame]);
}

#[test]
fn their_words_come_in_pieces_or_anew_and_late() {
    let mut call = Call::new();
    call.hears(speech_started("u1"), &["speaks"], &[]);
    call.hears(committed("u1"), &["spoke"], &[]);
    call.hears(committed("u1"), &[], &[]);
    call.hears(created("r1"), &[], &[]);
    call.hears(
        words("delta", json!({ "delta": "When are" })),
        &["caller: When are..."],
        &[],
    );
    call.hears(
        words("delta", json!({ "delta": " you" })),
        &["calleragain: When are you..."],
        &[],
    );
    call.hears(delta("r1", "i1", 8), &["audio 1 8"], &[]);
    let text = "When are you open?";
    call.hears(
        words("completed", json!({ "transcript": text, "usage": {} })),
        &["calleragain: When are you open?"],
        &[],
    );
    call.hears(
        transcript("r1", "i1", "At nine."),
        &["agent: At nine."],
        &[],
    );
    call.hears(done("r1"), &["end 1", "turn"], &[]);
    // In the order in which they were said, not transcribed.
    call.lost();
    let said = [user(text), message("assistant", "output_text", "At nine.")];
    call.hears(updated(), &["resumed sess_1"], &said);

    let mut call = Call::with(|config| config.user_transcript = UserTranscript::Replace);
    call.hears(
        words("delta", json!({ "delta": "When" })),
        &["caller: When..."],
        &[],
    );
    let again = &["calleragain: When are..."];
    call.hears(
        words("updated", json!({ "transcript": "When are" })),
        again,
        &[],
    );
    let going_on = json!({ "transcript": "When are you", "status": "in_progress" });
    call.hears(
        words("completed", going_on),
        &["calleragain: When are you..."],
        &[],
    );
    // It says nothing else of the caller: their words are news.
    let end = &["calleragain: When are you?", "spoke"];
    call.hears(
        words("completed", json!({ "transcript": "When are you?" })),
        end,
        &[],
    );
    call.hears(words("failed", json!({ "error": {} })), &[], &[]);
}

#[test]
fn an_end_that_is_not_told_shows_by_the_answer() {
    let mut call = Call::new();
    let stopped = json!({ "type": "input_audio_buffer.speech_stopped", "item_id": "u1" });
    call.hears(speech_started("u1"), &["speaks"], &[]);
    call.hears(stopped, &[], &[]);
    call.hears(created("r1"), &["spoke"], &[]);
    call.hears(heard_words("u1", "Hello?"), &["caller: Hello?"], &[]);
    // A silence that the server found too long is nobody's.
    let idle = json!({ "type": "input_audio_buffer.timeout_triggered", "item_id": "u2" });
    call.hears(idle, &[], &[]);
    call.hears(committed("u2"), &[], &[]);
    call.hears(heard_words("u2", ""), &[], &[]);
}
