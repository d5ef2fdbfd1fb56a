//! What `.ci/run` holds against other people's code: `cargo run --example conformance -- OUTDIR`.
//!
//! First every story that ships is told with the `hume-bridge` beside this program, by each agent that
//! it can be told with, and every frame that the bridge sent to the simulated EVI goes to
//! OUTDIR/frames.jsonl; after them one frame of each kind that the codec can write and that no caller
//! brings about, so that Hume's own packages judge all of them. What went to the simulated Realtime
//! server is in OUTDIR/frames-realtime.jsonl, and what the codec can write for other servers than
//! OpenAI's in a file for each. Then a bridge and its simulators stay up for Hume's client, for Twilio's
//! signatures and for the official Realtime client. Where they are is printed, a word and a value a
//! line; FRAMES comes last. When stdin ends, the bridge is told to stop, and how it does is the exit
//! code; if stdin ends before, all that was started is killed.

mod realtime;

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::Context as _;
use hume_bridge::{
    agent::{Briefing, Codec as _, Command, Declared, Persona, ToolResult, evi},
    config::{AgentKind, Secret, Variable},
    sim::{
        bridge::{ACCOUNT_SID, AUTH_TOKEN, HUME_KEY, PUBLIC_URL, REALTIME_KEY},
        scenario::{STORIES, Story, World, tell},
    },
};
use tokio::{
    sync::{Semaphore, oneshot},
    task::JoinSet,
};

/// As in the tests: how much faster than real time a story is told.
const PACE: f64 = 2.0;
/// Stories wait most of the time, so several are told at once.
const AT_ONCE: usize = 8;

/// Whom Hume's client meets: says every type of message that EVI has, the error last. The bridge's
/// greeting is hard to put into XML; one caller's many webhooks, signed and not, are all looked at; and
/// its drain does not wait long for the calls that they announce, none of which comes.
const AGENT: &str = r#"
title = "An agent for Hume's own client"
config = '''
calls.greeting = "<Tom> & \"Jerry's\" café"
calls.drain_limit = "1s"
calls.max_per_caller = 0
listen.unsigned_rate = 0
'''

[agent]
prosody = true
mirror_settings = true
greeting = [{ say = "agent-greeting" }, { end = true }]

[[agent.replies]]
heard = "what are your opening hours"
interims = ["what are"]
steps = [
  { web_search = true },
  { tool = { name = "opening_hours", parameters = "{\"day\":\"today\"}" } },
]

[[agent.replies]]
on = "tool_answer"
steps = [
  { say = "agent-saturday", rate = 24000, list_chunk = true, quick = true },
  { tool = { name = "weather", wait = false } },
  { server_tool_error = true },
  { end = true },
  { spurious_interruption = true },
  { error = "I0116", slug = "simulated_end" },
  { close = 1000 },
]

[expect]
ended = "rest"
"#;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        // What went wrong and no backtrace: whoever looks at a log's end wants to see it there.
        Err(error) => {
            eprintln!("conformance: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> anyhow::Result<()> {
    let outdir = std::env::args_os()
        .nth(1)
        .map(PathBuf::from)
        .context("usage: conformance OUTDIR")?;
    let (tell_end, mut end) = oneshot::channel();
    // A thread, for the runtime would not end before its own reader of stdin does.
    std::thread::spawn(move || {
        let read = io::copy(&mut io::stdin().lock(), &mut io::sink());
        tell_end.send(read.map(drop))
    });
    let (world, servers) = tokio::select! {
        prepared = prepare(&outdir) => prepared?,
        _ = &mut end => anyhow::bail!("stdin ended before there was a bridge"),
    };
    end.await.context("nobody reads stdin")??;
    let stopped = stop(world).await;
    servers.stop().await?;
    stopped
}

/// Tells the stories, writes their frames, and starts the world that stays up.
async fn prepare(outdir: &Path) -> anyhow::Result<(World, realtime::Servers)> {
    let program = bridge_program()?;
    let mut hume = String::new();
    let mut realtime = realtime::Files::default();
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut telling = JoinSet::new();
    for (name, text) in STORIES {
        let story = Story::parse(text).with_context(|| format!("story {name}"))?;
        for kind in story.agents {
            let story = Story::with(text, kind).with_context(|| format!("story {name}"))?;
            let (places, program) = (places.clone(), program.clone());
            telling.spawn(async move {
                let _place = places.acquire_owned().await?;
                Ok((kind, story.server, told(name, &story, &program).await))
            });
        }
    }
    // All are told, however many fail: one run shows everything that is wrong.
    let (mut count, mut failed) = (0, Vec::new());
    while let Some(told) = telling.join_next().await {
        let told: anyhow::Result<_> = told.context("a simulator panicked")?;
        let (kind, server, told) = told?;
        count += 1;
        match (kind, told) {
            (AgentKind::Hume, Ok(sent)) => hume.push_str(&sent),
            (AgentKind::Realtime, Ok(sent)) => realtime.told(server, &sent),
            (_, Err(error)) => failed.push(error),
        }
    }
    // Once more, behind everybody's logs.
    for error in &failed {
        eprintln!("{error:#}");
    }
    anyhow::ensure!(
        failed.is_empty(),
        "{} of {count} stories did not end as they should",
        failed.len()
    );
    hume.push_str(&every_command());
    let path = write(outdir, "frames.jsonl", &hume)?;
    for (name, server) in realtime::servers() {
        realtime.of(name).push_str(&realtime::every_command(server));
    }
    for (name, frames) in &realtime.0 {
        write(outdir, &format!("frames-realtime{name}.jsonl"), frames)?;
    }
    let realtime_path = outdir.join("frames-realtime.jsonl");

    let world = World::start(&Story::parse(AGENT)?, &program, 1.0).await?;
    let servers = realtime::Servers::start().await?;
    let mut out = io::stdout().lock();
    writeln!(out, "EVI ws://{}", world.agent.addr)?;
    writeln!(out, "KEY {HUME_KEY}")?;
    writeln!(out, "HTTP http://{}", world.bridge.http)?;
    writeln!(out, "PUBLIC {PUBLIC_URL}")?;
    writeln!(out, "ACCOUNT {ACCOUNT_SID}")?;
    writeln!(out, "TOKEN {AUTH_TOKEN}")?;
    writeln!(out, "REALTIME {}", servers.right.url())?;
    writeln!(out, "STRICT {}", servers.wrong.url())?;
    writeln!(out, "RKEY {REALTIME_KEY}")?;
    writeln!(out, "RFRAMES {}", realtime_path.display())?;
    writeln!(out, "FRAMES {}", path.display())?;
    out.flush()?;
    Ok((world, servers))
}

fn write(outdir: &Path, name: &str, frames: &str) -> anyhow::Result<PathBuf> {
    let path = outdir.join(name);
    fs::write(&path, frames).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// The daemon that was built along with this example.
fn bridge_program() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let built = own.parent().and_then(Path::parent);
    let program = built
        .context("this program is in no build directory")?
        .join("hume-bridge");
    anyhow::ensure!(
        program.is_file(),
        "{} is not there: run cargo build first",
        program.display()
    );
    Ok(program)
}

/// Tells a story; what the bridge sent. One that does not end as it should proves nothing.
async fn told(name: &str, story: &Story, program: &Path) -> anyhow::Result<String> {
    let name = format!("{name} ({})", story.kind.as_str());
    let (observed, missed) = tell(story, program, PACE)
        .await
        .with_context(|| format!("story {name} FAILED"))?;
    if !missed.is_empty() {
        let missed = format!("story {name} FAILED:\n  {}", missed.join("\n  "));
        eprintln!("{missed}\n  {}", observed.log.join("\n  "));
        anyhow::bail!(missed);
    }
    let frames = observed.agent.jsonl();
    eprintln!("story {name}: {} frames", frames.lines().count());
    Ok(frames)
}

/// Frames that only an operator or a failing tool brings about.
fn every_command() -> String {
    let mut codec = evi::Codec::new(evi::Settings {
        url: "ws://127.0.0.1/".into(),
        api_key: Secret::new(HUME_KEY),
        config_id: None,
        persona: Persona {
            voice: Some("voice".into()),
            instructions: None,
            tools: vec![Declared {
                name: "hang_up".into(),
                description: "End the call.".into(),
                parameters: r#"{"type":"object","properties":{}}"#.into(),
                fallback: Some("It could not be ended.".into()),
            }],
            briefing: Briefing {
                fixed: [("shop".to_owned(), Variable::Text("north".to_owned()))].into(),
                variables: [
                    ("visits".to_owned(), Variable::Number(3.0)),
                    ("member".to_owned(), Variable::Flag(true)),
                ]
                .into(),
                context: "The caller is known.".into(),
            },
        },
    });
    let mut frames = String::new();
    let mut send = |frame: String| {
        frames.push_str(&frame);
        frames.push('\n');
    };
    codec.opened(&mut send);
    for command in [
        Command::AudioIn(&[0xff; 160]),
        Command::Prompt {
            text: "The caller pressed 12.",
        },
        Command::Say {
            text: "Good \"evening\",\nZoë",
        },
        Command::AddContext {
            text: "The caller is a member.",
        },
        Command::AddContext { text: "\u{1f642}" },
        Command::Pause,
        Command::Resume,
        Command::ToolResult {
            call_id: "call_1",
            result: ToolResult::Ok(r#"{"open":true}"#),
        },
        Command::ToolResult {
            call_id: "call_2",
            result: ToolResult::Failed {
                error: "timed out",
                content: "Say that it cannot be found out just now.",
            },
        },
    ] {
        codec.command(command, &mut send);
    }
    frames
}

/// Ends everything; the bridge must end well, and Hume's own client must have broken no rule of the
/// simulator: one that does is a rule misread.
async fn stop(mut world: World) -> anyhow::Result<()> {
    let exit = world.bridge.stop().await?;
    for line in world.bridge.log() {
        eprintln!("{line}");
    }
    anyhow::ensure!(exit.success(), "the daemon ended with {exit}");
    let record = world.agent.stop().await;
    let violations = record.violations();
    anyhow::ensure!(
        violations.is_empty(),
        "to the simulator, Hume's own client breaks the protocol: {violations:?}"
    );
    Ok(())
}
