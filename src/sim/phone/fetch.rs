//! Documents fetched and callbacks sent: every request of a call, signed.

use super::call::{Call, Left};
use super::journal::{Document, Ended, Event};
use super::switchboard::CallStatus;
use super::twiml::{self, Request, Verb};
use super::webhook::{self, Params};
use super::{Fault, Phone, http};

impl Call {
    /// The parameters that the bridge gives to another call, which never shows up.
    pub(super) async fn stolen_parameters(&mut self) -> Result<Vec<(String, String)>, Left> {
        let url = format!(
            "{}{}",
            self.phone.public_url, self.phone.options.webhook_path
        );
        let params = self.standard(&webhook::sid("CA")).incoming();
        let verbs = self
            .fetch(Document::Webhook, Request { url, get: false }, params)
            .await?;
        let parameters = verbs.into_iter().find_map(|verb| match verb {
            Verb::Connect { stream, .. } => Some(stream.parameters),
            _ => None,
        });
        Ok(parameters.unwrap_or_default())
    }

    /// Fetches a document and reads it. The call can end meanwhile.
    pub(super) async fn fetch(
        &mut self,
        what: Document,
        request: Request,
        params: Params,
    ) -> Result<Vec<Verb>, Left> {
        let phone = self.phone.clone();
        let answer = tokio::select! {
            left = self.interruption() => return Err(left),
            answer = send(&phone, &request, &params) => answer,
        };
        let response = answer.map_err(|what| {
            self.violation(what.clone());
            failed(what)
        })?;
        let status = response.head.status;
        let body = String::from_utf8_lossy(&response.body).into_owned();
        self.log(Event::Fetched {
            what,
            url: request.url.clone(),
            status,
            body,
        });
        if !(200..300).contains(&status) {
            return Err(failed(format!("11200: {} answered {status}", request.url)));
        }
        if status != 200 {
            self.violation(format!("{} answered {status}, not 200", request.url));
        }
        let content_type = response.head.header("content-type").unwrap_or("");
        let media_type = content_type.split(';').next().unwrap_or("").trim();
        if !["text/xml", "application/xml"]
            .iter()
            .any(|known| media_type.eq_ignore_ascii_case(known))
        {
            self.violation(format!(
                "12300: {} answered with content type {content_type:?}",
                request.url
            ));
            return Err(failed("12300: not TwiML"));
        }
        self.executable(twiml::read(&response.body, &request.url))
    }

    /// A document's verbs; what is wrong with it is put on record.
    pub(super) fn executable(
        &self,
        read: Result<(Vec<Verb>, Vec<String>), twiml::Error>,
    ) -> Result<Vec<Verb>, Left> {
        match read {
            Ok((verbs, violations)) => {
                violations.into_iter().for_each(|what| self.violation(what));
                Ok(verbs)
            }
            Err(error) => {
                self.violation(error.to_string());
                Err(failed(error.to_string()))
            }
        }
    }

    /// Sends a callback in the background. Nothing waits for it but the end of the report.
    pub fn callback(&mut self, what: &str, request: Request, params: Params) {
        let (phone, journal, clock) = (self.phone.clone(), self.journal.clone(), self.clock);
        let what = what.to_owned();
        self.background.spawn(async move {
            let status = match send(&phone, &request, &params).await {
                Ok(response) => Some(response.head.status),
                Err(_) => None,
            };
            if let Some(status) = status.filter(|status| !(200..300).contains(status)) {
                let what = format!("the callback {what} was answered with {status}");
                journal.write(clock.now(), Event::Violation { what });
            }
            journal.write(clock.now(), Event::CallbackAnswered { what, status });
        });
    }

    pub(super) fn report_status(&mut self, status: CallStatus, ended_at: std::time::Duration) {
        let Some(path) = self.phone.options.status_path.clone() else {
            return;
        };
        let mut params = self.standard(&self.call_sid).during(status.as_str());
        params.extend(webhook::progress(0));
        let fields = [
            ("CallDuration", ended_at.as_secs().to_string()),
            ("Duration", ended_at.as_secs().div_ceil(60).to_string()),
        ];
        params.extend(fields.map(|(name, value)| (name.to_owned(), value)));
        let url = format!("{}{path}", self.phone.public_url);
        self.callback(status.as_str(), Request { url, get: false }, params);
    }
}

/// What a caller hears as an error message.
fn failed(what: impl Into<String>) -> Left {
    Left::Ended(Ended::ApplicationError { what: what.into() })
}

/// Signs a request, sends it and reads the answer.
async fn send(phone: &Phone, request: &Request, params: &Params) -> Result<http::Response, String> {
    let wire = signed_form(phone, request, params).await?;
    exchange(phone, &request.url, &wire).await
}

async fn signed_form(phone: &Phone, request: &Request, params: &Params) -> Result<Vec<u8>, String> {
    let url = if request.get {
        webhook::get_url(&request.url, params)
    } else {
        request.url.clone()
    };
    let signed: &[(String, String)] = if request.get { &[] } else { params };
    let signature = sign(
        phone,
        &webhook::signed_url(&url),
        signed,
        phone.has(Fault::WebhookSignature),
    )
    .await?;
    Ok(webhook::form_request(
        &request.url,
        params,
        request.get,
        &signature,
    ))
}

/// A signature, or what the faults make of it.
pub async fn sign(
    phone: &Phone,
    url: &str,
    params: &[(String, String)],
    wrongly: bool,
) -> Result<String, String> {
    if let Some(signer) = &phone.options.signer {
        let signature = signer.sign(url.to_owned(), params.to_vec()).await;
        return signature.map_err(|why| format!("{url} is not signed: {why}"));
    }
    let token = if wrongly {
        "somebody-elses-auth-token"
    } else {
        &phone.auth_token
    };
    Ok(if phone.has(Fault::Port443) {
        webhook::signature(token, &webhook::with_port_443(url), params)
    } else {
        webhook::signature(token, url, params)
    })
}

/// One exchange with the bridge; no other host can be reached from here.
async fn exchange(phone: &Phone, url: &str, wire: &[u8]) -> Result<http::Response, String> {
    let (authority, _) = webhook::split(url);
    let (home, _) = webhook::split(&phone.public_url);
    if !authority.eq_ignore_ascii_case(home) {
        return Err(format!(
            "{url} is not at {home}, which is all that this telephone can reach"
        ));
    }
    http::exchange(&phone.way(), wire)
        .await
        .map_err(|error| format!("{url}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_get_is_signed_with_its_query_and_a_post_with_its_fields() {
        let phone = Phone::new(
            "https://bridge.example.com",
            ([127, 0, 0, 1], 1).into(),
            "AC1",
            "12345",
        );
        let params: Params = vec![
            (
                "CallSid".into(),
                "CA0123456789abcdef0123456789abcdef".into(),
            ),
            ("CallStatus".into(), "completed".into()),
        ];
        let url = "https://bridge.example.com/twilio/status".to_owned();
        let request = Request {
            url: url.clone(),
            get: true,
        };
        let get = signed_form(&phone, &request, &params).await.unwrap();
        let get = String::from_utf8(get).unwrap();
        assert!(get.starts_with("GET /twilio/status?CallSid=CA0123"));
        assert!(get.contains("X-Twilio-Signature: AlY9Q4+WEovozP3XxDEeAINFgw4=\r\n"));
        let request = Request { url, get: false };
        let post = signed_form(&phone, &request, &params).await.unwrap();
        let post = String::from_utf8(post).unwrap();
        assert!(post.starts_with("POST /twilio/status HTTP/1.1\r\nHost: bridge.example.com\r\n"));
        assert!(
            post.ends_with(
                "\r\n\r\nCallSid=CA0123456789abcdef0123456789abcdef&CallStatus=completed"
            )
        );
    }
}
