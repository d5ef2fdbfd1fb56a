//! `[realtime]`: a server that speaks OpenAI's Realtime protocol.
//!
//! `preset` is read first: its defaults hold, and every other key stands over them. Besides each value
//! by itself it is looked at whether they go together, where a mistake would cost every call: an agent
//! that never answers, audio in a format that the server does not know, a key shown twice. No secret
//! stands here, in the URL and what is handed on to the server included.

use serde_json::{Map, Value};
use toml::de::DeValue;

use super::{
    AgentKind, Config, KeyAction, Keys, Realtime,
    check::{self, Checked, Complaint, complain},
    connection::connection,
    duration::HOUR,
    headers,
    reader::Section,
    realtime::{
        Auth, ContextRole, Dialect, Format, Greet, Interrupt, Part, Place, Preset, ReadyOn, Say,
        ToolShape, ToolTrigger, Truncate, UserTranscript,
    },
    schema,
    secret::{WHERE_SECRETS_GO, names_a_secret},
};

/// It is sent to the server at the beginning of every conversation.
const MOST_INSTRUCTIONS: usize = 64 << 10;
/// Of JSON that is handed on.
const MOST_JSON: usize = 16 << 10;

pub(super) fn realtime(mut s: Section<'_, '_>, realtime: &mut Realtime) {
    let named = s.has("preset");
    let preset = s.read("preset", |v| check::choice(check::text(v)?, &Preset::NAMES));
    *realtime = Realtime::of(preset.unwrap_or_default());
    // Of a preset that has been complained of, nobody knows what its server would refuse.
    let preset = preset.or((!named).then_some(Preset::default()));
    address(&mut s, preset, realtime);
    key(&mut s, preset, realtime);
    character(&mut s, realtime);
    dialect(&mut s, preset, realtime);
    // A session lasts from a quarter of an hour to two hours, or for ever: servers differ.
    connection(&mut s, &mut realtime.connection, 24 * HOUR);
    s.close();
}

/// What a call would be missing.
pub(super) fn missing(realtime: &Realtime) -> Vec<(&'static str, Complaint)> {
    let mut all = Vec::new();
    let mut miss = |key, mend: &str| {
        let (what, mend) = ("is missing".to_owned(), mend.to_owned());
        all.push((key, Complaint { what, mend }));
    };
    let azure = realtime.preset == Preset::Azure;
    if realtime.url.is_empty() {
        miss(
            "realtime.url",
            match azure {
                true => "write url = \"wss://RESOURCE.openai.azure.com/openai/v1/realtime\"",
                false => "write url = \"wss://HOST/PATH\", or the preset of a server that is known",
            },
        );
    }
    if azure && realtime.model.is_none() {
        miss(
            "realtime.model",
            "write model = \"...\", the deployment's name",
        );
    }
    all
}

/// Whose keys a server is to say something for that cannot be given words.
pub(super) fn unsayable(config: &Config) -> Option<String> {
    let says = |keys: &Keys| {
        let mut actions = keys.actions.values();
        actions.any(|action| matches!(action, KeyAction::Say(_)))
    };
    let kind = |own: Option<AgentKind>| own.unwrap_or(config.agent.default);
    if config.realtime.say != Say::No {
        return None;
    }
    if config.agent.default == AgentKind::Realtime && says(&config.keys) {
        return Some("[keys]".to_owned());
    }
    let mut routes = config.routes.iter().enumerate();
    let found = routes.find(|(_, route)| {
        kind(route.agent) == AgentKind::Realtime
            && says(route.keys.as_ref().unwrap_or(&config.keys))
    });
    found.map(|(at, _)| format!("route {}", at + 1))
}

/// Who the agent is and what it does.
pub(super) fn instructions(text: &str) -> Checked<String> {
    long_text(text, MOST_INSTRUCTIONS)
}

fn long_text(text: &str, most: usize) -> Checked<String> {
    if text.len() > most {
        return complain(
            format!("has {} bytes", text.len()),
            format!("shorten it to {} KiB", most >> 10),
        );
    }
    match text
        .chars()
        .any(|c| c.is_control() && !matches!(c, '\n' | '\t' | '\r'))
    {
        true => complain("has a control character in it", "write plain text"),
        false => Ok(text.to_owned()),
    }
}

fn address(s: &mut Section<'_, '_>, preset: Option<Preset>, realtime: &mut Realtime) {
    s.set(&mut realtime.model, "model", |v| match check::text(v)? {
        "" => Ok(None),
        name => model(name).map(Some),
    });
    s.set(
        &mut realtime.model_in_query,
        "model_in_query",
        check::boolean,
    );
    // Whether the bridge itself puts the model into the query.
    let adds_model = realtime.model_in_query && realtime.model.is_some();
    let mut taken = Vec::new();
    s.set(&mut realtime.url, "url", |v| {
        let text = check::text(v)?;
        let url = check::websocket_url_with_query(text)?;
        taken.extend(url.query_pairs().map(|(name, _)| name.into_owned()));
        if preset == Some(Preset::Azure) {
            if taken.iter().any(|name| name == "api-version") {
                return old_azure();
            }
            if url.path() == "/" {
                return complain(
                    "is a host alone",
                    "write wss://RESOURCE.openai.azure.com/openai/v1/realtime",
                );
            }
        }
        match adds_model && taken.iter().any(|name| name == "model") {
            true => complain(
                "has the model in its query, and model puts it there, too",
                "remove it here, and write model = \"...\"",
            ),
            false => Ok(text.to_owned()),
        }
    });
    let query = s.entries("query", |name, value| {
        if check::is_key(name) {
            return complain(
                "secrets never stand in this file, nor in a URL",
                "remove it; the key goes into the credentials as realtime_api_key, and auth says how \
                 it is shown",
            );
        }
        if name == "api-version" && preset == Some(Preset::Azure) {
            return old_azure();
        }
        if taken.iter().any(|taken| taken == name) {
            return complain("is in the query of url, too", "remove one of them");
        }
        if name == "model" && adds_model {
            return complain(
                "is put there by model",
                "remove it here, or write model = \"\"",
            );
        }
        let value = check::text(value)?;
        let plain = |text: &str| !text.chars().any(char::is_control);
        let fits = (1..=64).contains(&name.len()) && value.len() <= 1024;
        match fits && plain(name) && plain(value) && !value.contains("{credential:") {
            true => Ok(value.to_owned()),
            false => complain(
                "is no parameter of a URL",
                "write a name of at most 64 and a value of at most 1024 characters, as they are; \
                 credentials never stand in a URL",
            ),
        }
    });
    realtime.query = query.unwrap_or_default();
}

fn old_azure<T>() -> Checked<T> {
    complain(
        "has api-version in its query, which has Azure speak the old preview dialect",
        "remove it, and write wss://RESOURCE.openai.azure.com/openai/v1/realtime",
    )
}

fn model(name: &str) -> Checked<String> {
    let fits = name.len() <= 256 && name.bytes().all(|b| b.is_ascii_graphic());
    match fits {
        true => Ok(name.to_owned()),
        false => complain(
            "is not the name of a model",
            "write it as the server has it: at most 256 letters, digits and signs, no spaces",
        ),
    }
}

fn key(s: &mut Section<'_, '_>, preset: Option<Preset>, realtime: &mut Realtime) {
    s.set(&mut realtime.auth, "auth", |v| auth(check::text(v)?));
    let shown_in = match &realtime.auth {
        Auth::Bearer | Auth::Basic => Some("authorization".to_owned()),
        Auth::Header(name) => Some(name.to_ascii_lowercase()),
        Auth::None => None,
    };
    realtime.headers = headers::headers_but(s, |name| {
        if name.starts_with("sec-websocket-") {
            return complain(
                "is a header that the bridge decides",
                "remove it; subprotocols has a key of its own",
            );
        }
        if name == "openai-beta" && preset == Some(Preset::OpenAi) {
            return complain(
                "asks for the older dialect, which OpenAI has switched off",
                "remove it",
            );
        }
        match shown_in.as_deref() == Some(name) {
            true => complain(
                "is where auth has the key shown",
                "remove it, and put the key into the credentials as realtime_api_key; or write auth \
                 = \"none\"",
            ),
            false => Ok(()),
        }
    });
    s.set(&mut realtime.subprotocols, "subprotocols", |v| {
        let list = check::entries(v, "[\"realtime\"]", |v| subprotocol(check::text(v)?))?;
        match list.len() {
            0..=16 => Ok(list),
            _ => complain("has more than 16 entries", "remove some"),
        }
    });
}

fn auth(text: &str) -> Checked<Auth> {
    let short = |name: &str| Auth::Header(name.to_owned());
    let words = [
        ("bearer", Auth::Bearer),
        ("basic", Auth::Basic),
        ("none", Auth::None),
        ("api-key", short("api-key")),
        ("xi-api-key", short("xi-api-key")),
    ];
    match text.strip_prefix("header:") {
        Some(name) => {
            let checked = headers::name(name).and_then(|()| not_the_sockets(name));
            checked.map(|()| short(name)).map_err(|mut complaint| {
                complaint.what = format!("has after \"header:\" what {}", complaint.what);
                complaint
            })
        }
        None => check::choice(text, &words).map_err(|mut complaint| {
            complaint
                .mend
                .push_str(", or \"header:NAME\" for a header with the bare key");
            complaint
        }),
    }
}

fn not_the_sockets(name: &str) -> Checked<()> {
    match name.to_ascii_lowercase().starts_with("sec-websocket-") {
        true => complain("is a header that the bridge decides", "name another"),
        false => Ok(()),
    }
}

fn subprotocol(text: &str) -> Checked<String> {
    // What browsers, which cannot set headers, show OpenAI and ElevenLabs their keys by.
    if names_a_secret(text) {
        return complain(
            "is a key, and secrets never stand in this file",
            format!(
                "remove it and {WHERE_SECRETS_GO} as realtime_api_key; auth says how it is shown"
            ),
        );
    }
    let fits = (1..=128).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
    match fits {
        true => Ok(text.to_owned()),
        false => complain(
            "is not the name of a subprotocol",
            "write letters, digits, dots and dashes, as in \"realtime\"",
        ),
    }
}

/// Who the agent is, and its first words.
fn character(s: &mut Section<'_, '_>, realtime: &mut Realtime) {
    s.set(&mut realtime.voice, "voice", |v| {
        check::opaque_id(check::text(v)?).map(Some)
    });
    s.set(&mut realtime.instructions, "instructions", |v| {
        instructions(check::text(v)?)
    });
    s.set(&mut realtime.greet, "greet", |v| {
        word_or_false(v, &Greet::NAMES, Greet::No)
    });
    let greets = realtime.greet != Greet::No;
    s.set(&mut realtime.greeting, "greeting", |v| {
        let text = long_text(check::text(v)?, 4 << 10)?;
        match greets && text.trim().is_empty() {
            true => complain(
                "is empty, and greet has the agent speak first",
                "write what it is to do first, or greet = false",
            ),
            false => Ok(text),
        }
    });
}

fn dialect(s: &mut Section<'_, '_>, preset: Option<Preset>, realtime: &mut Realtime) {
    let openai = matches!(preset, Some(Preset::OpenAi | Preset::Azure));
    s.set(&mut realtime.dialect, "dialect", |v| {
        match check::choice(check::text(v)?, &Dialect::NAMES)? {
            Dialect::Beta if openai => complain(
                "is \"beta\", which OpenAI has switched off",
                "remove it; a server that speaks nothing else has preset = \"custom\"",
            ),
            dialect => Ok(dialect),
        }
    });
    let format = |v: &DeValue<'_>| match check::choice(check::text(v)?, &Format::NAMES)? {
        Format::Pcm(rate) if openai && rate != 24_000 => complain(
            "is PCM at a rate that OpenAI does not know",
            "write \"pcmu\", which needs no conversion, or \"pcm@24000\"",
        ),
        format => Ok(format),
    };
    s.set(&mut realtime.audio_in, "audio_in", format);
    s.set(&mut realtime.audio_out, "audio_out", format);
    s.set(&mut realtime.send_formats, "send_formats", check::boolean);

    s.set(&mut realtime.interrupt, "interrupt", |v| {
        check::choice(check::text(v)?, &Interrupt::NAMES)
    });
    s.set(&mut realtime.turn_detection, "turn_detection", |v| {
        turn_detection(part(v)?, preset)
    });
    let place = |v: &DeValue<'_>| check::choice(check::text(v)?, &Place::NAMES);
    s.set(
        &mut realtime.turn_detection_place,
        "turn_detection_place",
        place,
    );
    s.set(&mut realtime.voice_place, "voice_place", place);
    s.set(&mut realtime.transcription, "transcription", part);
    s.set(&mut realtime.user_transcript, "user_transcript", |v| {
        check::choice(check::text(v)?, &UserTranscript::NAMES)
    });
    s.set(&mut realtime.modalities, "modalities", |v| {
        modalities(v, openai)
    });
    s.set(&mut realtime.tools_shape, "tools_shape", |v| {
        check::choice(check::text(v)?, &ToolShape::NAMES)
    });
    s.set(&mut realtime.tool_trigger, "tool_trigger", |v| {
        check::choice(check::text(v)?, &ToolTrigger::NAMES)
    });
    s.set(&mut realtime.ready_on, "ready_on", |v| {
        check::choice(check::text(v)?, &ReadyOn::NAMES)
    });
    s.set(&mut realtime.truncate, "truncate", |v| {
        word_or_false(v, &Truncate::NAMES, Truncate::Off)
    });
    s.set(&mut realtime.say, "say", |v| {
        word_or_false(v, &Say::NAMES, Say::No)
    });
    s.set(&mut realtime.context_role, "context_role", |v| {
        check::choice(check::text(v)?, &ContextRole::NAMES)
    });
    s.set(&mut realtime.session, "session", session);
}

/// One of a few words, or `false`.
fn word_or_false<T: Clone>(value: &DeValue<'_>, words: &[(&'static str, T)], off: T) -> Checked<T> {
    match value {
        DeValue::Boolean(false) => Ok(off),
        DeValue::Boolean(true) => {
            let words: Vec<_> = words
                .iter()
                .map(|(word, _)| format!("\"{word}\""))
                .collect();
            complain(
                "is true, which does not say how",
                format!("write {} or false", words.join(" or ")),
            )
        }
        DeValue::String(text) if &**text == "false" => {
            complain("is a string, not false", "write false without quotes")
        }
        other => check::choice(check::text(other)?, words).map_err(|mut complaint| {
            complaint.mend.push_str(", or false");
            complaint
        }),
    }
}

/// `false`, or an object: a table, or JSON in a string.
fn part(value: &DeValue<'_>) -> Checked<Part> {
    match value {
        DeValue::Boolean(false) => Ok(Part::Off),
        value => Ok(match object(value, " or false")? {
            map if map.is_empty() => Part::Unset,
            map => Part::Object(map),
        }),
    }
}

fn object(value: &DeValue<'_>, or: &str) -> Checked<Map<String, Value>> {
    let mend = format!("write a table{or}; JSON in a string is taken, too");
    let json = match value {
        DeValue::Table(_) => schema::json(value)?,
        DeValue::String(text) => match serde_json::from_str(text) {
            Ok(json) => json,
            // The error's own words may repeat what stands there.
            Err(error) => {
                let (line, column) = (error.line(), error.column());
                let what = format!("is not JSON (line {line}, column {column} of it)");
                return complain(what, mend);
            }
        },
        other => {
            let what = format!("is {}, not a table", check::kind(other));
            return complain(what, mend);
        }
    };
    let Value::Object(map) = json else {
        return complain("is JSON, but not an object", mend);
    };
    if map.iter().any(|(name, value)| holds_a_secret(name, value)) {
        return complain(
            "has what looks like a secret, and secrets never stand in this file",
            format!("remove it and {WHERE_SECRETS_GO}; the server gets realtime_api_key only"),
        );
    }
    match serde_json::to_string(&map).map_or(usize::MAX, |json| json.len()) {
        0..=MOST_JSON => Ok(map),
        _ => complain(
            format!("has more than {} KiB as JSON", MOST_JSON >> 10),
            "shorten it",
        ),
    }
}

fn holds_a_secret(name: &str, value: &Value) -> bool {
    names_a_secret(name)
        || match value {
            Value::Object(map) => map.iter().any(|(name, value)| holds_a_secret(name, value)),
            Value::Array(list) => list.iter().any(|value| holds_a_secret("", value)),
            _ => false,
        }
}

/// The bridge has no ear of its own for the end of a caller's turn: a server that does not listen for it
/// has to be one that nobody knows to need it.
fn turn_detection(part: Part, preset: Option<Preset>) -> Checked<Part> {
    match (&part, preset) {
        (Part::Off, Some(Preset::OpenAi | Preset::Azure | Preset::Xai | Preset::LocalAi)) => {
            complain(
                "is false, and then this server never answers a caller",
                "remove it, or write { type = \"server_vad\" }",
            )
        }
        _ => Ok(part),
    }
}

fn modalities(value: &DeValue<'_>, openai: bool) -> Checked<Vec<String>> {
    const WORDS: [(&str, &str); 2] = [("audio", "audio"), ("text", "text")];
    let list = check::entries(value, "[\"audio\"]", |v| {
        check::choice(check::text(v)?, &WORDS)
    })?;
    if !list.is_empty() && !list.contains(&"audio") {
        return complain(
            "has no \"audio\" in it, and then the caller hears nothing",
            "write [\"audio\"]",
        );
    }
    if openai && list.len() > 1 {
        return complain(
            "has both, and OpenAI takes one of them only",
            "write [\"audio\"]; its words come with it",
        );
    }
    Ok(list.into_iter().map(str::to_owned).collect())
}

/// What is merged into the session, but nothing that the bridge would go on not knowing of.
fn session(value: &DeValue<'_>) -> Checked<Map<String, Value>> {
    let map = object(value, "")?;
    const OURS: [(&str, &str); 10] = [
        ("/type", "remove it"),
        ("/model", "write it as model"),
        ("/instructions", "write them as instructions"),
        ("/tools", "write each as a [[tool]]"),
        ("/audio/input/format", "write audio_in"),
        ("/audio/output/format", "write audio_out"),
        ("/input_audio_format", "write audio_in"),
        ("/output_audio_format", "write audio_out"),
        ("/output_modalities", "write modalities"),
        ("/modalities", "write modalities"),
    ];
    let whole = Value::Object(map);
    for (place, mend) in OURS {
        if whole.pointer(place).is_some() {
            let name = place[1..].replace('/', ".");
            return complain(format!("has {name}, which is the bridge's to say"), mend);
        }
    }
    // What stands there in place of a table would take what the bridge says with it.
    const TABLES: [&str; 5] = [
        "/audio",
        "/audio/input",
        "/audio/output",
        "/audio/input/turn_detection",
        "/turn_detection",
    ];
    for place in TABLES {
        if whole.pointer(place).is_some_and(|value| !value.is_object()) {
            let name = place[1..].replace('/', ".");
            return complain(
                format!("has {name}, which is not a table there"),
                "remove it; false for turn_detection is said by its own key",
            );
        }
    }
    match whole {
        Value::Object(map) => Ok(map),
        _ => Ok(Map::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_known_lacks_nothing() {
        let lacks = |preset| {
            let missing = missing(&Realtime::of(preset)).into_iter();
            missing.map(|(key, _)| key).collect::<Vec<_>>()
        };
        for (name, preset) in Preset::NAMES {
            let expected: &[&str] = match preset {
                Preset::Azure => &["realtime.url", "realtime.model"],
                Preset::Custom => &["realtime.url"],
                _ => &[],
            };
            assert_eq!(lacks(preset), expected, "{name}");
        }
    }
}
