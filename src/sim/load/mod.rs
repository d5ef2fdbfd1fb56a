//! `hume-bridge load`: many calls through a real daemon, measured from outside.
//!
//! The daemon is a process of its own, so its CPU and memory are nobody else's; the telephones and
//! agents are here. Every call runs as a caller's would, from the webhook to the hang-up. When all
//! are up and warm, frames are timed for so many seconds: up from a telephone's write to the
//! agent's read, down from the agent's write to the telephone's read. Then everybody hangs up, and
//! what is left of the calls is looked for.
//!
//! Where daemon and generator share the cores, a time includes waiting for the other's work; what the
//! generator and everything else on the machine took is printed beside the figures, so that a reader
//! can tell a slow bridge from a busy machine.

mod report;

use std::{
    process::ExitCode,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use self::report::{Daemon, Generator, Interruptions, Others, Report};
use super::{
    bridge::{self, Bridge, Far, Setup},
    evi::{self, Evi},
    measure::{
        self, ARRIVAL_LIMIT, HANG_UP_LIMIT, PROBLEMS_TOLD, WHOLE_MESSAGE, Way,
        ledger::{Histogram, Ledger},
        lock,
        process::{self, Process},
        rounded, stamp, until,
    },
    phone::{CallReport, CallSetup, Ended, Phone, Probe, Switchboard},
    rest::{Rest, RestScript},
    scenario,
    speech::FRAME_SAMPLES,
};
use crate::config::args::LoadArgs;

/// Between two calls' beginnings. Coprime with the 20 ms of a frame and the 100 ms of a message, so
/// that the calls' beats spread over time as those of strangers do.
const SPACING: Duration = Duration::from_millis(7);
/// From the last call placed to audio both ways on all of them.
const UP_LIMIT: Duration = Duration::from_secs(20);
const WARM_UP: Duration = Duration::from_secs(2);
/// Calls last until they are hung up; this only has to be longer than any measuring.
const FOREVER: Duration = Duration::from_secs(1_000_000_000);
/// Of each call, when its frames have been timed.
const INTERRUPTIONS: u32 = 5;
/// For the daemon to have forgotten the calls.
const CLEAN_LIMIT: Duration = Duration::from_secs(10);
/// Sockets of a call, in the daemon and here.
const SOCKETS: u64 = 2;

/// Runs the command; the exit code is 1 if anything was lost or left behind.
pub fn main(args: &LoadArgs) -> ExitCode {
    measure::main("load", args.json, run(args))
}

/// What the calls' probes and the agent's hooks share.
struct Floor {
    lines: Box<[Line]>,
    /// Whose agent a connection is, known from the first of the caller's frames on it.
    calls: Box<[OnceLock<usize>]>,
    /// The measured stretch of time.
    window: OnceLock<(Instant, Instant)>,
    up: Histogram,
    down: Histogram,
    /// How often every agent is to have been interrupted, and how often each has been.
    interruptions: AtomicU32,
    interrupted: Box<[AtomicU32]>,
}

/// One call.
#[derive(Default)]
struct Line {
    up: Mutex<Ledger>,
    down: Mutex<Ledger>,
    heard_agent: AtomicBool,
}

impl Floor {
    fn new(calls: usize) -> Floor {
        Floor {
            lines: (0..calls).map(|_| Line::default()).collect(),
            calls: (0..calls).map(|_| OnceLock::new()).collect(),
            window: OnceLock::new(),
            up: Histogram::default(),
            down: Histogram::default(),
            interruptions: AtomicU32::new(0),
            interrupted: (0..calls).map(|_| AtomicU32::new(0)).collect(),
        }
    }

    fn is_interrupted(&self, connection: u32) -> bool {
        let wanted = self.interruptions.load(Relaxed);
        // Asked by one task only.
        self.interrupted
            .get(connection as usize)
            .is_some_and(|had| had.load(Relaxed) < wanted && had.fetch_add(1, Relaxed) < wanted)
    }

    fn record(&self, histogram: &Histogram, sent: Instant, arrived: Instant) {
        if let Some((from, until)) = self.window.get()
            && (*from..*until).contains(&sent)
        {
            histogram.record(arrived.saturating_duration_since(sent));
        }
    }

    /// The agent read a frame.
    fn uplink(&self, connection: u32, text: &str, at: Instant) {
        let Some((call, number)) = stamp::read(text) else {
            return;
        };
        let Some(line) = self.lines.get(call) else {
            return;
        };
        if let Some(owner) = self.calls.get(connection as usize) {
            owner.get_or_init(|| call);
        }
        if let Some(sent) = lock(&line.up).arrived(number, at) {
            self.record(&self.up, sent, at);
        }
    }

    /// The agent's message is with the kernel.
    fn downlink(&self, connection: u32, number: u64, at: Instant) {
        let Some(call) = self.calls.get(connection as usize).and_then(OnceLock::get) else {
            return;
        };
        // The telephone may have been quicker than this hook.
        if let Some(arrived) = lock(&self.lines[*call].down).sent(number, at) {
            self.record(&self.down, at, arrived);
        }
    }

    fn all_up(&self) -> bool {
        let up = |line: &Line| line.heard_agent.load(Relaxed) && lock(&line.up).is_open();
        self.lines.iter().all(up)
    }

    /// Frames sent before `end` that have not arrived, up and down.
    fn missing(&self, end: Instant) -> (u64, u64) {
        self.lines.iter().fold((0, 0), |(up, down), line| {
            (
                up + lock(&line.up).missing(end),
                down + lock(&line.down).missing(end),
            )
        })
    }
}

/// A telephone's ear and mouth.
struct Ear {
    floor: Arc<Floor>,
    call: usize,
    messages: u64,
}

impl Probe for Ear {
    fn frame(&mut self, number: u64, payload: &mut [u8; FRAME_SAMPLES]) {
        stamp::write(self.call, number, payload);
    }

    fn sent(&mut self, number: u64, at: Instant) {
        // The agent has nothing yet, so nothing can have been quicker.
        lock(&self.floor.lines[self.call].up).sent(number, at);
    }

    fn media(&mut self, mulaw: &[u8], at: Instant) {
        if mulaw.len() < WHOLE_MESSAGE {
            return;
        }
        let line = &self.floor.lines[self.call];
        line.heard_agent.store(true, Relaxed);
        if let Some(sent) = lock(&line.down).arrived(self.messages, at) {
            self.floor.record(&self.floor.down, sent, at);
        }
        self.messages += 1;
    }
}

async fn run(args: &LoadArgs) -> anyhow::Result<Report> {
    process::room_for(args.calls, SOCKETS)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let floor = Arc::new(Floor::new(args.calls));
    let (up, down, interrupted) = (floor.clone(), floor.clone(), floor.clone());
    let options = evi::Options {
        api_key: bridge::HUME_KEY.to_owned(),
        audio_frames_kept: 0,
        caller_samples_kept: 0,
        hooks: evi::Hooks {
            on_uplink: Some(Arc::new(move |connection, text, at| {
                up.uplink(connection, text, at);
            })),
            on_sent: Some(Arc::new(move |connection, number, at| {
                down.downlink(connection, number, at);
            })),
            leaves: None,
            interrupted: Some(Arc::new(move |connection| {
                interrupted.is_interrupted(connection)
            })),
        },
        ..evi::Options::default()
    };
    let agent = Evi::start(evi::Script::echo_load(), options).await?;
    let switchboard = Switchboard::new();
    let rest = Rest::start(
        switchboard.clone(),
        bridge::ACCOUNT_SID,
        bridge::AUTH_TOKEN,
        RestScript::default(),
    )
    .await?;
    let program = std::env::current_exe().context("this program's own path")?;
    let mut bridge = Bridge::start(Setup {
        program: &program,
        agent: Far::Hume(&agent.url()),
        rest_url: &rest.url(),
        // All of them from one number.
        config: &format!(
            "calls.max_concurrent = {}\ncalls.max_per_caller = 0\n",
            args.calls
        ),
        passed: None,
    })
    .await?;
    let phone = Phone {
        switchboard,
        ..Phone::new(
            bridge::PUBLIC_URL,
            bridge.http,
            bridge::ACCOUNT_SID,
            bridge::AUTH_TOKEN,
        )
    };

    let daemon = Process::of(bridge.pid());
    let before = daemon.look()?;
    eprintln!("the daemon is process {}; placing calls", bridge.pid());
    let hang_up = CancellationToken::new();
    let mut calls = place(args.calls, &phone, &floor, &hang_up).await;
    until_up(&floor, &mut calls).await?;
    sleep(WARM_UP).await;

    eprintln!("all calls are up; measuring for {} s", args.secs);
    let span = Duration::from_secs(args.secs);
    let (at_start, own_start) = (daemon.look()?, Process::own().look()?);
    let machine_start = process::machine_cpu()?;
    let from = Instant::now();
    let end = from + span;
    floor
        .window
        .set((from, end))
        .expect("the window is set once");
    let mut peak_kib = at_start.rss_kib;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        sleep(left.min(Duration::from_millis(500))).await;
        peak_kib = peak_kib.max(daemon.look()?.rss_kib);
    }
    let measured = from.elapsed();
    let (at_end, own_end) = (daemon.look()?, Process::own().look()?);
    let machine = (process::machine_cpu()? - machine_start).as_secs_f64();
    until(ARRIVAL_LIMIT, async || floor.missing(end) == (0, 0)).await;
    let (up_lost, down_lost) = floor.missing(end);
    let interruptions = interrupt(&floor, &bridge).await?;

    hang_up.cancel();
    let mut problems = Vec::new();
    let reports = timeout(HANG_UP_LIMIT, calls.join_all())
        .await
        .context("telephones are still on the line 30 s after they were hung up")?;
    problems.extend(reports.iter().flat_map(complaints));
    let clean = until(CLEAN_LIMIT, async || {
        let gone = matches!(scenario::active_sessions(&bridge).await, Ok(0));
        gone && daemon.look().is_ok_and(|now| now.fds <= before.fds)
    });
    clean.await;
    let after = daemon.look()?;
    let sessions_after = scenario::active_sessions(&bridge).await?;
    match bridge.stop().await {
        Ok(exit) if exit.success() => {}
        Ok(exit) => problems.push(format!("the daemon ended with {exit}")),
        Err(error) => problems.push(format!("{error:#}")),
    }
    let record = agent.stop().await;
    problems.extend(record.violations().into_iter().map(str::to_owned));
    problems.extend(rest.violations().into_iter().map(|violation| violation.0));
    problems.truncate(PROBLEMS_TOLD);

    let cpu_seconds = (at_end.cpu - at_start.cpu).as_secs_f64();
    let call_minutes = args.calls as f64 * measured.as_secs_f64() / 60.0;
    let own_cpu = (own_end.cpu - own_start.cpu).as_secs_f64();
    let daemon = Daemon {
        cpu_seconds_per_call_minute: rounded(cpu_seconds / call_minutes, 4),
        cpu_cores: rounded(cpu_seconds / measured.as_secs_f64(), 4),
        rss_base_kib: before.rss_kib,
        rss_peak_kib: peak_kib,
        rss_per_call_kib: rounded(
            peak_kib.saturating_sub(before.rss_kib) as f64 / args.calls as f64,
            1,
        ),
        rss_after_kib: after.rss_kib,
        fds_before: before.fds,
        fds_after: after.fds,
        sessions_after,
    };
    let generator = Generator {
        cpu_cores: rounded(own_cpu / measured.as_secs_f64(), 4),
    };
    Ok(Report {
        ok: up_lost + down_lost == 0
            && problems.is_empty()
            && interruptions.cleared == interruptions.told
            && sessions_after == 0
            && after.fds <= before.fds,
        calls: args.calls,
        secs: args.secs,
        cores,
        up: Way::of(&floor.up, up_lost),
        down: Way::of(&floor.down, down_lost),
        interruptions,
        daemon,
        generator,
        others: Others {
            cpu_cores: rounded(
                (machine - cpu_seconds - own_cpu).max(0.0) / measured.as_secs_f64(),
                4,
            ),
        },
        problems,
    })
}

/// Has every agent be interrupted some times, and asks the daemon how long its clears took.
async fn interrupt(floor: &Floor, bridge: &Bridge) -> anyhow::Result<Interruptions> {
    let told = || {
        let each = floor.interrupted.iter().map(|had| had.load(Relaxed));
        each.map(u64::from).sum::<u64>()
    };
    for round in 1..=INTERRUPTIONS {
        floor.interruptions.store(round, Relaxed);
        let wanted = u64::from(round) * floor.lines.len() as u64;
        until(ARRIVAL_LIMIT, async || told() >= wanted).await;
        // Something has to be queued again before it can be taken back.
        sleep(4 * WARM_UP / 10).await;
    }
    let deadline = Instant::now() + ARRIVAL_LIMIT;
    loop {
        let metrics = super::get(bridge.ops, "/metrics").await?;
        let seen = Interruptions::read(&metrics, told());
        if seen.cleared >= seen.told || Instant::now() >= deadline {
            return Ok(seen);
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Calls one after the other, each from a number of its own.
async fn place(
    count: usize,
    phone: &Phone,
    floor: &Arc<Floor>,
    hang_up: &CancellationToken,
) -> JoinSet<CallReport> {
    let mut calls = JoinSet::new();
    let mut next = interval(SPACING);
    // Calls that come in a burst would beat in step for as long as they last.
    next.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for call in 0..count {
        next.tick().await;
        let setup = CallSetup {
            from: format!("+1555{call:07}"),
            ..CallSetup::new(vec![])
        };
        let ear = Box::new(Ear {
            floor: floor.clone(),
            call,
            messages: 0,
        });
        let (phone, hang_up) = (phone.clone(), hang_up.clone());
        calls.spawn(async move { phone.load_call(setup, FOREVER, hang_up, ear).await });
    }
    calls
}

/// Waits until there is audio both ways on all calls; fails if one ends before.
async fn until_up(floor: &Floor, calls: &mut JoinSet<CallReport>) -> anyhow::Result<()> {
    let up = until(UP_LIMIT, async || floor.all_up());
    tokio::select! {
        up = up => anyhow::ensure!(up, "not all calls have audio both ways within {UP_LIMIT:?}"),
        Some(ended) = calls.join_next() => {
            let report = ended.context("a call's task")?;
            anyhow::bail!("a call ended at once: {:?}, {:?}", report.ended, report.violations);
        }
    }
    Ok(())
}

/// What was wrong with a call, as its telephone saw it.
fn complaints(report: &CallReport) -> Vec<String> {
    let mut complaints: Vec<String> = report.violations.iter().map(|v| v.0.clone()).collect();
    if report.ended != Ended::CallerHungUp {
        complaints.push(format!("a call ended by itself: {:?}", report.ended));
    }
    complaints
}
