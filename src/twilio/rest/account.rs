//! What Twilio says about an account, its numbers and its TwiML applications.
//!
//! Only looks; each look is one request, with the client's own deadlines and without a second try:
//! whoever looks can look again. The fields are those of version 2010-04-01 (Twilio's API pages for
//! Account, IncomingPhoneNumber and Application); what is not set comes as null or as "", and both
//! are `None` here. Nothing here prints a number or a URL: a webhook's URL may hold somebody's key.

use jiff::{Timestamp, fmt::rfc2822};
use reqwest::{StatusCode, header::DATE};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};

use super::{MAX_BODY, Rest, TwilioCode, error_code, innermost};
use crate::twilio::is_sid;

/// An answer, or why there is none, and what time it is at Twilio's.
pub struct Look<T> {
    pub found: Result<T, LookError>,
    /// The `Date` of the answer, to the second.
    pub date: Option<Timestamp>,
}

/// Why there is nothing to see.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookError {
    #[error("twilio does not accept the credentials ({code})")]
    Auth { code: TwilioCode },
    #[error("twilio does not know it ({code})")]
    NotFound { code: TwilioCode },
    #[error("twilio answers {status} ({code})")]
    Refused { status: u16, code: TwilioCode },
    #[error("no answer in time")]
    Timeout,
    #[error("not reachable: {0}")]
    Unreachable(String),
    /// Not JSON, or not this resource.
    #[error("the answer is not Twilio's")]
    Garbled,
}

/// The account itself.
#[derive(Deserialize)]
pub struct Account {
    /// `active`, `suspended` or `closed`.
    pub status: String,
    /// `Full` or `Trial`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// A number that the account owns.
#[derive(Deserialize)]
pub struct Number {
    /// `PN` and 32 hexadecimal digits; checked.
    pub sid: String,
    /// E.164.
    pub phone_number: String,
    #[serde(default, deserialize_with = "set")]
    pub voice_url: Option<String>,
    #[serde(default, deserialize_with = "set")]
    pub voice_fallback_url: Option<String>,
    #[serde(default, deserialize_with = "set")]
    pub status_callback: Option<String>,
    /// The number's own voice URLs count for nothing while this is set; checked.
    #[serde(default, deserialize_with = "set")]
    pub voice_application_sid: Option<String>,
    /// So too with a SIP trunk.
    #[serde(default, deserialize_with = "set")]
    pub trunk_sid: Option<String>,
    /// `voice` or `fax`.
    #[serde(default, deserialize_with = "set")]
    pub voice_receive_mode: Option<String>,
    #[serde(default)]
    pub capabilities: Capabilities,
}

#[derive(Default, Deserialize)]
pub struct Capabilities {
    pub voice: Option<bool>,
}

/// A TwiML application: webhooks that several numbers share.
#[derive(Deserialize)]
pub struct Application {
    #[serde(default, deserialize_with = "set")]
    pub voice_url: Option<String>,
}

/// Null and "" are the same: not set.
fn set<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.filter(|text| !text.is_empty()))
}

impl Rest {
    /// The account that the credentials are for.
    pub async fn account(&self) -> Look<Account> {
        self.look(".json", &[]).await
    }

    /// The number as the account has it, if it has it.
    pub async fn number(&self, number: &str) -> Look<Option<Number>> {
        #[derive(Deserialize)]
        struct Page {
            incoming_phone_numbers: Vec<Number>,
        }
        let query = [("PhoneNumber", number)];
        let page = self.look::<Page>("/IncomingPhoneNumbers.json", &query);
        let Look { found, date } = page.await;
        let found = found.and_then(|page| {
            let mut numbers = page.incoming_phone_numbers.into_iter();
            // The filter takes parts of numbers, too.
            let found = numbers.find(|found| found.phone_number == number);
            // They are printed within commands that are made to be copied.
            let sane = |number: &Number| {
                is_sid(&number.sid, "PN")
                    && (number.voice_application_sid.as_deref()).is_none_or(|sid| is_sid(sid, "AP"))
            };
            match found {
                Some(number) if !sane(&number) => Err(LookError::Garbled),
                found => Ok(found),
            }
        });
        Look { found, date }
    }

    /// A TwiML application of the account.
    pub async fn application(&self, sid: &str) -> Look<Application> {
        self.look(&format!("/Applications/{sid}.json"), &[]).await
    }

    /// GET `{account}{path}?{query}`.
    async fn look<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Look<T> {
        let mut url = format!("{}{path}", self.inner.account_url);
        if !query.is_empty() {
            let query = form_urlencoded::Serializer::new(String::new())
                .extend_pairs(query)
                .finish();
            url = format!("{url}?{query}");
        }
        let mut response = match self.inner.client.get(url).send().await {
            Ok(response) => response,
            Err(error) => return unanswered(error).into(),
        };
        let date = response.headers().get(DATE);
        let date = date
            .and_then(|date| date.to_str().ok())
            .and_then(|date| rfc2822::parse(date).ok())
            .map(|date| date.timestamp());
        let status = response.status();
        if status.is_success() {
            let mut body = Vec::new();
            let found = loop {
                match response.chunk().await {
                    Ok(Some(chunk)) if body.len() + chunk.len() <= MAX_BODY => {
                        body.extend_from_slice(&chunk);
                    }
                    Ok(Some(_)) => break Err(LookError::Garbled),
                    Ok(None) => {
                        break serde_json::from_slice(&body).map_err(|_| LookError::Garbled);
                    }
                    Err(error) => break Err(unanswered(error)),
                }
            };
            return Look { found, date };
        }
        let code = error_code(response).await;
        let error = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => LookError::Auth { code },
            StatusCode::NOT_FOUND => LookError::NotFound { code },
            status => LookError::Refused {
                status: status.as_u16(),
                code,
            },
        };
        Look {
            found: Err(error),
            date,
        }
    }
}

impl<T> From<LookError> for Look<T> {
    fn from(error: LookError) -> Self {
        Look {
            found: Err(error),
            date: None,
        }
    }
}

fn unanswered(error: reqwest::Error) -> LookError {
    match error.is_timeout() {
        true => LookError::Timeout,
        false => LookError::Unreachable(innermost(&error.without_url())),
    }
}
