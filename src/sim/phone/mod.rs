//! A telephone: acts as Twilio carrying one call to a bridge.
//!
//! It fetches TwiML by signed webhooks, opens the Media Stream with the headers that Twilio sends and no
//! others, speaks and listens in real time, and does what the TwiML says. It is a second, independent reading
//! of Twilio's protocol: nothing is shared with [`crate::twilio`], and whatever the bridge sends that Twilio
//! would not take is recorded as a [`Violation`]. It never panics over what a peer sends, and every wait on
//! the peer has a deadline.
//!
//! Time is virtual: everything about the call (words, pauses, beats, what is reported) runs
//! [`pace`](Phone::pace) times as fast as the wall clock. Deadlines of HTTP and of the closing handshake are
//! wall-clock, because they are about machines.
//!
//! One task carries one call. A story of [`Step`]s tells the caller what to do ([`Phone::call`]), or a test
//! steers it through an [`OngoingCall`] ([`Phone::start`]), or both.

mod call;
mod callee;
mod dial;
mod fetch;
mod http;
mod journal;
mod leg;
mod line;
mod peer;
mod playout;
mod script;
mod stream;
mod switchboard;
#[cfg(test)]
mod tests;
mod twiml;
mod upgrade;
mod webhook;
pub mod wire;

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use callee::{Callee, Callees, Unbridged, WhenCalled};
pub use journal::{
    CallReport, Document, Echo, Ended, Entries, Entry, Event, Party, Turn, Violation,
};
pub use playout::{Flushed, Playout};
pub use script::{Awaited, Step, duration as parse_duration};
pub use switchboard::{CallResource, CallStatus, Switchboard, Wish};
pub use twiml::is_e164;
pub use webhook::{Params, sid};

use crate::sim::speech::{self, FRAME_SAMPLES};

/// An account at the simulated Twilio, with a number whose webhook leads to one bridge.
#[derive(Clone)]
pub struct Phone {
    /// What signatures are computed over, e.g. `https://bridge.example.com`; no slash at the end.
    pub public_url: String,
    /// Where TCP really goes.
    pub dial: SocketAddr,
    /// With it, everything goes over TLS, and the bridge's certificate has to be good for the host of
    /// `public_url`. Without it plain text, whatever the scheme there: TLS ends before the bridge.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    pub account_sid: String,
    pub auth_token: String,
    /// 1.0 is real time; 8.0 makes a minute last 7.5 seconds. Must be above 0.
    pub pace: f64,
    pub switchboard: Arc<Switchboard>,
    pub options: PhoneOptions,
}

#[derive(Clone)]
pub struct PhoneOptions {
    /// The number's voice webhook.
    pub webhook_path: String,
    /// The number's status callback, if it has one: it is told when the call is over.
    pub status_path: Option<String>,
    /// Where [`Fault::NoWebhook`] guesses the stream to be.
    pub stream_path: String,
    /// How long the caller stays on the line after the story.
    pub linger: Duration,
    /// Who is there when `<Dial>` calls somebody.
    pub callees: Callees,
    /// What a callee may be shown beside the caller's number and the called one.
    pub caller_ids: Vec<String>,
    /// Nobody is called: a `<Dial>` ends the call as [`Ended::PutThrough`].
    pub rehearsal: bool,
    /// Clips beside those of [`speech`], by name, in mu-law.
    pub clips: HashMap<String, Arc<[u8]>>,
    /// Whether to keep what was heard and spoken.
    pub record: bool,
    pub faults: Vec<Fault>,
    /// Signs in place of `auth_token`, for a telephone that must not hold it.
    pub signer: Option<Arc<dyn Signer>>,
}

/// Somebody who holds the auth token. The error is in words.
pub trait Signer: Send + Sync {
    /// The value of `X-Twilio-Signature` over this URL and these fields.
    fn sign(
        &self,
        url: String,
        params: Params,
    ) -> Pin<Box<dyn Future<Output = Result<String, String>> + Send + '_>>;
}

impl Default for PhoneOptions {
    fn default() -> Self {
        Self {
            webhook_path: "/voice/incoming".into(),
            status_path: None,
            stream_path: "/media-stream".into(),
            linger: Duration::from_secs(20),
            callees: Callees::default(),
            caller_ids: Vec::new(),
            rehearsal: false,
            clips: HashMap::new(),
            record: true,
            faults: Vec::new(),
            signer: None,
        }
    }
}

/// What this telephone does that Twilio does not, or only sometimes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// All HTTP requests are signed with another auth token.
    WebhookSignature,
    /// The upgrade is signed with another auth token.
    UpgradeSignature,
    /// The upgrade is signed over the URL with a slash at its end; legal, Twilio does it.
    TrailingSlash,
    /// Everything is signed over the URL with `:443`; legal behind some proxies.
    Port443,
    /// The webhook is a GET; legal, a number may be set to it.
    GetWebhook,
    /// The stream is opened without any webhook, and so without parameters.
    NoWebhook,
    /// `start` carries no parameters.
    NoToken,
    /// `start` carries the parameters that another call's webhook was given.
    StolenToken,
    /// A second socket is opened for the same call, with the same parameters.
    SecondSocket,
    /// After `connected` there is nothing.
    NeverStart,
    /// The socket is never read after `start`.
    SlowReader,
    /// `sequenceNumber`, `chunk` and `timestamp` are JSON numbers; some clones do that.
    BareNumbers,
}

/// One call to place.
#[derive(Debug, Clone)]
pub struct CallSetup {
    pub call_sid: String,
    pub from: String,
    pub to: String,
    /// The operator has placed it, by the REST API, and it has been answered.
    pub placed: bool,
    pub script: Vec<Step>,
}

impl CallSetup {
    /// A call with a fresh CallSid, between numbers that belong to nobody.
    pub fn new(script: Vec<Step>) -> Self {
        Self {
            call_sid: sid("CA"),
            from: "+15551234567".into(),
            to: "+15557654321".into(),
            placed: false,
            script,
        }
    }
}

/// What a load generator puts into a call and sees come out, without anything being kept.
pub trait Probe: Send {
    /// Fills in the caller's frame; the first is number 0.
    fn frame(&mut self, number: u64, payload: &mut [u8; FRAME_SAMPLES]);
    /// The frame is about to be written.
    fn sent(&mut self, number: u64, at: Instant);
    /// A media message was read.
    fn media(&mut self, mulaw: &[u8], at: Instant);
}

/// An instruction from outside.
enum Order {
    Now(Step),
    SayAudio(String, Arc<[u8]>),
    Then(Vec<Step>),
}

impl Phone {
    /// A telephone at real time, with a switchboard of its own and no faults.
    pub fn new(public_url: &str, dial: SocketAddr, account_sid: &str, auth_token: &str) -> Self {
        Self {
            public_url: public_url.trim_end_matches('/').to_owned(),
            dial,
            tls: None,
            account_sid: account_sid.to_owned(),
            auth_token: auth_token.to_owned(),
            pace: 1.0,
            switchboard: Switchboard::new(),
            options: PhoneOptions::default(),
        }
    }

    /// Places a call and carries it to its end.
    pub async fn call(&self, setup: CallSetup) -> CallReport {
        let (_orders, incoming) = mpsc::channel(1);
        call::Call::new(self, setup, incoming, None).run().await
    }

    /// Places a call and returns at once.
    pub fn start(&self, setup: CallSetup) -> OngoingCall {
        let (orders, incoming) = mpsc::channel(64);
        let call_sid = setup.call_sid.clone();
        let call = call::Call::new(self, setup, incoming, None);
        let journal = call.journal();
        let pace = self.pace;
        let mut task = JoinSet::new();
        task.spawn(call.run());
        OngoingCall {
            call_sid,
            orders,
            journal,
            task,
            pace,
        }
    }

    /// A call that is hung up after `lasts` or when `hang_up` says so, whose frames come from `probe` and of
    /// which little is kept.
    pub async fn load_call(
        &self,
        mut setup: CallSetup,
        lasts: Duration,
        hang_up: CancellationToken,
        probe: Box<dyn Probe>,
    ) -> CallReport {
        setup.script = vec![Step::Wait(lasts), Step::HangUp];
        let (orders, incoming) = mpsc::channel(1);
        let call = call::Call::new(self, setup, incoming, Some(probe)).run();
        let told = async {
            hang_up.cancelled().await;
            let _ = orders.send(Order::Now(Step::HangUp)).await;
            std::future::pending::<Infallible>().await
        };
        tokio::select! {
            report = call => report,
            never = told => match never {},
        }
    }

    /// The audio behind a name: one of [`PhoneOptions::clips`], or of [`speech`].
    pub fn clip(&self, name: &str) -> Option<Arc<[u8]>> {
        self.options
            .clips
            .get(name)
            .cloned()
            .or_else(|| speech::clip(name).map(Arc::from))
    }

    fn has(&self, fault: Fault) -> bool {
        self.options.faults.contains(&fault)
    }

    /// The way to the bridge.
    fn way(&self) -> line::Way {
        let (authority, _) = webhook::split(&self.public_url);
        // A colon within brackets is part of an IPv6 address.
        let host = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => host,
            _ => authority,
        };
        line::Way {
            dial: self.dial,
            tls: self.tls.clone(),
            host: host.trim_matches(['[', ']']).to_owned(),
        }
    }

    /// So long does a stretch of the call last by the wall clock.
    fn wall(&self, span: Duration) -> Duration {
        span.div_f64(self.pace)
    }
}

/// A call that is being carried, to be steered by hand. Dropped, the connection is lost.
pub struct OngoingCall {
    call_sid: String,
    orders: mpsc::Sender<Order>,
    journal: Arc<journal::Journal>,
    task: JoinSet<CallReport>,
    pace: f64,
}

impl OngoingCall {
    pub fn call_sid(&self) -> &str {
        &self.call_sid
    }

    /// Does a step at once, beside the story. Steps that wait do nothing here. An order to a call that has
    /// ended is void.
    pub async fn now(&self, step: Step) {
        let _ = self.orders.send(Order::Now(step)).await;
    }

    /// Says a clip, behind what is being said.
    pub async fn say(&self, clip: &str) {
        self.now(Step::Say(clip.to_owned())).await;
    }

    /// Says any mu-law audio.
    pub async fn say_audio(&self, name: &str, mulaw: &[u8]) {
        let _ = self
            .orders
            .send(Order::SayAudio(name.to_owned(), mulaw.into()))
            .await;
    }

    pub async fn hang_up(&self) {
        self.now(Step::HangUp).await;
    }

    /// Goes on with the story.
    pub async fn then(&self, steps: Vec<Step>) {
        let _ = self.orders.send(Order::Then(steps)).await;
    }

    /// Everything that happens, from the beginning of the call.
    pub fn entries(&self) -> Entries {
        Entries::of(self.journal.clone())
    }

    /// The first such event since the beginning of the call; `None` if the call ends without it, or if it
    /// does not come `within` so much virtual time from now.
    pub async fn until(
        &self,
        within: Duration,
        mut what: impl FnMut(&Event) -> bool,
    ) -> Option<Entry> {
        let mut entries = self.entries();
        let found = async {
            while let Some(entry) = entries.next().await {
                if what(&entry.event) {
                    return Some(entry);
                }
            }
            None
        };
        tokio::time::timeout(within.div_f64(self.pace), found)
            .await
            .ok()
            .flatten()
    }

    /// Waits for the end of the call. A panic in the call's task goes on here.
    pub async fn finish(mut self) -> CallReport {
        match self
            .task
            .join_next()
            .await
            .expect("there is one task and nobody else joins it")
        {
            Ok(report) => report,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}
