//! One call, from its placing to the end that its fate has for it.

use std::{collections::BTreeMap, path::Path, pin::Pin, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Ground,
    books::{Ear, Line},
    fate::{End, Fate},
};
use crate::sim::{
    faults::{Kind, Proxy},
    measure::{ARRIVAL_LIMIT, HANG_UP_LIMIT},
    phone::{CallReport, CallSetup, Ended, Event, Phone},
};

/// Calls last until they are ended; this only has to be longer than any run.
const FOREVER: Duration = Duration::from_secs(1_000_000_000);
/// From a call's placing to audio both ways.
const UP_LIMIT: Duration = Duration::from_secs(20);
/// From the order to hang up, or the agent's wish, to the end of the call: a turn of the agent's
/// that is under way may last ten seconds, and the bridge has limits of its own.
const GOODBYE_LIMIT: Duration = Duration::from_secs(45);
/// The same on a call with a fault, whose agent or telephone may be deaf to it.
const GOODBYE_LIMIT_FAULTED: Duration = Duration::from_secs(5);
/// Between two looks at the books: no multiple of the beats of frames and messages.
const ASKED: Duration = Duration::from_millis(47);
/// For an answer on the control socket.
const ORDER_LIMIT: Duration = Duration::from_secs(10);

/// A telephone on the line.
type Carried = Pin<Box<dyn Future<Output = CallReport> + Send>>;

/// What became of a call.
#[derive(Debug, Default)]
pub struct Outcome {
    pub faulted: bool,
    /// How it ended for the caller. `None`: it did not.
    pub ended: Option<Ended>,
    /// Frames that did not arrive; counted on calls without a fault.
    pub up_lost: u64,
    pub down_lost: u64,
    /// Faults that struck the telephone's wire.
    pub struck: BTreeMap<Kind, u32>,
    /// What must not be on a call without a fault.
    pub problems: Vec<String>,
}

/// Carries a call. It ends early when `stop` says so, in its own way.
pub async fn carry(ground: &Ground, call: usize, stop: &CancellationToken) -> Outcome {
    let fate = Fate::of(ground.seed, call);
    let line = ground.books.begin(call, fate.fault.is_some());
    let mut outcome = Outcome::default();
    match wire(ground, &fate).await {
        Err(error) => outcome.problems.push(format!("call {call}: {error:#}")),
        Ok(wire) => {
            let phone = Phone {
                dial: wire.as_ref().map_or(ground.phone.dial, |wire| wire.addr),
                ..ground.phone.clone()
            };
            let led = lead(ground, phone, &fate, &line, stop, &mut outcome).await;
            if let Err(error) = led {
                outcome.problems.push(format!("call {call}: {error:#}"));
            }
            outcome.struck = wire.map(|wire| wire.counts().struck).unwrap_or_default();
        }
    }
    outcome.faulted = line.faulted();
    if outcome.faulted {
        outcome.problems.clear();
        (outcome.up_lost, outcome.down_lost) = (0, 0);
    } else if line.chats() > 1 {
        outcome.problems.push(format!(
            "call {call} lost its agent, and no fault had struck"
        ));
    }
    ground.books.close(&line);
    outcome
}

/// The telephone's own wire to the bridge, if something is to befall it.
async fn wire(ground: &Ground, fate: &Fate) -> anyhow::Result<Option<Proxy>> {
    let Some(fault) = fate.fault else {
        return Ok(None);
    };
    let wire = Proxy::start(ground.phone.dial, fault.always()).await;
    wire.context("no proxy").map(Some)
}

async fn lead(
    ground: &Ground,
    phone: Phone,
    fate: &Fate,
    line: &Arc<Line>,
    stop: &CancellationToken,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let call = line.call;
    let setup = CallSetup {
        from: format!("+1555{:07}", call % 10_000_000),
        ..CallSetup::new(vec![])
    };
    let ear = Box::new(Ear {
        books: ground.books.clone(),
        line: line.clone(),
        messages: 0,
    });
    let (call_sid, hang_up) = (setup.call_sid.clone(), CancellationToken::new());
    let told = hang_up.clone();
    let mut carried: Carried =
        Box::pin(async move { phone.load_call(setup, FOREVER, told, ear).await });
    let lived = tokio::select! {
        report = &mut carried => Ok(Some(report)),
        done = live(ground, fate, &call_sid, line, stop, outcome) => done.map(|()| None),
    };
    let report = match lived {
        Ok(report) => report,
        Err(error) => {
            outcome.ended = Some(off_the_line(&hang_up, &mut carried).await?.ended);
            return Err(error);
        }
    };
    let report = match (report, fate.end) {
        (Some(report), _) => {
            let ended = report.ended.clone();
            outcome.ended = Some(report.ended);
            anyhow::bail!("it ended by itself: {ended:?}");
        }
        (None, End::Caller) => off_the_line(&hang_up, &mut carried).await?,
        (None, End::Agent | End::Operator { .. }) => {
            let limit = match line.faulted() {
                true => GOODBYE_LIMIT_FAULTED,
                false => GOODBYE_LIMIT,
            };
            match timeout(limit, &mut carried).await {
                Ok(report) => report,
                Err(_) => {
                    let report = off_the_line(&hang_up, &mut carried).await?;
                    outcome.ended = Some(report.ended);
                    anyhow::bail!("it was to be ended by {:?} and was not", fate.end);
                }
            }
        }
    };
    outcome.ended = Some(report.ended.clone());
    let expected = match fate.end {
        End::Caller => Ended::CallerHungUp,
        End::Agent | End::Operator { .. } => Ended::RestCompleted,
    };
    anyhow::ensure!(
        report.ended == expected,
        "it was to be ended by {:?} and was by {:?}",
        fate.end,
        report.ended
    );
    if fate.end == End::Agent {
        // The agent has said nothing behind its goodbye, and nothing of that may be missing.
        outcome.down_lost += line.missing().1;
        let unheard = report.entries.iter().find_map(|entry| match entry.event {
            Event::StreamOver { unplayed, .. } if unplayed > 0 => Some(unplayed / 8),
            _ => None,
        });
        if let Some(ms) = unheard {
            let cut = format!("call {call}: {ms} ms of the agent's goodbye were cut");
            outcome.problems.push(cut);
        }
    }
    let violations = report.violations.iter();
    let complaints = violations.map(|what| format!("call {call}: {what}"));
    outcome.problems.extend(complaints);
    Ok(())
}

/// Lets the conversation go on, looks whether everything said so far was heard, and has the call
/// ended, but by the caller.
async fn live(
    ground: &Ground,
    fate: &Fate,
    call_sid: &str,
    line: &Line,
    stop: &CancellationToken,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let up = comes(UP_LIMIT, line, Line::is_up).await;
    if !line.faulted() {
        anyhow::ensure!(up, "there was no audio both ways within {UP_LIMIT:?}");
    }
    tokio::select! {
        () = sleep(fate.lasts) => {}
        () = stop.cancelled() => {}
    }
    // Somebody is always speaking, but for moments nothing is under way: on a call that loses
    // nothing there is such a moment soon.
    let settled = |line: &Line| line.missing() == (0, 0) || line.faulted();
    let even = comes(ARRIVAL_LIMIT, line, settled).await;
    if !even {
        let (up, down) = line.missing();
        outcome.up_lost += up;
        outcome.down_lost += down;
    }
    match fate.end {
        End::Caller => {}
        End::Agent => line.let_agent_leave(),
        End::Operator { now } => {
            let ordered = order(&ground.control, call_sid, now).await;
            if !line.faulted() {
                ordered?;
            }
        }
    }
    Ok(())
}

/// Asks until it is so, or the time is up.
async fn comes(limit: Duration, line: &Line, so: impl Fn(&Line) -> bool) -> bool {
    let asked = async {
        while !so(line) {
            sleep(ASKED).await;
        }
    };
    timeout(limit, asked).await.is_ok()
}

async fn off_the_line(
    hang_up: &CancellationToken,
    carried: &mut Carried,
) -> anyhow::Result<CallReport> {
    hang_up.cancel();
    timeout(HANG_UP_LIMIT, carried)
        .await
        .context("the telephone is still on the line 30 s after it was hung up")
}

/// An operator's `hangup`, as hume-bridge-admin(7) describes it.
async fn order(control: &Path, call_sid: &str, now: bool) -> anyhow::Result<()> {
    let exchange = async {
        let mut socket = BufReader::new(UnixStream::connect(control).await?);
        let order = serde_json::json!({
            "protocol": 1, "op": "hangup", "call": call_sid, "now": now, "reason": "soak",
        });
        socket.write_all(format!("{order}\n").as_bytes()).await?;
        let mut answer = String::new();
        socket.read_line(&mut answer).await?;
        anyhow::Ok(answer)
    };
    let answer = timeout(ORDER_LIMIT, exchange)
        .await
        .context("no answer on the control socket")??;
    let answer: serde_json::Value = serde_json::from_str(&answer)?;
    anyhow::ensure!(answer.get("ok").is_some(), "hangup was refused: {answer}");
    Ok(())
}
