//! What goes wrong: responses that come to nothing, errors, lost connections, nonsense.

use super::*;
use crate::config::realtime::Dialect;

const BRIEF: &str = "Be brief.";

fn brief() -> Call {
    Call::with(|config| config.instructions = BRIEF.into())
}

fn going_on() -> Value {
    json!({ "type": "response.create", "response": { "instructions": format!(
        "{BRIEF}\n\nYou were cut off in the middle of your last sentence for technical reasons. Go on \
         where you stopped; do not greet the caller again.") } })
}

fn aloud() -> Value {
    json!({ "type": "response.create", "response": { "output_modalities": ["audio"],
        "instructions": format!("{BRIEF}\n\nAnswer the caller now, in spoken words.") } })
}

#[test]
fn a_response_that_nobody_can_hear_is_asked_for_again_and_never_for_ever() {
    let text = |id: &str| {
        json!({ "type": "response.output_text.done", "response_id": id, "item_id": "i",
            "content_index": 0, "text": "In writing." })
    };
    // Failed, cut short, written, empty.
    for (how, code) in [
        ("failed", "server_error"),
        ("incomplete", "response_without_audio"),
        ("completed", "response_without_audio"),
    ] {
        let mut call = brief();
        let end = |id: &str| match how {
            "failed" => failed(id, "server_error"),
            how => done_as(id, how),
        };
        call.hears(created("r1"), &[], &[]);
        call.hears(text("r1"), &[], &[]);
        call.hears(end("r1"), &[], &[create()]);
        call.hears(created("r2"), &[], &[]);
        call.hears(end("r2"), &[], &[aloud()]);
        call.hears(created("r3"), &[], &[]);
        let given_up = format!("error {code} Some(Lost)");
        call.hears(end("r3"), &[&given_up], &[]);
        assert_eq!(call.codec.closed(Some(1000), ""), Closed::Lost);
        // The next one may be better, and then all is forgotten.
        call.says("r4", "i4", 2, "Yes.");
        call.hears(end("r5"), &[], &[create()]);
    }
}

#[test]
fn a_failure_that_trying_again_would_not_mend_is_told_at_once() {
    for (code, ends) in [
        ("insufficient_quota", Closed::Quota),
        ("billing_hard_limit_reached", Closed::Quota),
        ("account_deactivated", Closed::Auth),
        ("model_not_found", Closed::Rejected),
    ] {
        let mut call = Call::new();
        call.hears(created("r1"), &[], &[]);
        let told = format!("error {code} Some({ends:?})");
        call.hears(failed("r1", code), &[&told], &[]);
        assert_eq!(call.codec.closed(None, ""), ends);
    }
    // One of which something was heard is told, and over.
    let mut call = Call::new();
    call.hears(delta("r1", "i1", 8), &["audio 1 8"], &[]);
    call.hears(
        failed("r1", "server_error"),
        &["end 1", "error server_error None", "turn"],
        &[],
    );
    // Cut short or talked over is no failure.
    call.hears(delta("r2", "i2", 8), &["audio 2 8"], &[]);
    call.hears(done_as("r2", "incomplete"), &["end 2", "turn"], &[]);
    call.hears(created("r3"), &[], &[]);
    call.hears(done_as("r3", "cancelled"), &["turn"], &[]);
}

#[test]
fn words_that_are_refused_are_asked_for_more_plainly() {
    let mut call = Call::new();
    let mut sent = Vec::new();
    call.codec
        .command(Command::Say { text: "One." }, &mut |frame| sent.push(frame));
    let frame: Value = serde_json::from_str(&sent[0]).unwrap();
    let event = frame["event_id"].as_str();
    let plain = json!({ "type": "response.create", "response": { "instructions":
        "Say exactly this to the caller, word for word, and nothing else: One." } });
    call.hears(error("unknown_parameter", event), &[], &[plain]);
}

#[test]
fn what_the_server_was_quicker_than_is_asked_for_again() {
    for named in [true, false] {
        let mut call = Call::new();
        call.told(Command::Prompt { text: "5" }, &[user("5"), create()]);
        let event = call.event();
        let busy = error(
            "conversation_already_has_active_response",
            named.then_some(&*event),
        );
        call.hears(busy, &[], &[]);
        call.hears(created("r1"), &[], &[]);
        call.hears(delta("r1", "i1", 8), &["audio 1 8"], &[]);
        call.hears(done("other"), &[], &[]);
        call.hears(done("r1"), &["end 1", "turn"], &[create()]);
    }
}

#[test]
fn errors_that_answer_what_came_too_late_are_nothing() {
    let mut call = Call::new();
    call.hears(created("r1"), &[], &[]);
    call.hears(delta("r1", "i1", 8000), &["audio 1 8000"], &[]);
    call.heard(1, 100, &[cancel("r1"), truncate("i1", 100)]);
    let cut = call.event();
    call.hears(error("item_truncate_invalid", Some(&cut)), &[], &[]);
    for code in ["input_audio_buffer_commit_empty", "response_already_active"] {
        call.hears(error(code, None), &[], &[]);
    }
    call.hears(
        error("rate limit of +61400000001", None),
        &["error other None"],
        &[],
    );
    call.hears(
        error("session_expired", None),
        &["error session_expired Some(Lost)"],
        &[],
    );
    let reason = "Your session hit the maximum duration of 60 minutes.";
    assert_eq!(call.codec.closed(Some(1001), reason), Closed::Lost);
    assert_eq!(
        call.codec
            .closed(Some(3000), "invalid_request_error.invalid_api_key"),
        Closed::Auth
    );
}

#[test]
fn a_session_that_is_refused_will_be_refused_again() {
    let mut call = Call::dialled(|_| {});
    let mut frames = Vec::new();
    call.codec.opened(&mut |frame| frames.push(frame));
    let update: Value = serde_json::from_str(&frames[0]).unwrap();
    let refused = error("invalid_value", update["event_id"].as_str());
    call.hears(refused, &["error invalid_value Some(Rejected)"], &[]);
    assert_eq!(call.codec.closed(None, ""), Closed::Rejected);
    let shape = error("beta_api_shape_disabled", None);
    call.hears(
        shape,
        &["error beta_api_shape_disabled Some(Rejected)"],
        &[],
    );
}

#[test]
fn a_sentence_that_the_loss_of_the_connection_cut_off_is_gone_on_with() {
    let mut call = brief();
    call.hears(created("r1"), &[], &[]);
    call.hears(delta("r1", "i1", 8000), &["audio 1 8000"], &[]);
    let words = json!({ "type": "response.output_audio_transcript.delta", "response_id": "r1",
        "item_id": "i1", "delta": "We are open from" });
    call.hears(words, &[], &[]);
    call.told(Command::Prompt { text: "5" }, &[user("5")]);
    call.lost();
    let go_on = json!({ "type": "response.create", "response": { "instructions": format!(
        "{BRIEF}\n\nYou were cut off in the middle of your last sentence for technical reasons. Go \
         on where you stopped; do not greet the caller again.") } });
    let said = message("assistant", "output_text", "We are open from");
    call.hears(
        updated(),
        &["resumed sess_1"],
        &[said.clone(), go_on.clone()],
    );
    // Lost once more before it could.
    call.lost();
    call.hears(updated(), &["resumed sess_1"], &[said.clone(), go_on]);
    call.hears(delta("r1", "i1", 80), &["audio 2 80"], &[]);
    call.hears(done("r1"), &["end 2", "turn"], &[]);
    // What was said to its end, or cut by the caller, is not gone on with.
    call.lost();
    call.hears(updated(), &["resumed sess_1"], std::slice::from_ref(&said));
    call.hears(delta("r1", "i1", 80), &["audio 3 80"], &[]);
    call.hears(speech_started("u"), &["speaks"], &[]);
    call.heard(3, 0, &[delete("i1")]);
    call.lost();
    call.hears(updated(), &["resumed sess_1"], &[said]);
}

#[test]
fn a_sentence_that_was_cut_off_is_gone_on_with_whatever_the_server_can_say() {
    let mut call = Call::with(|config| {
        config.say = config::realtime::Say::Force;
        config.instructions = BRIEF.into();
    });
    call.hears(delta("r1", "i1", 8000), &["audio 1 8000"], &[]);
    call.hears(
        transcript("r1", "i1", "At nine."),
        &["agent: At nine."],
        &[],
    );
    call.lost();
    let said = message("assistant", "output_text", "At nine.");
    call.hears(updated(), &["resumed sess_1"], &[said, going_on()]);
}

#[test]
fn a_tool_whose_turn_was_lost_is_not_the_end_of_the_conversation() {
    // The agent has said that it looks, and then it is gone, and the next one as well.
    let mut call = Call::new();
    call.hears(delta("r1", "i1", 160), &["audio 1 160"], &[]);
    call.hears(
        transcript("r1", "i1", "Let me look."),
        &["agent: Let me look."],
        &[],
    );
    let item = call_item("c1", "t", "{}", "completed");
    call.hears(item_done("r1", item), &["tool c1 t {}"], &[]);
    call.hears(done("r1"), &["end 1"], &[]);
    call.lost();
    call.lost();
    let said = message("assistant", "output_text", "Let me look.");
    call.hears(updated(), &["resumed sess_1"], &[said, create()]);

    // Without a word before it the caller's question is heard again, and asked for by nobody else.
    let mut call = Call::new();
    call.hears(committed("u1"), &["spoke"], &[]);
    let item = call_item("c1", "t", "{}", "completed");
    call.hears(item_done("r1", item), &["tool c1 t {}"], &[]);
    call.hears(done("r1"), &[], &[]);
    call.lost();
    call.hears(updated(), &["resumed sess_1"], &[]);
}

#[test]
fn localai_tells_a_failure_by_an_error_alone() {
    let mut call = brief();
    call.hears(committed("u1"), &["spoke"], &[]);
    call.hears(created("r1"), &[], &[]);
    let failed = |code| json!({"type": "error", "error": {"type": "invalid_request_error", "code": code, "message": "no"}});
    call.hears(failed("prediction_failed"), &[], &[create()]);
    call.hears(created("r2"), &[], &[]);
    call.hears(failed("tts_error"), &[], &[aloud()]);
    call.hears(created("r3"), &[], &[]);
    call.hears(
        failed("inference_failed"),
        &["error inference_failed Some(Lost)"],
        &[],
    );
}

#[test]
fn the_older_dialect_has_a_word_of_its_own_for_an_agents_text() {
    let mut call = Call::with(|config| config.dialect = Dialect::Beta);
    call.says("r1", "i1", 1, "Hello.");
    call.lost();
    let said = message("assistant", "text", "Hello.");
    call.hears(updated(), &["resumed sess_1"], &[said]);
    let mut sent = Vec::new();
    call.codec
        .command(Command::Say { text: "x" }, &mut |frame| sent.push(frame));
    assert!(!sent[0].contains("input"));
}

#[test]
fn what_is_no_message_or_a_known_one_without_its_fields_is_skipped() {
    let mut call = Call::new();
    let table = [
        ("not JSON", "ignored Malformed"),
        ("[]", "ignored Malformed"),
        ("{}", "ignored Malformed"),
        (r#"{"type":7}"#, "ignored Malformed"),
        (
            r#"{"type":"response.output_audio.delta"}"#,
            "ignored Malformed",
        ),
        (
            r#"{"type":"response.output_audio.delta","delta":"*"}"#,
            "ignored Malformed",
        ),
        (r#"{"type":"response.done"}"#, "ignored Malformed"),
        (r#"{"type":"error"}"#, "ignored Malformed"),
        (
            r#"{"type":"response.output_item.done"}"#,
            "ignored Malformed",
        ),
        (r#"{"type":"localai.something"}"#, "ignored UnknownType"),
        (r#"{"type":"response.unheard_of"}"#, "ignored UnknownType"),
    ];
    for (text, expected) in table {
        let mut told = Vec::new();
        call.codec
            .message(text, &mut |event| told.push(line(event)), &mut |_| {});
        assert_eq!(told, [expected], "{text}");
    }
    for nothing in [
        "ping",
        "rate_limits.updated",
        "mcp_list_tools.completed",
        "response.mcp_call.failed",
        "output_audio_buffer.started",
        "input_audio_buffer.cleared",
        "input_audio_buffer.dtmf_event_received",
        "conversation.item.added",
        "conversation.item.created",
        "conversation.item.truncated",
        "response.content_part.added",
        "response.function_call_arguments.delta",
        "response.cancelled",
    ] {
        call.hears(json!({ "type": nothing }), &[], &[]);
    }
}
