//! Where an operator's requests are answered. No sockets.
//!
//! It looks things up in the register and gives orders to it; the register hands them to the calls,
//! and what the call decides is the answer: an order is not "done" because it was given. A call that
//! does not answer within [`PATIENCE`] is busy, and then does not carry the order out either.
//! Every order goes to the audit log with the peer's uid, whether it was carried out or refused, and
//! no telephone number goes with it. Looking is logged at debug: `sessions` is asked every second by
//! those who watch. What an agent is told to say or to know is in no log, only how long it is.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::{sync::oneshot, time::timeout_at};

use super::{
    follow::Following,
    protocol::{
        Answer, Code, Dial, Drain, Failure, HungUp, Paused, Reloaded, Request, Sessions, Signed,
        Status, Text, Told, Transferring, excerpt,
    },
    routed::Routed,
    shown::session,
};
use crate::{
    metrics::{Metrics, labels::AdminOp},
    session::{
        order::{Order, Verdict, Words},
        registry::{OrderError, Registry, View},
    },
    tools::Transfer,
    twilio::CallSid,
};

/// What a call may take to come to an order; its task does little at a time.
const PATIENCE: Duration = Duration::from_secs(2);

/// What an operator may ask of the daemon as a whole.
pub trait Control: Send + Sync {
    /// Takes the config and the credentials anew, whole or not at all; the error is every problem
    /// found, a line each.
    fn reload(&self) -> Result<Reloaded, String>;
    /// Where a test call is placed.
    fn line(&self) -> Line;
    /// Twilio's signature for a request of this test call; `None`: it is none that the call needs.
    fn sign(&self, call: &CallSid, url: &str, params: &[(String, String)]) -> Option<String>;

    /// What a reload would answer if the config's text were this; takes nothing. Problems call the
    /// text `name`.
    fn check(&self, name: &str, text: &str) -> Result<Reloaded, String>;
    /// Which route a call would take at that time.
    fn route(&self, to: &str, from: &str, at: Timestamp) -> Routed;
}

/// One line, or lines without end.
pub(super) enum Reply {
    Line(Result<Answer, Failure>),
    Stream(Following),
}

/// Where a test call is placed.
#[derive(Clone)]
pub struct Line {
    pub account_sid: String,
    /// `twilio.phone_number`
    pub number: Option<String>,
    pub public_url: String,
    /// Of the public listener, as it is reached from this machine.
    pub address: SocketAddr,
    /// The certificate that it shows, in DER, if it speaks TLS.
    pub certificate: Option<Vec<u8>>,
}

/// Who calls when nobody says, and who is called: numbers that the North American plan keeps for
/// fiction.
const FICTITIOUS: [&str; 2] = ["+12025550100", "+12025550199"];

/// Shared by all clients.
pub struct Desk {
    registry: Arc<Registry>,
    control: Arc<dyn Control>,
    metrics: Arc<Metrics>,
    started: Instant,
}

impl Desk {
    pub fn new(registry: Arc<Registry>, control: Arc<dyn Control>, metrics: Arc<Metrics>) -> Self {
        Desk {
            registry,
            control,
            metrics,
            started: Instant::now(),
        }
    }

    pub(super) fn metrics(&self) -> Arc<Metrics> {
        self.metrics.clone()
    }

    /// One request's line from the client with this uid.
    pub(super) async fn answer(&self, line: &[u8], uid: u32) -> Reply {
        let request = match Request::from_line(line) {
            Ok(request) => request,
            Err(failure) => return self.no_request(failure, uid),
        };
        let op = AdminOp::Known(request.op());
        self.metrics.admin_requests.of(op).inc();
        match request {
            Request::Status {}
            | Request::Sessions {}
            | Request::Show { .. }
            | Request::Events { .. }
            | Request::RouteTest { .. }
            | Request::Sign { .. } => {
                tracing::debug!(target: "audit", uid, op = request.op(), "control request");
            }
            // These write a line of their own, with what came of it.
            Request::Hangup { .. }
            | Request::Drain {}
            | Request::Undrain {}
            | Request::Reload {}
            | Request::Check { .. }
            | Request::Dial { .. }
            | Request::Say { .. }
            | Request::Context { .. }
            | Request::Pause { .. }
            | Request::Resume { .. }
            | Request::Transfer { .. } => {}
        }
        if let Request::Events { call } = request {
            return match self.follow(call.as_deref()) {
                Ok(following) => Reply::Stream(following),
                Err(failure) => Reply::Line(Err(failure)),
            };
        }
        Reply::Line(self.line(request, uid).await)
    }

    /// What came from the client with this uid is not a request.
    pub(super) fn no_request(&self, failure: Failure, uid: u32) -> Reply {
        self.metrics.admin_requests.of(AdminOp::Invalid).inc();
        tracing::info!(target: "audit", limited = true, uid, code = ?failure.code, "control request refused");
        Reply::Line(Err(failure))
    }

    async fn line(&self, request: Request, uid: u32) -> Result<Answer, Failure> {
        match request {
            Request::Reload {} => self.reload(uid),
            Request::Check { name, text } => self.check(&name, &text.0, uid),
            Request::Status {} => Ok(Answer::Status(self.status())),
            Request::Sessions {} => Ok(Answer::Sessions(self.sessions())),
            Request::Show { call } => Ok(Answer::Show(session(&*self.find(&call)?))),
            Request::Hangup {
                call, now, reason, ..
            } => {
                let reason = reason.unwrap_or_default();
                self.hang_up(call.as_deref(), now, &reason, uid)
                    .await
                    .map(Answer::HungUp)
            }
            Request::Drain {} => self.set_draining(true, uid).map(Answer::Drain),
            Request::Undrain {} => self.set_draining(false, uid).map(Answer::Drain),
            Request::Dial { from, to } => self.dial(from, to, uid).map(Answer::Dial),
            Request::Sign { call, url, params } => {
                self.sign(&call, &url, &params, uid).map(Answer::Signed)
            }

            Request::Say { call, text } => self.tell_agent(&call, &text, Order::Say, uid).await,
            Request::Context { call, text } => {
                self.tell_agent(&call, &text, Order::AddContext, uid).await
            }
            Request::Pause { call } => self.set_paused(&call, true, uid).await,
            Request::Resume { call } => self.set_paused(&call, false, uid).await,
            Request::Transfer {
                call,
                number,
                announce,
            } => self.transfer(&call, number, announce, uid).await,
            Request::RouteTest { to, from, at } => {
                let to = match to.map(|to| to.0).or_else(|| self.control.line().number) {
                    Some(to) => to,
                    None => {
                        let message = "`to` is missing, and there is no twilio.phone_number";
                        return Err(Failure::new(Code::BadRequest, message));
                    }
                };
                let at = at.and_then(|at| at.parse().ok());
                let at = at.unwrap_or_else(Timestamp::now);
                Ok(Answer::Routed(self.control.route(&to, &from.0, at)))
            }
            Request::Events { .. } => unreachable!("a stream is no line"),
        }
    }

    /// The call gets no place yet: it asks for one as every call does, and may be refused.
    fn dial(&self, from: Option<String>, to: Option<String>, uid: u32) -> Result<Dial, Failure> {
        let mut random = [0; 16];
        let call: Option<CallSid> = match SystemRandom::new().fill(&mut random) {
            Ok(()) => format!("CA{:032x}", u128::from_be_bytes(random))
                .parse()
                .ok(),
            Err(_) => None,
        };
        let Some(call) = call else {
            let message = "the system gives no random bytes for a CallSid";
            return Err(Failure::new(Code::Busy, message));
        };
        if !self.registry.expect_test(call, Instant::now()) {
            tracing::info!(target: "audit", uid, "test call refused");
            let message = "there are too many test calls; wait for one to be forgotten";
            return Err(Failure::new(Code::Busy, message));
        }
        tracing::info!(target: "audit", uid, CALL_SID = call.as_str(), "test call announced");
        let line = self.control.line();
        let [caller, called] = FICTITIOUS.map(str::to_owned);
        Ok(Dial {
            call_sid: call.as_str().to_owned(),
            account_sid: line.account_sid,
            from: from.unwrap_or(caller),
            to: to.or(line.number).unwrap_or(called),
            public_url: line.public_url,
            address: line.address,
            certificate: line
                .certificate
                .map(|der| base64_simd::STANDARD.encode_to_string(der)),
        })
    }

    fn sign(
        &self,
        call: &str,
        url: &str,
        params: &[(String, String)],
        uid: u32,
    ) -> Result<Signed, Failure> {
        let known = call
            .parse::<CallSid>()
            .ok()
            .filter(|call| self.registry.is_test(call, Instant::now()));
        let Some(call) = known else {
            tracing::warn!(target: "audit", uid, "signature refused: no test call");
            let message = format!("no test call \"{}\" is announced", excerpt(call));
            return Err(Failure::new(Code::NoSuchCall, message));
        };
        match self.control.sign(&call, url, params) {
            Some(signature) => Ok(Signed { signature }),
            None => {
                let sid = call.as_str();
                tracing::warn!(target: "audit", uid, CALL_SID = sid, "signature refused");
                let message = "only what the test call itself sends to this bridge is signed";
                Err(Failure::new(Code::BadRequest, message))
            }
        }
    }

    /// Everything as it is and as it becomes; of one call only if it is live now.
    fn follow(&self, call: Option<&str>) -> Result<Following, Failure> {
        let followed = self.registry.follow();
        let call = match call {
            None => None,
            Some(prefix) => {
                let calls = followed.calls.iter().map(|seen| seen.view.facts.call);
                Some(the_one(prefix, calls)?)
            }
        };
        Ok(Following::new(followed, call))
    }

    async fn tell_agent(
        &self,
        call: &str,
        text: &Text,
        order: fn(Words) -> Order,
        uid: u32,
    ) -> Result<Answer, Failure> {
        let text = text.spoken();
        let characters = text.chars().count();
        let order = order(Words(text));
        let says = matches!(order, Order::Say(_));
        let what = if says { "say" } else { "context" };
        let (sid, verdict) = self.one(call, order).await.inspect_err(|unmet| {
            let code = unmet.failure.code;
            tracing::info!(target: "audit", uid, CALL_SID = unmet.sid(), what, characters, ?code, "words refused");
        })?;
        tracing::info!(target: "audit", uid, CALL_SID = sid.as_str(), what, characters, "words given to the agent");
        let call = sid.as_str().to_owned();
        let exact = says.then_some(verdict != Verdict::Nearly);
        Ok(Answer::Told(Told {
            call,
            characters,
            exact,
        }))
    }

    async fn set_paused(&self, call: &str, paused: bool, uid: u32) -> Result<Answer, Failure> {
        let order = if paused { Order::Pause } else { Order::Resume };
        let (sid, verdict) = self.one(call, order).await.inspect_err(|unmet| {
            let code = unmet.failure.code;
            tracing::info!(target: "audit", uid, CALL_SID = unmet.sid(), paused, ?code, "pause refused");
        })?;
        let changed = verdict == Verdict::Done;
        tracing::info!(target: "audit", uid, CALL_SID = sid.as_str(), paused, changed, "pause set");
        let call = sid.as_str().to_owned();
        Ok(Answer::Paused(Paused {
            call,
            paused,
            changed,
        }))
    }

    async fn transfer(
        &self,
        call: &str,
        number: Text,
        announce: Option<Text>,
        uid: u32,
    ) -> Result<Answer, Failure> {
        let announced = announce.is_some();
        let order = Order::Transfer(Transfer {
            number: number.0,
            announce: announce.map(|words| Words(words.spoken())),
        });
        let (sid, _) = self.one(call, order).await.inspect_err(|unmet| {
            let code = unmet.failure.code;
            tracing::info!(target: "audit", uid, CALL_SID = unmet.sid(), announced, ?code, "transfer refused");
        })?;
        tracing::info!(target: "audit", uid, CALL_SID = sid.as_str(), announced, "transfer ordered");
        let call = sid.as_str().to_owned();
        Ok(Answer::Transferring(Transferring { call, announced }))
    }

    /// Gives an order to one call, by its prefix, and waits for what it makes of it.
    async fn one(&self, prefix: &str, order: Order) -> Result<(CallSid, Verdict), Unmet> {
        let unmet = |call, failure| Unmet { call, failure };
        let found = self.find(prefix);
        let call = found.map_err(|failure| unmet(None, failure))?.facts.call;
        let outcome = match self.registry.order(&call, order) {
            Ok(verdict) => answered(verdict, deadline()).await,
            Err(error) => Err(error),
        };
        let failure = match outcome {
            Ok(Verdict::Refused(why)) => Failure::new(Code::Refused, why.to_string()),
            Ok(verdict) => return Ok((call, verdict)),
            // It ended while we looked.
            Err(OrderError::NoSuchCall) => no_such_call(prefix),
            Err(error) => Failure::new(Code::Busy, error.to_string()),
        };
        Err(unmet(Some(call), failure))
    }

    fn sessions(&self) -> Sessions {
        let views = self.registry.views();
        Sessions {
            sessions: views.iter().map(|view| session(view)).collect(),
        }
    }

    /// One call by its prefix, or all of them.
    async fn hang_up(
        &self,
        call: Option<&str>,
        now: bool,
        reason: &str,
        uid: u32,
    ) -> Result<HungUp, Failure> {
        let all = call.is_none();
        let outcome = match call {
            Some(call) => {
                let ended = self.one(call, Order::HangUp { now }).await;
                ended.map(|(call, _)| (vec![call], Vec::new()))
            }
            None => Ok(self.hang_up_all(now).await),
        };
        let (calls, unanswered) = outcome.inspect_err(|unmet| {
            let code = unmet.failure.code;
            tracing::info!(target: "audit", uid, CALL_SID = unmet.sid(), now, reason, ?code, "hang-up refused");
        })?;
        tracing::info!(target: "audit", uid, all, now, reason, calls = calls.len(), unanswered = unanswered.len(), "hang-up");
        for call in &calls {
            tracing::info!(target: "audit", uid, CALL_SID = call.as_str(), "hang-up ordered");
        }
        for call in &unanswered {
            tracing::info!(target: "audit", uid, CALL_SID = call.as_str(), "hang-up not answered");
        }
        Ok(HungUp {
            calls: words(&calls),
            unanswered: words(&unanswered),
            now,
        })
    }

    /// Live calls and those on their way.
    fn counts(&self) -> (usize, usize) {
        let active = self.registry.active();
        (
            active,
            self.registry.owed(Instant::now()).saturating_sub(active),
        )
    }

    fn status(&self) -> Status {
        let (active_sessions, expected_sessions) = self.counts();
        Status {
            draining: self.registry.draining(),
            active_sessions,
            expected_sessions,
            uptime_seconds: self.started.elapsed().as_secs(),
            pid: std::process::id(),
        }
    }

    fn set_draining(&self, draining: bool, uid: u32) -> Result<Drain, Failure> {
        let changed = self.registry.draining() != draining;
        if !self.registry.set_draining(draining) {
            let code = Code::Stopping;
            tracing::info!(target: "audit", uid, draining, ?code, "draining refused");
            let message = "the daemon is stopping; it takes no calls again";
            return Err(Failure::new(code, message));
        }
        tracing::info!(target: "audit", uid, draining, changed, "draining set");
        let (active_sessions, expected_sessions) = self.counts();
        Ok(Drain {
            draining,
            changed,
            active_sessions,
            expected_sessions,
        })
    }

    fn reload(&self, uid: u32) -> Result<Answer, Failure> {
        let result = self.control.reload();
        tracing::info!(target: "audit", uid, ok = result.is_ok(), "reload ordered");
        match result {
            Ok(reloaded) => Ok(Answer::Reloaded(reloaded)),
            Err(problems) => Err(Failure::new(Code::ConfigInvalid, problems)),
        }
    }

    /// It changes nothing, but the daemon reads the credentials that the text names.
    fn check(&self, name: &str, text: &str, uid: u32) -> Result<Answer, Failure> {
        let result = self.control.check(name, text);
        tracing::info!(target: "audit", uid, ok = result.is_ok(), "config checked");
        match result {
            Ok(would) => Ok(Answer::Reloaded(would)),
            Err(problems) => Err(Failure::new(Code::ConfigInvalid, problems)),
        }
    }

    fn find(&self, call: &str) -> Result<Arc<View>, Failure> {
        let mut views = self.registry.views();
        let sid = the_one(call, views.iter().map(|view| view.facts.call))?;
        views.retain(|view| view.facts.call == sid);
        views.pop().ok_or_else(|| no_such_call(call))
    }

    /// The calls that are ending, and those that did not answer.
    async fn hang_up_all(&self, now: bool) -> (Vec<CallSid>, Vec<CallSid>) {
        let views = self.registry.views();
        let calls = views.iter().map(|view| view.facts.call);
        let asked: Vec<_> = calls
            .map(|call| (call, self.registry.order(&call, Order::HangUp { now })))
            .collect();
        let (mut ending, mut unanswered) = (Vec::new(), Vec::new());
        let deadline = deadline();
        for (call, verdict) in asked {
            let outcome = match verdict {
                Ok(verdict) => answered(verdict, deadline).await,
                Err(error) => Err(error),
            };
            match outcome {
                Ok(_) => ending.push(call),
                // It ended meanwhile and needs nothing.
                Err(OrderError::NoSuchCall) => {}
                Err(_) => unanswered.push(call),
            }
        }
        (ending, unanswered)
    }
}

/// An order that was not carried out.
struct Unmet {
    /// If it was known whose it was.
    call: Option<CallSid>,
    failure: Failure,
}

impl Unmet {
    fn sid(&self) -> Option<&str> {
        self.call.as_ref().map(CallSid::as_str)
    }
}

impl From<Unmet> for Failure {
    fn from(unmet: Unmet) -> Failure {
        unmet.failure
    }
}

fn deadline() -> tokio::time::Instant {
    tokio::time::Instant::now() + PATIENCE
}

async fn answered(
    verdict: oneshot::Receiver<Verdict>,
    deadline: tokio::time::Instant,
) -> Result<Verdict, OrderError> {
    match timeout_at(deadline, verdict).await {
        Ok(Ok(verdict)) => Ok(verdict),
        Ok(Err(_)) => Err(OrderError::NoSuchCall),
        Err(_) => Err(OrderError::Silent),
    }
}

/// The one live call that begins so.
fn the_one(prefix: &str, calls: impl Iterator<Item = CallSid>) -> Result<CallSid, Failure> {
    let fitting: Vec<_> = calls
        .filter(|call| call.as_str().starts_with(prefix))
        .collect();
    match fitting[..] {
        [] => Err(no_such_call(prefix)),
        [call] => Ok(call),
        _ => {
            let message = format!(
                "\"{}\" begins {} live calls; give more of it",
                excerpt(prefix),
                fitting.len()
            );
            Err(Failure::new(Code::Ambiguous, message))
        }
    }
}

fn words(calls: &[CallSid]) -> Vec<String> {
    calls.iter().map(|call| call.as_str().to_owned()).collect()
}

fn no_such_call(call: &str) -> Failure {
    Failure::new(
        Code::NoSuchCall,
        format!("no live call \"{}\"", excerpt(call)),
    )
}
