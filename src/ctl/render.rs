//! Answers for people: aligned columns and short sentences.
//!
//! Pure; scripts use `--json` instead, so any of this may be made nicer at any time. What came from
//! a caller is shown with its control characters escaped: a terminal obeys them.

use crate::admin::{
    event::{Event, What},
    protocol::{Drain, HungUp, Paused, Reloaded, Session, Sessions, Status, Told, Transferring},
    routed::Routed,
};

pub fn status(status: &Status, version: &str) -> String {
    fields(&[
        ("version", version.to_owned()),
        ("state", state(status.draining).into()),
        ("live calls", status.active_sessions.to_string()),
        ("expected calls", status.expected_sessions.to_string()),
        ("uptime", duration(status.uptime_seconds)),
        ("pid", status.pid.to_string()),
    ])
}

fn state(draining: bool) -> &'static str {
    if draining {
        "draining"
    } else {
        "admitting calls"
    }
}

pub fn sessions(sessions: &Sessions) -> String {
    if sessions.sessions.is_empty() {
        return String::new();
    }
    let head = [
        "CALL",
        "STATE",
        "AGENT",
        "FROM",
        "TO",
        "TIME",
        "BARGE-INS",
        "DROPPED",
    ];
    let mut rows = vec![head.map(String::from)];
    rows.extend(sessions.sessions.iter().map(|session| {
        [
            clean(&session.call_sid),
            call_state(session),
            clean(&session.agent),
            clean(&session.from),
            clean(&session.to),
            duration(session.duration_seconds),
            session.barge_ins.to_string(),
            session.frames_dropped.to_string(),
        ]
    }));
    table(&rows)
}

pub fn session(session: &Session) -> String {
    fields(&[
        ("call", clean(&session.call_sid)),
        ("stream", clean(&session.stream_sid)),
        ("state", call_state(session)),
        ("agent", clean(&session.agent)),
        ("route", session.route.as_deref().map_or("-".into(), clean)),
        ("from", clean(&session.from)),
        ("to", clean(&session.to)),
        ("started", clean(&session.started_at)),
        ("time", duration(session.duration_seconds)),
        ("frames in", session.frames_in.to_string()),
        ("frames dropped", session.frames_dropped.to_string()),
        ("audio out", session.audio_out.to_string()),
        ("barge-ins", session.barge_ins.to_string()),
    ])
}

fn call_state(session: &Session) -> String {
    let state = match session {
        Session { ending: true, .. } => "ending",
        Session {
            away: Some(why), ..
        } => gone(why),
        Session { paused: true, .. } => "paused",
        Session {
            agent_connected: true,
            ..
        } => "talking",
        _ => "connecting",
    };
    match session.test {
        true => format!("{state} (test)"),
        false => state.to_owned(),
    }
}

/// What a call does that is away.
fn gone(why: &str) -> &'static str {
    match why {
        "digits" => "sounding keys",
        "transfer" => "transferring",
        _ => "away",
    }
}

pub fn hung_up(hung_up: &HungUp) -> String {
    hung_up
        .calls
        .iter()
        .map(|call| format!("{}\n", clean(call)))
        .collect()
}

pub fn drain(drain: &Drain) -> String {
    fields(&[
        ("state", state(drain.draining).into()),
        ("live calls", drain.active_sessions.to_string()),
        ("expected calls", drain.expected_sessions.to_string()),
    ])
}

fn fields(fields: &[(&str, String)]) -> String {
    let rows: Vec<_> = fields
        .iter()
        .map(|(name, value)| [format!("{name}:"), value.clone()])
        .collect();
    table(&rows)
}

/// Columns as wide as their widest cell, two spaces between, none at the end of a line.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            line += &format!("{cell:<width$}  ");
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// `7s`, `3m05s`, `2h00m`, `3d04h`.
fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{:02}s", seconds % 60),
        (0, _, _) => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

/// `changed`: in force for the next call; `need restart`: not yet.
pub fn reloaded(reloaded: &Reloaded) -> String {
    keys(
        reloaded,
        ["changed", "need restart"],
        "nothing has changed\n",
    )
}

/// What a reload would say.
pub fn checked(would: &Reloaded) -> String {
    keys(
        would,
        ["would change", "would need a restart"],
        "nothing would change\n",
    )
}

fn keys(reloaded: &Reloaded, words: [&str; 2], none: &str) -> String {
    let mut text = String::new();
    for (what, keys) in [
        (words[0], &reloaded.changed),
        (words[1], &reloaded.need_restart),
    ] {
        for key in keys {
            text += &format!("{what}: {}\n", clean(key));
        }
    }
    if text.is_empty() {
        text += none;
    }
    text
}

pub fn told(told: &Told) -> String {
    format!("{}\n", clean(&told.call))
}

pub fn paused(paused: &Paused) -> String {
    let state = if paused.paused { "paused" } else { "talking" };
    let already = if paused.changed { "" } else { ", already" };
    format!("{}  {state}{already}\n", clean(&paused.call))
}

pub fn transferring(transferring: &Transferring) -> String {
    format!("{}  transferring\n", clean(&transferring.call))
}

/// Every route that was looked at, and what the last has for the call.
pub fn routed(routed: &Routed) -> String {
    let mut rows = vec![["ROUTE", "", "WHY"].map(String::from)];
    rows.extend(routed.why.iter().map(|tried| {
        let mark = if tried.fits { "yes" } else { "no" };
        [clean(&tried.route), mark.into(), clean(&tried.why)]
    }));
    let plan = &routed.plan;
    let or = |text: &str, none: &str| match text {
        "" => none.to_owned(),
        text => clean(text),
    };
    let limit = |limit: u64, none: &str| match limit {
        0 => none.to_owned(),
        some => some.to_string(),
    };
    let option = |text: &Option<String>| or(text.as_deref().unwrap_or_default(), "-");
    let per_caller = match plan.max_per_caller {
        Some(most) => limit(most as u64, "no limit"),
        None => "as for all calls".into(),
    };
    let no_input = match plan.no_input_timeout_seconds {
        0 => "never".into(),
        seconds => duration(seconds),
    };
    let keys = plan.keys.iter();
    let keys: Vec<String> = keys
        .map(|(key, does)| format!("{key} {}", does.words()))
        .collect();
    let mut plan_rows = vec![
        ("route", clean(&routed.route)),
        ("agent", clean(&plan.agent)),
        ("config", option(&plan.config_id)),
        ("voice", option(&plan.voice)),
        ("greeting", or(&plan.greeting, "-")),
        ("tools", or(&plan.tools.join(" "), "-")),
        ("variables", or(&plan.variables.join(" "), "-")),
        ("keys", or(&keys.join(", "), "-")),
        (
            "calls at most",
            limit(plan.max_concurrent as u64, "no limit of its own"),
        ),
        ("of one caller", per_caller),
        ("duration", duration(plan.max_duration_seconds)),
        ("no input", no_input),
        ("fallback", plan.fallback.words().into()),
    ];
    if let Some(closed) = plan.closed {
        plan_rows.push(("closed", closed.words().into()));
    }
    format!("{}\n{}", table(&rows), fields(&plan_rows))
}

/// `03:04:05  CA12...  barge-in`, in UTC; the snapshot is a line for the house and one for each
/// call.
pub fn event(event: &Event) -> String {
    let time = event.at.get(11..19).unwrap_or("--:--:--");
    let line = |call: &str, words: String| {
        let call = if call.is_empty() { "-" } else { call };
        format!("{}  {:<34}  {words}\n", clean(time), clean(call))
    };
    let call = event.what.call().unwrap_or_default();
    let list = |keys: &[String]| clean(&keys.join(" "));
    let words = match &event.what {
        What::Snapshot { draining, sessions } => {
            let count = sessions.len();
            let calls = if count == 1 { "call" } else { "calls" };
            let mut text = line("", format!("{}, {count} live {calls}", state(*draining)));
            for session in sessions {
                let (from, to) = (clean(&session.from), clean(&session.to));
                let words = format!("{} {from} -> {to}", call_state(session));
                text += &line(&session.call_sid, words);
            }
            return text;
        }
        What::CallStarted {
            agent, from, to, ..
        } => format!("started {} -> {}, {}", clean(from), clean(to), clean(agent)),
        What::AgentConnected { .. } => "connected".into(),
        What::AgentClosed { .. } => "agent closed".into(),
        What::Paused { .. } => "paused".into(),
        What::Resumed { .. } => "resumed".into(),
        What::ToolCall { tool, .. } => format!("tool call {}", clean(tool)),
        What::BargeIn { .. } => "barge-in".into(),
        What::HangingUp { cause, .. } => format!("hanging up, {}", clean(cause)),
        What::GoodbyeWithdrawn { .. } => "goodbye withdrawn".into(),
        What::Away { why, .. } => gone(why).into(),
        What::Back { .. } => "back".into(),
        What::GoesOn { .. } => "not ended, goes on at Twilio".into(),
        What::CallEnded {
            cause,
            duration_seconds,
            ..
        } => {
            let cause = cause.as_ref().map_or("cause unknown".into(), |c| clean(c));
            format!("ended, {cause}, after {}", duration(*duration_seconds))
        }
        What::CallRefused { reason, .. } => format!("refused, {}", clean(reason)),
        What::Draining { draining } => state(*draining).into(),
        What::Reloaded {
            changed,
            need_restart,
        } => match (&changed[..], &need_restart[..]) {
            ([], []) => "reloaded, nothing has changed".into(),
            (_, []) => format!("reloaded, changed: {}", list(changed)),
            ([], _) => format!("reloaded, need restart: {}", list(need_restart)),
            _ => format!(
                "reloaded, changed: {}, need restart: {}",
                list(changed),
                list(need_restart)
            ),
        },
        What::Stopped {} => "the daemon has stopped".into(),
        What::Other => "something that this humebridgectl does not know; --json shows it".into(),
    };
    line(call, words)
}

/// The daemon's words, in as many lines as it wrote, without anything that a terminal obeys.
pub fn words(text: &str) -> String {
    text.chars()
        .map(|c| {
            // Also what turns the direction of writing around.
            let obeyed =
                c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            if obeyed && c != '\n' {
                c.escape_default().to_string()
            } else {
                c.to_string()
            }
        })
        .collect()
}

pub fn clean(text: &str) -> String {
    text.chars().flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(from: &str, seconds: u64) -> Session {
        Session {
            call_sid: "CA1".into(),
            stream_sid: "MZ1".into(),
            agent: "hume".into(),
            agent_connected: true,
            from: from.into(),
            to: "+61200000002".into(),
            started_at: "2026-01-02T03:04:05.678Z".into(),
            duration_seconds: seconds,
            ending: false,
            paused: false,
            frames_in: 50,
            audio_out: 2,
            frames_dropped: 0,
            barge_ins: 1,
            test: false,
            route: None,
            away: None,
        }
    }

    #[test]
    fn calls_stand_in_columns() {
        let mut late = call("+1", 3725);
        late.agent_connected = false;
        let table = sessions(&Sessions {
            sessions: vec![call("+61400000001", 7), late],
        });
        assert_eq!(
            table,
            "\
CALL  STATE       AGENT  FROM          TO            TIME   BARGE-INS  DROPPED
CA1   talking     hume   +61400000001  +61200000002  7s     1          0
CA1   connecting  hume   +1            +61200000002  1h02m  1          0
"
        );
        assert_eq!(sessions(&Sessions { sessions: vec![] }), "");
    }

    #[test]
    fn a_call_that_is_away_says_what_for() {
        let away = |why: &str, ending| {
            let away = Some(why.into());
            call_state(&Session {
                away,
                ending,
                ..call("+1", 7)
            })
        };
        assert_eq!(away("digits", false), "sounding keys");
        assert_eq!(away("transfer", false), "transferring");
        assert_eq!(away("lunch", false), "away");
        assert_eq!(away("transfer", true), "ending");
        let routed = Session {
            route: Some("night".into()),
            ..call("+1", 7)
        };
        assert!(session(&routed).contains("route:           night\n"));
        let event = |what| {
            event(&Event {
                at: "2026-01-02T03:04:05.678Z".into(),
                what,
            })
        };
        let (call_sid, why) = ("CA1".to_owned(), "digits".to_owned());
        let gone = event(What::Away {
            call_sid: call_sid.clone(),
            why,
        });
        assert!(gone.ends_with("  sounding keys\n"), "{gone}");
        assert!(event(What::Back { call_sid }).ends_with("  back\n"));
        let call_sid = "CA1".to_owned();
        assert!(event(What::GoesOn { call_sid }).ends_with("  not ended, goes on at Twilio\n"));
    }

    #[test]
    fn a_route_and_why() {
        use crate::admin::routed::{Does, Meets, Plan, Tried};
        let tried = |route: &str, fits, why: &str| Tried {
            route: route.into(),
            fits,
            why: why.into(),
        };
        let shown = routed(&Routed {
            route: "shop".into(),
            why: vec![
                tried("ann", false, "is for other callers"),
                tried("shop", true, "fits, and is closed (mon 18:04 there)"),
            ],
            plan: Plan {
                agent: "hume".into(),
                config_id: Some("c1".into()),
                voice: None,
                greeting: "Hello.\u{1b}".into(),
                fallback: Meets::Dial,
                closed: Some(Meets::Say),
                tools: vec!["hang_up".into(), "find_order".into()],
                variables: vec![],
                keys: [('0', Does::Transfer), ('9', Does::Hangup)].into(),
                max_concurrent: 3,
                max_per_caller: None,
                max_duration_seconds: 7200,
                no_input_timeout_seconds: 0,
            },
        });
        assert_eq!(
            shown,
            "\
ROUTE       WHY
ann    no   is for other callers
shop   yes  fits, and is closed (mon 18:04 there)

route:          shop
agent:          hume
config:         c1
voice:          -
greeting:       Hello.\\u{1b}
tools:          hang_up find_order
variables:      -
keys:           0 puts through, 9 hangs up
calls at most:  3
of one caller:  as for all calls
duration:       2h00m
no input:       never
fallback:       another number
closed:         a sentence
"
        );
    }

    #[test]
    fn a_caller_cannot_write_on_the_operators_terminal() {
        let shown = session(&call("\u{1b}[2J\u{202e}evil", 125));
        assert!(
            shown.contains("from:            \\u{1b}[2J\\u{202e}evil\n"),
            "{shown}"
        );
        assert!(shown.contains("time:            2m05s\n"), "{shown}");
    }

    #[test]
    fn a_daemon_in_a_few_lines() {
        let shown = Status {
            draining: true,
            active_sessions: 2,
            expected_sessions: 1,
            uptime_seconds: 180_000,
            pid: 42,
        };
        assert_eq!(
            status(&shown, "0.1.0"),
            "\
version:         0.1.0
state:           draining
live calls:      2
expected calls:  1
uptime:          2d02h
pid:             42
"
        );
        let shown = Drain {
            draining: false,
            changed: true,
            active_sessions: 0,
            expected_sessions: 0,
        };
        assert!(drain(&shown).starts_with("state:           admitting calls\n"));
        let ended = HungUp {
            calls: vec!["CA1".into(), "CA2".into()],
            unanswered: vec![],
            now: false,
        };
        assert_eq!(hung_up(&ended), "CA1\nCA2\n");
    }
}
