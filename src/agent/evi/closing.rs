//! What EVI's errors and closes mean for the call.
//!
//! EVI reports an error in band and then closes with 1000 and no reason (EVI docs), which is also
//! how it hangs up. So a close is read in the light of the last error. Not every error closes, and
//! the meanings of many codes are undocumented; the letter decides for those: `E` is ours to mend
//! and will not get better, `I` is internal to Hume and may.

use crate::agent::Closed;

/// What a close would mean right after this error. `None`: this error does not end a chat.
pub(super) fn meaning(code: &str, slug: &str) -> Option<Closed> {
    Some(match code {
        // A custom language model was slow; EVI goes on (seen in the field).
        "E0712" => return None,
        "E0714" => Closed::Inactive,
        "E0715" => Closed::Expired,
        "E0300" | "E0301" => Closed::Quota,
        // The slug speaks where the code is one we have not met.
        _ if slug.contains("zero_credits") || slug.contains("subscription") => Closed::Quota,
        _ if slug == "inactivity_timeout" => Closed::Inactive,
        _ if slug == "max_duration_timeout" => Closed::Expired,
        // Among these E0708 and E0720: the chat cannot be resumed.
        _ if code.starts_with('E') => Closed::Rejected,
        _ => Closed::Lost,
    })
}

/// Of what counts as [`Closed::Quota`]: there is nothing left to pay with, whatever else ends.
pub(super) fn no_credits(code: &str, slug: &str) -> bool {
    code == "E0300" || slug.contains("zero_credits")
}

/// What a close means. `error` is the meaning of the last error, if nothing was said after it.
pub(super) fn closed(code: Option<u16>, error: Option<Closed>) -> Closed {
    if let Some(error) = error {
        return error;
    }
    match code {
        Some(1000) => Closed::HungUp,
        // Protocol error, unsupported data, bad payload, policy, too big, extension missing: the
        // same would happen again.
        Some(1002 | 1003 | 1007..=1010) => Closed::Rejected,
        // Going away, no close frame, internal error, restart, try later, bad gateway, and codes
        // that nobody has documented: a new connection may work, and the host bounds the attempts.
        _ => Closed::Lost,
    }
}
