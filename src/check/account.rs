//! Twilio: the REST API and the account behind the credentials, the clock, and the number's webhook.
//!
//! What is asked for is exactly what the daemon will rely on: that it may end calls, that Media
//! Streams are not stripped, that a call to the number comes here. A command that mends something
//! has everything filled in but the secret.

use std::{fmt::Write as _, time::Duration};

use jiff::Timestamp;
use tokio::time::{Instant, timeout};
use url::Url;

use super::report::{Finding, Verdict};
use crate::{
    agent::link::{ConnectError, Tls, reach},
    config::{Config, Credentials},
    http::paths,
    twilio::{
        mask_number,
        rest::{
            Rest,
            account::{Account, Look, LookError, Number},
        },
    },
};

const DEADLINE: Duration = Duration::from_secs(5);
/// Worth a word.
const SKEW_SEEN: i64 = 5;
/// TLS and the tokens' lifetimes begin to suffer.
const SKEW_BAD: i64 = 60;

/// `twilio`, `clock` and `number`.
pub async fn look(config: &Config, credentials: &Credentials, tls: &Tls) -> Vec<Finding> {
    let rest = match connect(config, credentials, tls).await {
        Ok(rest) => rest,
        Err(finding) => {
            let why = "needs an answer of Twilio's REST API";
            let skipped = ["clock", "number"].map(|check| Finding::skip(check, why));
            return [vec![finding], skipped.into()].concat();
        }
    };
    let Look { found, date } = rest.account().await;
    let heard = Timestamp::now();
    let clock = match date {
        Some(date) => clock(date, heard),
        None => Finding::skip("clock", "needs an answer of Twilio's REST API"),
    };
    match found {
        Ok(account) => vec![
            standing(&account, &credentials.twilio_account_sid),
            clock,
            number(config, credentials, &rest).await,
        ],
        Err(error) => {
            let twilio = unseen("twilio", &error, config);
            let number = Finding::skip("number", "needs an account that Twilio lets in");
            vec![twilio, clock, number]
        }
    }
}

/// Name, TCP and TLS first: Twilio's client cannot tell one from the other.
async fn connect(config: &Config, credentials: &Credentials, tls: &Tls) -> Result<Rest, Finding> {
    let api_url = &config.twilio.api_url;
    let unusable = |what: String| Finding::fail("twilio", what, "check twilio.api_url");
    let url = Url::parse(api_url).map_err(|_| unusable("twilio.api_url is no URL".to_owned()))?;
    let host = url.host_str().unwrap_or_default().to_owned();
    let reached = timeout(DEADLINE, reach(&url, tls, Instant::now() + DEADLINE));
    if let Err(error) = reached.await.unwrap_or(Err(ConnectError::Timeout)) {
        let (what, mend) = match error {
            ConnectError::Dns => (
                format!("{host} does not resolve"),
                "check twilio.api_url and the resolver: resolvectl status".to_owned(),
            ),
            ConnectError::Certificate(why) => (
                format!("the certificate of {host} is refused: {why}"),
                "check the clock, ca-certificates, and whether a proxy breaks TLS open on the way"
                    .to_owned(),
            ),
            ConnectError::NoTrust => (error.to_string(), "install ca-certificates".to_owned()),
            ConnectError::Tls => (
                format!("no TLS with {host}"),
                "check twilio.api_url, and whether a proxy stands on the way".to_owned(),
            ),
            error => (
                format!("{host}: {error}"),
                format!("let this machine out to {host}, TCP port {}", port(&url)),
            ),
        };
        return Err(Finding::fail("twilio", what, mend));
    }
    let rest_tls = match url.scheme() {
        "https" => {
            let tls = tls
                .client_config()
                .map_err(|error| unusable(error.to_string()))?;
            Some(tls.as_ref().clone())
        }
        _ => None,
    };
    let sid = &credentials.twilio_account_sid;
    Rest::new(api_url, sid, &credentials.twilio_auth_token, rest_tls)
        .map_err(|error| unusable(error.to_string()))
}

fn port(url: &Url) -> u16 {
    url.port_or_known_default().unwrap_or_default()
}

/// May this account take calls, and stream them?
fn standing(account: &Account, sid: &str) -> Finding {
    const CHECK: &str = "twilio";
    let console = "https://console.twilio.com/";
    match account.status.as_str() {
        "active" => {}
        "suspended" => {
            let what = format!("account {sid} is suspended: its calls do not come in");
            return Finding::fail(CHECK, what, format!("see why at {console}"));
        }
        "closed" => {
            let what = format!("account {sid} is closed, for good");
            let mend = "use another account, and its auth token";
            return Finding::fail(CHECK, what, mend);
        }
        _ => {
            let what = format!("account {sid} is neither active, suspended nor closed");
            return Finding::fail(CHECK, what, format!("see {console}"));
        }
    }
    if account.kind.eq_ignore_ascii_case("trial") {
        let what = format!(
            "account {sid} is a trial account: Twilio strips <Stream> from its calls, and nobody \
             would hear the agent"
        );
        return Finding::fail(CHECK, what, format!("upgrade the account at {console}"));
    }
    Finding::ok(
        CHECK,
        format!("account {sid} is active and lets these credentials in"),
    )
}

/// Twilio's clock has seconds, and the answer was on its way for a while: a few are no finding.
fn clock(date: Timestamp, now: Timestamp) -> Finding {
    const CHECK: &str = "clock";
    let ahead = now.as_second() - date.as_second();
    let words = match ahead {
        0.. => format!("{ahead} s ahead of Twilio's"),
        _ => format!("{} s behind Twilio's", -ahead),
    };
    match ahead.abs() {
        0..=SKEW_SEEN => Finding::ok(CHECK, "agrees with Twilio's"),
        ..=SKEW_BAD => {
            let mend = "mind the time service: timedatectl";
            Finding::new(CHECK, Verdict::Ok, words, mend)
        }
        _ => {
            let mend = "set it and keep it: timedatectl set-ntp true";
            Finding::fail(CHECK, words, mend)
        }
    }
}

/// A look that came to nothing.
fn unseen(check: &'static str, error: &LookError, config: &Config) -> Finding {
    let api_url = &config.twilio.api_url;
    let mend = match error {
        LookError::Auth { .. } => {
            "set twilio_auth_token to the primary auth token of twilio_account_sid; each region \
             of Twilio's has its own"
                .to_owned()
        }
        LookError::NotFound { .. } => {
            format!("check twilio_account_sid, and that {api_url} is Twilio's")
        }
        LookError::Refused { status: 429, .. } => "too many requests; try again".to_owned(),
        LookError::Refused { status: 500.., .. } => {
            "try again; see https://status.twilio.com/".to_owned()
        }
        LookError::Timeout => "try again; see https://status.twilio.com/".to_owned(),
        LookError::Unreachable(_) => "check the network, and try again".to_owned(),
        LookError::Refused { .. } | LookError::Garbled => {
            format!("check that {api_url} is Twilio's, with no proxy on the way")
        }
    };
    Finding::fail(check, error.to_string(), mend)
}

/// Does a call to the number come to us?
async fn number(config: &Config, credentials: &Credentials, rest: &Rest) -> Finding {
    const CHECK: &str = "number";
    let Some(wanted) = &credentials.twilio_phone_number else {
        let why = "no number is named; set twilio.phone_number to have its webhook looked at";
        return Finding::skip(CHECK, why);
    };
    let shown = mask_number(wanted);
    let number = match rest.number(wanted).await.found {
        Ok(Some(number)) => number,
        Ok(None) => {
            let sid = &credentials.twilio_account_sid;
            return Finding::fail(
                CHECK,
                format!("account {sid} has no number {shown}"),
                "check twilio.phone_number; a number of a subaccount needs that account's \
                 credentials",
            );
        }
        Err(error) => return unseen(CHECK, &error, config),
    };
    let shown = format!("{shown} ({})", number.sid);
    let mut wants = Wants::new(config, &number);
    if number.capabilities.voice == Some(false) {
        let mend = "get a number with the capability Voice";
        return Finding::fail(CHECK, format!("{shown} takes no calls"), mend);
    }
    if number.trunk_sid.is_some() {
        wants.wrong("its calls go to a SIP trunk", "--trunk-sid \"\"");
    }
    if number.voice_receive_mode.as_deref() == Some("fax") {
        wants.wrong("it receives faxes", "--voice-receive-mode voice");
    }
    let mut by = String::new();
    match &number.voice_application_sid {
        None => wants.voice_url(number.voice_url.as_deref()),
        Some(sid) => match rest.application(sid).await.found {
            Ok(application) if wants.is_ours(application.voice_url.as_deref()) => {
                by = format!(", by TwiML application {sid}");
            }
            Ok(_) => {
                let what = format!("its calls go where TwiML application {sid} says, not here");
                wants.wrong(&what, "--voice-application-sid \"\"");
                // With the application gone its own URL counts again.
                wants.voice_url(number.voice_url.as_deref());
            }
            Err(error) => return unseen(CHECK, &error, config),
        },
    }
    wants.finding(&shown, &by, &number)
}

/// What is wrong with a number, and the options that put it right.
struct Wants {
    webhook: String,
    status: String,
    sid: String,
    wrong: Vec<String>,
    options: String,
}

impl Wants {
    fn new(config: &Config, number: &Number) -> Self {
        Wants {
            webhook: config.public_url.http(paths::INCOMING),
            status: config.public_url.http(paths::STATUS),
            sid: number.sid.clone(),
            wrong: Vec::new(),
            options: String::new(),
        }
    }

    fn wrong(&mut self, what: &str, option: &str) {
        self.wrong.push(what.to_owned());
        let _ = write!(self.options, " {option}");
    }

    fn is_ours(&self, url: Option<&str>) -> bool {
        url.is_some_and(|url| same(url, &self.webhook))
    }

    fn voice_url(&mut self, url: Option<&str>) {
        if self.is_ours(url) {
            return;
        }
        let what = match url {
            Some(url) => format!("its voice webhook is {}", discreet(url)),
            None => "it has no voice webhook".to_owned(),
        };
        let option = format!("--voice-url {} --voice-method POST", self.webhook);
        self.wrong(&what, &option);
    }

    fn finding(mut self, shown: &str, by: &str, number: &Number) -> Finding {
        const CHECK: &str = "number";
        if !self.wrong.is_empty() {
            let what = format!("{shown}: {}", self.wrong.join(", and "));
            if number.status_callback.is_none() {
                let _ = write!(self.options, " --status-callback {}", self.status);
            }
            return Finding::fail(CHECK, what, self.mend());
        }
        let what = format!("{shown} calls {}{by}", self.webhook);
        let ours = number.status_callback.as_deref();
        let told = ours.is_some_and(|url| same(url, &self.status));
        let mut advice = Vec::new();
        if number.status_callback.is_none() {
            let _ = write!(self.options, " --status-callback {}", self.status);
            let advise = "a caller who gives up early keeps a place for half a minute";
            advice.push(format!("without a status callback {advise}"));
        } else if !told {
            advice.push("its status callback goes elsewhere".to_owned());
        }
        if number.voice_fallback_url.is_none() {
            advice.push(
                "without a fallback URL callers hear Twilio's error while this is down".into(),
            );
        }
        let mut mend = advice.join(", ");
        if !self.options.is_empty() {
            mend = format!("{mend}: {}", self.mend());
        }
        Finding::new(CHECK, Verdict::Ok, what, mend)
    }

    fn mend(&self) -> String {
        format!(
            "twilio api:core:incoming-phone-numbers:update --sid {}{} (or \
             https://console.twilio.com/us1/develop/phone-numbers/manage/incoming/{}/configure)",
            self.sid, self.options, self.sid
        )
    }
}

/// Whether Twilio's URL leads to ours: its fragment holds Twilio's own settings, its user and its
/// query take nothing away.
fn same(theirs: &str, ours: &str) -> bool {
    let (Ok(theirs), Ok(ours)) = (Url::parse(theirs), Url::parse(ours)) else {
        return false;
    };
    let place = |url: &Url| {
        (
            url.scheme().to_owned(),
            url.host_str().map(str::to_owned),
            url.port_or_known_default(),
            url.path().to_owned(),
        )
    };
    place(&theirs) == place(&ours)
}

/// Without user, query and fragment: any of them may hold a key.
fn discreet(url: &str) -> String {
    match Url::parse(url) {
        Ok(url) => {
            let host = url.host_str().unwrap_or_default();
            let port = url.port().map_or(String::new(), |port| format!(":{port}"));
            let more = if url.query().is_some() { "?..." } else { "" };
            format!("{}://{host}{port}{}{more}", url.scheme(), url.path())
        }
        Err(_) => "not a URL".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_is_ours_whatever_twilio_puts_around_it() {
        let ours = "https://bridge.example.com/x/voice/incoming";
        for theirs in [
            ours,
            "https://BRIDGE.example.com:443/x/voice/incoming",
            "https://u:p@bridge.example.com/x/voice/incoming?a=b#rc=2&rp=all",
        ] {
            assert!(same(theirs, ours), "{theirs}");
        }
        for theirs in [
            "",
            "http://bridge.example.com/x/voice/incoming",
            "https://bridge.example.com/voice/incoming",
            "https://bridge.example.com/x/voice/incoming/",
            "https://bridge.example.com:8443/x/voice/incoming",
        ] {
            assert!(!same(theirs, ours), "{theirs}");
        }
    }

    #[test]
    fn a_foreign_webhook_is_shown_without_its_keys() {
        let shown = discreet("https://user:KEY@api.example.com:8443/v0/evi/twilio?api_key=KEY#KEY");
        assert_eq!(shown, "https://api.example.com:8443/v0/evi/twilio?...");
        assert_eq!(discreet("KEY"), "not a URL");
    }

    #[test]
    fn a_clock_may_be_a_little_off() {
        let verdict = |ahead: i64| {
            let date = Timestamp::from_second(1_800_000_000).unwrap();
            let now = Timestamp::from_second(1_800_000_000 + ahead).unwrap();
            clock(date, now)
        };
        assert_eq!(verdict(3).what, "agrees with Twilio's");
        let seen = verdict(-40);
        assert_eq!(
            (seen.result, &*seen.what),
            (Verdict::Ok, "40 s behind Twilio's")
        );
        let bad = verdict(61);
        assert_eq!(
            (bad.result, &*bad.what),
            (Verdict::Fail, "61 s ahead of Twilio's")
        );
    }
}
