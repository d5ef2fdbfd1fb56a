//! Calls: looked at, ended, led elsewhere, placed.
//!
//! Sources: Twilio's OpenAPI description of 2010-04-01 for the parameters, its error dictionary for
//! the codes (21201 to 21220, 32018). TwiML is taken unread, as Twilio takes it: whether it can be
//! executed shows on the call.

use hyper::{Method, StatusCode, http::request::Parts};
use serde_json::{Value, json};
use url::Url;

use super::{Answer, EndedAnswer, Rest, error, is_sid, now, sid};
use crate::sim::phone::{CallResource, CallStatus, Wish, is_e164};

/// Characters of a `Twiml` parameter.
const LONGEST_TWIML: usize = 4000;
const UPDATE: &[&str] = &[
    "Status",
    "Twiml",
    "Url",
    "Method",
    "FallbackUrl",
    "FallbackMethod",
    "StatusCallback",
    "StatusCallbackMethod",
    "TimeLimit",
];
const CREATE: &[&str] = &[
    "To",
    "From",
    "Twiml",
    "Url",
    "ApplicationSid",
    "Method",
    "FallbackUrl",
    "FallbackMethod",
    "StatusCallback",
    "StatusCallbackEvent",
    "StatusCallbackMethod",
    "SendDigits",
    "Timeout",
    "TimeLimit",
    "CallerId",
    "CallToken",
];

impl Rest {
    /// `/Calls.json` and `/Calls/{sid}.json`; `None`: it is neither.
    pub(super) fn calls(
        &self,
        parts: &Parts,
        below: &str,
        form: &[(String, String)],
    ) -> Option<Answer> {
        if below == "/Calls.json" {
            return Some(match parts.method {
                Method::POST => self.create_call(parts, form),
                _ => self.wrong_method(parts),
            });
        }
        let call_sid = below
            .strip_prefix("/Calls/")
            .and_then(|rest| rest.strip_suffix(".json"))
            .filter(|call_sid| is_sid(call_sid, "CA"))?;
        Some(match parts.method {
            Method::GET => match self.switchboard.call(call_sid) {
                Some(call) => Answer::ok(self.call(&call)),
                None => not_found(parts),
            },
            Method::POST => self.update(parts, call_sid, form),
            _ => self.wrong_method(parts),
        })
    }

    fn update(&self, parts: &Parts, call_sid: &str, form: &[(String, String)]) -> Answer {
        if let Some(refusal) = self.unformed(parts) {
            return refusal;
        }
        if let Some(refusal) = self.unknown_fields("a call update", form, UPDATE, &[]) {
            return refusal;
        }
        let field = |name: &str| super::field(form, name);
        let (status, twiml, url) = (field("Status"), field("Twiml"), field("Url"));
        let wish = match (status, twiml, url) {
            (Some(_), None, None) if form.len() > 1 => {
                return self.refuse(
                    "a call update with a Status and something else".to_owned(),
                    error(StatusCode::BAD_REQUEST, 20001, "Invalid parameters"),
                );
            }
            (Some("completed" | "canceled"), None, None) => Wish::Complete,
            (None, Some(twiml), None) => {
                if twiml.chars().count() > LONGEST_TWIML {
                    return self.refuse(
                        "a Twiml of more than 4000 characters".to_owned(),
                        too_long(),
                    );
                }
                if twiml.trim().is_empty() || field("Method").is_some() {
                    return self.refuse(
                        "a call update with an empty Twiml, or with a Method for it".to_owned(),
                        error(StatusCode::BAD_REQUEST, 20001, "Invalid parameters"),
                    );
                }
                Wish::Run(twiml.to_owned())
            }
            (None, None, Some(url)) => {
                let good = Url::parse(url).is_ok_and(|url| url.scheme().starts_with("http"));
                let method = field("Method").unwrap_or("POST");
                if !good || !["GET", "POST"].contains(&method) {
                    return self.refuse(
                        "a call update whose Url or Method is none".to_owned(),
                        error(StatusCode::BAD_REQUEST, 21205, "Url is not a valid URL"),
                    );
                }
                Wish::Go {
                    url: url.to_owned(),
                    get: method == "GET",
                }
            }
            _ => {
                let names: Vec<&str> = form.iter().map(|(name, _)| name.as_str()).collect();
                return self.refuse(
                    format!(
                        "a call update with {names:?}, not with one Status of completed or \
                         canceled, one Twiml or one Url"
                    ),
                    error(
                        StatusCode::BAD_REQUEST,
                        20001,
                        "Status must be completed or canceled",
                    ),
                );
            }
        };
        let over = || match self.script().ended {
            EndedAnswer::NotInProgress => not_in_progress(),
            EndedAnswer::NotFound => not_found(parts),
        };
        // Nothing here is a violation: the caller may have hung up a moment ago.
        let told = match wish {
            Wish::Complete => self.switchboard.complete(call_sid),
            elsewhere => self.switchboard.redirect(call_sid, elsewhere),
        };
        match told {
            Some((call, true)) => Answer::ok(self.call(&call)),
            Some((call, false)) if call.status.is_live() => not_in_progress(),
            Some(_) => over(),
            None => not_found(parts),
        }
    }

    /// Places a call: it is queued, and nobody takes it from there.
    fn create_call(&self, parts: &Parts, form: &[(String, String)]) -> Answer {
        if let Some(refusal) = self.unformed(parts) {
            return refusal;
        }
        let many = ["StatusCallbackEvent"];
        if let Some(refusal) = self.unknown_fields("a call", form, CREATE, &many) {
            return refusal;
        }
        let field = |name: &str| super::field(form, name);
        let bad = |code, words: &str| error(StatusCode::BAD_REQUEST, code, words);
        let Some(to) = field("To") else {
            return self.refuse(
                "a call to nobody".to_owned(),
                bad(21201, "No 'To' number is specified"),
            );
        };
        let Some(from) = field("From") else {
            return self.refuse(
                "a call from nobody".to_owned(),
                bad(21213, "No 'From' number is specified"),
            );
        };
        if !is_e164(to) {
            return self.refuse(
                "a call to something that is no number".to_owned(),
                bad(21211, "Invalid 'To' Phone Number"),
            );
        }
        if !is_e164(from) {
            return self.refuse(
                "a call from something that is no number".to_owned(),
                bad(21212, "Invalid 'From' Phone Number"),
            );
        }
        if !self.owns(from) {
            return self.refuse(
                "a call from a number that is not the account's".to_owned(),
                bad(21210, "'From' phone number not verified"),
            );
        }
        match (field("Twiml"), field("Url")) {
            (Some(twiml), None) if twiml.chars().count() > LONGEST_TWIML => {
                return self.refuse(
                    "a Twiml of more than 4000 characters".to_owned(),
                    too_long(),
                );
            }
            (Some(_), None) => {}
            (None, Some(url))
                if Url::parse(url).is_ok_and(|url| url.scheme().starts_with("http")) => {}
            _ => {
                return self.refuse(
                    "a call without exactly one of Twiml and a good Url".to_owned(),
                    bad(21205, "Url is not a valid URL"),
                );
            }
        }
        let call = CallResource {
            call_sid: sid("CA"),
            parent: None,
            from: from.to_owned(),
            to: to.to_owned(),
            status: CallStatus::Queued,
            direction: "outbound-api",
        };
        self.switchboard.enter(call.clone());
        Answer {
            status: StatusCode::CREATED,
            body: self.call(&call),
        }
    }

    /// A Call as version 2010-04-01 shows it: numbers are strings, what is not known yet is null.
    fn call(&self, call: &CallResource) -> Value {
        let path = format!(
            "/2010-04-01/Accounts/{}/Calls/{}",
            self.account_sid, call.call_sid
        );
        let live = call.status.is_live();
        json!({
            "sid": call.call_sid,
            "account_sid": self.account_sid,
            "parent_call_sid": call.parent,
            "from": call.from,
            "from_formatted": call.from,
            "to": call.to,
            "to_formatted": call.to,
            "phone_number_sid": null,
            "status": call.status.as_str(),
            "direction": call.direction,
            "api_version": "2010-04-01",
            "answered_by": null,
            "caller_name": null,
            "forwarded_from": null,
            "group_sid": null,
            "trunk_sid": "",
            "annotation": null,
            "date_created": null,
            "date_updated": now(),
            "start_time": null,
            "end_time": null,
            "duration": if live { Value::Null } else { "1".into() },
            "price": null,
            "price_unit": "USD",
            "queue_time": "0",
            "uri": format!("{path}.json"),
            "subresource_uris": {"streams": format!("{path}/Streams.json")},
        })
    }
}

pub(super) fn not_in_progress() -> Answer {
    error(
        StatusCode::BAD_REQUEST,
        21220,
        "Call is not in-progress. Cannot redirect.",
    )
}

fn too_long() -> Answer {
    error(
        StatusCode::BAD_REQUEST,
        32018,
        "Twiml size exceeded maximum allowed value of 4000 characters",
    )
}

pub(super) fn not_found(parts: &Parts) -> Answer {
    error(
        StatusCode::NOT_FOUND,
        20404,
        format!("The requested resource {} was not found", parts.uri.path()),
    )
}
