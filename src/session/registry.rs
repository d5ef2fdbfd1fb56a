//! The register of calls: who was admitted, who is live, who has just ended.
//!
//! A call is *admitted* by its webhook, *claimed* by the media socket that brings its token, and
//! *ended* when that claim is dropped. One socket a call: a second claim for a live call is
//! refused, and so is a token that has already opened a stream. Everything here is bounded: by
//! `max_concurrent`, and by the lifetime of what is remembered. Locks are short and never held
//! across an await. The register holds no socket; it hands on the one with which a call comes back
//! that was away. Orders reach a call through its mailbox,
//! and every change is told to those who follow ([`news`](super::news)) in the step that makes it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::{Notify, broadcast, mpsc, oneshot};

use super::{
    caller::{Caller, Screen, Screened, canonical},
    cause::Cause,
    errand::{Errand, Transferred},
    leg::Telephone,
    news::{Away, Followed, News, RING, Seen, Told},
    order::{After, Order, Verdict},
    terms::Terms,
};
use crate::twilio::{CallSid, StreamSid};

/// Beyond an admission's own lifetime, how long the end of a call is remembered for `/voice/after`
/// and against replayed tokens.
const ENDED_MARGIN: Duration = Duration::from_secs(60);
/// Orders waiting in one call's mailbox.
const MAILBOX: usize = 8;
/// Beyond those, Twilio's word that the call is over, and the daemon's own order to end with it: an
/// operator's orders never take their room.
const RESERVED: usize = 3;
/// The last place is the daemon's.
const LAST: usize = 1;

/// A place for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted {
    New,
    /// It had one: Twilio repeats a webhook whose answer it did not get.
    Again,
}

/// Why a new call is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("draining")]
    Draining,
    #[error("at calls.max_concurrent")]
    Full,
    #[error("at calls.max_per_number")]
    NumberFull,
    #[error("at its route's max_concurrent")]
    RouteFull,
    #[error("outside its route's hours")]
    Closed,
    #[error("at calls.max_per_caller")]
    CallerFull,
    #[error("in calls.deny")]
    Denied,
    #[error("not in calls.allow")]
    NotAllowed,
}

/// A call that asks for a place.
#[derive(Clone, Copy)]
pub struct Asking<'a> {
    pub call: CallSid,
    pub from: &'a str,
    pub to: &'a str,
    /// Whether somebody calls us. Of a call that we have placed, the "caller" is one of our own
    /// numbers: neither lists nor the limits of one number are about those.
    pub inbound: bool,
    pub on: OnRoute<'a>,
}

/// The route that a call is to take.
#[derive(Clone, Copy, Default)]
pub struct OnRoute<'a> {
    /// `""` where there is none.
    pub name: &'a str,
    /// Of calls on it; 0 for no limit.
    pub max_concurrent: usize,
    /// Of one caller's calls on it, 0 for no limit; `None`: the limit over all their calls holds.
    pub max_per_caller: Option<usize>,
    /// It takes no calls at this hour.
    pub closed: bool,
}

/// Test calls that are known at the same time: a person or a probe places them one by one.
const MAX_TEST_CALLS: usize = 64;
/// From the announcement of a test call to its media socket; as long as Twilio's own greeting may take.
const TEST_CALL_LIFETIME: Duration = Duration::from_secs(10 * 60);

/// Why a media socket does not get the call it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    #[error("the call already has a media socket")]
    Live,
    #[error("the call's token has been used")]
    Spent,
    #[error("at calls.max_concurrent")]
    Full,
    #[error("the daemon is leaving")]
    Leaving,
}

/// Why an order does not reach a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    #[error("no such call")]
    NoSuchCall,
    #[error("the call has too many orders waiting")]
    Busy,
    #[error("the call does not answer; the order is withdrawn")]
    Silent,
}

/// What is known of a call when its stream starts.
#[derive(Clone)]
pub struct CallFacts {
    pub call: CallSid,
    pub stream: StreamSid,
    pub from: String,
    pub to: String,
    pub agent: &'static str,
    /// The route that it took, by name.
    pub route: Option<String>,
    /// What else the webhook said that the config asks for: `city`, `country`, `param.NAME`.
    pub known: BTreeMap<String, String>,
    /// Of the token that opened the stream: a later webhook of the same call mints a later one.
    pub token_expires_unix: u64,
}

/// A live call as others may see it. Written by the call's own task only.
pub struct View {
    pub facts: CallFacts,
    /// The newest one.
    stream: Mutex<StreamSid>,
    pub started: Instant,
    pub started_at: SystemTime,
    pub agent_connected: AtomicBool,
    pub ending: AtomicBool,
    /// Its agent listens and does not answer.
    pub paused: AtomicBool,
    /// What it has left its agent for ([`View::away`]).
    pub away: AtomicU8,
    /// Caller frames received and agent audio messages forwarded.
    pub frames_in: AtomicU64,
    pub audio_out: AtomicU64,
    /// Caller audio given up because the agent was not ready or too slow, in frames.
    pub frames_dropped: AtomicU64,
    pub barge_ins: AtomicU64,
    /// Something is queued that Twilio's socket, or the agent's, has not taken yet.
    pub carrier_waits: AtomicBool,
    pub agent_waits: AtomicBool,
    /// And how much audio that is, in bytes of the messages that wait.
    pub carrier_queued: AtomicUsize,
    pub agent_queued: AtomicUsize,
    /// Placed by an operator: Twilio knows nothing of it.
    pub test: bool,
}

/// An order in a call's mailbox.
pub struct Letter {
    pub order: Order,
    /// Where the verdict goes, if somebody wants to know.
    pub reply: Option<oneshot::Sender<Verdict>>,
}

/// Who counts against the limits of one caller, of one number and of one route.
#[derive(Clone, Default)]
struct Parties {
    /// `None` where there is nobody to tell from others: withheld numbers, calls of our own.
    caller: Option<Box<str>>,
    number: Option<Box<str>>,
    route: Option<Box<str>>,
}

impl Parties {
    fn of(caller: Caller, to: &str, route: Option<&str>) -> Parties {
        Parties {
            route: route.map(Into::into),
            caller: match caller {
                Caller::Known(who) => Some(who),
                Caller::Withheld => None,
            },
            number: Some(canonical(to)),
        }
    }
}

/// Which calls are counted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Where {
    Anywhere,
    OnRoute,
}

/// A call whose media socket is on its way.
struct Expected {
    until: Instant,
    parties: Parties,
}

struct Live {
    parties: Parties,
    view: Arc<View>,
    orders: mpsc::Sender<Letter>,
    /// Decided before the media socket closes: Twilio asks `/voice/after` at once.
    after: Option<After>,
    /// Open while the call is away: where a new media socket is handed in.
    door: Option<oneshot::Sender<Box<Arrival>>>,
    /// Of the newest token that opened a stream.
    token_expires_unix: u64,
    /// The TwiML of the errand that it is on has been run.
    errand_taken: bool,
    /// How far the callee of the transfer has come that it is away for.
    callee: Callee,
    terms: Option<Arc<Terms>>,
}

/// How far a callee has come who is asked before they are connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Callee {
    #[default]
    Absent,
    /// They have answered and hear who is calling.
    Asked,
    /// They take the call: whatever Twilio says later, the transfer has succeeded.
    Accepted,
}

/// The media socket with which a call comes back.
pub struct Arrival {
    pub socket: Telephone,
    pub stream: StreamSid,
}

/// The way to a call that is away.
pub struct Return {
    pub view: Arc<View>,
    door: oneshot::Sender<Box<Arrival>>,
}

impl Return {
    /// Hands the socket to its call; gives it back when that has ended meanwhile.
    pub fn bring(self, socket: Telephone, stream: StreamSid) -> Result<(), Box<Telephone>> {
        let arrival = Box::new(Arrival { socket, stream });
        self.door
            .send(arrival)
            .map_err(|arrival| Box::new(arrival.socket))
    }
}

#[derive(Default)]
struct Inner {
    admitted: HashMap<CallSid, Expected>,
    live: HashMap<CallSid, Live>,
    ended: HashMap<CallSid, Ended>,
    /// Test calls that were announced. Until then, or for as long as the call is known otherwise.
    tests: HashMap<CallSid, Instant>,
    draining: bool,
    /// The process is going to end: draining is for good.
    stopping: bool,
    /// Patience is over: not even an admitted call may begin.
    closed: bool,
}

/// What is remembered of a call that is over.
struct Ended {
    until: Instant,
    after: After,
    route: Option<String>,
    token_expires_unix: u64,
    terms: Option<Arc<Terms>>,
}

/// How many calls there may be and whose, and how long they may take to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    pub max_concurrent: usize,
    /// 0 for no limit, as the next.
    pub max_per_caller: usize,
    pub max_per_number: usize,
    pub screen: Arc<Screen>,
    /// From the webhook to the media socket.
    pub admission_lifetime: Duration,
}

impl Limits {
    /// This many calls, and no other limit.
    pub fn of(max_concurrent: usize, admission_lifetime: Duration) -> Limits {
        Limits {
            max_concurrent,
            max_per_caller: 0,
            max_per_number: 0,
            screen: Arc::default(),
            admission_lifetime,
        }
    }
}

/// Shared by the listeners, the calls and the control socket.
pub struct Registry {
    inner: Mutex<Inner>,
    limits: Mutex<Limits>,
    /// Told whenever a call ends.
    ended: Notify,
    /// Sent to under the lock only.
    news: broadcast::Sender<Arc<Told>>,
}

impl Registry {
    pub fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Registry {
            inner: Mutex::default(),
            limits: Mutex::new(limits),
            ended: Notify::new(),
            news: broadcast::Sender::new(RING),
        })
    }

    pub fn limits(&self) -> Limits {
        self.limits
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .clone()
    }

    /// Other limits for the calls to come.
    pub fn set_limits(&self, limits: Limits) {
        *self
            .limits
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner()) = limits;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while holding the lock cannot leave the maps half-written: no call-out happens inside.
        self.inner
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// A webhook asks for a place. Asking again for the same call takes no second one, and a call
    /// that has its place keeps it, whatever the limits have become.
    pub fn admit(&self, asking: Asking<'_>, now: Instant) -> Result<Admitted, Refused> {
        let limits = self.limits();
        let call = asking.call;
        let caller = Caller::of(asking.from);
        let judged = match asking.inbound {
            true => limits.screen.judge(&caller),
            false => Ok(()),
        };
        let route = Some(asking.on.name).filter(|name| !name.is_empty());
        let parties = match asking.inbound {
            true => Parties::of(caller, asking.to, route),
            false => Parties {
                route: route.map(Into::into),
                ..Parties::default()
            },
        };
        let mut inner = self.lock();
        inner.forget_old(now);
        let refused = |inner: &Inner, why| {
            self.publish(inner, Some(call), || News::Refused(why));
            Err(why)
        };
        let live = inner.live.contains_key(&call);
        let known = live || inner.admitted.contains_key(&call);
        // Before the drain: another instance would refuse such a caller, too.
        match judged {
            Err(Screened::Denied) if !known => return refused(&inner, Refused::Denied),
            Err(Screened::NotAllowed) if !known => return refused(&inner, Refused::NotAllowed),
            _ => {}
        }
        if asking.on.closed && !known {
            return refused(&inner, Refused::Closed);
        }
        // Nor is a place taken back from a call that was told to come, when Twilio asks again.
        if inner.draining && (!known || inner.closed) {
            return refused(&inner, Refused::Draining);
        }
        if live {
            return Ok(Admitted::Again);
        }
        if !known && let Err(why) = inner.room_for(&parties, &limits, &asking.on) {
            return refused(&inner, why);
        }
        let until = now + limits.admission_lifetime;
        inner.admitted.insert(call, Expected { until, parties });
        Ok(if known {
            Admitted::Again
        } else {
            Admitted::New
        })
    }

    /// A test call will come under this CallSid. False: there are too many already.
    pub fn expect_test(&self, call: CallSid, now: Instant) -> bool {
        let mut inner = self.lock();
        inner.forget_old(now);
        if inner.tests.len() >= MAX_TEST_CALLS {
            return false;
        }
        inner.tests.insert(call, now + TEST_CALL_LIFETIME);
        true
    }

    /// Whether a test call was announced under this CallSid, and is not long over.
    pub fn is_test(&self, call: &CallSid, now: Instant) -> bool {
        let mut inner = self.lock();
        inner.forget_old(now);
        inner.tests.contains_key(call)
    }

    /// A media socket with a valid token takes its call. Works for calls that another instance
    /// admitted, and while draining: whoever was admitted may come.
    pub fn claim(self: &Arc<Self>, facts: CallFacts, now: Instant) -> Result<Claim, ClaimError> {
        let limits = self.limits();
        let mut inner = self.lock();
        inner.forget_old(now);
        let call = facts.call;
        if inner.live.contains_key(&call) {
            return Err(ClaimError::Live);
        }
        if inner.closed {
            return Err(ClaimError::Leaving);
        }
        let spent = inner.ended.get(&call).map(|ended| ended.token_expires_unix);
        if spent.is_some_and(|spent| facts.token_expires_unix <= spent) {
            return Err(ClaimError::Spent);
        }
        // Somebody has hung up: no stream that was still on its way brings the call to life again.
        if inner
            .ended
            .get(&call)
            .is_some_and(|ended| ended.after == After::HangUp)
        {
            return Err(ClaimError::Spent);
        }
        inner.ended.remove(&call);
        // A call of another instance's, or one that took its time: it counts for its caller and its
        // number from now on, but is not judged again. Its caller has been answered, and one call
        // above a limit of courtesy is better than an apology in the middle.
        let parties = match inner.admitted.remove(&call) {
            Some(expected) => expected.parties,
            None if inner.taken() >= limits.max_concurrent => return Err(ClaimError::Full),
            None => {
                let route = facts.route.as_deref();
                Parties::of(Caller::of(&facts.from), &facts.to, route)
            }
        };
        // From here on it is known for as long as the call is.
        let test = inner
            .tests
            .get_mut(&call)
            .map(|until| *until = now)
            .is_some();
        let (orders, mailbox) = mpsc::channel(MAILBOX + RESERVED);
        let token_expires_unix = facts.token_expires_unix;
        let view = Arc::new(View {
            stream: Mutex::new(facts.stream.clone()),
            facts,
            started: now,
            started_at: SystemTime::now(),
            agent_connected: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            away: AtomicU8::new(0),
            carrier_waits: AtomicBool::new(false),
            agent_waits: AtomicBool::new(false),
            carrier_queued: AtomicUsize::new(0),
            agent_queued: AtomicUsize::new(0),
            frames_in: AtomicU64::new(0),
            audio_out: AtomicU64::new(0),
            frames_dropped: AtomicU64::new(0),
            barge_ins: AtomicU64::new(0),
            test,
        });
        inner.live.insert(
            call,
            Live {
                parties,
                view: view.clone(),
                orders,
                after: None,
                door: None,
                token_expires_unix,
                errand_taken: false,
                callee: Callee::Absent,
                terms: None,
            },
        );
        self.publish(&inner, Some(call), || News::Started(view.clone()));
        drop(inner);
        Ok(Claim {
            registry: self.clone(),
            view,
            mailbox,
            cause: None,
        })
    }

    /// A media socket with a valid token for a call that is away: the way to it. Whoever comes with the
    /// token of an earlier stream is not it.
    pub fn come_back(&self, facts: &CallFacts) -> Option<Return> {
        let mut inner = self.lock();
        let live = inner.live.get_mut(&facts.call)?;
        if facts.token_expires_unix <= live.token_expires_unix {
            return None;
        }
        let door = live.door.take()?;
        live.token_expires_unix = facts.token_expires_unix;
        Some(Return {
            view: live.view.clone(),
            door,
        })
    }

    /// What `/voice/after` should answer for a call, if this instance carried it.
    pub fn after(&self, call: &CallSid) -> Option<After> {
        let inner = self.lock();
        match inner.live.get(call) {
            Some(live) => live.after.clone(),
            None => inner.ended.get(call).map(|ended| ended.after.clone()),
        }
    }

    /// What a live call is away for.
    pub fn errand(&self, call: &CallSid) -> Option<Errand> {
        match self.lock().live.get(call)?.after.as_ref()? {
            After::Errand(errand) => Some(errand.clone()),
            _ => None,
        }
    }

    /// What is known of a live call, with the expiry of the newest token that has opened a stream of its.
    pub fn facts(&self, call: &CallSid) -> Option<CallFacts> {
        let inner = self.lock();
        let live = inner.live.get(call)?;
        Some(CallFacts {
            token_expires_unix: live.token_expires_unix,
            ..live.view.facts.clone()
        })
    }

    /// Twilio runs, or has run, the TwiML of a live call's errand: whoever asks for it from now on has lost
    /// the way back. False: it did so before.
    pub fn take_errand(&self, call: &CallSid) -> bool {
        let mut inner = self.lock();
        let live = inner.live.get_mut(call);
        live.is_some_and(|live| !std::mem::replace(&mut live.errand_taken, true))
    }

    /// The terms on which a call began that this instance carries, or has carried just now.
    pub fn terms(&self, call: &CallSid) -> Option<Arc<Terms>> {
        let inner = self.lock();
        match inner.live.get(call) {
            Some(live) => live.terms.clone(),
            None => inner.ended.get(call)?.terms.clone(),
        }
    }

    /// How far the callee of a live call's transfer has come.
    pub fn callee(&self, call: &CallSid) -> Callee {
        let inner = self.lock();
        inner
            .live
            .get(call)
            .map(|live| live.callee)
            .unwrap_or_default()
    }

    /// Remembers it until the call's next errand.
    pub fn set_callee(&self, call: &CallSid, callee: Callee) {
        if let Some(live) = self.lock().live.get_mut(call) {
            live.callee = callee;
        }
    }

    /// Tells a live call what has become of its transfer. It is Twilio's word, as with
    /// [`call_over`](Registry::call_over): nobody waits for an answer, and operators' orders leave room.
    pub fn transferred(&self, call: &CallSid, what: Transferred) {
        self.pass_on(call, Order::Transferred(what));
    }

    /// Tells a live call that Twilio runs its errand's TwiML, in the same way.
    pub fn errand_begun(&self, call: &CallSid) {
        self.pass_on(call, Order::ErrandBegun);
    }

    fn pass_on(&self, call: &CallSid, order: Order) {
        let inner = self.lock();
        if let Some(live) = inner.live.get(call)
            && live.orders.capacity() > LAST
        {
            // What does not fit now has been said twice already.
            _ = live.orders.try_send(Letter { order, reply: None });
        }
    }

    /// The route that a call took, if this instance knows it, or has carried it just now.
    pub fn route_of(&self, call: &CallSid) -> Option<String> {
        let inner = self.lock();
        if let Some(live) = inner.live.get(call) {
            return live.view.facts.route.clone();
        }
        if let Some(expected) = inner.admitted.get(call) {
            return expected.parties.route.as_deref().map(str::to_owned);
        }
        inner.ended.get(call).and_then(|ended| ended.route.clone())
    }

    /// Gives an order to a live call, which answers when it comes to it. It never answers when it
    /// ends first; when the asker no longer waits, the order is not carried out.
    pub fn order(
        &self,
        call: &CallSid,
        order: Order,
    ) -> Result<oneshot::Receiver<Verdict>, OrderError> {
        let (reply, verdict) = oneshot::channel();
        let letter = Letter {
            order,
            reply: Some(reply),
        };
        let inner = self.lock();
        let live = inner.live.get(call).ok_or(OrderError::NoSuchCall)?;
        // Orders are put in under the lock only, so what is left now is left in the next line, too.
        if live.orders.capacity() <= RESERVED && !live.orders.is_closed() {
            return Err(OrderError::Busy);
        }
        match live.orders.try_send(letter) {
            Ok(()) => Ok(verdict),
            Err(mpsc::error::TrySendError::Full(_)) => Err(OrderError::Busy),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(OrderError::NoSuchCall),
        }
    }

    /// Gives an order to every live call without asking what came of it; returns how many there were.
    pub fn order_all(&self, order: Order) -> usize {
        let inner = self.lock();
        for live in inner.live.values() {
            // There is room for the first such order: operators' are never given the last place.
            let letter = Letter {
                order: order.clone(),
                reply: None,
            };
            let _ = live.orders.try_send(letter);
        }
        inner.live.len()
    }

    /// Everything as it is, and every change from there on.
    pub fn follow(&self) -> Followed {
        let inner = self.lock();
        let mut calls: Vec<_> = inner
            .live
            .values()
            .map(|live| Seen::of(&live.view))
            .collect();
        let (draining, news) = (inner.draining, self.news.subscribe());
        drop(inner);
        calls.sort_by_key(|seen| seen.view.started);
        Followed {
            calls,
            draining,
            news,
        }
    }

    /// Tells those who follow that the daemon works from a new config.
    pub fn reloaded(&self, changed: &[String], need_restart: &[String]) {
        self.publish(&self.lock(), None, || News::Reloaded {
            changed: changed.to_vec(),
            need_restart: need_restart.to_vec(),
        });
    }

    /// Takes the lock as a witness: what is told in it is told in the order in which it happened.
    fn publish(&self, _: &Inner, call: Option<CallSid>, news: impl FnOnce() -> News) {
        if self.news.receiver_count() > 0 {
            let at = SystemTime::now();
            // The last follower may have left just now.
            _ = self.news.send(Arc::new(Told {
                at,
                call,
                news: news(),
            }));
        }
    }

    /// The live calls, oldest first.
    pub fn views(&self) -> Vec<Arc<View>> {
        let mut views: Vec<_> = self
            .lock()
            .live
            .values()
            .map(|live| live.view.clone())
            .collect();
        views.sort_by_key(|view| view.started);
        views
    }

    /// Live calls.
    pub fn active(&self) -> usize {
        self.lock().live.len()
    }

    /// Calls that a stopping daemon still owes something: live ones, and admitted ones whose media
    /// socket is on its way.
    pub fn owed(&self, now: Instant) -> usize {
        let mut inner = self.lock();
        inner.forget_old(now);
        inner.taken()
    }

    pub fn draining(&self) -> bool {
        self.lock().draining
    }

    /// Admit no more (or again). `false` when that is no longer possible: the daemon is leaving.
    pub fn set_draining(&self, draining: bool) -> bool {
        let mut inner = self.lock();
        if inner.stopping && !draining {
            return false;
        }
        self.drain(&mut inner, draining);
        true
    }

    fn drain(&self, inner: &mut Inner, draining: bool) {
        if inner.draining != draining {
            inner.draining = draining;
            self.publish(inner, None, || News::Draining(draining));
        }
    }

    /// Admit no more, for good.
    pub fn stop(&self) {
        let mut inner = self.lock();
        self.drain(&mut inner, true);
        inner.stopping = true;
    }

    /// The end of all patience: no call begins any more, and every live one is told. Returns how
    /// many there are.
    pub fn close(&self) -> usize {
        self.lock().closed = true;
        self.order_all(Order::DrainExpired)
    }

    /// Twilio says that an admitted call is over before its stream began.
    pub fn forget_admitted(&self, call: &CallSid) {
        self.lock().admitted.remove(call);
        self.ended.notify_waiters();
    }

    /// Twilio says that a call is over, or (unless `caller_left`) that its stream is. One that waits for
    /// its media socket is forgotten; a live one is told, and what becomes of that is its own affair.
    /// Of a `stream` only the call that it carries is told, and none that goes on an errand: its stream
    /// ends by that, and to be told so late would be to lose the one with which it comes back.
    pub fn call_over(&self, call: &CallSid, stream: Option<&str>, caller_left: bool) {
        let mut inner = self.lock();
        if stream.is_none() && inner.admitted.remove(call).is_some() {
            self.ended.notify_waiters();
        }
        let Some(live) = inner.live.get(call) else {
            return;
        };
        if !caller_left && matches!(live.after, Some(After::Errand(_))) {
            return;
        }
        let theirs = |stream: &str| stream == live.view.stream().as_str();
        if stream.is_none_or(theirs) && live.orders.capacity() > LAST {
            // What does not fit now has been said twice already; a call that ends has no use for it.
            _ = live.orders.try_send(Letter {
                order: Order::CallOver { caller_left },
                reply: None,
            });
        }
    }

    /// Resolves at the next end of a call.
    pub fn next_end(&self) -> impl Future<Output = ()> + '_ {
        self.ended.notified()
    }
}

impl Inner {
    fn taken(&self) -> usize {
        self.admitted.len() + self.live.len()
    }

    /// Counted anew each time: a number kept beside the calls could one day not be theirs.
    fn room_for(
        &self,
        parties: &Parties,
        limits: &Limits,
        on: &OnRoute<'_>,
    ) -> Result<(), Refused> {
        if self.taken() >= limits.max_concurrent {
            return Err(Refused::Full);
        }
        let full = |most: usize, who: fn(&Parties) -> &Option<Box<str>>, counted: Where| {
            let ours = who(parties);
            let all = self.admitted.values().map(|expected| &expected.parties);
            let all = all.chain(self.live.values().map(|live| &live.parties));
            let all = all.filter(|other| who(other) == ours);
            let all =
                all.filter(|other| counted == Where::Anywhere || other.route == parties.route);
            most > 0 && ours.is_some() && all.count() >= most
        };
        if full(
            limits.max_per_number,
            |parties| &parties.number,
            Where::Anywhere,
        ) {
            return Err(Refused::NumberFull);
        }
        if full(on.max_concurrent, |parties| &parties.route, Where::OnRoute) {
            return Err(Refused::RouteFull);
        }
        // A route's own limit is about the calls on it, whatever the caller has elsewhere.
        let (most, counted) = match on.max_per_caller {
            Some(most) => (most, Where::OnRoute),
            None => (limits.max_per_caller, Where::Anywhere),
        };
        if full(most, |parties| &parties.caller, counted) {
            return Err(Refused::CallerFull);
        }
        Ok(())
    }

    fn forget_old(&mut self, now: Instant) {
        self.admitted.retain(|_, expected| expected.until > now);
        self.ended.retain(|_, ended| ended.until > now);
        let (live, ended) = (&self.live, &self.ended);
        self.tests.retain(|call, until| {
            *until > now || live.contains_key(call) || ended.contains_key(call)
        });
    }
}

/// A call's place in the register; dropping it, in whatever way the call ended, frees the place.
pub struct Claim {
    registry: Arc<Registry>,
    pub view: Arc<View>,
    pub mailbox: mpsc::Receiver<Letter>,
    cause: Option<Cause>,
}

impl Claim {
    /// Says what the caller meets after the stream. A call that ends without having said so failed.
    pub fn decide(&self, after: After) {
        if let Some(live) = self.registry.lock().live.get_mut(&self.view.facts.call) {
            live.after = Some(after);
            live.callee = Callee::Absent;
            live.errand_taken = false;
        }
    }
}

impl Claim {
    /// The call began on these.
    pub fn agree(&self, terms: Arc<Terms>) {
        if let Some(live) = self.registry.lock().live.get_mut(&self.view.facts.call) {
            live.terms = Some(terms);
        }
    }

    /// What is known of the call by now.
    pub fn facts(&self) -> CallFacts {
        let facts = self.registry.facts(&self.view.facts.call);
        facts.unwrap_or_else(|| self.view.facts.clone())
    }

    /// Twilio has taken the TwiML of the call's errand.
    pub fn errand_taken(&self) {
        self.registry.take_errand(&self.view.facts.call);
    }

    /// From now on another media socket may come for this call, once.
    pub fn open_door(&self) -> oneshot::Receiver<Box<Arrival>> {
        let (door, arrival) = oneshot::channel();
        if let Some(live) = self.registry.lock().live.get_mut(&self.view.facts.call) {
            live.door = Some(door);
        }
        arrival
    }

    /// Enters a change in the view and tells those who follow.
    pub fn tell(&self, news: News) {
        let inner = self.registry.lock();
        if news.enter(&self.view) {
            self.registry
                .publish(&inner, Some(self.view.facts.call), || news);
        }
    }

    /// Why the call is over; told when the claim is dropped.
    pub fn over(&mut self, cause: Cause) {
        self.cause = Some(cause);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let call = self.view.facts.call;
        let mut inner = self.registry.lock();
        let live = inner.live.remove(&call);
        let token_expires_unix = live.as_ref().map_or(0, |live| live.token_expires_unix);
        let terms = live.as_ref().and_then(|live| live.terms.clone());
        let after = live.and_then(|live| live.after).unwrap_or(After::Fallback);
        let lifetime = self.registry.limits().admission_lifetime + ENDED_MARGIN;
        let ended = Ended {
            until: Instant::now() + lifetime,
            after,
            route: self.view.facts.route.clone(),
            token_expires_unix,
            terms,
        };
        inner.ended.insert(call, ended);
        self.registry.publish(&inner, Some(call), || News::Ended {
            cause: self.cause,
            lasted: self.view.started.elapsed(),
        });
        drop(inner);
        self.registry.ended.notify_waiters();
    }
}

impl View {
    /// The media stream that carries it, or carried it last.
    pub fn stream(&self) -> StreamSid {
        let stream = self.stream.lock();
        stream
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .clone()
    }

    pub(super) fn set_stream(&self, stream: StreamSid) {
        let mut held = self
            .stream
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        *held = stream;
    }

    pub fn agent_connected(&self) -> bool {
        self.agent_connected.load(Relaxed)
    }

    /// What it has left its agent for.
    pub fn away(&self) -> Option<Away> {
        Away::of(self.away.load(Relaxed))
    }
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
