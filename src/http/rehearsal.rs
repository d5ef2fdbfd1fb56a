//! What may be signed for a test call, so that it can pass where only Twilio passes.
//!
//! Whoever may open the control socket may end every call, and still must not be able to speak in
//! Twilio's name about other people's calls. So the daemon signs nothing but the requests of a test
//! call that it has announced itself: to one of its own addresses, spelled as it tells Twilio, about
//! this call and no other. Twilio's signature runs a form's names and values together without
//! separators, so one signed text can be cut into fields in several ways; therefore "CallSid" must
//! stand in the whole text once, and this call's SID behind it: however it is cut, no other call can
//! be meant. Queries are not signed at all, because a GET brings its form there.
//!
//! The upgrade of the media stream names no call. Its signature opens a socket that is nobody's
//! until `start` brings a token, and tokens are minted by signed webhooks only.

use super::paths;
use crate::{config::PublicUrl, twilio::CallSid};

/// The field that says which call a request is about.
const FIELD: &str = "CallSid";

/// Whether a request to `url` with these fields is one that this test call needs.
pub fn may_be_signed(
    public: &PublicUrl,
    call: &CallSid,
    url: &str,
    params: &[(String, String)],
) -> bool {
    if params.is_empty() {
        return spelled(public, "ws", paths::MEDIA).any(|ours| ours == url);
    }
    let webhooks = [paths::INCOMING, paths::AFTER, paths::STATUS, paths::STREAM];
    let ours = webhooks
        .into_iter()
        .flat_map(|path| spelled(public, "http", path))
        .any(|ours| ours == url);
    // Twilio's names are letters and digits. Another could go on where the URL ends.
    let plain = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric());
    if !ours || !params.iter().all(|(name, _)| plain(name)) {
        return false;
    }
    let mut fields: Vec<&(String, String)> = params.iter().collect();
    fields.sort();
    fields.dedup();
    let text: String = fields
        .iter()
        .flat_map(|(name, value)| [name.as_str(), value.as_str()])
        .collect();
    let this = fields
        .iter()
        .any(|(name, value)| name == FIELD && value == call.as_str());
    this && text.matches(FIELD).count() == 1
}

/// An address of ours as the TwiML spells it, and as Twilio signs it: without the port.
fn spelled(public: &PublicUrl, scheme: &str, path: &str) -> impl Iterator<Item = String> {
    let portless = PublicUrl {
        port: None,
        ..public.clone()
    };
    let spell = |public: &PublicUrl| match scheme {
        "ws" => public.ws(path),
        _ => public.http(path),
    };
    [spell(public), spell(&portless)].into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: &str = "CA0123456789abcdef0123456789abcdef";
    const OTHER: &str = "CAffffffffffffffffffffffffffffffff";

    fn signed(url: &str, params: &[(&str, &str)]) -> bool {
        let public = PublicUrl::parse("https://bridge.example.com:8443/x").unwrap();
        let params: Vec<(String, String)> = params
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        may_be_signed(&public, &CALL.parse().unwrap(), url, &params)
    }

    #[test]
    fn what_the_call_needs_is_signed() {
        let form = [
            ("AccountSid", "AC1"),
            ("CallSid", CALL),
            ("CallStatus", "ringing"),
        ];
        for path in ["incoming", "after", "status", "stream"] {
            for origin in ["bridge.example.com:8443", "bridge.example.com"] {
                let url = format!("https://{origin}/x/voice/{path}");
                assert!(signed(&url, &form), "{url}");
            }
        }
        assert!(signed("wss://bridge.example.com:8443/x/media-stream", &[]));
    }

    #[test]
    fn nothing_else_is_signed() {
        let url = "https://bridge.example.com/x/voice/incoming";
        let form = [("CallSid", CALL)];
        assert!(signed(url, &form));
        for foreign in [
            "https://elsewhere.example.com/x/voice/incoming",
            "https://bridge.example.com/voice/incoming",
            "https://bridge.example.com/x/voice/incoming/",
            "https://bridge.example.com/x/voice/incoming?a=b",
            "https://bridge.example.com/x/health",
            // A callee's, whom a test call has not.
            "https://bridge.example.com/x/voice/transferred",
            "https://bridge.example.com/x/voice/announce",
            "https://bridge.example.com/x/voice/accept",
            "https://bridge.example.com/x/media-stream",
            "wss://bridge.example.com/x/media-stream",
            "",
        ] {
            assert!(!signed(foreign, &form), "{foreign}");
        }
        // A webhook without a form would be a GET, whose form is in its query.
        assert!(!signed(url, &[]));
        assert!(!signed(
            "wss://bridge.example.com/x/media-stream?CallSid=x",
            &[]
        ));
    }

    #[test]
    fn however_the_text_is_cut_no_other_call_can_be_meant() {
        let url = "https://bridge.example.com/x/voice/incoming";
        let inside = format!("AC1CallSid{OTHER}CallStatusringing");
        let query = format!("?CallSid={OTHER}&a");
        for form in [
            &[("CallSid", OTHER)][..],
            &[("CallSid", CALL), ("CallSid", OTHER)],
            &[("From", "+1")],
            // Another form, and this one, have the same text.
            &[("AccountSid", &inside), ("CallSid", CALL)],
            &[("CallSid", CALL), ("Cb", "xCall"), ("Sid", OTHER)],
            // The text would be the URL of a GET.
            &[(&query, "b"), ("CallSid", CALL)],
            &[("", "?"), ("CallSid", CALL)],
            &[("ParentCallSid", OTHER), ("CallSid", CALL)],
        ] {
            assert!(!signed(url, form), "{form:?}");
        }
    }
}
