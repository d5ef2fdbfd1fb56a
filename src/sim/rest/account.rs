//! The account behind the API: what it is, its numbers and its TwiML applications.
//!
//! Shapes as Twilio's API pages for Account, IncomingPhoneNumber and Application (2010-04-01) show
//! them: what is not set is "" or null, lists come in pages. Only GET: nobody but the owner of an
//! account changes it, at the console.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Method, Rest, StatusCode, error, is_sid, sid};

/// A story's account.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Account {
    /// `active`, `suspended` or `closed`.
    pub status: String,
    /// `Full` or `Trial`.
    pub kind: String,
    pub numbers: Vec<Number>,
    pub applications: Vec<Application>,
}

impl Default for Account {
    fn default() -> Self {
        Account {
            status: "active".into(),
            kind: "Full".into(),
            numbers: Vec::new(),
            applications: Vec::new(),
        }
    }
}

/// A number. What is "" is not set.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Number {
    pub sid: String,
    pub phone_number: String,
    pub voice_url: String,
    pub voice_fallback_url: String,
    pub status_callback: String,
    pub voice_application_sid: String,
    pub trunk_sid: String,
    pub voice_receive_mode: String,
    pub voice: bool,
}

impl Default for Number {
    fn default() -> Self {
        Number {
            sid: sid("PN"),
            phone_number: "+15557654321".into(),
            voice_url: String::new(),
            voice_fallback_url: String::new(),
            status_callback: String::new(),
            voice_application_sid: String::new(),
            trunk_sid: String::new(),
            voice_receive_mode: "voice".into(),
            voice: true,
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Application {
    pub sid: String,
    pub voice_url: String,
}

impl Default for Application {
    fn default() -> Self {
        Application {
            sid: sid("AP"),
            voice_url: String::new(),
        }
    }
}

impl Rest {
    /// `below` is what follows `/2010-04-01/Accounts/{sid}`. `None`: it is none of these resources.
    pub(super) fn account_resource(
        &self,
        parts: &hyper::http::request::Parts,
        below: &str,
    ) -> Option<Answer> {
        let path = parts.uri.path();
        let application = below
            .strip_prefix("/Applications/")
            .and_then(|rest| rest.strip_suffix(".json"))
            .filter(|sid| is_sid(sid, "AP"));
        if ![".json", "/IncomingPhoneNumbers.json"].contains(&below) && application.is_none() {
            return None;
        }
        if parts.method != Method::GET {
            self.violation(format!("{} on {path}", parts.method));
            return Some(error(
                StatusCode::METHOD_NOT_ALLOWED,
                20004,
                "Method not allowed",
            ));
        }
        let account = self.script().account.clone();
        // Nobody is told more about an account that is closed or suspended than that.
        let shut = account.status != "active" && below != ".json";
        let query = parts.uri.query().unwrap_or_default();
        let body = match (below, application) {
            _ if shut => None,
            (".json", _) => {
                if !query.is_empty() {
                    self.violation(format!("a query on {path}"));
                }
                Some(self.account(&account))
            }
            (_, None) => Some(self.numbers(&account, query)),
            (_, Some(wanted)) => account
                .applications
                .iter()
                .find(|application| application.sid == wanted)
                .map(|application| self.application(application)),
        };
        Some(match body {
            Some(body) => Answer {
                status: StatusCode::OK,
                body,
            },
            None if shut => error(StatusCode::UNAUTHORIZED, 20003, "Authenticate"),
            None => error(
                StatusCode::NOT_FOUND,
                20404,
                format!("The requested resource {path} was not found"),
            ),
        })
    }

    fn account(&self, account: &Account) -> Value {
        let sid = &self.account_sid;
        let path = format!("/2010-04-01/Accounts/{sid}");
        json!({
            "sid": sid,
            "owner_account_sid": sid,
            "friendly_name": "A simulated account",
            "status": account.status,
            "type": account.kind,
            // Twilio shows it to whoever knows it, and a client has no business with it.
            "auth_token": self.auth_token,
            "date_created": "Sat, 21 Nov 2026 12:00:00 +0000",
            "date_updated": "Sat, 21 Nov 2026 12:00:00 +0000",
            "uri": format!("{path}.json"),
            "subresource_uris": {"calls": format!("{path}/Calls.json")},
        })
    }

    /// One page; a story's account has no second.
    fn numbers(&self, account: &Account, query: &str) -> Value {
        let mut wanted = None;
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "PhoneNumber" => wanted = Some(value.into_owned()),
                "FriendlyName" | "Beta" | "Origin" | "Page" | "PageSize" | "PageToken" => {}
                other => self.violation(format!("IncomingPhoneNumbers has no filter {other:?}")),
            }
        }
        // A part of a number finds it, too.
        let digits = |text: &str| text.trim_start_matches('+').replace('*', "");
        let found = account.numbers.iter().filter(|number| {
            wanted
                .as_ref()
                .is_none_or(|wanted| number.phone_number.contains(&digits(wanted)))
        });
        let found: Vec<Value> = found.map(|number| self.number(number)).collect();
        let path = format!(
            "/2010-04-01/Accounts/{}/IncomingPhoneNumbers.json",
            self.account_sid
        );
        let uri = format!("{path}?PageSize=50&Page=0");
        json!({
            "page": 0,
            "page_size": 50,
            "start": 0,
            "end": found.len().saturating_sub(1),
            "incoming_phone_numbers": found,
            "first_page_uri": uri,
            "previous_page_uri": null,
            "next_page_uri": null,
            "uri": uri,
        })
    }

    fn number(&self, number: &Number) -> Value {
        let or_null = |text: &str| match text {
            "" => Value::Null,
            text => text.into(),
        };
        json!({
            "sid": number.sid,
            "account_sid": self.account_sid,
            "phone_number": number.phone_number,
            "friendly_name": "the simulated number",
            "api_version": "2010-04-01",
            "capabilities": {"voice": number.voice, "sms": true, "mms": true, "fax": false},
            "voice_url": or_null(&number.voice_url),
            "voice_method": "POST",
            "voice_fallback_url": or_null(&number.voice_fallback_url),
            "voice_fallback_method": "POST",
            "voice_application_sid": number.voice_application_sid,
            "voice_caller_id_lookup": false,
            "voice_receive_mode": number.voice_receive_mode,
            "trunk_sid": or_null(&number.trunk_sid),
            "status_callback": number.status_callback,
            "status_callback_method": "POST",
            "sms_url": "",
            "sms_method": "POST",
            "sms_application_sid": "",
            "origin": "twilio",
            "status": "in-use",
            "beta": false,
            "uri": format!(
                "/2010-04-01/Accounts/{}/IncomingPhoneNumbers/{}.json",
                self.account_sid, number.sid
            ),
        })
    }

    fn application(&self, application: &Application) -> Value {
        json!({
            "sid": application.sid,
            "account_sid": self.account_sid,
            "friendly_name": "a simulated application",
            "api_version": "2010-04-01",
            "voice_url": application.voice_url,
            "voice_method": "POST",
            "voice_fallback_url": null,
            "status_callback": "",
            "uri": format!(
                "/2010-04-01/Accounts/{}/Applications/{}.json",
                self.account_sid, application.sid
            ),
        })
    }
}
