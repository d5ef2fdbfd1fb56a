//! Calls whose every sample is accounted for, and a daemon with a proxy before each of its far ends.

use std::{sync::Arc, time::Duration};

use hume_bridge::{
    audio::g711,
    sim::{
        bridge::{ACCOUNT_SID, AUTH_TOKEN, Bridge, Far, HUME_KEY, PUBLIC_URL, Setup},
        evi::{self, Evi, EviHandle, Record},
        faults::{Dice, Fault, Plan, Proxy, Way, What, When, transparent},
        phone::{CallReport, CallSetup, Phone, PhoneOptions, Probe, Switchboard},
        rest::Rest,
        scenario::{Story, World, agent_clips},
        speech::FRAME_SAMPLES,
    },
};
use serde_json::Value;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    PROGRAM,
    stage::{causes, close, status},
};

/// The telephone lets its call go on until it is told to hang up, or the stream is over.
pub const FOREVER: Duration = Duration::from_secs(1_000_000_000);
/// A second of the caller's: enough to tell that all of it gets through.
pub const ENOUGH: usize = 50 * FRAME_SAMPLES;
/// Nothing in these stories may take longer than the bridge's own last deadline, with room for a
/// machine on which nothing is quick.
pub const LAST_DEADLINE: Duration = Duration::from_secs(90);

/// What one caller said and heard, in mu-law, as it went over the wire.
#[derive(Default)]
pub struct Reel {
    pub said: Vec<u8>,
    pub heard: Vec<u8>,
}

pub type Tape = Arc<watch::Sender<Reel>>;

/// A caller whose every frame is like no other's, and too soft for an agent to take it for speech.
pub struct Caller {
    pub call: u64,
    pub tape: Tape,
}

impl Probe for Caller {
    fn frame(&mut self, number: u64, payload: &mut [u8; FRAME_SAMPLES]) {
        let mut dice = Dice::new(self.call, number);
        payload.fill_with(|| 0x70 | (dice.throw() & 0x8f) as u8);
        self.tape.send_modify(|reel| reel.said.extend(&payload[..]));
    }

    fn sent(&mut self, _: u64, _: std::time::Instant) {}

    fn media(&mut self, mulaw: &[u8], _: std::time::Instant) {
        self.tape.send_modify(|reel| reel.heard.extend(mulaw));
    }
}

/// A call that is being carried. Dropped, the connection is lost.
pub struct Placed {
    pub call_sid: String,
    pub tape: Tape,
    hang_up: CancellationToken,
    pub task: JoinSet<CallReport>,
    pub report: Option<CallReport>,
}

impl Placed {
    pub fn new(phone: &Phone, call: u64) -> Placed {
        let tape: Tape = Arc::default();
        let probe = Box::new(Caller {
            call,
            tape: tape.clone(),
        });
        let hang_up = CancellationToken::new();
        let (phone, told) = (phone.clone(), hang_up.clone());
        let setup = CallSetup::new(vec![]);
        let call_sid = setup.call_sid.clone();
        let mut task = JoinSet::new();
        task.spawn(async move { phone.load_call(setup, FOREVER, told, probe).await });
        Placed {
            call_sid,
            tape,
            hang_up,
            task,
            report: None,
        }
    }

    /// Waits until so many bytes were heard, and a second was said. `false`: the call ended before.
    pub async fn has_heard(&mut self, bytes: usize) -> bool {
        let so = |reel: &Reel| reel.heard.len() >= bytes && reel.said.len() >= ENOUGH;
        let mut tape = self.tape.subscribe();
        tokio::select! {
            heard = timeout(LAST_DEADLINE, tape.wait_for(so)) => {
                return heard.is_ok();
            }
            Some(report) = self.task.join_next() => {
                self.report = Some(report.expect("no telephone panics"));
            }
        }
        so(&self.tape.borrow())
    }

    pub async fn ended(mut self) -> (CallReport, Reel) {
        let report = match self.report.take() {
            Some(report) => report,
            None => {
                let ended = timeout(LAST_DEADLINE, self.task.join_next()).await;
                let ended = ended.expect("the call ends").expect("there is one task");
                ended.expect("no telephone panics")
            }
        };
        (report, self.tape.send_replace(Reel::default()))
    }

    pub async fn hung_up(self) -> (CallReport, Reel) {
        self.hang_up.cancel();
        self.ended().await
    }
}

/// A daemon that finds its agent and Twilio's REST API behind proxies.
pub struct Between {
    pub world: World,
    pub agent: Proxy,
    pub rest: Proxy,
}

pub async fn between(toml: &str, agent: Plan, rest: Plan) -> Between {
    let text = format!("title = \"told in Rust\"\n{toml}\n[expect]\n");
    let story = Story::parse(&text).expect("a story");
    let options = evi::Options {
        api_key: HUME_KEY.to_owned(),
        clips: agent_clips,
        audio_frames_kept: 0,
        ..evi::Options::default()
    };
    let evi = Evi::start(story.agent.clone(), options)
        .await
        .expect("an agent");
    let switchboard = Switchboard::new();
    let api = Rest::start(
        switchboard.clone(),
        ACCOUNT_SID,
        AUTH_TOKEN,
        story.rest.clone(),
    )
    .await;
    let api = api.expect("a REST API");
    let agent = Proxy::start(evi.addr, agent).await.expect("a proxy");
    let rest = Proxy::start(api.addr, rest).await.expect("a proxy");
    let (evi_url, rest_url) = (agent.instead_of(&evi.url()), rest.instead_of(&api.url()));
    let bridge = Bridge::start(Setup {
        program: PROGRAM.as_ref(),
        agent: Far::Hume(&evi_url),
        rest_url: &rest_url,
        config: &story.config,
        passed: None,
    });
    let bridge = bridge.await.expect("the daemon");
    let phone = Phone {
        switchboard,
        options: PhoneOptions::default(),
        ..Phone::new(PUBLIC_URL, bridge.http, ACCOUNT_SID, AUTH_TOKEN)
    };
    let world = World {
        bridge,
        agent: evi,
        rest: api,
        phone,
        beside: Default::default(),
    };
    Between { world, agent, rest }
}

impl Between {
    /// A telephone on a wire of its own.
    pub async fn phone(&self, plan: Plan) -> (Phone, Proxy) {
        let proxy = Proxy::start(self.world.bridge.http, plan)
            .await
            .expect("a proxy");
        let phone = Phone {
            dial: proxy.addr,
            ..self.world.phone.clone()
        };
        (phone, proxy)
    }

    /// Nothing is left of any call.
    pub async fn forgets(&self) -> Value {
        let deadline = Instant::now() + LAST_DEADLINE;
        loop {
            let now = status(&self.world).await;
            if now["activeSessions"] == 0 {
                return now;
            }
            assert!(Instant::now() < deadline, "left behind: {now}");
            // Not to wait for anything: so that asking does not take the processor from those asked.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until no chat is open: then each has been heard to its last sample.
    pub async fn agent_is_alone(&self) -> Record {
        let evi: &EviHandle = &self.world.agent;
        let over = |record: &Record| {
            let count = |of: fn(&evi::What) -> bool| {
                record.events.iter().filter(|event| of(&event.what)).count()
            };
            let begun = count(|what| matches!(what, evi::What::Connected { .. }));
            begun == count(|what| matches!(what, evi::What::Closed { .. }))
        };
        timeout(LAST_DEADLINE, evi.until(over))
            .await
            .expect("all chats end");
        evi.record()
    }

    /// Ends the daemon, which has to leave in good order; what the far ends saw is another matter.
    pub async fn end(mut self) -> Vec<String> {
        let exit = self.world.bridge.stop().await.expect("it stops");
        let log = self.world.bridge.log();
        assert!(exit.success(), "{exit}: {log:#?}");
        assert!(
            !log.iter().any(|line| line.contains("panicked")),
            "{log:#?}"
        );
        log
    }
}

/// The agent greets and then listens, whatever it hears.
pub fn greets(clip: &str, how: &str, config: &str) -> String {
    format!(
        "config = '''\ncalls.fallback = {{ hangup = true }}\n{config}\n'''\n\
         [agent]\ninterruptible = \"never\"\n\
         greeting = [{{ say = \"{clip}\"{how} }}, {{ end = true }}]"
    )
}

pub fn length(clip: &str) -> usize {
    hume_bridge::sim::speech::clip(clip).expect("a clip").len()
}

/// What a caller hears of the greeting when nothing is wrong with any wire.
pub async fn undisturbed(toml: &str, length: usize) -> Vec<u8> {
    let stage = between(toml, transparent(), transparent()).await;
    let (phone, _wire) = stage.phone(transparent()).await;
    let mut call = Placed::new(&phone, 0);
    assert!(
        call.has_heard(length).await,
        "{:#?}",
        stage.world.bridge.log()
    );
    let (report, reel) = call.hung_up().await;
    assert_eq!(report.violations, []);
    assert!(hears(&stage.agent_is_alone().await, &reel));
    assert_eq!(causes(&close(stage.world).await), ["caller-hung-up"]);
    reel.heard
}

/// Whether one chat had this caller on it, all of it, and nobody else.
pub fn hears(record: &Record, reel: &Reel) -> bool {
    let mut said = Vec::new();
    g711::decode_into(&reel.said, &mut said);
    record.uplinks.values().any(|chat| chat.audio == said)
}

pub fn cause(log: &[String], call_sid: &str) -> Option<String> {
    let of_call: Vec<String> = log
        .iter()
        .filter(|line| line.contains(call_sid))
        .cloned()
        .collect();
    causes(&of_call).pop()
}

pub fn at(way: Way, byte: u64, what: What) -> Fault {
    let when = When::Byte(byte);
    Fault { way, when, what }
}

pub const JITTER: What = What::Delay {
    constant: Duration::from_millis(80),
    jitter: Duration::from_millis(60),
};
pub const STALL: What = What::Stall {
    lasts: Some(Duration::from_millis(900)),
};
