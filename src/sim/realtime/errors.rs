//! What the server answers to what it does not take, and what a script's error codes are here.

use serde_json::{Value, json};

use super::shape::Fault;

/// An `error` of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// Its `type`.
    pub kind: &'static str,
    pub code: String,
    pub message: String,
    pub param: Option<String>,
}

impl Failure {
    pub fn request(code: &str, message: impl Into<String>) -> Failure {
        Failure {
            kind: "invalid_request_error",
            code: code.to_owned(),
            message: message.into(),
            param: None,
        }
    }

    pub fn from_fault(fault: Fault) -> Failure {
        Failure {
            param: (!fault.param.is_empty()).then_some(fault.param),
            ..Failure::request(fault.code, fault.message)
        }
    }

    /// The error that a script names, by EVI's code or by the one of this protocol.
    pub fn scripted(code: &str, message: &str) -> Failure {
        let code = match code {
            "E0300" => "insufficient_quota",
            "E0301" => "rate_limit_exceeded",
            "E0715" => "session_expired",
            code if is_evi(code) => "server_error",
            code => code,
        };
        let (kind, message) = match code {
            "insufficient_quota" | "billing_hard_limit_reached" => (
                "insufficient_quota",
                "You exceeded your current quota, please check your plan and billing details.",
            ),
            "session_expired" => ("invalid_request_error", EXPIRED),
            "rate_limit_exceeded" => ("rate_limit_error", message),
            "server_error" => ("server_error", message),
            _ => ("invalid_request_error", message),
        };
        Failure {
            kind,
            ..Failure::request(code, message)
        }
    }

    /// Whether the server closes behind it, with which code and which reason (seen in the field).
    pub fn close(&self) -> (u16, String) {
        match self.code.as_str() {
            "session_expired" => (1001, EXPIRED.to_owned()),
            "beta_api_shape_disabled" => (4000, self.reason()),
            _ => (3000, self.reason()),
        }
    }

    fn reason(&self) -> String {
        format!("{}.{}", self.kind, self.code)
    }

    /// The event; `event_id` is the client's.
    pub fn event(&self, event_id: Option<&str>) -> Value {
        json!({
            "type": "error",
            "error": {
                "type": self.kind,
                "code": self.code,
                "message": self.message,
                "param": self.param,
                "event_id": event_id,
            },
        })
    }
}

/// As seen in the field.
const EXPIRED: &str = "Your session hit the maximum duration of 60 minutes.";

/// A capital letter and four digits.
fn is_evi(code: &str) -> bool {
    code.len() == 5
        && code.starts_with(|c: char| c.is_ascii_uppercase())
        && code[1..].bytes().all(|c| c.is_ascii_digit())
}
