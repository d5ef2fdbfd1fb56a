//! `[realtime]`: presets and the keys over them, and what cannot go together.

use std::time::Duration;

use hume_bridge::config::{
    AgentKind, Config, Connection, HeaderValue, Overrides, parse as parse_with,
    realtime::{
        Auth, ContextRole, Dialect, Format, Greet, Interrupt, Part, Place, Preset, ReadyOn,
        Realtime, Say, ToolShape, ToolTrigger, Truncate, UserTranscript,
    },
};
use serde_json::json;

use super::{URL, good, said, says};

/// With `rest` in a section of calls that nobody needs.
fn realtime(rest: &str) -> Realtime {
    good(&format!("[realtime]\n{rest}")).realtime
}

/// What is said to `rest`, without the place of the section.
fn wrong(rest: &str) -> String {
    said(&format!("[realtime]\n{rest}"))
}

#[test]
fn a_preset_is_the_defaults_of_a_server() {
    for (name, preset) in Preset::NAMES {
        let config = realtime(&format!("preset = '{name}'"));
        assert_eq!(config, Realtime::of(preset), "{name}");
    }
    assert_eq!(realtime(""), Realtime::of(Preset::OpenAi));
    // It is read first, wherever it stands.
    let config = realtime("say = false\nauth = 'basic'\npreset = 'xai'");
    let xai = Realtime::of(Preset::Xai);
    assert_eq!((config.say, &config.auth), (Say::No, &Auth::Basic));
    assert_eq!((config.url, config.interrupt), (xai.url, Interrupt::Client));
    says(
        "[realtime]\npreset = 'opnai'",
        "t.toml:3: realtime.preset: there is no \"opnai\"; did you mean \"openai\"?",
    );
}

#[test]
fn every_key_stands_over_the_preset() {
    let config = realtime(
        "preset = 'custom'\nurl = 'wss://h.example.com/x/websocket?v=2'\nmodel = 'm/1:2'\n\
         model_in_query = false\nquery = { intent = 'a b' }\nauth = 'header:X-Key'\n\
         headers = { X-Team = 'a', X-Token = '{credential:team}' }\n\
         subprotocols = ['realtime', 'v1.example']\nvoice = 'ash'\n\
         instructions = \"\"\"\nYou are {{name}}.\n\tBe brief.\"\"\"\ngreet = 'message'\n\
         greeting = 'Say hello.'\ndialect = 'beta'\naudio_in = 'pcm@16000'\naudio_out = 'pcmu'\n\
         send_formats = false\nturn_detection = { type = 'semantic_vad', eagerness = 'low' }\n\
         turn_detection_place = 'session'\nvoice_place = 'session'\n\
         transcription = '{\"model\": \"m\", \"prompt\": null}'\nuser_transcript = 'replace'\n\
         modalities = ['text', 'audio']\ntools_shape = 'nested'\ntool_trigger = 'arguments'\n\
         ready_on = 'session.created'\ninterrupt = 'client'\ntruncate = 'keep'\nsay = 'force'\n\
         context_role = 'user'\nsession = { x_a = 1, audio = { input = { noise_reduction = { type = 'near_field' } } } }\n\
         ping_interval = '1s'\npong_timeout = '2s'\nconnect_timeout = '3s'\nready_timeout = '4s'\n\
         connect_budget = '0s'\nreconnect_budget = '5s'\nrecycle_after = '14m'",
    );
    let map = |value: serde_json::Value| value.as_object().unwrap().clone();
    let header = |name: &str, value: &str| (name.to_owned(), HeaderValue(value.to_owned()));
    let seconds = Duration::from_secs;
    let expected = Realtime {
        preset: Preset::Custom,
        url: "wss://h.example.com/x/websocket?v=2".into(),
        model: Some("m/1:2".into()),
        model_in_query: false,
        query: [("intent".to_owned(), "a b".to_owned())].into(),
        auth: Auth::Header("X-Key".into()),
        headers: [
            header("X-Team", "a"),
            header("X-Token", "{credential:team}"),
        ]
        .into(),
        subprotocols: vec!["realtime".into(), "v1.example".into()],
        voice: Some("ash".into()),
        instructions: "You are {{name}}.\n\tBe brief.".into(),
        greet: Greet::Message,
        greeting: "Say hello.".into(),
        dialect: Dialect::Beta,
        audio_in: Format::Pcm(16_000),
        audio_out: Format::Pcmu,
        send_formats: false,
        turn_detection: Part::Object(map(json!({ "type": "semantic_vad", "eagerness": "low" }))),
        turn_detection_place: Place::Session,
        voice_place: Place::Session,
        transcription: Part::Object(map(json!({ "model": "m", "prompt": null }))),
        user_transcript: UserTranscript::Replace,
        modalities: vec!["text".into(), "audio".into()],
        tools_shape: ToolShape::Nested,
        tool_trigger: ToolTrigger::Arguments,
        ready_on: ReadyOn::Created,
        interrupt: Interrupt::Client,
        truncate: Truncate::Keep,
        say: Say::Force,
        context_role: ContextRole::User,
        session: map(json!({
            "x_a": 1, "audio": { "input": { "noise_reduction": { "type": "near_field" } } }
        })),
        connection: Connection {
            ping_interval: seconds(1),
            pong_timeout: seconds(2),
            connect_timeout: seconds(3),
            ready_timeout: seconds(4),
            connect_budget: seconds(0),
            reconnect_budget: seconds(5),
            recycle_after: seconds(14 * 60),
        },
    };
    assert_eq!(config, expected);
}

#[test]
fn false_and_nothing_are_said_each_in_its_own_way() {
    let config = realtime(
        "preset = 'custom'\nurl = 'ws://localhost:8765/v1/realtime'\nturn_detection = false\n\
         transcription = {}\ngreet = false\ngreeting = ''\ntruncate = false\nsay = false\nmodel = ''\n\
         modalities = []\ninstructions = ''",
    );
    assert_eq!(config.turn_detection, Part::Off);
    assert_eq!(config.transcription, Part::Unset);
    assert_eq!((config.greet, config.truncate), (Greet::No, Truncate::Off));
    assert_eq!((config.say, config.model), (Say::No, None));
    assert!(config.modalities.is_empty() && config.instructions.is_empty());
    assert_eq!(realtime("transcription = false").transcription, Part::Off);
    assert_eq!(realtime("turn_detection = {}").turn_detection, Part::Unset);
    for (text, what) in [
        (
            "greet = true",
            "greet: is true, which does not say how; write \"response\" or \"message\" or false",
        ),
        (
            "say = 'false'",
            "say: is a string, not false; write false without quotes",
        ),
        (
            "truncate = 'delte'",
            "truncate: there is no \"delte\"; did you mean \"delete\"?, or false",
        ),
        (
            "greeting = ' '",
            "greeting: is empty, and greet has the agent speak first; ",
        ),
        (
            "transcription = true",
            "transcription: is true or false, not a table; ",
        ),
        (
            "turn_detection = '[]'",
            "turn_detection: is JSON, but not an object; ",
        ),
        (
            "session = '{ PLANTED'",
            "session: is not JSON (line 1, column 3 of it); ",
        ),
    ] {
        let told = wrong(text);
        assert!(told.contains(&format!("realtime.{what}")), "{told}");
    }
}

#[test]
fn the_key_is_shown_in_one_place() {
    for (text, auth) in [
        ("bearer", Auth::Bearer),
        ("basic", Auth::Basic),
        ("none", Auth::None),
        ("api-key", Auth::Header("api-key".into())),
        ("xi-api-key", Auth::Header("xi-api-key".into())),
        ("header:X-API-Key", Auth::Header("X-API-Key".into())),
    ] {
        assert_eq!(realtime(&format!("auth = '{text}'")).auth, auth);
    }
    for (text, what) in [
        (
            "auth = 'bearr'",
            "auth: there is no \"bearr\"; did you mean \"bearer\"?, or \"header:NAME\"",
        ),
        (
            "auth = 'header:'",
            "auth: has after \"header:\" what is not the name of a header; ",
        ),
        (
            "auth = 'header:Host'",
            "auth: has after \"header:\" what is a header that the bridge decides; ",
        ),
        (
            "auth = 'header:Sec-WebSocket-Key'",
            "is a header that the bridge decides; name another",
        ),
        (
            "auth = 'Bearer PLANTED'",
            "auth: is none of the words that may stand here; ",
        ),
        (
            "headers = { authorization = '{credential:k}' }",
            "headers.authorization: is where auth has the key shown; ",
        ),
        (
            "auth = 'api-key'\nheaders = { API-Key = '{credential:k}' }",
            "headers.API-Key: is where auth has the key shown; ",
        ),
        (
            "headers = { Authorization2 = 'Bearer PLANTED' }",
            "looks like a secret",
        ),
        (
            "headers = { Sec-WebSocket-Protocol = 'x' }",
            "is a header that the bridge decides; remove it; subprotocols has a key of its own",
        ),
        (
            "headers = { OpenAI-Beta = 'realtime=v1' }",
            "which OpenAI has switched off; ",
        ),
        (
            "headers = { X-K = '{credential:realtime-api-key}' }",
            "names a credential of the bridge itself",
        ),
        (
            "subprotocols = ['realtime', 'openai-insecure-api-key.PLANTED']",
            "subprotocols: entry 2 is a key, and secrets never stand in this file; ",
        ),
        (
            "subprotocols = ['a b']",
            "subprotocols: entry 1 is not the name of a subprotocol; ",
        ),
        (
            "api_key = 'PLANTED'",
            "api_key: secrets never stand in this file; ",
        ),
        (
            "session = { api_key = 'PLANTED' }",
            "session.api_key: secrets never stand in this file; ",
        ),
        (
            "session = '{\"a\": [{\"client_secret\": \"PLANTED\"}]}'",
            "session: has what looks like a secret, ",
        ),
    ] {
        let told = wrong(text);
        assert!(told.contains(what), "{text}: {told}");
        assert_eq!(told.lines().count(), 1, "{told}");
    }
    // Where the key is elsewhere, the header is free.
    realtime("auth = 'none'\nheaders = { Authorization = 'Basic {credential:k}' }");
    realtime("preset = 'custom'\nurl = 'wss://h'\nheaders = { OpenAI-Beta = 'realtime=v1' }");
}

#[test]
fn the_address_has_no_secret_and_no_model_twice() {
    for url in [
        "wss://h.example.com/v1/realtime",
        "wss://h.example.com:8443/a/websocket?deployment=x&b",
        "ws://127.0.0.1:8080/v1/realtime",
    ] {
        assert_eq!(realtime(&format!("url = '{url}'")).url, url);
    }
    for (url, what) in [
        (
            "ws://h.example.com/",
            "is ws:// to a host that is not this machine; ",
        ),
        ("https://h.example.com/", "does not begin with wss://; "),
        (
            "wss://u:PLANTED@h.example.com/",
            "has a user or a password in it; ",
        ),
        (
            "wss://h.example.com/?api_key=PLANTED",
            "has a secret in its query, ",
        ),
        (
            "wss://h.example.com/?a=b&key=PLANTED",
            "has a secret in its query, ",
        ),
        ("wss://h.example.com/#PLANTED", "has a fragment; "),
        (
            "wss://h.example.com/?model=x",
            "has the model in its query, and model puts it there, too; ",
        ),
        ("", "is empty; "),
    ] {
        let told = wrong(&format!("url = '{url}'"));
        assert!(told.starts_with("t.toml:3: realtime.url: "), "{told}");
        assert!(told.contains(what), "{told}");
    }
    realtime("url = 'wss://h.example.com/?model=x'\nmodel = ''");
    realtime("url = 'wss://h.example.com/?model=x'\nmodel_in_query = false");
    for (text, what) in [
        (
            "query = { api_key = 'PLANTED' }",
            "query.api_key: secrets never stand in this file, nor in a URL; ",
        ),
        (
            "query = { sig = 'PLANTED' }",
            "query.sig: secrets never stand in this file, nor in a URL; ",
        ),
        (
            "query = { a = '{credential:k}' }",
            "query.a: is no parameter of a URL; ",
        ),
        ("query = { a = 1 }", "query.a: is a number, not a string; "),
        (
            "query = { model = 'x' }",
            "query.model: is put there by model; ",
        ),
        (
            "url = 'wss://h/?a=1'\nquery = { a = '2' }",
            "query.a: is in the query of url, too; ",
        ),
        ("model = 'a b'", "model: is not the name of a model; "),
    ] {
        let told = wrong(text);
        assert!(told.contains(&format!("realtime.{what}")), "{text}: {told}");
    }
}

#[test]
fn azure_is_told_its_own_way() {
    let of = |rest: &str| format!("preset = 'azure'\n{rest}");
    for (text, what) in [
        (
            "url = 'wss://r.openai.azure.com/openai/realtime?api-version=2024-10-01'",
            "realtime.url: has api-version in its query, which has Azure speak the old preview dialect; ",
        ),
        (
            "query = { api-version = '2024-10-01' }",
            "realtime.query.api-version: has api-version in its query, ",
        ),
        (
            "url = 'wss://r.openai.azure.com'",
            "realtime.url: is a host alone; write wss://RESOURCE.openai.azure.com/openai/v1/realtime",
        ),
    ] {
        let told = wrong(&of(text));
        assert!(told.contains(what), "{told}");
    }
    let config = realtime(&of(
        "url = 'wss://r.openai.azure.com/openai/v1/realtime'\nmodel = 'phone'",
    ));
    assert_eq!(config.auth, Auth::Header("api-key".into()));
    // Voice Live has a version, too; it is no Azure OpenAI.
    realtime(
        "preset = 'custom'\nurl = 'wss://r.services.ai.azure.com/voice-live/realtime?api-version=x'",
    );
}

#[test]
fn what_would_leave_the_caller_without_an_answer_is_refused() {
    for (text, what) in [
        (
            "turn_detection = false",
            "is false, and then this server never answers a caller; ",
        ),
        (
            "audio_in = 'pcm@16000'",
            "is PCM at a rate that OpenAI does not know; ",
        ),
        (
            "audio_out = 'pcma'",
            "audio_out: there is no \"pcma\"; did you mean \"pcmu\"?",
        ),
        (
            "modalities = ['text']",
            "has no \"audio\" in it, and then the caller hears nothing; ",
        ),
        (
            "modalities = ['audio', 'text']",
            "has both, and OpenAI takes one of them only; ",
        ),
        (
            "dialect = 'beta'",
            "is \"beta\", which OpenAI has switched off; ",
        ),
        (
            "session = { tools = [] }",
            "has tools, which is the bridge's to say; write each as a [[tool]]",
        ),
        (
            "session = { output_modalities = ['text'] }",
            "has output_modalities, which is the bridge's to say; write modalities",
        ),
        (
            "session = '{\"audio\": null}'",
            "has audio, which is not a table there; ",
        ),
        (
            "session = '{\"audio\": {\"input\": {\"turn_detection\": null}}}'",
            "has audio.input.turn_detection, which is not a table there; ",
        ),
        (
            "session = { audio = { output = { format = { type = 'audio/pcm' } } } }",
            "has audio.output.format, which is the bridge's to say; write audio_out",
        ),
        (
            "recycle_after = '25h'",
            "out of range; write from \"1s\" to \"24h\", or \"0s\" for never",
        ),
        (
            "instructions = \"a\\u0007\"",
            "has a control character in it; ",
        ),
    ] {
        let told = wrong(text);
        assert!(told.contains(what), "{text}: {told}");
        assert_eq!(told.lines().count(), 1, "{told}");
    }
    let long = "x".repeat(65 * 1024);
    assert!(
        wrong(&format!("instructions = '{long}'"))
            .ends_with("realtime.instructions: has 66560 bytes; shorten it to 64 KiB")
    );
    assert!(
        wrong(&format!("session = {{ x = '{long}' }}"))
            .ends_with("realtime.session: has more than 16 KiB as JSON; shorten it")
    );
    // The bridge does itself what the server is told not to.
    realtime(
        "turn_detection = { type = 'server_vad', create_response = false, interrupt_response = false }",
    );
    // A preset with a slip in it says nothing of what its server would refuse.
    assert_eq!(
        wrong("preset = 'custm'\naudio_in = 'pcm@16000'")
            .lines()
            .count(),
        1
    );
}

#[test]
fn who_cannot_be_given_words_has_no_key_that_wants_some_said() {
    let speaks = "actions = { 9 = { say = 'We open at nine.' } }";
    let routes =
        |rest: &str| format!("{rest}[[route]]\nagent = 'realtime'\nkeys = {{ {speaks} }}\n");
    good(&format!("[keys]\n{speaks}\n[realtime]\nsay = false"));
    good(&routes("[realtime]\nsay = 'instruct'\n"));
    let told = |whose: &str| {
        format!(
            "realtime.say: is false, and a key of {whose} has words to be said; remove {{ say = ... }} \
             there, or say how this server is made to speak"
        )
    };
    says(
        &format!("agent.default = 'realtime'\nrealtime.say = false\n[keys]\n{speaks}"),
        &format!("t.toml:3: {}", told("[keys]")),
    );
    says(
        &routes("[realtime]\nsay = false\n"),
        &format!("t.toml:3: {}", told("route 1")),
    );
}

#[test]
fn what_is_missing_matters_where_a_call_needs_it() {
    realtime("preset = 'azure'");
    realtime("preset = 'custom'\nvoice = 'x'");
    let azure = "realtime.url: is missing; write url = \
                 \"wss://RESOURCE.openai.azure.com/openai/v1/realtime\"\n\
                 t.toml:5: realtime.model: is missing; write model = \"...\", the deployment's name";
    says(
        "agent.default = 'realtime'\n\n[realtime]\npreset = 'azure'",
        &format!("t.toml:5: {azure}"),
    );
    let custom = said("[realtime]\npreset = 'custom'\n[[route]]\nagent = 'realtime'");
    assert!(
        custom.starts_with("t.toml:3: realtime.url: is missing; write url = \"wss://HOST/PATH\""),
        "{custom}"
    );
    // What is there and wrong is not missing.
    let url = said("agent.default = 'realtime'\n[realtime]\npreset = 'custom'\nurl = 'x'");
    assert_eq!(
        url,
        "t.toml:5: realtime.url: has no scheme; write it as wss://HOST/PATH"
    );
    for preset in ["openai", "xai", "localai"] {
        good(&format!(
            "agent.default = 'realtime'\nrealtime.preset = '{preset}'"
        ));
    }
}

#[test]
fn a_config_knows_its_agents() {
    use AgentKind::{Hume, Realtime};
    let agents = |text: &str| good(text).agents();
    assert_eq!(agents(""), [Hume]);
    assert_eq!(agents("agent.default = 'realtime'"), [Realtime]);
    assert_eq!(
        agents("[[route]]\nto = '+15557654322'\nagent = 'realtime'\n[[route]]\nagent = 'hume'"),
        [Hume, Realtime]
    );
    let both: Config =
        good("agent.default = 'realtime'\n[[route]]\nagent = 'hume'\nconfig_id = 'c'");
    assert_eq!(both.agents(), [Realtime, Hume]);
    assert!(both.uses(Hume));
    says(
        "agent.default = 'realtme'",
        "t.toml:2: agent.default: there is no \"realtme\"; did you mean \"realtime\"?",
    );
}

#[test]
fn a_route_has_what_its_agent_has() {
    let config = good(
        "agent.default = 'realtime'\n[[route]]\nto = '+15557654322'\ninstructions = 'Sell.'\n\
         voice = 'ash'\n[[route]]\nagent = 'hume'\nconfig_id = 'c'",
    );
    let [shop, hume] = &config.routes[..] else {
        panic!("{:?}", config.routes);
    };
    assert_eq!(shop.instructions.as_deref(), Some("Sell."));
    assert_eq!((shop.agent, shop.voice.as_deref()), (None, Some("ash")));
    assert_eq!(hume.config_id.as_deref(), Some("c"));
    let told = said("agent.default = 'realtime'\n[[route]]\nconfig_id = 'c'");
    assert!(
        told.starts_with("t.toml:4: route[1].config_id: names a config of Hume's, "),
        "{told}"
    );
    // Whose it is when the agent has a slip in it, nobody knows.
    let told = said("[[route]]\nagent = 'realtme'\ninstructions = 'x'\nconfig_id = 'c'");
    assert_eq!(told.lines().count(), 1, "{told}");
}

#[test]
fn the_predecessors_option_goes_with_its_agent() {
    let overrides = Overrides {
        hume_config: Some("c".into()),
        ..Overrides::default()
    };
    let with = |rest: &str| parse_with(&format!("{URL}{rest}"), "t.toml", &overrides);
    let some = |config: Config| config.hume.config_id;
    assert_eq!(some(with("").unwrap()).as_deref(), Some("c"));
    let beside = with("agent.default = 'realtime'\n[[route]]\nagent = 'hume'");
    assert_eq!(some(beside.unwrap()).as_deref(), Some("c"));
    assert_eq!(
        with("agent.default = 'realtime'").unwrap_err().to_string(),
        "command line: --hume-config: no call is answered by Hume, whose config it names; leave it out, \
         or set agent.default to \"hume\""
    );
}
