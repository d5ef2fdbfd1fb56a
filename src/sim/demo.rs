//! `hume-bridge demo`: one whole call, on this machine, without an account.
//!
//! Starts a real daemon (this very program) on free loopback ports between the simulators, carries
//! the story `demo` through it, tells it as it happens, and leaves behind what was heard:
//! `call.wav` (left the caller, right the agent, as the caller heard it) and `call.json`. It says
//! only what was observed at the far ends, and its exit code is 0 only if all of it was.

use std::{
    fmt::Write as _,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use serde::Serialize;

use super::{
    ear,
    evi::{self, Millis},
    phone::{self, CallReport, CallSetup, Document, Ended, Event, Step, Turn},
    scenario::{Observed, Story, World, ended_word},
    speech, tape,
};
use crate::config::args::DemoArgs;

/// Where the recording goes when nobody says.
const OUT: &str = "demo-out";
/// How much faster than real time `--fast` is. The daemon's own deadlines stay what they are.
const FAST: f64 = 4.0;
/// The name of the caller's own recording among the clips.
const OWN: &str = "caller-own";

/// The command.
pub fn main(args: &DemoArgs) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let result = runtime
        .context("cannot start the runtime")
        .and_then(|runtime| runtime.block_on(super::unless_stopped(demo(args))));
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("hume-bridge demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn demo(args: &DemoArgs) -> anyhow::Result<bool> {
    let out = args.out.clone().unwrap_or_else(|| PathBuf::from(OUT));
    let mut story = Story::named_with("demo", args.agent)?;
    let own = match &args.caller {
        Some(path) => Some(own_words(path, &mut story)?),
        None => None,
    };
    // Before the call, so that nobody listens to it for nothing.
    std::fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let pace = pace(args);

    let mut world = World::start(&story, &program, pace).await?;
    if let Some(own) = own {
        world.phone.options.clips.insert(OWN.to_owned(), own);
    }
    say(&format!("{}\n\n", story.title));
    let mut setup = CallSetup::new(story.caller.steps.clone());
    setup.from = "+15551234567".to_owned();
    let placed_ms = world.agent.now_ms();
    let call = narrate(&world, setup, pace).await;
    let mut observed = world.end(call).await?;
    for event in &mut observed.agent.events {
        event.at_ms = (event.at_ms - placed_ms).round();
    }
    let missed = observed.missed(&story.expect);

    let turns = observed.call.turns();
    say(&summary(&observed, &story, &missed));
    write_recording(&out, &observed.call)?;
    write_record(&out, &story, args, &observed, &turns, &missed)?;
    say(&format!(
        "\n{} (left the caller, right the agent as the caller heard it)\n{}\n",
        out.join("call.wav").display(),
        out.join("call.json").display()
    ));
    Ok(missed.is_empty())
}

fn pace(args: &DemoArgs) -> f64 {
    if args.fast { FAST } else { 1.0 }
}

/// The caller's recording, and the story changed to fit it.
fn own_words(path: &Path, story: &mut Story) -> anyhow::Result<Arc<[u8]>> {
    let name = path.display();
    let mulaw = tape::read(path)?;
    let spans = ear::speech(&mulaw);
    let (Some(first), Some(last)) = (spans.first(), spans.last()) else {
        anyhow::bail!("{name}: no speech louder than -45 dBFS in it");
    };
    // Silence around the words is not heard by anybody, and cannot be looked for.
    let sample = |at: Duration| (at.as_micros() / 125) as usize;
    let mulaw = mulaw[sample(first.start)..sample(last.end).min(mulaw.len())].to_vec();
    // The simulated agent takes a pause for the end of what is said; it must not take these.
    let pause = spans
        .windows(2)
        .map(|pair| pair[1].start - pair[0].end)
        .max()
        .unwrap_or_default();
    let end_of_turn = (pause.as_millis() as f64 + 300.0).max(story.agent.end_of_turn.0);
    story.agent.end_of_turn = Millis(end_of_turn);
    let first = story
        .caller
        .steps
        .iter_mut()
        .find(|step| matches!(step, Step::Say(_)));
    if let Some(Step::Say(clip)) = first {
        story.expect.agent_heard.retain(|heard| heard != clip);
        story.expect.agent_heard.push(OWN.to_owned());
        OWN.clone_into(clip);
    }
    Ok(mulaw.into())
}

/// Carries the call and tells what happens, as it happens.
async fn narrate(world: &World, setup: CallSetup, pace: f64) -> CallReport {
    let begun = Instant::now();
    let call = world.phone.start(setup);
    let mut entries = call.entries();
    let mut agent_seen = 0;
    let mut last_word = None;
    loop {
        tokio::select! {
            entry = entries.next() => {
                let Some(entry) = entry else { break };
                if let Some(line) = caller_side(world, &entry.event, entry.at, &mut last_word) {
                    tell(entry.at, &line);
                }
            }
            () = world.agent.until(|record| record.events.len() > agent_seen) => {
                let record = world.agent.record();
                for event in &record.events[agent_seen..] {
                    if let Some(line) = agent_side(&event.what) {
                        tell(begun.elapsed().mul_f64(pace), &line);
                    }
                }
                agent_seen = record.events.len();
            }
        }
    }
    call.finish().await
}

fn caller_side(
    world: &World,
    event: &Event,
    at: Duration,
    last_word: &mut Option<Duration>,
) -> Option<String> {
    Some(match event {
        Event::Fetched {
            what: Document::Webhook,
            status,
            ..
        } => {
            format!("Twilio   asks /voice/incoming what to do: {status}, TwiML")
        }
        Event::Fetched { status, .. } => format!("Twilio   asks /voice/after: {status}, TwiML"),
        Event::StreamStarted { .. } => "Twilio   media stream open".to_owned(),
        Event::Said { text } => format!("Twilio   says \"{text}\""),
        Event::PlayingBegan => {
            let words = words_being_said(world);
            match last_word.take() {
                Some(asked) => format!(
                    "agent    \"{words}\"  ({} after the caller's last word)",
                    seconds(at.saturating_sub(asked))
                ),
                None => format!("agent    \"{words}\""),
            }
        }
        Event::ClipBegan { name } => format!("caller   \"{}\"", words(name)),
        Event::ClipEnded { .. } => {
            *last_word = Some(at);
            return None;
        }
        Event::ClearReceived { flushed, .. } => format!(
            "bridge   the caller interrupts: {} of queued speech taken back",
            seconds(Duration::from_micros(*flushed as u64 * 125))
        ),
        Event::Ended { how } => format!("Twilio   {}", ended_sentence(how)),
        _ => return None,
    })
}

fn agent_side(what: &evi::What) -> Option<String> {
    Some(match what {
        evi::What::Ready { .. } => "agent    is connected".to_owned(),
        evi::What::ToolCalled { name, .. } => format!("agent    calls the tool {name}"),
        evi::What::ToolAnswered { ok, latency_ms, .. } => format!(
            "bridge   {} the tool call after {latency_ms:.1} ms",
            if *ok { "answers" } else { "refuses" }
        ),
        _ => return None,
    })
}

/// What the agent began to say last.
fn words_being_said(world: &World) -> String {
    let record = world.agent.record();
    let saying = record
        .events
        .iter()
        .rev()
        .find_map(|event| match &event.what {
            evi::What::Saying { clip, .. } => Some(clip.clone()),
            _ => None,
        });
    words(saying.as_deref().unwrap_or_default())
}

fn words(clip: &str) -> String {
    match clip {
        OWN => "(your recording)".to_owned(),
        _ => speech::transcript(clip).unwrap_or("...").to_owned(),
    }
}

fn ended_sentence(how: &Ended) -> String {
    match how {
        Ended::RestCompleted => "the bridge has ended the call by REST".to_owned(),
        Ended::Hangup => "the bridge has ended the call by <Hangup/>".to_owned(),
        other => format!("the call is over: {}", ended_word(other)),
    }
}

fn summary(observed: &Observed, story: &Story, missed: &[String]) -> String {
    let mut text = String::from("\nObserved at the far ends:\n");
    let own = story.agent.end_of_turn.0 / 1000.0 + 0.3;
    _ = writeln!(
        text,
        "        of each answer's delay the simulated agent takes about {own:.1} s to be sure and to think"
    );
    for name in &story.expect.heard {
        if let Some(found) = observed.find(name, 0).filter(ear::Found::is_whole) {
            let at = seconds(Duration::from_micros(found.at as u64 * 125));
            _ = writeln!(text, "  ok    heard whole, from {at}: \"{}\"", words(name));
        }
    }
    for name in &story.expect.cut {
        if observed
            .find(name, 0)
            .is_some_and(|found| !found.is_whole())
        {
            _ = writeln!(
                text,
                "  ok    interrupted, then silence: \"{}\"",
                words(name)
            );
        }
    }
    if missed.is_empty() {
        _ = writeln!(text, "  ok    the agent heard every word of the caller");
        _ = writeln!(text, "  ok    every tool call was answered");
        _ = writeln!(
            text,
            "  ok    the call ended after the goodbye's last word; nothing was left behind"
        );
    }
    for what in missed {
        _ = writeln!(text, "  FAIL  {what}");
    }
    text
}

/// Left the caller, right the agent.
fn write_recording(out: &Path, call: &CallReport) -> anyhow::Result<()> {
    let path = out.join("call.wav");
    std::fs::File::create(&path)
        .and_then(|mut file| tape::write(&mut file, &call.spoken, &call.heard))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// `call.json`. Times are the call's own, from the moment it was placed.
#[derive(Serialize)]
struct Record<'a> {
    title: &'a str,
    version: &'static str,
    /// By its name in the config; `agent` below is what it did.
    agent_kind: &'static str,
    pace: f64,
    ended: &'static str,
    cause: Option<String>,
    seconds: f64,
    turns: Vec<TurnRecord>,
    observed: bool,
    missed: &'a [String],
    telephone: &'a [phone::Entry],
    agent: &'a [evi::Event],
}

#[derive(Serialize)]
struct TurnRecord {
    caller: String,
    said_ms: u64,
    /// To the first audible speech; a message's first milliseconds may be silence.
    answered_after_ms: Option<u64>,
}

fn write_record(
    out: &Path,
    story: &Story,
    args: &DemoArgs,
    observed: &Observed,
    turns: &[Turn],
    missed: &[String],
) -> anyhow::Result<()> {
    let record = Record {
        title: &story.title,
        version: env!("CARGO_PKG_VERSION"),
        agent_kind: args.agent.as_str(),
        pace: pace(args),
        ended: ended_word(&observed.call.ended),
        cause: observed.cause(),
        seconds: observed.call.ended_at.as_secs_f64(),
        turns: turns
            .iter()
            .map(|turn| TurnRecord {
                caller: words(&turn.clip),
                said_ms: turn.said_at.as_millis() as u64,
                answered_after_ms: turn.answered_after.map(|after| after.as_millis() as u64),
            })
            .collect(),
        observed: missed.is_empty(),
        missed,
        telephone: &observed.call.entries,
        agent: &observed.agent.events,
    };
    let path = out.join("call.json");
    let json = serde_json::to_string_pretty(&record).context("call.json")?;
    std::fs::write(&path, json).with_context(|| format!("cannot write {}", path.display()))
}

fn seconds(span: Duration) -> String {
    format!("{:.2} s", span.as_secs_f64())
}

fn tell(at: Duration, line: &str) {
    say(&format!("{:>7.2} s  {line}\n", at.as_secs_f64()));
}

fn say(text: &str) {
    // A reader that has gone away has seen enough; the recording is made all the same.
    let mut out = std::io::stdout();
    _ = out.write_all(text.as_bytes());
    _ = out.flush();
}
