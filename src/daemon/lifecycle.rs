//! From READY to the exit code.
//!
//! The first SIGTERM or SIGINT begins a drain: no new calls, those that are live or admitted finish
//! undisturbed. After `calls.drain_limit`, or at a second signal, what is left is hung up. Only then
//! do the listeners go: a draining daemon still answers `/voice/after` and the media sockets of the
//! calls it admitted. SIGHUP reloads. A listener that ends by itself ends the process with a failure.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures_util::StreamExt as _;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook_tokio::Signals;
use tokio::{task::JoinSet, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use super::{notify, office::Office};
use crate::admin::desk::Control as _;
use crate::session::registry::Registry;

/// How often the state is told to systemd, and how much more time each telling asks for.
const BEAT: Duration = Duration::from_secs(1);
const EXTENSION: Duration = Duration::from_secs(10);
/// For calls that have been told to end: REST, the closing handshakes, and a margin.
const HARD_LIMIT: Duration = Duration::from_secs(8);
/// Twilio asks `/voice/after` right after a stream has been closed; that answer is still given.
const LINGER: Duration = Duration::from_secs(1);
/// For connections and clients to notice the end.
const LAST_LIMIT: Duration = Duration::from_secs(2);

/// What has to be kept, and in the end left, in order.
pub struct House {
    pub registry: std::sync::Arc<Registry>,
    pub calls: TaskTracker,
    pub tasks: TaskTracker,
    pub servers: JoinSet<()>,
    pub hard: CancellationToken,
    pub office: std::sync::Arc<Office>,
}

/// The signals, from before anything else is started, so that none is lost.
pub fn signals() -> anyhow::Result<Signals> {
    Signals::new([SIGTERM, SIGINT, SIGHUP]).context("cannot listen for signals")
}

/// Returns when the daemon has left in good order.
pub async fn keep(mut house: House, mut signals: Signals) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut watchdog = Watchdog::new();
    let mut beat = tokio::time::interval(watchdog.beat());
    let mut told = (0, false);
    loop {
        tokio::select! {
            signal = signals.next() => match signal {
                Some(SIGHUP) => {
                    notify::reloading();
                    // What came of it is in the log; systemd only learns that it is over.
                    _ = house.office.reload();
                    notify::reloaded();
                }
                Some(_) => break,
                None => anyhow::bail!("the signal stream ended"),
            },
            _ = beat.tick() => {
                watchdog.feed();
                let state = (house.registry.active(), house.registry.draining());
                if state != told {
                    told = state;
                    notify::calls(state.0, state.1);
                }
            }
            died = house.servers.join_next() => died_by_itself(died)?,
        }
    }
    drain(&mut house, &mut signals, &mut watchdog).await?;
    house.hard.cancel();
    house.tasks.close();
    house.calls.close();
    let rest = async {
        house.tasks.wait().await;
        house.calls.wait().await;
        while house.servers.join_next().await.is_some() {}
    };
    if timeout(LAST_LIMIT, rest).await.is_err() {
        warn!("left behind some connections that did not close in time");
    }
    info!(seconds = started.elapsed().as_secs(), "stopped");
    Ok(())
}

async fn drain(
    house: &mut House,
    signals: &mut Signals,
    watchdog: &mut Watchdog,
) -> anyhow::Result<()> {
    let limit = house.office.drain_limit();
    house.registry.stop();
    let owed = house.registry.owed(Instant::now());
    info!(calls = owed, limit_secs = limit.as_secs(), "draining");
    notify::stopping(owed);
    let mut give_up = tokio::time::Instant::now() + limit;
    let mut told_to_end = false;
    let mut beat = tokio::time::interval(watchdog.beat());
    let mut had_calls = false;
    loop {
        let owed = house.registry.owed(Instant::now());
        if owed == 0 {
            break;
        }
        had_calls = true;
        tokio::select! {
            () = house.registry.next_end() => {}
            _ = beat.tick() => {
                watchdog.feed();
                notify::draining(owed, EXTENSION);
            }
            signal = signals.next() => match signal {
                Some(SIGHUP) => {}
                _ => give_up = tokio::time::Instant::now(),
            },
            () = tokio::time::sleep_until(give_up) => {
                if told_to_end {
                    warn!(calls = owed, "calls that do not end are cut off");
                    break;
                }
                told_to_end = true;
                let live = house.registry.close();
                info!(calls = live, "the drain is over, hanging up");
                if live == 0 {
                    break;
                }
                give_up = tokio::time::Instant::now() + HARD_LIMIT;
            }
            died = house.servers.join_next() => died_by_itself(died)?,
        }
    }
    if had_calls {
        tokio::time::sleep(LINGER).await;
    }
    Ok(())
}

fn died_by_itself(died: Option<Result<(), tokio::task::JoinError>>) -> anyhow::Result<()> {
    match died {
        Some(Err(error)) => Err(error).context("a listener died"),
        Some(Ok(())) | None => anyhow::bail!("a listener ended by itself"),
    }
}

/// Systemd's watchdog, fed by this loop and only while the runtime's workers still run what they are
/// given: a loop that turns over stuck workers is no sign of health.
struct Watchdog {
    limit: Option<Duration>,
    probe: Option<tokio::task::JoinHandle<()>>,
}

impl Watchdog {
    fn new() -> Self {
        Watchdog {
            limit: notify::watchdog_limit(),
            probe: None,
        }
    }

    /// How often to feed: each second, and thrice within the limit.
    fn beat(&self) -> Duration {
        self.limit.map_or(BEAT, |limit| BEAT.min(limit / 3))
    }

    fn feed(&mut self) {
        if self.limit.is_none() {
            return;
        }
        if self.probe.as_ref().is_none_or(|probe| probe.is_finished()) {
            // The first beat comes before any probe: READY has just been said.
            notify::alive();
            self.probe = Some(tokio::spawn(std::future::ready(())));
        }
    }
}
