//! `hume-bridge soak`: calls come and go for a long time, some of them over bad wires, and the
//! daemon must be at the end what it was at the beginning.
//!
//! As in [`super::load`] the daemon is a process of its own, and telephones and agents are here. So
//! many calls are held all the time: as soon as one has ended, the next takes its place. Calls end
//! in all the usual ways ([`fate`]), by the caller, by the agent's tool with a goodbye, by an
//! operator; and a share of the wires to telephones and to the agent has a fault of
//! [`super::faults`]. Which, is drawn from a seed. Every frame of a call without a fault is
//! accounted for ([`books`]), the daemon is watched ([`watch`]), and when the time is up and all
//! calls have ended, what is left of them is looked for.
//!
//! The agent's leg goes through the proxy on every call, so its latencies hold the proxy's too.

mod books;
mod call;
mod fate;
mod report;
mod watch;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use serde_json::Value;
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;

use self::{
    books::Books,
    call::Outcome,
    report::{Carried, Daemon, Report},
    watch::Watch,
};
use super::{
    bridge::{self, Bridge, Far, Setup},
    evi::{self, Evi},
    faults::{Kind, Plan, Proxy},
    measure::{
        self, PROBLEMS_TOLD, Way,
        process::{self, Process},
        rounded, until,
    },
    phone::{Phone, Switchboard},
    rest::{Rest, RestScript},
    scenario,
};
use crate::config::args::SoakArgs;

/// Between two calls' beginnings, so that they do not beat in step.
const SPACING: Duration = Duration::from_millis(37);
/// Sockets of a call on this side: telephone, agent, and two proxies between.
const SOCKETS: u64 = 6;
/// Between two looks at the daemon.
const LOOKS: Duration = Duration::from_secs(2);
/// Before so much of the time has passed, memory may grow: buffers and pools get their size.
const WARM_UP: f64 = 0.25;
/// For the daemon to have forgotten the calls. A telephone that has fallen silent for ever is given
/// up after 25 seconds.
const CLEAN_LIMIT: Duration = Duration::from_secs(60);
/// The agent's silence is noticed while most calls still last. A stalled wire is dead for the
/// bridge after that, whatever else is tried.
const CONFIG: &str = "calls.max_per_caller = 0\n\
                      hume.ping_interval = \"2s\"\n\
                      hume.pong_timeout = \"5s\"\n\
                      log.level = \"warn\"\n";

/// What the calls share.
struct Ground {
    seed: u64,
    books: Arc<Books>,
    phone: Phone,
    control: PathBuf,
    next: AtomicUsize,
    tally: Mutex<Tally>,
}

#[derive(Default)]
struct Tally {
    carried: Carried,
    /// Faults on the telephones' wires.
    struck: BTreeMap<Kind, u32>,
    up_lost: u64,
    down_lost: u64,
    problems: Vec<String>,
}

/// Runs the command; the exit code is 1 if anything was lost or left behind.
pub fn main(args: &SoakArgs) -> ExitCode {
    measure::main("soak", args.json, run(args))
}

async fn run(args: &SoakArgs) -> anyhow::Result<Report> {
    process::room_for(args.calls, SOCKETS)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let seed = match args.seed {
        Some(seed) => seed,
        None => a_seed()?,
    };
    let books = Arc::new(Books::default());
    let agent = Evi::start(evi::Script::echo_load(), agent_options(seed, &books)).await?;
    let plan: Plan =
        Arc::new(move |connection| fate::of_chat(seed, connection).into_iter().collect());
    let wire = Proxy::start(agent.addr, plan).await?;
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
        agent: Far::Hume(&wire.instead_of(&agent.url())),
        rest_url: &rest.url(),
        // Who has just ended may still be here when the next comes.
        config: &format!("calls.max_concurrent = {}\n{CONFIG}", 2 * args.calls + 10),
        passed: None,
    })
    .await?;
    let ground = Arc::new(Ground {
        seed,
        books: books.clone(),
        phone: Phone {
            switchboard,
            ..Phone::new(
                bridge::PUBLIC_URL,
                bridge.http,
                bridge::ACCOUNT_SID,
                bridge::AUTH_TOKEN,
            )
        },
        control: bridge.control.clone(),
        next: AtomicUsize::new(0),
        tally: Mutex::default(),
    });
    let mut watch = Watch::over(Process::of(bridge.pid()));
    // Before anything is asked: an answer's connection is a file of the daemon's for a moment.
    let begin = watch.look()?;
    let tasks_begin = tasks(&bridge).await?;

    eprintln!(
        "the daemon is process {}; {} calls at once for {} min, seed {seed}",
        bridge.pid(),
        args.calls,
        args.minutes
    );
    let own_begin = Process::own().look()?;
    let machine_begin = process::machine_cpu()?;
    let span = Duration::from_secs_f64(args.minutes * 60.0);
    let (began, stop) = (Instant::now(), CancellationToken::new());
    let mut slots = JoinSet::new();
    hold(args.calls, &ground, &stop, &mut slots).await;
    let mut looks = interval(LOOKS);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while began.elapsed() < span {
        tokio::select! {
            _ = looks.tick() => {
                let gone = || format!("the daemon is gone:\n{}", bridge.log().join("\n"));
                watch.look().with_context(gone)?;
            }
            () = sleep(span.saturating_sub(began.elapsed())) => {}
            // A slot ends by itself only in a panic.
            Some(slot) = slots.join_next() => slot.context("a call's task")?,
        }
    }
    let held = began.elapsed();
    let (end, own_end) = (watch.look()?, Process::own().look()?);
    let machine = (process::machine_cpu()? - machine_begin).as_secs_f64();
    let samples = watch.samples().to_vec();

    stop.cancel();
    while let Some(slot) = slots.join_next().await {
        slot.context("a call's task")?;
    }
    let mut problems = std::mem::take(&mut ground.tally().problems);
    problems.extend(rest.violations().into_iter().map(|violation| violation.0));
    // Connections to the REST API are kept for the next goodbye; without an API they go.
    drop(rest);
    let clean = until(CLEAN_LIMIT, async || {
        let gone = matches!(scenario::active_sessions(&bridge).await, Ok(0));
        let idle = matches!(tasks(&bridge).await, Ok(now) if now <= tasks_begin);
        // Last, so that the look behind this one finds the same.
        let now = Process::of(bridge.pid()).look();
        gone && idle && now.is_ok_and(|now| now.fds <= begin.fds)
    });
    clean.await;
    let after = watch.look()?;
    let mut carried = std::mem::take(&mut ground.tally().carried);
    carried.causes = causes(&super::get(bridge.ops, "/metrics").await?);
    let warm_up = span.as_secs_f64() * WARM_UP;
    let warm: Vec<_> = samples
        .iter()
        .copied()
        .filter(|sample| sample.at >= warm_up)
        .collect();
    let cpu = (end.cpu - begin.cpu).as_secs_f64();
    let own_cpu = (own_end.cpu - own_begin.cpu).as_secs_f64();
    let all = |of: fn(&watch::Sample) -> u64| samples.iter().map(of).max().unwrap_or(0);
    let daemon = Daemon {
        cpu_cores: rounded(cpu / held.as_secs_f64(), 4),
        cpu_seconds_per_call_minute: rounded(
            cpu / (args.calls as f64 * held.as_secs_f64() / 60.0),
            4,
        ),
        rss_begin_kib: begin.rss_kib,
        rss_max_kib: all(|sample| sample.look.rss_kib),
        rss_end_kib: after.rss_kib,
        rss_slope_kib_per_minute: watch::slope(&warm).map(|slope| rounded(slope, 2)),
        warm_up_seconds: rounded(warm_up, 1),
        samples: warm.len(),
        fds_begin: begin.fds,
        fds_max: all(|sample| sample.look.fds as u64) as usize,
        fds_end: after.fds,
        threads_begin: begin.threads,
        threads_max: all(|sample| sample.look.threads),
        threads_end: after.threads,
        tasks_begin,
        tasks_end: tasks(&bridge).await?,
        sessions_end: scenario::active_sessions(&bridge).await?,
    };
    match bridge.stop().await {
        Ok(exit) if exit.success() => {}
        Ok(exit) => problems.push(format!("the daemon ended with {exit}")),
        Err(error) => problems.push(format!("{error:#}")),
    }
    if bridge.log().iter().any(|line| line.contains("panicked")) {
        problems.push("a task of the daemon panicked".to_owned());
    }
    problems.extend(complaints(seed, &books, &agent.stop().await));
    problems.truncate(PROBLEMS_TOLD);
    let mut faults = wire.counts().struck;
    let tally = std::mem::take(&mut *ground.tally());
    for (kind, count) in tally.struck {
        *faults.entry(kind).or_default() += count;
    }
    Ok(Report {
        ok: tally.up_lost + tally.down_lost + carried.hung == 0
            && problems.is_empty()
            && !daemon.keeps_something(),
        calls: args.calls,
        minutes: args.minutes,
        seed,
        cores,
        carried,
        faults: faults
            .into_iter()
            .map(|(kind, n)| (kind.as_str(), n))
            .collect(),
        up: Way::of(&books.up, tally.up_lost),
        down: Way::of(&books.down, tally.down_lost),
        daemon,
        generator_cpu_cores: rounded(own_cpu / held.as_secs_f64(), 4),
        others_cpu_cores: rounded((machine - cpu - own_cpu).max(0.0) / held.as_secs_f64(), 4),
        problems,
    })
}

/// Hooks that keep the books of what the agent hears and says.
fn agent_options(seed: u64, books: &Arc<Books>) -> evi::Options {
    let (up, down, leaves) = (books.clone(), books.clone(), books.clone());
    let faulted = move |connection| fate::of_chat(seed, connection).is_some();
    evi::Options {
        api_key: bridge::HUME_KEY.to_owned(),
        audio_frames_kept: 0,
        caller_samples_kept: 0,
        hooks: evi::Hooks {
            on_uplink: Some(Arc::new(move |connection, text, at| {
                up.uplink(connection, text, at, faulted);
            })),
            on_sent: Some(Arc::new(move |connection, number, at| {
                down.downlink(connection, number, at);
            })),
            leaves: Some(Arc::new(move |connection| leaves.leaves(connection))),
            interrupted: None,
        },
        ..evi::Options::default()
    }
}

/// Starts to hold so many calls.
async fn hold(
    calls: usize,
    ground: &Arc<Ground>,
    stop: &CancellationToken,
    slots: &mut JoinSet<()>,
) {
    let mut next = interval(SPACING);
    for _ in 0..calls {
        next.tick().await;
        let (ground, stop) = (ground.clone(), stop.clone());
        slots.spawn(async move {
            while !stop.is_cancelled() {
                let call = ground.next.fetch_add(1, Relaxed);
                let outcome = call::carry(&ground, call, &stop).await;
                ground.enter(outcome);
                // A daemon that takes no call is not to be hammered.
                sleep(SPACING).await;
            }
        });
    }
}

impl Ground {
    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call that is over.
    fn enter(&self, outcome: Outcome) {
        let mut tally = self.tally();
        let carried = &mut tally.carried;
        carried.calls += 1;
        match outcome.faulted {
            true => carried.with_fault += 1,
            false => carried.without_fault += 1,
        }
        match &outcome.ended {
            Some(ended) => {
                let word = scenario::ended_word(ended);
                *carried.ended.entry(word.to_owned()).or_default() += 1;
            }
            None => carried.hung += 1,
        }
        for (kind, count) in outcome.struck {
            *tally.struck.entry(kind).or_default() += count;
        }
        tally.up_lost += outcome.up_lost;
        tally.down_lost += outcome.down_lost;
        let room = PROBLEMS_TOLD.saturating_sub(tally.problems.len());
        tally
            .problems
            .extend(outcome.problems.into_iter().take(room));
    }
}

/// What the bridge did wrong on wires that were good at both ends.
fn complaints(seed: u64, books: &Books, record: &evi::Record) -> Vec<String> {
    let complaint = |event: &evi::Event| match &event.what {
        evi::What::Violation { what }
            if fate::of_chat(seed, event.connection).is_none()
                && !books.excused(event.connection) =>
        {
            Some(what.clone())
        }
        _ => None,
    };
    record.events.iter().filter_map(complaint).collect()
}

/// The daemon's tasks, which a leak would make more.
async fn tasks(bridge: &Bridge) -> anyhow::Result<u64> {
    let status: Value = serde_json::from_str(&super::get(bridge.ops, "/status").await?)?;
    status["process"]["tasks"]
        .as_u64()
        .context("no process.tasks in /status")
}

/// How calls have ended for the daemon, by cause.
fn causes(metrics: &str) -> BTreeMap<String, u64> {
    let cause = |line: &str| {
        let rest = line.strip_prefix("hume_bridge_calls_ended_total{cause=\"")?;
        let (cause, count) = rest.split_once("\"} ")?;
        let count = count
            .trim()
            .parse::<u64>()
            .ok()
            .filter(|count| *count > 0)?;
        Some((cause.to_owned(), count))
    };
    metrics.lines().filter_map(cause).collect()
}

/// Short enough to be typed, and a number in any reader of JSON.
fn a_seed() -> anyhow::Result<u64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(u64::from(now.subsec_nanos()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_read_from_the_metrics() {
        let metrics = "# HELP hume_bridge_calls_ended_total Calls\n\
                       hume_bridge_calls_ended_total{cause=\"caller-hung-up\"} 12\n\
                       hume_bridge_calls_ended_total{cause=\"drain\"} 0\n\
                       hume_bridge_calls_total 12\n";
        assert_eq!(causes(metrics), [("caller-hung-up".to_owned(), 12)].into());
    }
}
