//! Asks a service of the operator's who is calling, before the agent's first word.
//!
//! One POST of JSON with what is known of the call; the answer adds variables and context to what the
//! agent is told. It is a courtesy: it has a strict deadline from its start, and whatever goes wrong is
//! counted, told in one line without content, and the call goes on without. The question is asked at the
//! webhook, so that the answer is there when the media socket is; the socket's side joins it, or asks by
//! itself where another instance had the webhook.
//!
//! Answers are kept for `lookup.cache`, by caller, called number and all else that is asked; failures are
//! not, nor what is said of withheld numbers, who are many people. Two calls that ask the same at the same
//! time share one request. Everything kept is bounded. No proxy, no redirect: what is known of a caller
//! goes to the configured host or nowhere.

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use reqwest::{
    Client, Response, Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
    redirect,
};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::{
    sync::watch,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::{Facts, fill::clean};
use crate::{
    agent::Briefing,
    config::{self, Secret, Variable},
    metrics::{Metrics, labels::LookedUp},
    session::caller::{Caller, canonical},
    tools::sign,
    twilio::{CallSid, rest},
};

/// Answers that are kept, and calls whose answer waits for their media socket.
const MOST_KEPT: usize = 1000;
const MAX_BODY: usize = 64 * 1024;
const MOST_VARIABLES: usize = 50;
const LONGEST_NAME: usize = 64;
/// In characters.
const LONGEST_CONTEXT: usize = 4096;

/// The service, under one config. A reload makes a new one, which has no answers yet.
pub struct Lookup {
    client: Client,
    url: Url,
    headers: HeaderMap,
    signs: Option<Secret>,
    timeout: Duration,
    cache: Duration,
    metrics: Arc<Metrics>,
    book: Mutex<Book>,
}

/// Why lookups cannot be made at all.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    #[error("[lookup] url is no URL")]
    Url,
    #[error("[lookup] headers.{0} does not make a header: check its name, value and credentials")]
    Header(String),
    #[error("[lookup] the credential {0} is missing")]
    Credential(String),
    #[error("the http client for [lookup] cannot be set up")]
    Client,
}

/// What came of a request; `None` while it is under way.
type Awaited = watch::Receiver<Option<Arc<Briefing>>>;

#[derive(Default)]
struct Book {
    answers: HashMap<Box<str>, Answer>,
    /// By calls that have asked and whose media socket is to come.
    begun: HashMap<CallSid, Begun>,
}

struct Answer {
    awaited: Awaited,
    /// `None` while it is under way.
    until: Option<Instant>,
}

struct Begun {
    awaited: Awaited,
    /// When the call is no longer waited for.
    until: Instant,
    /// For the answer.
    deadline: Instant,
}

impl Lookup {
    /// `secrets` are the credentials by name. `tls` may be absent for an `http://` URL only.
    pub fn new(
        config: &config::Lookup,
        secrets: &BTreeMap<String, Secret>,
        tls: Option<rustls::ClientConfig>,
        metrics: Arc<Metrics>,
    ) -> Result<Lookup, LookupError> {
        let missing = |name: &str| LookupError::Credential(name.to_owned());
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in &config.headers {
            let wrong = || LookupError::Header(name.clone());
            let filled = value.filled(secrets).map_err(missing)?;
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
            let mut value = HeaderValue::from_str(filled.expose()).map_err(|_| wrong())?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let tls = match tls {
            Some(tls) => tls,
            None => rest::no_tls().map_err(|_| LookupError::Client)?,
        };
        let client = Client::builder()
            .user_agent(concat!("hume-bridge/", env!("CARGO_PKG_VERSION")))
            .tls_backend_preconfigured(tls)
            .http1_only()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .connect_timeout(config.timeout)
            .timeout(config.timeout)
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(4)
            .build()
            .map_err(|_| LookupError::Client)?;
        let sign_with = config.sign_with.as_deref();
        let signs = sign_with.map(|name| secrets.get(name).cloned().ok_or_else(|| missing(name)));
        Ok(Lookup {
            client,
            url: Url::parse(&config.url).map_err(|_| LookupError::Url)?,
            headers,
            signs: signs.transpose()?,
            timeout: config.timeout,
            cache: config.cache,
            metrics,
            book: Mutex::default(),
        })
    }

    /// A call has its place: asks, for a media socket that comes within `lifetime`.
    pub fn begin(self: &Arc<Self>, facts: &Facts<'_>, lifetime: Duration, tasks: &TaskTracker) {
        let now = Instant::now();
        let mut book = self.book();
        book.begun.retain(|_, begun| begun.until > now);
        // Twilio repeats webhooks. And a crowd beyond all bounds asks when its sockets come.
        if book.begun.contains_key(facts.call) || book.begun.len() >= MOST_KEPT {
            return;
        }
        drop(book);
        let begun = Begun {
            awaited: self.ask(facts, tasks),
            until: now + lifetime,
            deadline: now + self.timeout,
        };
        self.book().begun.insert(*facts.call, begun);
    }

    /// The answer for a call whose media socket has come: what [`begin`](Lookup::begin) began, or asked
    /// now. Ends by the deadline; empty if nothing came of it.
    pub fn answer(
        self: &Arc<Self>,
        facts: &Facts<'_>,
        tasks: &TaskTracker,
    ) -> Pin<Box<dyn Future<Output = Briefing> + Send>> {
        let begun = self.book().begun.remove(facts.call);
        let (mut awaited, deadline) = match begun {
            Some(begun) => (begun.awaited, begun.deadline),
            None => {
                let deadline = Instant::now() + self.timeout;
                (self.ask(facts, tasks), deadline)
            }
        };
        Box::pin(async move {
            // What is there already is taken even when the deadline has long passed.
            let answer = timeout_at(deadline, awaited.wait_for(Option::is_some)).await;
            match answer {
                Ok(Ok(answer)) => answer.as_deref().cloned().unwrap_or_default(),
                _ => Briefing::default(),
            }
        })
    }

    fn ask(self: &Arc<Self>, facts: &Facts<'_>, tasks: &TaskTracker) -> Awaited {
        let question = question(facts);
        let key = key(facts, &question);
        let now = Instant::now();
        let mut book = self.book();
        book.answers.retain(|_, answer| answer.is_good(now));
        if let Some(answer) = book.answers.get(&key) {
            self.metrics.lookups.of(LookedUp::Cached).inc();
            return answer.awaited.clone();
        }
        let (tell, awaited) = watch::channel(None);
        if book.answers.len() >= MOST_KEPT {
            book.forget_one();
        }
        let answer = Answer {
            awaited: awaited.clone(),
            until: None,
        };
        book.answers.insert(key.clone(), answer);
        drop(book);
        let (lookup, call) = (self.clone(), *facts.call);
        let keep = !self.cache.is_zero() && !facts.caller().is_empty();
        tasks.spawn(async move {
            let asked = Instant::now();
            let outcome = match timeout(lookup.timeout, lookup.fetch(&question)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(LookedUp::Timeout),
            };
            lookup.metrics.lookup_duration.observe(asked.elapsed());
            let counted = outcome
                .as_ref()
                .map_or_else(|why| *why, |_| LookedUp::Answered);
            lookup.metrics.lookups.of(counted).inc();
            if let Err(why) = &outcome {
                let (call, why) = (call.as_str(), why.as_str());
                warn!(
                    limited = true,
                    CALL_SID = call,
                    why,
                    "lookup failed, the call goes on without"
                );
            }
            let mut book = lookup.book();
            if let Some(answer) = book.answers.get_mut(&key) {
                answer.until = Some(Instant::now() + lookup.cache);
            }
            if !keep || outcome.is_err() {
                book.answers.remove(&key);
            }
            drop(book);
            // Nobody may wait any more.
            _ = tell.send(Some(Arc::new(outcome.unwrap_or_default())));
        });
        awaited
    }

    async fn fetch(&self, question: &[u8]) -> Result<Briefing, LookedUp> {
        let mut request = self
            .client
            .post(self.url.clone())
            .headers(self.headers.clone());
        if let Some(secret) = &self.signs {
            let since = SystemTime::now().duration_since(UNIX_EPOCH);
            let unix = since.map_or(0, |since| since.as_secs());
            request = request.header(sign::TIMESTAMP, unix).header(
                sign::SIGNATURE,
                format!("v1={}", sign::sign(secret, unix, question)),
            );
        }
        let response = request.body(question.to_owned()).send().await;
        let response = response.map_err(|error| match error.is_timeout() {
            true => LookedUp::Timeout,
            false => LookedUp::Unreachable,
        })?;
        if !response.status().is_success() {
            return Err(LookedUp::Status);
        }
        read(&whole(response).await?).ok_or(LookedUp::Senseless)
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // No call-out happens under the lock.
        self.book
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Answer {
    fn is_good(&self, now: Instant) -> bool {
        match self.until {
            Some(until) => until > now,
            // Its task may have been dropped.
            None => self.awaited.has_changed().is_ok(),
        }
    }
}

impl Book {
    /// The oldest answer makes room; one that is under way only if there are no others, and then only
    /// for those who would share it.
    fn forget_one(&mut self) {
        let oldest = self
            .answers
            .iter()
            .min_by_key(|(_, answer)| (answer.until.is_none(), answer.until));
        if let Some(key) = oldest.map(|(key, _)| key.clone()) {
            self.answers.remove(&key);
        }
    }
}

/// What the service is asked.
fn question(facts: &Facts<'_>) -> Vec<u8> {
    let mut fields: Map<String, Value> = facts
        .known
        .iter()
        .map(|(name, value)| (name.clone(), Value::from(value.as_str())))
        .collect();
    let ours = [
        ("call_sid", facts.call.as_str()),
        ("from", facts.caller()),
        ("to", facts.to),
        ("route", facts.route),
    ];
    fields.extend(ours.map(|(name, value)| (name.to_owned(), Value::from(value))));
    Value::Object(fields).to_string().into_bytes()
}

/// Questions with the same key have the same answer.
fn key(facts: &Facts<'_>, question: &[u8]) -> Box<str> {
    let Caller::Known(caller) = Caller::of(facts.from) else {
        // Nobody in particular: with the call in it, it is nobody else's.
        return String::from_utf8_lossy(question).into();
    };
    let both = [&*caller, &*canonical(facts.to), facts.route];
    let known = facts
        .known
        .iter()
        .flat_map(|(name, value)| [&**name, &**value]);
    // No address, route or cleaned fact has control characters.
    both.into_iter()
        .chain(known)
        .collect::<Vec<_>>()
        .join("\n")
        .into()
}

async fn whole(mut response: Response) -> Result<Vec<u8>, LookedUp> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > MAX_BODY => {
                return Err(LookedUp::Senseless);
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body),
            Err(error) if error.is_timeout() => return Err(LookedUp::Timeout),
            Err(_) => return Err(LookedUp::Unreachable),
        }
    }
}

/// What an answer says; `None` if it is none. Nothing at all is an answer: it knows nobody.
fn read(body: &[u8]) -> Option<Briefing> {
    #[derive(Deserialize)]
    struct Answer {
        variables: Option<Map<String, Value>>,
        context: Option<String>,
    }
    if body.trim_ascii().is_empty() {
        return Some(Briefing::default());
    }
    let answer: Answer = serde_json::from_slice(body).ok()?;
    let given = answer.variables.unwrap_or_default();
    if given.len() > MOST_VARIABLES {
        return None;
    }
    let mut variables = BTreeMap::new();
    for (name, value) in given {
        // As those in the config: a prompt names it.
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !begins || name.len() > LONGEST_NAME || !name.bytes().all(plain) {
            return None;
        }
        let value = match value {
            Value::String(text) => Variable::Text(clean(&text)),
            Value::Number(number) => {
                let value = number.as_f64()?;
                // A long number is an account's or an order's: its digits count.
                match value.fract() == 0.0 && value.abs() >= Variable::EXACT {
                    true => Variable::Text(clean(&number.to_string())),
                    false => Variable::Number(value),
                }
            }
            Value::Bool(flag) => Variable::Flag(flag),
            Value::Null => continue,
            Value::Array(_) | Value::Object(_) => return None,
        };
        variables.insert(name, value);
    }
    let context = answer.context.unwrap_or_default();
    let written = context
        .trim()
        .chars()
        .filter(|c| !c.is_control() || *c == '\n');
    Some(Briefing {
        fixed: BTreeMap::new(),
        variables,
        context: written.take(LONGEST_CONTEXT).collect(),
    })
}

#[cfg(test)]
#[path = "lookup_tests.rs"]
mod tests;
