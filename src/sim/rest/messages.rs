//! Messages: sent, and kept for whoever asks what was sent.
//!
//! Sources: Twilio's OpenAPI description of 2010-04-01, and its error dictionary (21211, 21266, 21602 to
//! 21617). Nothing is delivered: a message stays `queued`, or `accepted` by a messaging service.

use hyper::{Method, StatusCode, http::request::Parts};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Rest, error, is_sid, now, sid};
use crate::sim::phone::is_e164;

/// Characters of a body, all its parts together.
const LONGEST_BODY: usize = 1600;
const FIELDS: &[&str] = &[
    "To",
    "From",
    "MessagingServiceSid",
    "Body",
    "StatusCallback",
    "ValidityPeriod",
    "SmartEncoded",
];
/// The letters of GSM 03.38, each of which takes one place of 160.
const GSM: &str = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZ\
    ÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà";
/// And those that take two.
const GSM_EXTENDED: &str = "^{}\\[~]|€";

/// Who can be written to, and from where.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sms {
    /// Who has answered STOP.
    pub opted_out: Vec<String>,
    /// Telephones that take no messages.
    pub landlines: Vec<String>,
    /// Numbers of the account that cannot send any.
    pub voice_only: Vec<String>,
    /// The account's messaging services.
    pub services: Vec<String>,
}

/// A message that Twilio has taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub sid: String,
    pub to: String,
    /// `None`: a messaging service chooses.
    pub from: Option<String>,
    pub service: Option<String>,
    pub body: String,
}

impl Rest {
    /// `/Messages.json`; `None`: it is something else.
    pub(super) fn messages(
        &self,
        parts: &Parts,
        below: &str,
        form: &[(String, String)],
    ) -> Option<Answer> {
        if below != "/Messages.json" {
            return None;
        }
        Some(match parts.method {
            Method::POST => self.create_message(parts, form),
            _ => self.wrong_method(parts),
        })
    }

    fn create_message(&self, parts: &Parts, form: &[(String, String)]) -> Answer {
        if let Some(refusal) = self.unformed(parts) {
            return refusal;
        }
        if let Some(refusal) = self.unknown_fields("a message", form, FIELDS, &[]) {
            return refusal;
        }
        let field = |name: &str| super::field(form, name);
        let bad = |code, words: &str| error(StatusCode::BAD_REQUEST, code, words);
        let script = self.script().sms.clone();
        let Some(to) = field("To") else {
            return self.refuse(
                "a message to nobody".to_owned(),
                bad(21604, "A 'To' phone number is required."),
            );
        };
        let (from, service) = (field("From"), field("MessagingServiceSid"));
        if from.is_none() && service.is_none() {
            return self.refuse(
                "a message from nobody".to_owned(),
                bad(21603, "A 'From' phone number is required."),
            );
        }
        let Some(body) = field("Body") else {
            return self.refuse(
                "a message without a body".to_owned(),
                bad(21602, "Message body is required."),
            );
        };
        if !is_e164(to) {
            return self.refuse(
                "a message to something that is no number".to_owned(),
                bad(21211, "Invalid 'To' Phone Number"),
            );
        }
        if Some(to) == from {
            return self.refuse(
                "a message to its sender".to_owned(),
                bad(21266, "'To' and 'From' number cannot be the same"),
            );
        }
        if body.chars().count() > LONGEST_BODY {
            return self.refuse(
                "a message of more than 1600 characters".to_owned(),
                bad(
                    21617,
                    "The concatenated message body exceeds the 1600 character limit",
                ),
            );
        }
        // What follows depends on others: nobody's fault, and nothing that a client could know.
        let not_ours = "The 'From' phone number provided is not a valid message-capable Twilio phone \
                        number for this destination/account";
        match from {
            Some(from) if !is_e164(from) => {
                return self.refuse(
                    "a message from something that is no number".to_owned(),
                    bad(21212, "Invalid 'From' Phone Number"),
                );
            }
            Some(from)
                if !self.owns(from) || script.voice_only.iter().any(|known| known == from) =>
            {
                return bad(21606, not_ours);
            }
            _ => {}
        }
        if let Some(service) = service
            && (!is_sid(service, "MG") || !script.services.iter().any(|known| known == service))
        {
            return bad(21705, "The Messaging Service is invalid");
        }
        if script.opted_out.iter().any(|number| number == to) {
            return bad(21610, "Attempt to send to unsubscribed recipient");
        }
        if script.landlines.iter().any(|number| number == to) {
            return bad(21614, "'To' number is not a valid mobile number");
        }
        let message = Message {
            sid: sid("SM"),
            to: to.to_owned(),
            from: from.map(str::to_owned),
            service: service.map(str::to_owned),
            body: body.to_owned(),
        };
        let body = self.message(&message);
        self.log().messages.push(message);
        Answer {
            status: StatusCode::CREATED,
            body,
        }
    }

    fn message(&self, message: &Message) -> Value {
        let path = format!(
            "/2010-04-01/Accounts/{}/Messages/{}",
            self.account_sid, message.sid
        );
        let by_service = message.service.is_some();
        json!({
            "sid": message.sid,
            "account_sid": self.account_sid,
            "to": message.to,
            "from": message.from,
            "messaging_service_sid": message.service,
            "body": message.body,
            "status": if by_service { "accepted" } else { "queued" },
            "direction": "outbound-api",
            "num_segments": if by_service { "0".to_owned() } else { segments(&message.body).to_string() },
            "num_media": "0",
            "api_version": "2010-04-01",
            "date_created": now(),
            "date_updated": now(),
            "date_sent": null,
            "error_code": null,
            "error_message": null,
            "price": null,
            "price_unit": "USD",
            "uri": format!("{path}.json"),
            "subresource_uris": {"media": format!("{path}/Media.json")},
        })
    }
}

/// How many messages a body makes on the air.
fn segments(body: &str) -> usize {
    let places: Option<usize> = body
        .chars()
        .map(|c| match c {
            c if GSM.contains(c) => Some(1),
            c if GSM_EXTENDED.contains(c) => Some(2),
            _ => None,
        })
        .sum();
    let (length, whole, part) = match places {
        Some(places) => (places, 160, 153),
        None => (body.encode_utf16().count(), 70, 67),
    };
    if length <= whole {
        1
    } else {
        length.div_ceil(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_cut_as_the_air_wants_it() {
        assert_eq!(segments("Hello"), 1);
        assert_eq!(segments(&"a".repeat(160)), 1);
        assert_eq!(segments(&"a".repeat(161)), 2);
        assert_eq!(segments(&"€".repeat(81)), 2, "each takes two places");
        assert_eq!(segments(&"й".repeat(70)), 1);
        assert_eq!(segments(&"й".repeat(71)), 2);
    }
}
