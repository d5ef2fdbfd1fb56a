//! `humebridgectl dial`: a test call through the running daemon.
//!
//! The simulated telephone calls the daemon's public listener on this machine, as Twilio would: no
//! telephone, no Twilio account and no proxy take part, the agent does. The auth token stays with
//! the daemon, which announces the call and signs its requests over the control socket, and nothing
//! else. Once the agent is silent the caller speaks; the call ends when the agent hangs up, when it
//! has been silent for a while after the caller's last words, at `--secs`, or at ^C.
//!
//! On stdout is the call as it happens, a line an event, or with `--json` one object at its end. The
//! exit code is 0 only if the agent was heard.

use std::{fs::File, path::PathBuf, pin::Pin, sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use serde::Serialize;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook_tokio::Signals;
use tokio::time::{Instant, sleep_until, timeout};

use super::{
    args::{Args, DialArgs},
    exit::Exit,
    line::{Line, cannot_ask, cannot_connect},
    print, say,
};
use crate::{
    admin::{
        client::Client,
        protocol::{Dial, Failure, Request, Signed, decode},
    },
    pinned,
    sim::{
        phone::{
            CallReport, CallSetup, Document, Ended, Event, OngoingCall, Params, Party, Phone,
            Signer,
        },
        speech, tape,
    },
};

/// Until the agent begins to speak of its own accord; not every one does.
const GREETING: Duration = Duration::from_secs(5);
/// After which an agent that was speaking is listening.
const PAUSE: Duration = Duration::from_secs(2);
/// Until the agent answers.
const ANSWER: Duration = Duration::from_secs(20);
/// After the answer to the caller's last words: time for the agent to hang up.
const FAREWELL: Duration = Duration::from_secs(5);
/// What the caller says when nobody brings a recording.
const CLIPS: [&str; 2] = ["caller-hours", "caller-thanks"];
/// The recording's name among the clips.
const OWN: &str = "recording";

/// Places the call and tells it.
pub async fn run(args: &Args, dial: &DialArgs) -> Exit {
    let mut clips = CLIPS.map(str::to_owned).to_vec();
    let mut own = None;
    if let Some(path) = &dial.wav {
        match tape::read(path) {
            Ok(mulaw) => own = Some(mulaw),
            Err(error) => {
                say(&format!("--wav: {error:#}"));
                return Exit::Usage;
            }
        }
        clips = vec![OWN.to_owned()];
    }
    // Before the call, so that it is not placed for nothing.
    let mut recording = match dial.out.as_deref().map(|path| (path, File::create(path))) {
        None => None,
        Some((path, Ok(file))) => Some((path, file)),
        Some((path, Err(error))) => {
            say(&format!("--out: cannot write {}: {error}", path.display()));
            return Exit::Usage;
        }
    };
    let mut signals = match Signals::new([SIGINT, SIGTERM]) {
        Ok(signals) => signals,
        Err(error) => {
            say(&format!("cannot listen for signals: {error}"));
            return Exit::Refused;
        }
    };
    let request = Request::Dial {
        from: dial.from.clone(),
        to: dial.to.clone(),
    };
    let line = match announce(args, &request).await {
        Ok(line) => line,
        Err(exit) => return exit,
    };

    let mut phone = Phone::new(&line.public_url, line.address, &line.account_sid, "");
    if let Some(certificate) = &line.certificate {
        let Ok(der) = base64_simd::STANDARD.decode_to_vec(certificate) else {
            say("the daemon's certificate is not understood");
            return Exit::Refused;
        };
        phone.tls = Some(pinned::client(der.into()));
    }
    phone.options.status_path = Some("/voice/status".to_owned());
    // Whoever the bridge would have the caller connected to has asked for no test call.
    phone.options.rehearsal = true;
    phone.options.linger = Duration::from_secs(dial.secs);
    phone.options.signer = Some(Arc::new(Oracle {
        socket: args.socket.clone(),
        timeout: args.timeout,
        call: line.call_sid.clone(),
    }));
    if let Some(mulaw) = own {
        phone.options.clips.insert(OWN.to_owned(), mulaw.into());
    }
    let call = phone.start(CallSetup {
        call_sid: line.call_sid.clone(),
        from: line.from.clone(),
        to: line.to.clone(),
        ..CallSetup::new(Vec::new())
    });
    let limit = Duration::from_secs(dial.secs);
    if !converse(&call, clips, limit, &mut signals, args.json).await {
        return Exit::Refused;
    }
    let report = call.finish().await;
    if let Some((path, file)) = &mut recording
        && let Err(error) = tape::write(file, &report.spoken, &report.heard)
    {
        say(&format!("--out: cannot write {}: {error}", path.display()));
    }
    tell(args, &line, &report)
}

/// Has the daemon announce the call.
async fn announce(args: &Args, request: &Request) -> Result<Dial, Exit> {
    let reply = Line::open(args).await?.ask(request).await?;
    match reply.outcome {
        Ok(ok) => decode(&ok).map_err(|error| {
            say(&error.to_string());
            Exit::Refused
        }),
        Err(Failure { code, message }) => {
            say(&message);
            Err(Exit::of_code(code))
        }
    }
}

/// The daemon, which signs what this call needs.
struct Oracle {
    socket: PathBuf,
    timeout: Duration,
    call: String,
}

impl Signer for Oracle {
    fn sign(
        &self,
        url: String,
        params: Params,
    ) -> Pin<Box<dyn Future<Output = Result<String, String>> + Send + '_>> {
        let request = Request::Sign {
            call: self.call.clone(),
            url,
            params,
        };
        // A connection each time: between the first request and the last there may be minutes, and
        // the daemon keeps no idle clients.
        Box::pin(async move {
            let asked = async {
                let mut client = Client::connect(&self.socket)
                    .await
                    .map_err(|error| cannot_connect(&self.socket, &error))?;
                let reply = client.call(&request).await;
                let reply = reply.map_err(|error| cannot_ask(&error))?;
                let ok = reply.outcome.map_err(|failure| failure.message)?;
                let signed: Signed = decode(&ok).map_err(|error| error.to_string())?;
                Ok(signed.signature)
            };
            let late = |_| Err("the daemon did not sign in time".to_owned());
            timeout(self.timeout, asked).await.unwrap_or_else(late)
        })
    }
}

/// Speaks when it is the caller's turn, and tells what happens. False: given up at once.
async fn converse(
    call: &OngoingCall,
    clips: Vec<String>,
    limit: Duration,
    signals: &mut Signals,
    quiet: bool,
) -> bool {
    let mut entries = call.entries();
    let end = Instant::now() + limit;
    let mut clips = clips.into_iter();
    // When it is the caller's turn; `None` while somebody speaks.
    let mut turn: Option<Instant> = None;
    let (mut playing, mut speaking, mut hung_up) = (false, false, false);
    let mut last_word = None;
    loop {
        let wake = turn.unwrap_or(end).min(end);
        tokio::select! {
            entry = entries.next() => {
                let Some(entry) = entry else { return true };
                let now = Instant::now();
                match &entry.event {
                    Event::StreamStarted { .. } => turn = Some(now + GREETING),
                    Event::PlayingBegan => (playing, turn) = (true, None),
                    Event::PlayingEnded { .. } => {
                        playing = false;
                        let pause = if clips.len() == 0 { FAREWELL } else { PAUSE };
                        turn = (!speaking).then(|| now + pause);
                    }
                    Event::ClipBegan { .. } => (speaking, turn) = (true, None),
                    Event::ClipEnded { .. } => {
                        speaking = false;
                        turn = (!playing).then(|| now + ANSWER);
                    }
                    Event::StreamOver { .. } => turn = None,
                    _ => {}
                }
                let line = narrate(&entry.event, entry.at, &mut last_word);
                if let Some(line) = line.filter(|_| !quiet) {
                    print(&format!("{:>7.2} s  {line}\n", entry.at.as_secs_f64()));
                }
            }
            _ = signals.next() => {
                if hung_up {
                    return false;
                }
                hung_up = true;
                call.hang_up().await;
            }
            () = sleep_until(wake), if !hung_up => match clips.next() {
                Some(clip) if wake < end => {
                    turn = None;
                    call.say(&clip).await;
                }
                _ => {
                    hung_up = true;
                    call.hang_up().await;
                }
            },
        }
    }
}

/// A line of the timeline. The only number in it is one that is not called.
fn narrate(event: &Event, at: Duration, last_word: &mut Option<Duration>) -> Option<String> {
    Some(match event {
        Event::Fetched { what, status, .. } => match what {
            Document::Webhook => format!("bridge   answers the call: {status}"),
            _ => format!("bridge   says what comes after the stream: {status}"),
        },
        Event::StreamStarted { .. } => "bridge   takes the media stream".to_owned(),
        Event::UpgradeRefused { status } => {
            format!("bridge   refuses the media stream: {status}")
        }
        Event::PlayingBegan => match last_word.take() {
            Some(asked) => {
                let after = at.saturating_sub(asked).as_secs_f64();
                format!("agent    speaks, {after:.2} s after the caller's last word")
            }
            None => "agent    speaks".to_owned(),
        },
        Event::PlayingEnded { bytes } => {
            let lasted = Duration::from_micros(*bytes as u64 * 125).as_secs_f64();
            format!("agent    is silent, after {lasted:.2} s")
        }
        Event::ClearReceived { flushed, .. } => {
            let taken = Duration::from_micros(*flushed as u64 * 125).as_secs_f64();
            format!("bridge   takes {taken:.2} s of the agent's words back")
        }
        Event::ClipBegan { name } => match speech::transcript(name) {
            Some(words) => format!("caller   \"{words}\""),
            None => "caller   speaks as recorded".to_owned(),
        },
        Event::ClipEnded { .. } => {
            *last_word = Some(at);
            return None;
        }
        Event::Said { text } => format!("bridge   has it said: \"{}\"", clean(text)),
        Event::Dialled { numbers } => format!(
            "bridge   would have the caller connected to {}",
            clean(&numbers.join(", "))
        ),
        Event::DigitsPlayed { .. } => "bridge   has keys sounded into the call".to_owned(),
        Event::Violation { what } => {
            format!("bridge   breaks the protocol: {}", clean(what))
        }
        Event::Ended { how } => format!("call     is over: {}", ended(how)),
        _ => return None,
    })
}

/// A sentence of the daemon's or about it, without what a terminal would obey.
fn clean(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() {
            true => clean.extend(c.escape_default()),
            false => clean.push(c),
        }
    }
    clean
}

fn ended(how: &Ended) -> &'static str {
    match how {
        Ended::CallerHungUp => "caller-hung-up",
        Ended::Dropped => "dropped",
        Ended::RestCompleted => "rest",
        Ended::Hangup => "bridge-hung-up",
        Ended::Rejected { busy: true } => "busy",
        Ended::Rejected { busy: false } => "rejected",
        Ended::NothingLeft => "nothing-left",
        Ended::ApplicationError { .. } => "application-error",
        Ended::PutThrough => "put-through",
        Ended::StepTimedOut { .. } | Ended::Lingered => "too-long",
    }
}

/// What came of the call, for programs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome<'a> {
    call_sid: &'a str,
    /// The media stream was open.
    connected: bool,
    /// Something of the agent's was audible.
    heard: bool,
    /// From the stream's start to the agent's first audible word.
    first_audio_ms: Option<u64>,
    turns: Vec<TurnOutcome>,
    /// Said by Twilio's own voice: a greeting, or the fallback.
    said: Vec<&'a str>,
    /// Numbers that the caller would have been connected to; nobody was called.
    dialled: Vec<&'a str>,
    ended: &'static str,
    seconds: f64,
    /// How the daemon broke Twilio's protocol.
    violations: Vec<&'a str>,
    /// Why nothing was heard.
    problem: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TurnOutcome {
    caller: String,
    answered_after_ms: Option<u64>,
}

fn tell(args: &Args, line: &Dial, report: &CallReport) -> Exit {
    let milliseconds = |span: Duration| span.as_millis() as u64;
    let started = report.first(|event| matches!(event, Event::StreamStarted { .. }));
    let spans = speech::active_spans(&report.heard);
    let first = spans
        .first()
        .map(|span| speech::duration(&report.heard[..span.start]));
    let said: Vec<&str> = report
        .entries
        .iter()
        .filter_map(|entry| match &entry.event {
            Event::Said { text } => Some(text.as_str()),
            _ => None,
        })
        .collect();
    let dialled: Vec<&str> = report
        .entries
        .iter()
        .filter_map(|entry| match &entry.event {
            Event::Dialled { numbers } => Some(numbers),
            _ => None,
        })
        .flatten()
        .map(String::as_str)
        .collect();
    let problem = first.is_none().then(|| problem(line, report, &said));
    let turns = report.turns();
    let outcome = Outcome {
        call_sid: &report.call_sid,
        connected: started.is_some(),
        heard: first.is_some(),
        first_audio_ms: first
            .zip(started)
            .map(|(first, started)| milliseconds(first.saturating_sub(started))),
        turns: turns
            .into_iter()
            .map(|turn| TurnOutcome {
                caller: turn.clip,
                answered_after_ms: turn.answered_after.map(milliseconds),
            })
            .collect(),
        said,
        dialled,
        ended: ended(&report.ended),
        seconds: report.ended_at.as_secs_f64(),
        violations: report.violations.iter().map(|v| v.0.as_str()).collect(),
        problem,
    };
    if let Some(problem) = &outcome.problem {
        say(problem);
    }
    let printed = match args.json {
        true => {
            let json = serde_json::to_string(&outcome).expect("strings and numbers serialise");
            print(&format!("{json}\n"))
        }
        false => print(&summary(&outcome)),
    };
    match outcome.heard {
        true => printed.exit(),
        false => Exit::Refused,
    }
}

fn summary(outcome: &Outcome<'_>) -> String {
    let Some(first) = outcome.first_audio_ms else {
        return String::new();
    };
    let mut text = format!("first audio {first} ms after the stream's start");
    for (turn, number) in outcome.turns.iter().zip(1..) {
        text += &match turn.answered_after_ms {
            Some(after) => format!(", turn {number} answered after {after} ms"),
            None => format!(", turn {number} not answered"),
        };
    }
    text + "\n"
}

/// Why the agent was not heard, and where to look.
fn problem(line: &Dial, report: &CallReport, said: &[&str]) -> String {
    let status = |wanted: fn(&Event) -> Option<u16>| {
        report.entries.iter().find_map(|entry| wanted(&entry.event))
    };
    let answered = status(|event| match event {
        Event::Fetched {
            what: Document::Webhook,
            status,
            ..
        } => Some(*status),
        _ => None,
    });
    let refused = status(|event| match event {
        Event::UpgradeRefused { status } => Some(*status),
        _ => None,
    });
    let closed = status(|event| match event {
        Event::SocketClosed {
            by: Party::Bridge,
            code,
            ..
        } => *code,
        _ => None,
    });
    let dialled = report.count(|event| matches!(event, Event::Dialled { .. })) > 0;
    match (&report.ended, answered, refused) {
        (Ended::ApplicationError { what }, None, _) => {
            format!(
                "the public listener, {}, did not answer: {}",
                line.address,
                clean(what)
            )
        }
        (_, Some(503), _) => {
            "refused: the daemon takes no new calls, it is draining (503); `humebridgectl undrain` \
             takes that back"
                .to_owned()
        }
        (_, Some(403), _) => {
            "refused: the signature does not fit (403); has twilio_auth_token or public_url \
             changed since the daemon read them?"
                .to_owned()
        }
        (Ended::Rejected { busy: true }, _, _) => {
            "refused as busy: calls.max_concurrent, calls.max_per_number or calls.max_per_caller is \
             reached, or the daemon drains; its log says which"
                .to_owned()
        }
        (Ended::Rejected { busy: false }, _, _) => {
            "rejected: calls.deny or calls.allow lets this caller not in; `--from` names another"
                .to_owned()
        }
        (_, _, Some(status)) => format!("the media stream was refused ({status})"),
        _ if dialled => {
            "nothing was heard of the agent: the caller would have been connected to a number; \
             `hume-bridge check` looks at the agent"
                .to_owned()
        }
        _ if !said.is_empty() => format!(
            "nothing was heard of the agent, only Twilio's voice: \"{}\"; `hume-bridge check` \
             looks at the agent",
            clean(&said.join(" "))
        ),
        (Ended::ApplicationError { what }, ..) => {
            format!(
                "the caller would hear Twilio's error message: {}",
                clean(what)
            )
        }
        _ => match closed {
            Some(code) => format!(
                "nothing was heard of the agent, and the daemon closed the stream with {code}; its \
                 log says why"
            ),
            None => "nothing was heard of the agent".to_owned(),
        },
    }
}
