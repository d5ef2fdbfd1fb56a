//! Where an operator's requests are answered. No sockets.
//!
//! It looks things up in the register and gives orders to it; the register hands them to the calls.
//! Every order goes to the audit log with the peer's uid, whether it was carried out or refused, and
//! no telephone number goes with it. Looking is logged at debug: `sessions` is asked every second by
//! those who watch.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Instant, SystemTime},
};

use ring::rand::{SecureRandom as _, SystemRandom};

use super::protocol::{
    Answer, Code, Dial, Drain, Failure, HungUp, Reloaded, Request, Session, Sessions, Signed,
    Status, excerpt,
};
use crate::{
    metrics::{Metrics, labels::AdminOp},
    session::{
        order::Order,
        registry::{OrderError, Registry, View},
    },
    twilio::CallSid,
};

/// What an operator may ask of the daemon as a whole.
pub trait Control: Send + Sync {
    /// Takes the config and the credentials anew, whole or not at all; the error is every problem
    /// found, a line each.
    fn reload(&self) -> Result<Reloaded, String>;
    /// Where a test call is placed.
    fn line(&self) -> Line;
    /// Twilio's signature for a request of this test call; `None`: it is none that the call needs.
    fn sign(&self, call: &CallSid, url: &str, params: &[(String, String)]) -> Option<String>;
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

    /// One request's line from the client with this uid.
    pub(super) fn answer(&self, line: &[u8], uid: u32) -> Result<Answer, Failure> {
        let request = Request::from_line(line).inspect_err(|failure| {
            self.metrics.admin_requests.of(AdminOp::Invalid).inc();
            tracing::info!(target: "audit", limited = true, uid, code = ?failure.code, "control request refused");
        })?;
        let op = AdminOp::Known(request.op());
        self.metrics.admin_requests.of(op).inc();
        match request {
            Request::Status {}
            | Request::Sessions {}
            | Request::Show { .. }
            | Request::Sign { .. } => {
                tracing::debug!(target: "audit", uid, op = request.op(), "control request");
            }
            // These write a line of their own, with what came of it.
            Request::Hangup { .. }
            | Request::Drain {}
            | Request::Undrain {}
            | Request::Reload {}
            | Request::Dial { .. } => {}
        }
        match request {
            Request::Reload {} => self.reload(uid),
            Request::Status {} => Ok(Answer::Status(self.status())),
            Request::Sessions {} => Ok(Answer::Sessions(self.sessions())),
            Request::Show { call } => Ok(Answer::Show(session(&*self.find(&call)?))),
            Request::Hangup {
                call, now, reason, ..
            } => {
                let reason = reason.unwrap_or_default();
                self.hang_up(call.as_deref(), now, &reason, uid)
                    .map(Answer::HungUp)
            }
            Request::Drain {} => self.set_draining(true, uid).map(Answer::Drain),
            Request::Undrain {} => self.set_draining(false, uid).map(Answer::Drain),
            Request::Dial { from, to } => self.dial(from, to, uid).map(Answer::Dial),
            Request::Sign { call, url, params } => {
                self.sign(&call, &url, &params, uid).map(Answer::Signed)
            }
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

    fn sessions(&self) -> Sessions {
        let views = self.registry.views();
        Sessions {
            sessions: views.iter().map(|view| session(view)).collect(),
        }
    }

    /// One call by its prefix, or all of them.
    fn hang_up(
        &self,
        call: Option<&str>,
        now: bool,
        reason: &str,
        uid: u32,
    ) -> Result<HungUp, Failure> {
        let all = call.is_none();
        let outcome = match call {
            Some(call) => self.hang_up_one(call, now),
            None => Ok(self.hang_up_all(now)),
        };
        let calls = outcome.inspect_err(|failure| {
            tracing::info!(target: "audit", uid, now, code = ?failure.code, "hang-up refused");
        })?;
        tracing::info!(target: "audit", uid, all, now, reason, calls = calls.len(), "hang-up");
        for call in &calls {
            tracing::info!(target: "audit", uid, CALL_SID = call.as_str(), "hang-up ordered");
        }
        let calls = calls.iter().map(|call| call.as_str().to_owned()).collect();
        Ok(HungUp { calls, now })
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
            let message = "the daemon is stopping; it takes no calls again";
            return Err(Failure::new(Code::Stopping, message));
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

    fn find(&self, call: &str) -> Result<Arc<View>, Failure> {
        let mut views = self.registry.views();
        views.retain(|view| view.facts.call.as_str().starts_with(call));
        match views.len() {
            0 => Err(no_such_call(call)),
            1 => Ok(views.remove(0)),
            n => {
                let message = format!(
                    "\"{}\" begins {n} live calls; give more of it",
                    excerpt(call)
                );
                Err(Failure::new(Code::Ambiguous, message))
            }
        }
    }

    fn hang_up_one(&self, call: &str, now: bool) -> Result<Vec<CallSid>, Failure> {
        let sid = self.find(call)?.facts.call;
        match self.registry.order(&sid, Order::HangUp { now }) {
            Ok(()) => Ok(vec![sid]),
            // It ended while we looked.
            Err(OrderError::NoSuchCall) => Err(no_such_call(call)),
            Err(error @ OrderError::Busy) => Err(Failure::new(Code::Busy, error.to_string())),
        }
    }

    fn hang_up_all(&self, now: bool) -> Vec<CallSid> {
        let mut calls: Vec<_> = self
            .registry
            .views()
            .iter()
            .map(|view| view.facts.call)
            .collect();
        // A call that ended meanwhile needs nothing; one with a full mailbox has been told already.
        calls.retain(|call| {
            self.registry.order(call, Order::HangUp { now }) != Err(OrderError::NoSuchCall)
        });
        calls
    }
}

fn no_such_call(call: &str) -> Failure {
    Failure::new(
        Code::NoSuchCall,
        format!("no live call \"{}\"", excerpt(call)),
    )
}

fn session(view: &View) -> Session {
    let facts = &view.facts;
    Session {
        call_sid: facts.call.as_str().into(),
        stream_sid: facts.stream.as_str().into(),
        agent: facts.agent.into(),
        agent_connected: view.agent_connected(),
        from: facts.from.clone(),
        to: facts.to.clone(),
        started_at: rfc3339(view.started_at),
        duration_seconds: view.started.elapsed().as_secs(),
        ending: view.ending.load(Relaxed),
        frames_in: view.frames_in.load(Relaxed),
        audio_out: view.audio_out.load(Relaxed),
        frames_dropped: view.frames_dropped.load(Relaxed),
        barge_ins: view.barge_ins.load(Relaxed),
        test: view.test,
    }
}

/// UTC with milliseconds.
fn rfc3339(time: SystemTime) -> String {
    let time = jiff::Timestamp::try_from(time).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    format!("{time:.3}")
}
