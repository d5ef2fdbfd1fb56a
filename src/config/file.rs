//! The TOML file: which keys there are, and what each must be.
//!
//! [`load`] and [`parse`] give a whole config or all that is wrong with it, at once. Sections and
//! keys that the file leaves out have the defaults of [`super::defaults`]; only `public_url` must
//! stand there.

use std::{
    fs::File,
    io::{ErrorKind, Read as _},
    net::Ipv4Addr,
    path::Path,
};

use super::{
    AgentKind, Config, DEFAULT_PATH, Listen, LogAudit, LogLevel, LogTarget, Overrides, Problem,
    Problems, PublicUrl,
    callers::{callers, contradiction},
    check::{self, Checked, Complaint},
    connection::connection,
    duration::{HOUR, MINUTE, SECOND},
    either, hold_sound, keypad, outward,
    reader::{Report, Section},
    realtime_reader, route_reader,
    tool_reader::{self, Shelf},
    variables::{self, MOST_PARAMETERS},
};

/// Every key that the file may have, by section.
pub fn known_keys() -> &'static [&'static str] {
    &[
        "public_url",
        "listen.http",
        "listen.ops",
        "listen.tls_cert",
        "listen.tls_key",
        "listen.unsigned_rate",
        "admin.socket",
        "admin.group",
        "twilio.account_sid",
        "twilio.phone_number",
        "twilio.api_url",
        "twilio.validate_signatures",
        "agent.default",
        "agent.tools",
        "agent.variables",
        "hume.url",
        "hume.config_id",
        "hume.ping_interval",
        "hume.pong_timeout",
        "hume.connect_timeout",
        "hume.ready_timeout",
        "hume.connect_budget",
        "hume.reconnect_budget",
        "hume.recycle_after",
        "hume.declare_hang_up",
        "hume.clear_on_user_message",
        "realtime.preset",
        "realtime.url",
        "realtime.model",
        "realtime.model_in_query",
        "realtime.query",
        "realtime.auth",
        "realtime.headers",
        "realtime.subprotocols",
        "realtime.voice",
        "realtime.instructions",
        "realtime.greet",
        "realtime.greeting",
        "realtime.dialect",
        "realtime.audio_in",
        "realtime.audio_out",
        "realtime.send_formats",
        "realtime.turn_detection",
        "realtime.turn_detection_place",
        "realtime.voice_place",
        "realtime.transcription",
        "realtime.user_transcript",
        "realtime.modalities",
        "realtime.tools_shape",
        "realtime.tool_trigger",
        "realtime.ready_on",
        "realtime.interrupt",
        "realtime.truncate",
        "realtime.say",
        "realtime.context_role",
        "realtime.session",
        "realtime.ping_interval",
        "realtime.pong_timeout",
        "realtime.connect_timeout",
        "realtime.ready_timeout",
        "realtime.connect_budget",
        "realtime.reconnect_budget",
        "realtime.recycle_after",
        "calls.max_concurrent",
        "calls.max_per_caller",
        "calls.max_per_number",
        "calls.allow",
        "calls.deny",
        "calls.max_duration",
        "calls.max_duration_farewell",
        "calls.no_input_timeout",
        "calls.no_input_check",
        "calls.no_input_farewell",
        "calls.hold_sound",
        "calls.hold_after",
        "calls.greeting",
        "calls.drain_limit",
        "calls.drain_answer",
        "calls.drain_goodbye",
        "calls.fallback",
        "calls.record",
        "keys.words",
        "keys.end",
        "keys.count",
        "keys.timeout",
        "keys.actions",
        "transfer.numbers",
        "transfer.warm",
        "transfer.ring",
        "transfer.no_answer",
        "transfer.caller_id",
        "sms.numbers",
        "sms.to_caller",
        "sms.from",
        "lookup.url",
        "lookup.headers",
        "lookup.sign_with",
        "lookup.timeout",
        "lookup.cache",
        "route.name",
        "route.to",
        "route.from",
        "route.hours",
        "route.timezone",
        "route.closed",
        "route.agent",
        "route.config_id",
        "route.voice",
        "route.greeting",
        "route.fallback",
        "route.variables",
        "route.tools",
        "route.keys",
        "route.max_concurrent",
        "route.max_per_caller",
        "route.max_duration",
        "route.no_input_timeout",
        "route.instructions",
        "tool.name",
        "tool.description",
        "tool.parameters",
        "tool.kind",
        "tool.method",
        "tool.url",
        "tool.headers",
        "tool.sign_with",
        "tool.idempotent",
        "tool.timeout",
        "tool.fallback",
        "tool.filler",
        "tool.filler_after",
        "tool.max_output",
        "tool.max_concurrent",
        "tool.command",
        "credentials.file",
        "log.target",
        "log.audit",
        "log.level",
    ]
}

/// Sections of which there may be several: `[[route]]`.
pub(super) const LISTS: [&str; 2] = ["route", "tool"];

/// Far more than anyone writes by hand.
const MOST_BYTES: u64 = 256 * 1024;

/// The config in `path`, with what the command line sets over it.
pub fn load(path: &Path, overrides: &Overrides) -> Result<Config, Problems> {
    let name = path.display().to_string();
    let text = read(path).map_err(|(line, complaint)| Problem {
        file: name.clone(),
        line,
        key: String::new(),
        what: complaint.what,
        mend: complaint.mend,
    })?;
    parse(&text, &name, overrides)
}

fn read(path: &Path) -> Result<String, (Option<usize>, Complaint)> {
    let complain = |what: String, mend: String| (None, Complaint { what, mend });
    // A pipe would be waited for without end.
    if path
        .metadata()
        .is_ok_and(|meta| !meta.is_file() && !meta.is_dir())
    {
        let mend = "name the config file with --config".to_owned();
        return Err(complain("is not a file".into(), mend));
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| {
            let mend = match error.kind() {
                ErrorKind::NotFound => format!(
                    "create it, public_url alone is enough; or name another with --config (the \
                     default is {DEFAULT_PATH})"
                ),
                ErrorKind::IsADirectory => "name the file in it with --config".into(),
                _ => "let the user that runs hume-bridge read it".into(),
            };
            complain(format!("cannot be read: {error}"), mend)
        })?;
    if bytes.len() as u64 > MOST_BYTES {
        let what = format!("is larger than {} KiB", MOST_BYTES / 1024);
        return Err(complain(what, "name a config file with --config".into()));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + good.iter().filter(|b| **b == b'\n').count();
        (
            Some(line),
            Complaint {
                what: "is not UTF-8".into(),
                mend: "save it as UTF-8".into(),
            },
        )
    })
}

/// The config in `text`; messages call it `name`.
pub fn parse(text: &str, name: &str, overrides: &Overrides) -> Result<Config, Problems> {
    let mut report = Report::new(name, text);
    let document = report.parse();
    let broken = report.is_broken();
    let mut top = Section::top(&mut report, document);

    let has_url = top.has("public_url");
    let public_url = top.read("public_url", |v| check::public_url(check::text(v)?));
    // The defaults need some URL to go on with; with a problem on record nobody gets to see it.
    let mut config = Config::new(public_url.unwrap_or(PublicUrl {
        secure: true,
        host: "localhost".into(),
        port: None,
        prefix: String::new(),
    }));
    let allow = top.line_of("calls", "allow");
    let ports = top
        .line_of("listen", "ops")
        .or(top.line_of("listen", "http"));
    let say = top.line_of("realtime", "say");
    let variables = top.line_of("agent", "variables");
    let realtime = ["preset", "url", "model"].map(|key| top.line_of("realtime", key));
    sections(&mut top, &mut config, broken);
    let torn = |key: &str| top.complained_of(key);
    let lacks_known = !broken && !torn("realtime.preset");
    let lacking = realtime_reader::missing(&config.realtime).into_iter();
    let lacking: Vec<_> = lacking
        .filter(|(key, _)| lacks_known && !torn(key))
        .collect();
    top.close();

    // In a broken file the key may well stand there, unseen.
    if !(has_url || broken && text.contains("public_url")) {
        report.add(
            None,
            "public_url",
            "is missing",
            "write public_url = \"https://HOST\" at the top, with the host that Twilio reaches",
        );
    }
    let named = config.parameters().len();
    if named > MOST_PARAMETERS {
        let what =
            format!("name {named} different fields as {{param.NAME}}, with those of the routes");
        let mend = format!("name {MOST_PARAMETERS} at most: each travels with every call");
        report.add(variables, "agent.variables", what, &mend);
    }
    // What is missing matters to nobody whose calls Hume answers.
    if config.uses(AgentKind::Realtime) {
        let line = realtime.into_iter().flatten().next();
        for (key, complaint) in lacking {
            report.add(line, key, complaint.what, complaint.mend);
        }
        if let Some(whose) = realtime_reader::unsayable(&config) {
            let what = format!("is false, and a key of {whose} has words to be said");
            let mend = "remove { say = ... } there, or say how this server is made to speak";
            report.add(say, "realtime.say", what, mend);
        }
    }
    let calls = &config.calls;
    if let Some((allowed, denied)) = contradiction(&calls.allow, &calls.deny) {
        let what = format!(
            "entry {allowed} lets nobody in: entry {denied} of calls.deny denies them all, and \
             deny always holds"
        );
        report.add(allow, "calls.allow", what, "remove one of the two");
    }
    override_with(overrides, &mut config, ports, &mut report);
    report.into_problems().map_or(Ok(config), Err)
}

fn sections(top: &mut Section<'_, '_>, config: &mut Config, broken: bool) {
    let mut s = top.section("listen");
    s.set(&mut config.listen.http, "http", |v| {
        check::listen(v, Ipv4Addr::UNSPECIFIED)
    });
    s.set(&mut config.listen.ops, "ops", |v| match v.as_str() {
        Some("") => Ok(None),
        _ => check::listen(v, Ipv4Addr::LOCALHOST).map(Some),
    });
    tls_files(&mut s, &mut config.listen);
    s.set(&mut config.listen.unsigned_rate, "unsigned_rate", |v| {
        check::count(v, 0..=100_000)
    });
    s.close();

    let mut s = top.section("admin");
    s.set(&mut config.admin.socket, "socket", |v| {
        match check::text(v)? {
            "" => Ok(None),
            path => check::socket_path(path).map(Some),
        }
    });
    s.set(&mut config.admin.group, "group", |v| {
        check::group(check::text(v)?)
    });
    s.close();

    let mut s = top.section("twilio");
    let twilio = &mut config.twilio;
    s.set(&mut twilio.account_sid, "account_sid", |v| {
        check::account_sid(check::text(v)?).map(Some)
    });
    s.set(&mut twilio.phone_number, "phone_number", |v| {
        check::phone_number(check::text(v)?).map(Some)
    });
    s.set(&mut twilio.api_url, "api_url", |v| {
        check::api_url(check::text(v)?)
    });
    s.set(
        &mut twilio.validate_signatures,
        "validate_signatures",
        check::boolean,
    );
    s.close();

    let mut s = top.section("hume");
    let hume = &mut config.hume;
    s.set(&mut hume.url, "url", |v| {
        check::websocket_url(check::text(v)?)
    });
    s.set(&mut hume.config_id, "config_id", |v| {
        check::opaque_id(check::text(v)?).map(Some)
    });
    // EVI ends a chat at thirty minutes, and a pause is waited for up to a minute.
    connection(&mut s, &mut hume.connection, 28 * MINUTE);
    s.set(&mut hume.declare_hang_up, "declare_hang_up", check::boolean);
    s.set(
        &mut hume.clear_on_user_message,
        "clear_on_user_message",
        check::boolean,
    );
    s.close();
    realtime_reader::realtime(top.section("realtime"), &mut config.realtime);

    let mut s = top.section("calls");
    let calls = &mut config.calls;
    s.set(&mut calls.max_concurrent, "max_concurrent", |v| {
        check::count(v, 1..=100_000)
    });
    s.set(&mut calls.max_per_caller, "max_per_caller", |v| {
        check::count(v, 0..=100_000)
    });
    s.set(&mut calls.max_per_number, "max_per_number", |v| {
        check::count(v, 0..=100_000)
    });
    s.set(&mut calls.allow, "allow", callers);
    s.set(&mut calls.deny, "deny", callers);
    s.set(&mut calls.max_duration, "max_duration", |v| {
        check::duration(v, SECOND..=24 * HOUR)
    });
    s.set(
        &mut calls.max_duration_farewell,
        "max_duration_farewell",
        |v| check::spoken(check::text(v)?),
    );
    s.set(&mut calls.no_input_timeout, "no_input_timeout", |v| {
        check::duration_or_never(v, SECOND..=HOUR)
    });
    s.set(&mut calls.no_input_check, "no_input_check", |v| {
        check::spoken(check::text(v)?)
    });
    s.set(&mut calls.no_input_farewell, "no_input_farewell", |v| {
        check::spoken(check::text(v)?)
    });
    s.set(&mut calls.hold_sound, "hold_sound", |v| {
        hold_sound::hold_sound(check::text(v)?)
    });
    s.set(&mut calls.hold_after, "hold_after", |v| {
        check::duration(v, SECOND..=MINUTE)
    });
    s.set(&mut calls.greeting, "greeting", |v| {
        check::spoken(check::text(v)?)
    });
    s.set(&mut calls.drain_limit, "drain_limit", |v| {
        check::duration(v, 10..=24 * HOUR)
    });
    s.set(
        &mut calls.drain_answer,
        "drain_answer",
        either::drain_answer,
    );
    s.set(&mut calls.drain_goodbye, "drain_goodbye", |v| {
        check::spoken(check::text(v)?)
    });
    s.set(&mut calls.fallback, "fallback", either::fallback);
    s.set(&mut calls.record, "record", |v| match check::text(v)? {
        "" => Ok(None),
        path => check::record(path).map(Some),
    });
    s.close();
    tools_and_routes(top, config, broken);

    let mut s = top.section("credentials");
    s.set(&mut config.credentials_file, "file", |v| {
        check::absolute(check::text(v)?).map(Some)
    });
    s.close();

    let mut s = top.section("log");
    s.set(&mut config.log.target, "target", |v| {
        check::choice(check::text(v)?, &LogTarget::NAMES)
    });
    s.set(&mut config.log.audit, "audit", |v| {
        check::choice(check::text(v)?, &LogAudit::NAMES)
    });
    s.set(&mut config.log.level, "level", |v| {
        check::choice(check::text(v)?, &LogLevel::NAMES)
    });
    s.close();
}

/// In the order in which they depend on each other: a list of tools names what has been read.
fn tools_and_routes(top: &mut Section<'_, '_>, config: &mut Config, broken: bool) {
    keypad::keys(top.section("keys"), &mut config.keys);
    outward::transfer(top.section("transfer"), &mut config.transfer);
    outward::sms(top.section("sms"), &mut config.sms);
    config.lookup = outward::lookup(top.section("lookup"));
    let (tools, names) = tool_reader::tools(top);
    config.tools = tools;
    // What could not be read may have been there.
    let torn = ["transfer.numbers", "sms.", "calls.record"].map(|key| top.complained_of(key));
    let shelf = Shelf::of(config, names, broken || torn.contains(&true));

    let mut s = top.section("agent");
    let agent = &mut config.agent;
    s.set(&mut agent.default, "default", |v| {
        self::agent(check::text(v)?)
    });
    agent.tools = shelf.read(&mut s);
    if let Some(variables) = variables::variables(&mut s) {
        agent.variables = variables;
        if let Err(complaint) = variables::fit(agent.variables.iter()) {
            s.complain("variables", complaint);
        }
    }
    s.close();
    config.routes = route_reader::routes(top, &config.keys, &config.agent, &shelf);
}

/// Certificate and key belong together: one without the other is told at the one that is there.
fn tls_files(s: &mut Section<'_, '_>, listen: &mut Listen) {
    let (has_cert, has_key) = (s.has("tls_cert"), s.has("tls_key"));
    let cert = s.read("tls_cert", |v| {
        let cert = check::pem_file(check::text(v)?)?;
        match cert {
            Some(_) if !has_key => Err(Complaint {
                what: "is set without listen.tls_key".into(),
                mend: "write tls_key, the file of its private key, below it".into(),
            }),
            cert => Ok(cert),
        }
    });
    let key = s.read("tls_key", |v| {
        let key = check::pem_file(check::text(v)?)?;
        let lone = match &cert {
            Some(cert) => cert.is_none(),
            // A certificate that has been complained of is there all the same.
            None => !has_cert,
        };
        match (&cert, &key) {
            (_, Some(_)) if lone => Err(Complaint {
                what: "is set without listen.tls_cert".into(),
                mend: "write tls_cert, the file of the certificate chain, above it".into(),
            }),
            (Some(Some(_)), None) => Err(Complaint {
                what: "is \"\", and listen.tls_cert is not".into(),
                mend: "write the file of the private key, or \"\" for both".into(),
            }),
            _ => Ok(key),
        }
    });
    listen.tls_cert = cert.flatten();
    listen.tls_key = key.flatten();
}

pub(super) fn agent(name: &str) -> Checked<AgentKind> {
    check::choice(name, &AgentKind::NAMES)
}

fn override_with(
    overrides: &Overrides,
    config: &mut Config,
    ports: Option<usize>,
    report: &mut Report<'_>,
) {
    const COMMAND_LINE: &str = "command line";
    if let Some(port) = overrides.port {
        config.listen.http.set_port(port);
    }
    if let Some(id) = &overrides.hume_config {
        let checked = match config.uses(AgentKind::Hume) {
            true => check::opaque_id(id),
            false => Err(Complaint {
                what: "no call is answered by Hume, whose config it names".into(),
                mend: "leave it out, or set agent.default to \"hume\"".into(),
            }),
        };
        match checked {
            Ok(id) => config.hume.config_id = Some(id),
            Err(complaint) => report.add_elsewhere(COMMAND_LINE, "--hume-config", complaint),
        }
    }
    if let Some(level) = overrides.log_level {
        config.log.level = level;
    }
    let http = config.listen.http;
    if let Some(ops) = config.listen.ops {
        let either_is_all = http.ip().is_unspecified() || ops.ip().is_unspecified();
        if ops.port() != 0 && http.port() == ops.port() && (http.ip() == ops.ip() || either_is_all)
        {
            let what = format!("port {} is that of listen.http, too", ops.port());
            let mend = "give each a port of its own".to_owned();
            match overrides.port {
                Some(_) => {
                    let what = format!("port {} is that of listen.ops, too", ops.port());
                    report.add_elsewhere(COMMAND_LINE, "--port", Complaint { what, mend });
                }
                None => report.add(ports, "listen.ops", what, mend),
            }
        }
    }
}
