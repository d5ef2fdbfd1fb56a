//! How a server is reached, and what its session is told.

use super::*;
use crate::{
    agent::{Briefing, Capabilities, Saying},
    config::{
        HeaderValue, Variable,
        realtime::{Auth, Dialect, Format, Greet, Interrupt, Part, Place, ReadyOn, Say, ToolShape},
    },
};

fn object(value: Value) -> serde_json::Map<String, Value> {
    value.as_object().unwrap().clone()
}

#[test]
fn the_address_is_the_operators_and_names_the_model_once() {
    type Row<'a> = (
        &'a str,
        Option<&'a str>,
        bool,
        &'a [(&'a str, &'a str)],
        &'a str,
    );
    let table: [Row<'_>; 7] = [
        (
            "wss://a/v1/realtime",
            Some("m"),
            true,
            &[],
            "wss://a/v1/realtime?model=m",
        ),
        (
            "wss://a/v1?x=%20y&z",
            Some("m 1"),
            true,
            &[],
            "wss://a/v1?x=%20y&z&model=m+1",
        ),
        (
            "wss://a/v1?model=own",
            Some("m"),
            true,
            &[],
            "wss://a/v1?model=own",
        ),
        (
            "wss://a/v1",
            Some("m"),
            true,
            &[("model", "q")],
            "wss://a/v1?model=q",
        ),
        (
            "wss://a/v1",
            Some("m"),
            false,
            &[("key", "a&b")],
            "wss://a/v1?key=a%26b",
        ),
        ("wss://a/v1?", None, true, &[], "wss://a/v1"),
        (
            "wss://a/v1?a=1&",
            None,
            true,
            &[("b", "2")],
            "wss://a/v1?a=1&b=2",
        ),
    ];
    for (url, model, in_query, query, expected) in table {
        let call = Call::dialled(|config| {
            config.url = url.into();
            config.model = model.map(str::to_owned);
            config.model_in_query = in_query;
            let pairs = query
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_string()));
            config.query = pairs.collect();
        });
        let request = call.codec.request();
        assert_eq!(request.url, expected);
        assert_eq!(request.max_message, 16 << 20);
    }
}

#[test]
fn the_key_is_shown_as_the_server_wants_it_and_an_operators_headers_are_stronger() {
    let headers = |change: &dyn Fn(&mut Realtime)| -> Vec<String> {
        let request = Call::dialled(|config| change(config)).codec.request();
        assert!(
            !request.url.contains("the-key") && !format!("{:?}", request.headers).contains("the-")
        );
        let shown = request.headers.iter();
        shown
            .map(|(name, value)| format!("{name}: {}", value.expose()))
            .collect()
    };
    assert_eq!(headers(&|_| {}), ["Authorization: Bearer the-key"]);
    assert_eq!(
        headers(&|c| c.auth = Auth::Basic),
        ["Authorization: Basic the-key"]
    );
    assert_eq!(
        headers(&|c| c.auth = Auth::Header("api-key".into())),
        ["api-key: the-key"]
    );
    assert!(headers(&|c| c.auth = Auth::None).is_empty());
    let beta = headers(&|c| c.dialect = Dialect::Beta);
    assert_eq!(
        beta,
        ["Authorization: Bearer the-key", "OpenAI-Beta: realtime=v1"]
    );
    let own = headers(&|config| {
        for (name, value) in [
            ("authorization", "Key {credential:crm}"),
            ("X-Plain", "a"),
            ("X-Missing", "{credential:none}"),
        ] {
            config
                .headers
                .insert(name.into(), HeaderValue(value.into()));
        }
    });
    assert_eq!(own, ["X-Plain: a", "authorization: Key the-crm-key"]);
}

#[test]
fn what_it_can_do_depends_on_its_config() {
    let able = |change: &dyn Fn(&mut Realtime)| -> Capabilities {
        Call::dialled(|config| change(config)).codec.capabilities()
    };
    for (say, saying) in [
        (Say::Instruct, Saying::Nearly),
        (Say::Force, Saying::Exactly),
        (Say::No, Saying::Not),
    ] {
        let with = able(&|config| config.say = say);
        assert!(with.say == saying && with.pause && with.hears_speech && with.name == "realtime");
        let without = able(&|config| {
            config.say = say;
            config.turn_detection = Part::Unset;
        });
        assert!(without.say == saying && !without.pause);
    }
}

#[test]
fn a_session_is_told_everything_at_once() {
    let mut call = Call::dialled(|config| config.voice = Some("cedar".into()));
    call.codec.settings.persona = Persona {
        voice: Some("marin".into()),
        instructions: Some("You are {{ name }} of {{shop}}{{nobody}}, {{n}} {{f}} {{".into()),
        tools: vec![tool()],
        briefing: Briefing {
            fixed: BTreeMap::from([("shop".into(), Variable::Text("a shop".into()))]),
            variables: BTreeMap::from([
                ("name".into(), Variable::Text("Ann".into())),
                ("n".into(), Variable::Number(3.0)),
                ("f".into(), Variable::Flag(true)),
            ]),
            context: "The caller is known.".into(),
        },
    };
    call.codec.brief(Briefing {
        variables: BTreeMap::from([("name".into(), Variable::Text("{{shop}}".into()))]),
        context: "They have an order.".into(),
        ..Briefing::default()
    });
    assert_eq!(
        call.opened(),
        json!({
            "type": "realtime",
            "output_modalities": ["audio"],
            "instructions": "You are {{shop}} of a shop, 3 true {{\n\nThe caller is known.\nThey have an order.",
            "audio": {
                "input": {
                    "format": { "type": "audio/pcmu" },
                    "transcription": { "model": "gpt-transcribe" },
                    "turn_detection": { "type": "server_vad" },
                },
                "output": { "format": { "type": "audio/pcmu" }, "voice": "marin" },
            },
            "tools": [{
                "type": "function", "name": "opening_hours", "description": "When we open.",
                "parameters": { "type": "object", "properties": { "day": { "type": "string" } } },
            }],
            "tool_choice": "auto",
        })
    );
}

#[test]
fn each_difference_between_servers_is_a_value_of_the_config() {
    let xai = Call::dialled(|config| {
        *config = Realtime::of(Preset::Xai);
        config.voice = Some("ara".into());
        config.audio_in = Format::Pcm(16_000);
        config.tools_shape = ToolShape::Nested;
        config.session = object(json!({
            "audio": { "input": { "noise_reduction": null, "format": { "rate": 24000 } } },
            "x_vendor": { "a": [1] }, "type": "other",
        }));
    });
    let mut xai = xai;
    xai.codec.settings.persona.tools = vec![Declared {
        parameters: "no schema".into(),
        ..tool()
    }];
    let session = xai.opened();
    assert_eq!(session["voice"], "ara");
    assert_eq!(session["turn_detection"], json!({ "type": "server_vad" }));
    assert_eq!(
        session["audio"],
        json!({
            "input": {
                "format": { "type": "audio/pcm", "rate": 24000 },
                "transcription": { "model": "grok-transcribe" }, "noise_reduction": null,
            },
            "output": { "format": { "type": "audio/pcmu" } },
        })
    );
    assert_eq!(
        (&session["x_vendor"], &session["type"]),
        (&json!({ "a": [1] }), &json!("other"))
    );
    assert_eq!(session["tools"][0]["function"]["name"], "opening_hours");
    assert_eq!(
        session["tools"][0]["function"]["parameters"]["type"],
        "object"
    );

    let mut beta = Call::dialled(|config| {
        config.dialect = Dialect::Beta;
        config.audio_out = Format::Pcm(24_000);
        config.modalities = vec!["audio".into(), "text".into()];
        config.transcription = Part::Off;
        config.voice = Some("verse".into());
        config.instructions = "Be brief.".into();
    });
    assert_eq!(
        beta.opened(),
        json!({
            "modalities": ["audio", "text"], "instructions": "Be brief.", "voice": "verse",
            "input_audio_format": "g711_ulaw", "output_audio_format": "pcm16",
            "input_audio_transcription": null, "turn_detection": { "type": "server_vad" },
        })
    );

    let mut bare = Call::dialled(|config| {
        config.send_formats = false;
        config.transcription = Part::Unset;
        config.turn_detection = Part::Unset;
        config.turn_detection_place = Place::Session;
        config.modalities = Vec::new();
        config.instructions = String::new();
    });
    assert_eq!(
        bare.opened(),
        json!({ "type": "realtime", "instructions": "" })
    );
}

#[test]
fn it_is_ready_once_the_session_is_as_we_want_it_and_knows_its_end() {
    let mut call = Call::dialled(|config| config.greet = Greet::No);
    call.opened();
    let created = |at: Value| json!({ "type": "session.created", "session": { "id": "s", "expires_at": at } });
    let soon = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs()
        + 3600;
    for absurd in [
        json!(0),
        json!(-5),
        json!("x"),
        json!(1e40),
        json!(null),
        json!(99999999999u64),
    ] {
        call.hears(created(absurd), &[], &[]);
    }
    call.hears(created(json!(soon)), &[&format!("expires {soon}")], &[]);
    call.hears(updated(), &["ready sess_1"], &[]);
    call.hears(updated(), &[], &[]);
    call.hears(created(json!(soon)), &[], &[]);

    let mut call = Call::dialled(|config| {
        config.greet = Greet::No;
        config.ready_on = ReadyOn::Created;
    });
    call.opened();
    let conversation = json!({ "type": "conversation.created", "conversation": { "id": "conv" } });
    call.hears(conversation, &["ready conv"], &[]);
    call.hears(updated(), &[], &[]);
    // A server that names nothing is ready as well.
    let mut call = Call::dialled(|config| config.greet = Greet::No);
    call.hears(
        json!({ "type": "session.updated" }),
        &["ready unnamed"],
        &[],
    );
}

#[test]
fn the_agent_speaks_first_in_the_first_session_only() {
    let mut call = Call::dialled(|config| {
        config.instructions = "Be brief.".into();
        config.greeting = "Greet them.".into();
    });
    call.opened();
    let greet = json!({ "type": "response.create",
        "response": { "instructions": "Be brief.\n\nGreet them." } });
    call.hears(updated(), &["ready sess_1"], std::slice::from_ref(&greet));
    // Lost before anybody has heard it: then it is greeted again.
    call.lost();
    call.hears(updated(), &["resumed sess_1"], std::slice::from_ref(&greet));
    call.hears(delta("r", "i", 160), &["audio 1 160"], &[]);
    call.hears(transcript("r", "i", "Hello."), &["agent: Hello."], &[]);
    call.hears(done("r"), &["end 1", "turn"], &[]);
    call.lost();
    let said = message("assistant", "output_text", "Hello.");
    call.hears(updated(), &["resumed sess_1"], &[said]);

    let mut call = Call::dialled(|config| {
        config.greet = Greet::Message;
        config.greeting = "Greet them.".into();
    });
    call.opened();
    call.hears(
        updated(),
        &["ready sess_1"],
        &[user("Greet them."), create()],
    );
}

#[test]
fn a_pause_switches_the_servers_answers_off_and_on_again() {
    let paused = |answers: bool| {
        json!({ "type": "session.update", "session": {
            "type": "realtime",
            "audio": {
                "input": {
                    "format": { "type": "audio/pcmu" },
                    "turn_detection": { "type": "server_vad", "create_response": answers },
                },
                "output": { "format": { "type": "audio/pcmu" } },
            } } })
    };
    let mut call = Call::with(|config| config.voice = Some("cedar".into()));
    call.told(Command::Pause, &[paused(false)]);
    call.hears(updated(), &[], &[]);
    call.hears(speech_started("u1"), &["speaks"], &[]);
    call.hears(committed("u1"), &["spoke"], &[]);
    // One that begins all the same is ended, and not heard.
    call.hears(created("r1"), &[], &[cancel("r1")]);
    call.hears(delta("r1", "i1", 160), &["ignored Stale"], &[]);
    call.hears(done_as("r1", "cancelled"), &["turn"], &[]);
    call.told(Command::Prompt { text: "5" }, &[user("5")]);
    call.told(Command::Resume, &[paused(true), create()]);
    call.hears(created("r2"), &[], &[]);
    call.hears(delta("r2", "i2", 160), &["audio 1 160"], &[]);
    // Nobody has spoken meanwhile: nothing is answered.
    call.hears(done("r2"), &["end 1", "turn"], &[]);
    call.told(Command::Pause, &[paused(false)]);
    call.told(Command::Resume, &[paused(true)]);
}

#[test]
fn a_server_that_is_configured_not_to_answer_is_asked_to() {
    let mut call = Call::with(|config| {
        config.turn_detection = Part::Object(object(
            json!({ "type": "server_vad", "create_response": false, "interrupt_response": false }),
        ));
        assert_eq!(config.interrupt, Interrupt::Server);
    });
    call.hears(speech_started("u1"), &["speaks"], &[]);
    call.hears(committed("u1"), &["spoke"], &[create()]);
    call.hears(created("r1"), &[], &[]);
    call.hears(delta("r1", "i1", 8000), &["audio 1 8000"], &[]);
    // Nor does it end what the caller talks over.
    call.hears(speech_started("u2"), &["speaks"], &[]);
    call.heard(1, 500, &[cancel("r1"), truncate("i1", 500)]);
}

#[test]
fn what_is_added_is_known_to_the_next_session_too() {
    let mut call = Call::new();
    call.codec.settings.persona.briefing.context = "First.".into();
    let text = "Second.";
    call.told(
        Command::AddContext { text },
        &[message("system", "input_text", text)],
    );
    call.told(Command::Remind, &[]);
    call.codec.reconnect(false);
    let told = call.opened()["instructions"].as_str().unwrap().to_owned();
    assert!(told.ends_with("\n\nFirst.\n\nSecond."), "{told}");
    let text = "\u{65e5}".repeat(2000);
    call.told(
        Command::AddContext { text: &text },
        &[message("system", "input_text", &text)],
    );
    let told = call.opened()["instructions"].as_str().unwrap().to_owned();
    assert!(told.ends_with(&format!("\n\nSecond.\n{text}")));
    let mut call = Call::with(|c| c.context_role = config::realtime::ContextRole::User);
    call.told(Command::AddContext { text: "x" }, &[user("x")]);
}
