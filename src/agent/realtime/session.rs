//! What a session is told of itself: `session.update`, and the texts that go into it.
//!
//! The whole of it is made for every connection; a later change repeats the formats of both directions
//! with what is changed, for a server may fall back to its own for one that is missing, which is heard
//! as noise (seen in the field), and never the voice, which must not change once it has been heard.

use serde_json::{Map, Value, json};

use super::Settings;
use crate::{
    agent::{Briefing, Declared},
    config::{
        self,
        realtime::{Dialect, Format, Part, Place, ToolShape},
    },
};

/// Who the agent is and what it does, with all that it is to know. `added`: since the call began.
pub(super) fn instructions(settings: &Settings, added: &str) -> String {
    let persona = &settings.persona;
    let template = persona.instructions.as_deref();
    let template = template.unwrap_or(&settings.server.config.instructions);
    let text = filled(template, &persona.briefing);
    let parts = [text.trim(), persona.briefing.context.trim(), added.trim()];
    let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join("\n\n")
}

/// `{{name}}` becomes the variable of that name; one that is unknown becomes nothing, for nobody is to
/// hear an agent say it.
pub(super) fn filled(template: &str, briefing: &Briefing) -> String {
    let mut text = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, inner)) = rest.split_once("{{") {
        text.push_str(before);
        let Some((name, behind)) = inner.split_once("}}") else {
            // Nothing closes it: it is text.
            text.push_str("{{");
            rest = inner;
            break;
        };
        let name = name.trim();
        let variable = briefing.variables.get(name);
        if let Some(variable) = variable.or_else(|| briefing.fixed.get(name)) {
            text.push_str(&variable.to_text());
        }
        rest = behind;
    }
    text.push_str(rest);
    text
}

/// The session as we want it.
pub(super) fn whole(settings: &Settings, instructions: &str) -> Map<String, Value> {
    let config = &settings.server.config;
    let voice = settings
        .persona
        .voice
        .as_deref()
        .or(config.voice.as_deref());
    let mut session = Map::new();
    session.insert("instructions".into(), instructions.into());
    if !config.modalities.is_empty() {
        let name = modalities(config.dialect);
        session.insert(name.into(), json!(config.modalities));
    }
    match config.dialect {
        Dialect::Ga => ga(config, voice, &mut session),
        Dialect::Beta => beta(config, voice, &mut session),
    }
    let tools = &settings.persona.tools;
    if !tools.is_empty() {
        let tools = tools
            .iter()
            .map(|declared| tool(declared, config.tools_shape));
        session.insert("tools".into(), tools.collect());
        session.insert("tool_choice".into(), "auto".into());
    }
    merge(&mut session, &config.session);
    session
}

/// What the dialect calls the ways in which the agent expresses itself.
pub(super) fn modalities(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Ga => "output_modalities",
        Dialect::Beta => "modalities",
    }
}

fn ga(config: &config::Realtime, voice: Option<&str>, session: &mut Map<String, Value>) {
    let format = |format| match format {
        // With a rate it is refused as an unknown parameter (seen in the field).
        Format::Pcmu => json!({ "type": "audio/pcmu" }),
        Format::Pcm(rate) => json!({ "type": "audio/pcm", "rate": rate }),
    };
    let (mut input, mut output) = (Map::new(), Map::new());
    if config.send_formats {
        input.insert("format".into(), format(config.audio_in));
        output.insert("format".into(), format(config.audio_out));
    }
    part(&mut input, "transcription", &config.transcription);
    match config.turn_detection_place {
        Place::Audio => part(&mut input, "turn_detection", &config.turn_detection),
        Place::Session => part(session, "turn_detection", &config.turn_detection),
    }
    if let Some(voice) = voice {
        let place = match config.voice_place {
            Place::Audio => &mut output,
            Place::Session => &mut *session,
        };
        place.insert("voice".into(), voice.into());
    }
    let mut audio = Map::new();
    for (name, direction) in [("input", input), ("output", output)] {
        if !direction.is_empty() {
            audio.insert(name.into(), direction.into());
        }
    }
    session.insert("type".into(), "realtime".into());
    if !audio.is_empty() {
        session.insert("audio".into(), audio.into());
    }
}

fn beta(config: &config::Realtime, voice: Option<&str>, session: &mut Map<String, Value>) {
    let format = |format| match format {
        Format::Pcmu => "g711_ulaw",
        // Its rate is the server's own.
        Format::Pcm(_) => "pcm16",
    };
    if config.send_formats {
        session.insert("input_audio_format".into(), format(config.audio_in).into());
        session.insert(
            "output_audio_format".into(),
            format(config.audio_out).into(),
        );
    }
    part(session, "input_audio_transcription", &config.transcription);
    part(session, "turn_detection", &config.turn_detection);
    if let Some(voice) = voice {
        session.insert("voice".into(), voice.into());
    }
}

fn part(place: &mut Map<String, Value>, name: &str, part: &Part) {
    match part {
        Part::Unset => {}
        Part::Off => _ = place.insert(name.into(), Value::Null),
        Part::Object(object) => _ = place.insert(name.into(), object.clone().into()),
    }
}

fn tool(declared: &Declared, shape: ToolShape) -> Value {
    // An object is wanted, where the seam has text; the catalogue has read it.
    let parameters = serde_json::from_str(&declared.parameters)
        .ok()
        .filter(Value::is_object)
        .unwrap_or_else(|| json!({ "type": "object", "properties": {} }));
    let mut function = json!({
        "name": declared.name,
        "description": declared.description,
        "parameters": parameters,
    });
    match shape {
        ToolShape::Flat => {
            function["type"] = "function".into();
            function
        }
        ToolShape::Nested => json!({ "type": "function", "function": function }),
    }
}

/// Objects are merged field by field, everything else is replaced.
fn merge(into: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (name, value) in patch {
        match (into.get_mut(name), value) {
            (Some(Value::Object(old)), Value::Object(new)) => merge(old, new),
            _ => _ = into.insert(name.clone(), value.clone()),
        }
    }
}

/// Where a session's turn detection stands.
const TURN_DETECTION: [&[&str]; 2] = [&["audio", "input", "turn_detection"], &["turn_detection"]];

/// What a session says of turn detection, wherever that stands.
pub(super) fn turn_detection(session: &Map<String, Value>) -> Option<&Map<String, Value>> {
    TURN_DETECTION
        .into_iter()
        .find_map(|path| at(session, path)?.as_object())
}

fn at<'s>(session: &'s Map<String, Value>, path: &[&str]) -> Option<&'s Value> {
    let (last, way) = path.split_last()?;
    let mut place = session;
    for name in way {
        place = place.get(*name)?.as_object()?;
    }
    place.get(*last)
}

/// What of a whole session has the server answer by itself, or not.
pub(super) fn answering(whole: &Map<String, Value>, answers: bool) -> Map<String, Value> {
    let kept: [&[&str]; 6] = [
        &["type"],
        &["audio", "input", "format"],
        &["audio", "output", "format"],
        &["input_audio_format"],
        &["output_audio_format"],
        TURN_DETECTION[0],
    ];
    let mut session = Map::new();
    for path in kept.into_iter().chain([TURN_DETECTION[1]]) {
        let Some(value) = at(whole, path) else {
            continue;
        };
        let mut value = value.clone();
        if TURN_DETECTION.contains(&path)
            && let Some(detection) = value.as_object_mut()
        {
            // Only what is sent changes, so what was switched off is switched on by name; but where the
            // config has it off, it stays off.
            let own = detection.get("create_response").and_then(Value::as_bool);
            let answers = answers && own != Some(false);
            detection.insert("create_response".into(), answers.into());
        }
        put(&mut session, path, value);
    }
    session
}

fn put(session: &mut Map<String, Value>, path: &[&str], value: Value) {
    match path {
        [] => {}
        [name] => _ = session.insert((*name).into(), value),
        [name, rest @ ..] => {
            let inner = session.entry(*name).or_insert_with(|| Map::new().into());
            if let Some(inner) = inner.as_object_mut() {
                put(inner, rest, value);
            }
        }
    }
}

/// The frame.
pub(super) fn update(event_id: &str, session: Map<String, Value>) -> String {
    json!({ "type": "session.update", "event_id": event_id, "session": session }).to_string()
}
