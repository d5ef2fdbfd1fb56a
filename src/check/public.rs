//! The public address, as Twilio meets it: name, TLS, proxy, and behind them a bridge that lets
//! nobody in but Twilio.
//!
//! Nothing that is asked for here could become a call: the form names none, and nothing is signed.
//! A refusal by the bridge itself, 403, is the good answer. The daemon logs and counts the refusals.

use std::time::Instant;

use hyper::header::{CONNECTION, HeaderName, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use url::Url;

use super::{
    report::Finding,
    web::{self, Answer, Ask, DEADLINE, Silent},
};
use crate::{
    agent::link::{ConnectError, Tls},
    config::Config,
    http::paths,
};

const NOT_YET: &str = "hume-bridge does not run yet; start it, then check again";

/// `public_url`, `webhook` and `media`.
pub async fn look(config: &Config, running: bool, tls: &Tls) -> Vec<Finding> {
    let address = |path| Url::parse(&config.public_url.http(path));
    let (Ok(health), Ok(webhook), Ok(media)) = (
        address("/health"),
        address(paths::INCOMING),
        address(paths::MEDIA),
    ) else {
        let mend = "write https://, the host, and perhaps a path";
        return vec![Finding::fail("public_url", "is not a URL", mend)];
    };
    let began = Instant::now();
    let answer = web::ask(Ask::get(&health), tls, DEADLINE).await;
    let first = public_url(config, running, &health, answer, began);
    if first.result != super::report::Verdict::Ok {
        let why = "needs a public_url that leads to hume-bridge";
        let skipped = ["webhook", "media"].map(|check| Finding::skip(check, why));
        return [vec![first], skipped.into()].concat();
    }
    let unsigned = Ask {
        form: Some("Check=1"),
        ..Ask::get(&webhook)
    };
    let headers: [(HeaderName, &str); 4] = [
        (CONNECTION, "Upgrade"),
        (UPGRADE, "websocket"),
        (SEC_WEBSOCKET_VERSION, "13"),
        (SEC_WEBSOCKET_KEY, "aHVtZS1icmlkZ2UgY2hlYw=="),
    ];
    let upgrade = Ask {
        headers: &headers,
        ..Ask::get(&media)
    };
    let (posted, upgraded) = tokio::join!(
        web::ask(unsigned, tls, DEADLINE),
        web::ask(upgrade, tls, DEADLINE),
    );
    vec![
        first,
        refused(config, "webhook", &webhook, posted),
        refused(config, "media", &media, upgraded),
    ]
}

fn public_url(
    config: &Config,
    running: bool,
    url: &Url,
    answer: Result<Answer, Silent>,
    began: Instant,
) -> Finding {
    const CHECK: &str = "public_url";
    let host = &config.public_url.host;
    let elsewhere = format!(
        "if this network cannot reach its own public address, try elsewhere: curl -i {url}"
    );
    let (what, mend) = match answer {
        Ok(answer) => match (answer.health(), answer.status) {
            (Some(health), _) => {
                let took = began.elapsed().as_millis();
                let state = match running {
                    true => health.status,
                    // Behind a load balancer, say.
                    false => format!("{}, though none runs on this machine", health.status),
                };
                let what = format!("a hume-bridge answers at {url} after {took} ms ({state})");
                return Finding::ok(CHECK, what);
            }
            (None, 502..=504) if !running => {
                let what = format!("{host} answers {}: {NOT_YET}", answer.status);
                return Finding::skip(CHECK, what);
            }
            (None, status @ 502..=504) => (
                format!("{url} answers {status}: the proxy does not reach hume-bridge"),
                format!("have it forward to {}", config.listen.http),
            ),
            (None, status @ 300..=399) => (
                format!("{url} answers {status}, a redirection"),
                "set public_url to where it leads".to_owned(),
            ),
            (None, status @ (401 | 403)) => (
                format!("{url} answers {status}: somebody before hume-bridge wants a login"),
                "let Twilio pass; hume-bridge checks its signature itself".to_owned(),
            ),
            (None, status) if config.public_url.prefix.is_empty() => (
                format!("{url} answers {status}, and not as hume-bridge does"),
                format!("have {host} forward everything to {}", config.listen.http),
            ),
            (None, status) => (
                format!("{url} answers {status}, and not as hume-bridge does"),
                format!(
                    "have {host} forward {}/ to {}",
                    config.public_url.prefix, config.listen.http
                ),
            ),
        },
        Err(Silent::Unconnected(error)) => match error {
            ConnectError::Dns => (
                format!("{host} does not resolve"),
                "make a DNS record for it, or mend public_url".to_owned(),
            ),
            ConnectError::Certificate(why) => (
                format!("the certificate of {host} is refused: {why}; Twilio refuses it too"),
                format!(
                    "get one for {host} from a public authority, and serve it with its \
                     intermediate certificates"
                ),
            ),
            ConnectError::NoTrust => (error.to_string(), "install ca-certificates".to_owned()),
            ConnectError::Tls => (
                format!("no TLS with {host}"),
                "have the proxy speak TLS 1.2 or 1.3 on that port".to_owned(),
            ),
            ConnectError::Tcp(std::io::ErrorKind::ConnectionRefused) if !running => {
                let what = format!("nobody listens at {host}: {NOT_YET}");
                return Finding::skip(CHECK, what);
            }
            error => (
                format!("{host}: {error}"),
                format!("open the firewall for it, from everywhere; {elsewhere}"),
            ),
        },
        Err(Silent::Timeout) => (
            format!("{url} takes the connection and does not answer in time"),
            format!("Twilio waits 15 s: see what the proxy does; {elsewhere}"),
        ),
        Err(Silent::NotHttp) => (
            format!("{url} does not answer in HTTP"),
            "see what listens on that port".to_owned(),
        ),
    };
    Finding::fail(CHECK, what, mend)
}

/// What has no signature must be refused, and by hume-bridge.
fn refused(
    config: &Config,
    check: &'static str,
    url: &Url,
    answer: Result<Answer, Silent>,
) -> Finding {
    let Ok(Answer { status, body }) = answer else {
        let what = format!("{url} does not answer");
        return Finding::fail(check, what, "see what the proxy logs for it");
    };
    let forward = format!(
        "have the proxy forward {}/voice/ and {}{} to {}",
        config.public_url.prefix,
        config.public_url.prefix,
        paths::MEDIA,
        config.listen.http
    );
    // Signatures are not looked at: a form without a call is answered as such, an upgrade is taken.
    let unguarded = match check {
        "media" => status == 101,
        _ => status == 400 && body.starts_with(b"not a voice webhook"),
    };
    let (what, mend) = match status {
        403 if body.is_empty() => {
            let what = format!("{url} is reached, and refuses what Twilio has not signed");
            return Finding::ok(check, what);
        }
        403 => (
            format!("{url} answers 403, and not as hume-bridge does"),
            "let Twilio pass whatever stands before hume-bridge".to_owned(),
        ),
        _ if unguarded && !config.twilio.validate_signatures => (
            format!("{url} takes what anybody sends"),
            "set twilio.validate_signatures = true and reload".to_owned(),
        ),
        _ if unguarded => (
            format!("{url} takes what anybody sends, unlike this config"),
            "have the daemon read it: humebridgectl reload".to_owned(),
        ),
        426 => (
            format!("{url} answers 426: the proxy does not pass the WebSocket upgrade on"),
            "in nginx: proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; \
             proxy_set_header Connection \"upgrade\";"
                .to_owned(),
        ),
        status @ 502..=504 => (
            format!("{url} answers {status}: the proxy does not reach hume-bridge"),
            forward,
        ),
        status => (
            format!("{url} answers {status}, and not as hume-bridge does"),
            forward,
        ),
    };
    Finding::fail(check, what, mend)
}
