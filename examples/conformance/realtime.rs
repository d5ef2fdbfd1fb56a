//! The Realtime half: what the codec writes for each kind of server, and whom the official client dials.

use std::{collections::BTreeMap, sync::Arc};

use hume_bridge::{
    agent::{
        Briefing, Codec as _, Command, Declared, Event, Persona, SegmentId, ToolResult, realtime,
    },
    config::{
        Credentials, Secret, Variable,
        realtime::{
            ContextRole, Dialect, Format, Greet, Interrupt, Part, Preset, Realtime, ToolShape,
        },
    },
    sim::{
        bridge::REALTIME_KEY,
        evi::{self, AgentHandle},
        realtime::{Dialect as Server, Options, Realtime as Simulated},
        scenario::agent_clips,
    },
};
use serde_json::{Value, json};

/// Whom the official client meets when it keeps to the protocol.
const AGENT: &str = r#"
greeting = [{ say = "agent-greeting" }, { end = true }]

[[replies]]
heard = "What are your opening hours?"
steps = [
  { web_search = true },
  { tool = { name = "opening_hours", parameters = "{\"day\":\"today\"}" } },
]

[[replies]]
on = "tool_answer"
steps = [{ say = "agent-saturday" }, { say = "agent-more" }, { end = true }]

# Slow enough to be cut short.
[[replies]]
steps = [{ say = "agent-hours", realtime_factor = 1.0, message_ms = [200] }, { end = true }]

[[replies]]
on = "prompt"
steps = [{ error = "simulated_end" }, { close = 1000 }]
"#;

/// And when it does not: an answer that lasts while it does wrong.
const STRICT: &str = r#"
greeting = [{ say = "agent-greeting", realtime_factor = 2.0 }, { end = true }]
"#;

/// What a server of this kind gets, by the word in its file's name.
pub fn servers() -> Vec<(&'static str, Realtime)> {
    let with = |preset| Realtime {
        url: "wss://realtime.example/v1/realtime".into(),
        model: Some("the-model".into()),
        voice: Some("the-voice".into()),
        ..Realtime::of(preset)
    };
    let older = Realtime {
        dialect: Dialect::Beta,
        audio_in: Format::Pcm(24_000),
        audio_out: Format::Pcmu,
        tools_shape: ToolShape::Nested,
        modalities: vec!["text".into(), "audio".into()],
        interrupt: Interrupt::Client,
        greet: Greet::Message,
        context_role: ContextRole::User,
        transcription: Part::Off,
        ..with(Preset::Custom)
    };
    vec![
        ("openai", with(Preset::OpenAi)),
        ("azure", with(Preset::Azure)),
        ("xai", with(Preset::Xai)),
        ("localai", with(Preset::LocalAi)),
        ("custom", with(Preset::Custom)),
        ("beta", older),
    ]
}

/// Frames by the server that they were sent to: the end of a file's name, which says what may be in it.
#[derive(Default)]
pub struct Files(pub BTreeMap<String, String>);

impl Files {
    /// What is written for a kind of server.
    pub fn of(&mut self, server: &str) -> &mut String {
        self.0.entry(format!("-{server}")).or_default()
    }

    /// What a story's server was sent.
    pub fn told(&mut self, server: Server, frames: &str) {
        let file = match server {
            Server::Ga => self.0.entry(String::new()).or_default(),
            Server::Beta => self.of("beta"),
            Server::Xai => self.of("xai"),
            Server::Plain => self.of("localai"),
        };
        file.push_str(frames);
    }
}

/// One frame of each kind that the codec can write for a server: a call in which operator, caller and tools
/// do all that they can, and its continuation in another session.
pub fn every_command(config: Realtime) -> String {
    let credentials = Credentials {
        hume_api_key: None,
        realtime_api_key: Some(Secret::new(REALTIME_KEY)),
        twilio_account_sid: "AC0".into(),
        twilio_auth_token: Secret::new("0"),
        twilio_phone_number: None,
        twilio_shared_key: None,
        named: [].into(),
    };
    let persona = Persona {
        voice: Some("another-voice".into()),
        instructions: Some("You work for {{shop}}.".into()),
        tools: vec![Declared {
            name: "hang_up".into(),
            description: "End the call.".into(),
            parameters: r#"{"type":"object","properties":{}}"#.into(),
            fallback: Some("It could not be ended.".into()),
        }],
        briefing: Briefing {
            fixed: [("shop".to_owned(), Variable::Text("north".to_owned()))].into(),
            variables: [("visits".to_owned(), Variable::Number(3.0))].into(),
            context: "The caller is known.".into(),
        },
    };
    let server = Arc::new(realtime::Server::new(&config, &credentials));
    let mut talk = Talk {
        codec: realtime::Codec::new(realtime::Settings { server, persona }),
        linear: matches!(config.audio_out, Format::Pcm(_)),
        frames: String::new(),
        segments: Vec::new(),
        events: 0,
    };
    talk.session();
    // The greeting, half heard.
    talk.begins("resp_1");
    talk.says("resp_1", "item_1", "Hello.");
    talk.ends("resp_1", "completed", &[]);
    talk.order(Command::AudioIn(&[0x7f; 160]));
    talk.caller("item_2", "Are you open?");
    talk.cut(0, 120);
    // A tool, told how it went, and another that failed.
    talk.begins("resp_2");
    let calls = [
        talk.call("resp_2", "item_3", "call_1"),
        talk.call("resp_2", "item_4", "call_2"),
    ];
    talk.ends("resp_2", "completed", &calls);
    talk.order(Command::ToolResult {
        call_id: "call_1",
        result: ToolResult::Ok(r#"{"open":true}"#),
    });
    talk.order(Command::ToolResult {
        call_id: "call_2",
        result: ToolResult::Failed {
            error: "timed out",
            content: "Say that it cannot be found out just now.",
        },
    });
    // An answer that is cut while it is being said, and of which nothing was heard.
    talk.begins("resp_3");
    talk.says("resp_3", "item_5", "We are open.");
    talk.cut(1, 0);
    talk.ends("resp_3", "cancelled", &[]);
    // What an operator can do; each answer fails and is asked for once more.
    for (number, command) in [
        Command::Prompt {
            text: "The caller pressed 12.",
        },
        Command::Say {
            text: "Good \"evening\",\nZo\u{eb}",
        },
        Command::AddContext {
            text: "The caller is a member. \u{1f642}",
        },
        Command::Pause,
        Command::Resume,
        Command::Remind,
    ]
    .into_iter()
    .enumerate()
    {
        talk.order(command);
        for try_of in 0..3 {
            let response = format!("resp_4_{number}_{try_of}");
            talk.begins(&response);
            talk.ends(&response, "failed", &[]);
        }
    }
    // The end of a call, for which a last sentence is asked.
    talk.caller("item_8", "That is all.");
    talk.begins("resp_5");
    let calls = [talk.call("resp_5", "item_6", "call_3")];
    talk.ends("resp_5", "completed", &calls);
    talk.order(Command::ToolResult {
        call_id: "call_3",
        result: ToolResult::Ending("Say goodbye in one short sentence."),
    });
    // And in the middle of it the server is lost.
    talk.begins("resp_6");
    talk.says("resp_6", "item_7", "Good");
    talk.codec.reconnect(true);
    talk.session();
    talk.frames
}

/// A codec, and a server as far as that is needed.
struct Talk {
    codec: realtime::Codec,
    /// The server speaks 16 bits at 24 kHz.
    linear: bool,
    frames: String,
    segments: Vec<SegmentId>,
    events: u32,
}

impl Talk {
    fn session(&mut self) {
        let frames = &mut self.frames;
        self.codec.opened(&mut |frame| keep(frames, &frame));
        for kind in ["session.created", "session.updated"] {
            let session =
                json!({ "type": "realtime", "id": "sess_1", "object": "realtime.session" });
            self.tell(json!({ "type": kind, "session": session }));
        }
    }

    fn order(&mut self, command: Command<'_>) {
        let frames = &mut self.frames;
        self.codec
            .command(command, &mut |frame| keep(frames, &frame));
    }

    fn tell(&mut self, mut event: Value) {
        self.events += 1;
        event["event_id"] = format!("event_{}", self.events).into();
        let (frames, segments) = (&mut self.frames, &mut self.segments);
        self.codec.message(
            &event.to_string(),
            &mut |event| {
                if let Event::Audio { segment, .. } = event
                    && segments.last() != Some(&segment)
                {
                    segments.push(segment);
                }
            },
            &mut |frame| keep(frames, &frame),
        );
    }

    fn begins(&mut self, response: &str) {
        let response = json!({ "id": response, "status": "in_progress", "output": [] });
        self.tell(json!({ "type": "response.created", "response": response }));
    }

    fn ends(&mut self, response: &str, status: &str, output: &[Value]) {
        let response = json!({ "id": response, "status": status, "output": output });
        self.tell(json!({ "type": "response.done", "response": response }));
    }

    /// A second of something.
    fn says(&mut self, response: &str, item: &str, words: &str) {
        let audio = match self.linear {
            true => vec![0x11; 48_000],
            false => vec![0x7f; 8_000],
        };
        let of = |kind: &str, more: Value| {
            let mut event = json!({
                "type": kind,
                "response_id": response,
                "item_id": item,
                "output_index": 0,
                "content_index": 0,
            });
            for (name, value) in more.as_object().into_iter().flatten() {
                event[name] = value.clone();
            }
            event
        };
        let message = json!({
            "id": item, "type": "message", "role": "assistant", "status": "in_progress", "content": [],
        });
        let audio = base64_simd::STANDARD.encode_to_string(audio);
        self.tell(of("response.output_item.added", json!({ "item": message })));
        self.tell(of("response.output_audio.delta", json!({ "delta": audio })));
        self.tell(of(
            "response.output_audio_transcript.done",
            json!({ "transcript": words }),
        ));
    }

    /// The item of the call.
    fn call(&mut self, response: &str, item: &str, call: &str) -> Value {
        let item = json!({
            "id": item,
            "type": "function_call",
            "status": "completed",
            "call_id": call,
            "name": "opening_hours",
            "arguments": "{}",
        });
        self.tell(json!({
            "type": "response.output_item.done",
            "response_id": response,
            "output_index": 0,
            "item": item,
        }));
        item
    }

    fn caller(&mut self, item: &str, words: &str) {
        for kind in ["speech_started", "speech_stopped", "committed"] {
            self.tell(json!({ "type": format!("input_audio_buffer.{kind}"), "item_id": item }));
        }
        self.tell(json!({
            "type": "conversation.item.input_audio_transcription.completed",
            "item_id": item,
            "content_index": 0,
            "transcript": words,
        }));
    }

    /// The caller heard so much of an utterance.
    fn cut(&mut self, utterance: usize, heard_ms: u64) {
        // A codec that played nothing has nothing to be cut; then the frames lack it, and that is seen.
        if let Some(segment) = self.segments.get(utterance) {
            let segment = *segment;
            self.order(Command::Heard { segment, heard_ms });
        }
    }
}

fn keep(frames: &mut String, frame: &str) {
    frames.push_str(frame);
    frames.push('\n');
}

/// The two servers that the official client dials: one for what is right, one for what is wrong.
pub struct Servers {
    pub right: AgentHandle,
    pub wrong: AgentHandle,
}

impl Servers {
    pub async fn start() -> anyhow::Result<Servers> {
        Ok(Servers {
            right: simulated(AGENT).await?,
            wrong: simulated(STRICT).await?,
        })
    }

    /// The official client must have broken no rule of the first, for one that it breaks is a rule
    /// misread; and the second must have noticed what it did wrong.
    pub async fn stop(self) -> anyhow::Result<()> {
        let record = self.right.stop().await;
        let violations = record.violations();
        anyhow::ensure!(
            violations.is_empty(),
            "to the simulated Realtime server, the official client breaks the protocol: {violations:?}"
        );
        let dialled = |record: &evi::Record| {
            let ready = |event: &evi::Event| matches!(event.what, evi::What::Ready { .. });
            record.events.iter().any(ready)
        };
        let strict = self.wrong.stop().await;
        anyhow::ensure!(
            !dialled(&strict) || !strict.violations().is_empty(),
            "the simulated Realtime server took all that is wrong"
        );
        Ok(())
    }
}

async fn simulated(script: &str) -> anyhow::Result<AgentHandle> {
    let options = Options {
        agent: evi::Options {
            api_key: REALTIME_KEY.to_owned(),
            clips: agent_clips,
            ..evi::Options::default()
        },
        ..Options::default()
    };
    Ok(Simulated::start(toml::from_str(script)?, options).await?)
}
