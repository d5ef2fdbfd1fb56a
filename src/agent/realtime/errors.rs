//! What a server's errors and closes mean for the call.
//!
//! An open WebSocket is no success: many servers refuse with an error after it, and close with numbers
//! of their own. So a close is read by its reason and in the light of the last error, never by its
//! number alone; and none of them is a hang-up, for such an agent hangs up with a tool. What means
//! nothing to us may be better on a new connection, and the host bounds the attempts.

use std::borrow::Cow;

use crate::agent::Closed;

/// What an error event means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// It answers something that came too late to matter: a truncation, an empty commit.
    Benign,
    /// It answers a cancel: there is no response under way.
    Idle,
    /// There is a response already: ask again when it is done.
    Busy,
    /// The response under way has come to nothing, and no `response.done` will tell.
    Fails,
    /// A close would mean this.
    Ends(Closed),
    /// Told, and the conversation goes on.
    Other,
}

/// `message` decides only where the code says too little: other servers have the same sentences under
/// codes of their own (seen in the field).
pub(super) fn meaning(code: &str, kind: &str, message: &str) -> Meaning {
    if let Some(closed) = ends(code).or_else(|| ends(kind)) {
        return Meaning::Ends(closed);
    }
    let message = message.to_ascii_lowercase();
    match code {
        "response_cancel_not_active" => Meaning::Idle,
        "input_audio_buffer_commit_empty" => Meaning::Benign,
        // LocalAI's, behind which it tells no more (its source).
        "inference_failed" | "prediction_failed" | "tts_error" => Meaning::Fails,
        "conversation_already_has_active_response" | "response_already_active" => Meaning::Busy,
        _ if message.contains("already has an active response") => Meaning::Busy,
        _ if message.contains("no active response") => Meaning::Idle,
        // Among these "Audio content of 800ms is already shorter than 900ms".
        _ if ["truncat", "already shorter", "to delete not found"]
            .iter()
            .any(|part| message.contains(part)) =>
        {
            Meaning::Benign
        }
        _ => Meaning::Other,
    }
}

/// The codes after which a session has no use.
fn ends(code: &str) -> Option<Closed> {
    Some(match code {
        "invalid_api_key"
        | "account_deactivated"
        | "authentication_error"
        | "invalid_authentication"
        | "unauthorized"
        | "permission_denied" => Closed::Auth,
        "insufficient_quota" | "billing_hard_limit_reached" | "quota_exceeded" => Closed::Quota,
        // The letters are Azure's.
        "beta_api_shape_disabled"
        | "model_not_found"
        | "DeploymentNotFound"
        | "OpperationNotSupported" => Closed::Rejected,
        // The first is met by a new session, the others perhaps by waiting.
        "session_expired" | "session_limit_reached" | "model_load_error" => Closed::Lost,
        _ => return None,
    })
}

/// What the failure of a response means, if trying again has no sense.
pub(super) fn hopeless(code: &str, kind: &str) -> Option<Closed> {
    let ends = ends(code).or_else(|| ends(kind));
    ends.filter(|closed| *closed != Closed::Lost)
}

/// What a close means. `error` is the meaning of the last error, if nothing was said after it.
pub(super) fn closed(code: Option<u16>, reason: &str, error: Option<Closed>) -> Closed {
    // "invalid_request_error.invalid_api_key"; a sentence has no such word in it.
    let words = reason.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    if let Some(closed) = words.filter_map(ends).next() {
        return closed;
    }
    match (error, code) {
        (Some(closed), _) => closed,
        // ElevenLabs: not enabled for this workspace (seen in its client).
        (None, Some(4003)) => Closed::Rejected,
        // A session's end (1001), a full pool (1008), a fault, no word at all. 1000 and 1001 look like a
        // clean end, but it is we who end a call.
        (None, _) => Closed::Lost,
    }
}

/// A code as it may be logged: short, and no words of anybody's.
pub(super) fn harmless<'a>(code: &'a str, kind: &'a str) -> Cow<'a, str> {
    let code = if code.is_empty() { kind } else { code };
    let fits = (1..=64).contains(&code.len())
        && code
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    match fits {
        true if code.bytes().any(|b| b.is_ascii_uppercase()) => code.to_ascii_lowercase().into(),
        true => code.into(),
        false => "other".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_benign_busy_the_end_or_none_of_these() {
        let table = [
            ("response_cancel_not_active", "", Meaning::Idle),
            ("input_audio_buffer_commit_empty", "", Meaning::Benign),
            (
                "",
                "Cancellation failed: no active response found",
                Meaning::Idle,
            ),
            ("tts_error", "", Meaning::Fails),
            (
                "invalid_item_id",
                "Item to delete not found",
                Meaning::Benign,
            ),
            (
                "unsupported_content_type",
                "Only model output audio messages can be truncated",
                Meaning::Benign,
            ),
            (
                "invalid_value",
                "Audio content of 800ms is already shorter than 900ms",
                Meaning::Benign,
            ),
            (
                "conversation_already_has_active_response",
                "",
                Meaning::Busy,
            ),
            ("response_already_active", "", Meaning::Busy),
            ("invalid_api_key", "", Meaning::Ends(Closed::Auth)),
            ("account_deactivated", "", Meaning::Ends(Closed::Auth)),
            ("insufficient_quota", "", Meaning::Ends(Closed::Quota)),
            (
                "billing_hard_limit_reached",
                "",
                Meaning::Ends(Closed::Quota),
            ),
            (
                "beta_api_shape_disabled",
                "",
                Meaning::Ends(Closed::Rejected),
            ),
            ("model_not_found", "", Meaning::Ends(Closed::Rejected)),
            (
                "OpperationNotSupported",
                "",
                Meaning::Ends(Closed::Rejected),
            ),
            ("session_expired", "", Meaning::Ends(Closed::Lost)),
            ("session_limit_reached", "", Meaning::Ends(Closed::Lost)),
            (
                "unknown_parameter",
                "Unknown parameter: 'x'",
                Meaning::Other,
            ),
            ("rate_limit_exceeded", "", Meaning::Other),
            ("", "", Meaning::Other),
        ];
        for (code, message, expected) in table {
            assert_eq!(
                meaning(code, "invalid_request_error", message),
                expected,
                "{code} {message}"
            );
        }
        assert_eq!(
            meaning("", "insufficient_quota", ""),
            Meaning::Ends(Closed::Quota)
        );
    }

    #[test]
    fn a_close_is_read_by_its_reason_then_by_the_last_error_and_is_never_a_hang_up() {
        let table = [
            (
                Some(3000),
                "invalid_request_error.invalid_api_key",
                None,
                Closed::Auth,
            ),
            (
                Some(4000),
                "invalid_request_error.beta_api_shape_disabled",
                None,
                Closed::Rejected,
            ),
            (
                Some(4000),
                "model_not_found",
                Some(Closed::Lost),
                Closed::Rejected,
            ),
            (Some(1000), "", Some(Closed::Quota), Closed::Quota),
            (
                Some(1001),
                "Your session hit the maximum duration of 60 minutes.",
                Some(Closed::Lost),
                Closed::Lost,
            ),
            (Some(1000), "", None, Closed::Lost),
            (Some(1001), "", None, Closed::Lost),
            (Some(1008), "", None, Closed::Lost),
            (Some(1011), "keepalive ping timeout", None, Closed::Lost),
            (Some(4003), "", None, Closed::Rejected),
            (Some(4003), "session_expired", None, Closed::Lost),
            (None, "", None, Closed::Lost),
        ];
        for (code, reason, error, expected) in table {
            assert_eq!(closed(code, reason, error), expected, "{code:?} {reason}");
        }
    }

    #[test]
    fn a_code_that_could_be_somebodys_words_is_not_told() {
        assert_eq!(harmless("model_not_found", "x"), "model_not_found");
        assert_eq!(harmless("", "server_error"), "server_error");
        assert_eq!(
            harmless("OpperationNotSupported", ""),
            "opperationnotsupported"
        );
        let long = "a".repeat(65);
        for odd in ["", "two words", "+61400000001", "é", "a\nb", &long] {
            assert_eq!(harmless(odd, ""), "other");
        }
    }
}
