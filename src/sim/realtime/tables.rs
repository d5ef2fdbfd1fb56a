//! What a client may send: a table for each dialect, read from the vendors' own types and sheets.
//!
//! The GA table is the SDK types' (Python `openai` 3.54): a field that is not in them is refused. The
//! others are as their servers were seen to behave; what a server takes and ignores is in its table.

use super::{
    Dialect,
    shape::{Field, Shape, may, must},
};

use Shape::*;

/// The longest audio that one append may carry is 15 MiB (SDK types).
pub(super) const MAX_APPEND: usize = 15 << 20;

const ID: Field = may("event_id", Text);
const KIND: Field = must("type", Text);

/// The shape of any event of the client.
pub(super) fn event(dialect: Dialect) -> &'static Shape {
    match dialect {
        Dialect::Ga => &GA,
        Dialect::Xai => &XAI,
        Dialect::Plain => &PLAIN,
        Dialect::Beta => &BETA,
    }
}

macro_rules! events {
    ($session:expr, $item:expr, $response:expr) => {
        Tagged(
            "type",
            &[
                (
                    "session.update",
                    Object(&[KIND, ID, must("session", $session)]),
                ),
                (
                    "input_audio_buffer.append",
                    Object(&[KIND, ID, must("audio", Base64)]),
                ),
                ("input_audio_buffer.commit", Object(&[KIND, ID])),
                ("input_audio_buffer.clear", Object(&[KIND, ID])),
                ("output_audio_buffer.clear", Object(&[KIND, ID])),
                (
                    "conversation.item.create",
                    Object(&[
                        KIND,
                        ID,
                        must("item", $item),
                        may("previous_item_id", Either(&[Text, Null])),
                    ]),
                ),
                (
                    "conversation.item.truncate",
                    Object(&[
                        KIND,
                        ID,
                        must("item_id", Text),
                        must("content_index", Int(0, i64::MAX)),
                        must("audio_end_ms", Int(0, i64::MAX)),
                    ]),
                ),
                (
                    "conversation.item.delete",
                    Object(&[KIND, ID, must("item_id", Text)]),
                ),
                (
                    "conversation.item.retrieve",
                    Object(&[KIND, ID, must("item_id", Text)]),
                ),
                (
                    "response.create",
                    Object(&[KIND, ID, may("response", $response)]),
                ),
                (
                    "response.cancel",
                    Object(&[KIND, ID, may("response_id", Text)]),
                ),
            ],
        )
    };
}

const GA: Shape = events!(GA_SESSION, ITEM, RESPONSE);
const XAI: Shape = events!(XAI_SESSION, XAI_ITEM, RESPONSE);
const PLAIN: Shape = events!(GA_SESSION, ITEM, RESPONSE);
const BETA: Shape = events!(BETA_SESSION, BETA_ITEM, BETA_RESPONSE);

// ---- the session ----

const GA_SESSION: Shape = Tagged("type", &[("realtime", Object(SESSION))]);

const SESSION: &[Field] = &[
    KIND,
    may("output_modalities", MODALITIES),
    may("instructions", Text),
    may("model", Text),
    may(
        "audio",
        Object(&[may("input", INPUT), may("output", OUTPUT)]),
    ),
    may("tools", TOOLS),
    may("tool_choice", TOOL_CHOICE),
    may("max_output_tokens", TOKENS),
    may("parallel_tool_calls", Bool),
    may(
        "truncation",
        Either(&[
            Word(&["auto", "disabled"]),
            Object(&[
                must("type", Word(&["retention_ratio"])),
                must("retention_ratio", Number(0.0, 1.0)),
                may(
                    "token_limits",
                    Object(&[may("post_instructions", Int(0, i64::MAX))]),
                ),
            ]),
        ]),
    ),
    may("reasoning", Object(&[may("effort", EFFORT)])),
    may("prompt", Either(&[Null, PROMPT])),
    may(
        "tracing",
        Either(&[
            Null,
            Word(&["auto"]),
            Object(&[
                may("group_id", Text),
                may("metadata", Free),
                may("workflow_name", Text),
            ]),
        ]),
    ),
    may(
        "include",
        Either(&[
            Null,
            List(&Word(&["item.input_audio_transcription.logprobs"])),
        ]),
    ),
];

const EFFORT: Shape = Word(&["minimal", "low", "medium", "high", "xhigh"]);
const MODALITIES: Shape = List(&Word(&["text", "audio"]));
const TOKENS: Shape = Either(&[Int(1, 4096), Word(&["inf"])]);
const PROMPT: Shape = Object(&[
    must("id", Text),
    may("version", Either(&[Null, Text])),
    may("variables", Either(&[Null, Free])),
]);

/// `rate` belongs to linear audio alone.
const FORMAT: Shape = Tagged(
    "type",
    &[
        (
            "audio/pcm",
            Object(&[KIND, may("rate", Int(24_000, 24_000))]),
        ),
        ("audio/pcmu", Object(&[KIND])),
        ("audio/pcma", Object(&[KIND])),
    ],
);

const VOICE: Shape = Either(&[Text, Object(&[must("id", Text)])]);

const INPUT: Shape = Object(&[
    may("format", FORMAT),
    may("noise_reduction", Either(&[Null, NOISE])),
    may("transcription", Either(&[Null, TRANSCRIPTION])),
    may("turn_detection", Either(&[Null, TURNS])),
]);

const OUTPUT: Shape = Object(&[
    may("format", FORMAT),
    may("voice", VOICE),
    may("speed", Number(0.25, 1.5)),
]);

const NOISE: Shape = Object(&[
    may("type", Word(&["near_field", "far_field"])),
    may("strength", Number(0.0, 1.0)),
]);

const TRANSCRIPTION: Shape = Object(&[
    may("model", Text),
    may("language", Text),
    may("prompt", Text),
    may("delay", EFFORT),
    may("keywords", List(&Text)),
    may("languages", List(&Text)),
]);

const TURNS: Shape = Tagged(
    "type",
    &[
        (
            "server_vad",
            Object(&[
                KIND,
                may("threshold", Number(0.0, 1.0)),
                may("prefix_padding_ms", Int(0, 10_000)),
                may("silence_duration_ms", Int(0, 10_000)),
                may("idle_timeout_ms", Either(&[Null, Int(5_000, 30_000)])),
                may("create_response", Bool),
                may("interrupt_response", Bool),
            ]),
        ),
        (
            "semantic_vad",
            Object(&[
                KIND,
                may("eagerness", Word(&["low", "medium", "high", "auto"])),
                may("create_response", Bool),
                may("interrupt_response", Bool),
            ]),
        ),
    ],
);

const FUNCTION: Shape = Object(&[
    KIND,
    must("name", Text),
    may("description", Text),
    may("parameters", Free),
]);

const TOOLS: Shape = List(&Tagged("type", &[("function", FUNCTION), ("mcp", Free)]));

const TOOL_CHOICE: Shape = Either(&[
    Word(&["none", "auto", "required"]),
    Tagged(
        "type",
        &[
            ("function", Object(&[KIND, must("name", Text)])),
            (
                "mcp",
                Object(&[KIND, must("server_label", Text), may("name", Text)]),
            ),
        ],
    ),
]);

/// Voice and turn detection stand at the top, and there is no other detection than the server's.
const XAI_SESSION: Shape = Object(&[
    may("type", Word(&["realtime"])),
    may("model", Text),
    may("instructions", Text),
    may("voice", Text),
    may("output_modalities", MODALITIES),
    may(
        "turn_detection",
        Either(&[
            Null,
            Object(&[
                must("type", Word(&["server_vad"])),
                may("threshold", Number(0.1, 0.9)),
                may("prefix_padding_ms", Int(0, 10_000)),
                may("silence_duration_ms", Int(0, 10_000)),
                may("create_response", Bool),
                may("interrupt_response", Bool),
            ]),
        ]),
    ),
    may(
        "audio",
        Object(&[
            may(
                "input",
                Object(&[
                    may("format", XAI_FORMAT),
                    may("transcription", Either(&[Null, TRANSCRIPTION])),
                ]),
            ),
            may(
                "output",
                Object(&[may("format", XAI_FORMAT), may("speed", Number(0.25, 1.5))]),
            ),
        ]),
    ),
    may("tools", TOOLS),
    may("tool_choice", TOOL_CHOICE),
    may("max_output_tokens", TOKENS),
    may("resumption", Object(&[must("enabled", Bool)])),
    may("replace", Texts),
]);

const XAI_FORMAT: Shape = Tagged(
    "type",
    &[
        (
            "audio/pcm",
            Object(&[KIND, may("rate", Int(8_000, 48_000))]),
        ),
        ("audio/pcmu", Object(&[KIND])),
        ("audio/pcma", Object(&[KIND])),
    ],
);

/// All of it at the top, under the older names.
const BETA_SESSION: Shape = Object(&[
    may("modalities", MODALITIES),
    may("instructions", Text),
    may("voice", Text),
    may("model", Text),
    may("input_audio_format", BETA_FORMAT),
    may("output_audio_format", BETA_FORMAT),
    may("input_audio_transcription", Either(&[Null, TRANSCRIPTION])),
    may("input_audio_noise_reduction", Either(&[Null, NOISE])),
    may("turn_detection", Either(&[Null, TURNS])),
    may("tools", TOOLS),
    may("tool_choice", TOOL_CHOICE),
    may("temperature", Number(0.0, 2.0)),
    may("max_response_output_tokens", TOKENS),
    may("speed", Number(0.25, 1.5)),
]);

const BETA_FORMAT: Shape = Word(&["pcm16", "g711_ulaw", "g711_alaw"]);

// ---- items ----

const ITEM_ID: Field = may("id", Text);
const OBJECT: Field = may("object", Word(&["realtime.item"]));
const STATUS: Field = may("status", Word(&["completed", "incomplete", "in_progress"]));

macro_rules! items {
    ($assistant:literal $(, $more:expr)*) => {
        Tagged(
            "type",
            &[
                (
                    "message",
                    Tagged(
                        "role",
                        &[
                            ("system", message!("input_text")),
                            ("user", message!("input_text")),
                            ("assistant", message!($assistant)),
                        ],
                    ),
                ),
                (
                    "function_call",
                    Object(&[
                        KIND,
                        ITEM_ID,
                        OBJECT,
                        STATUS,
                        must("name", Text),
                        must("arguments", Text),
                        may("call_id", Text),
                    ]),
                ),
                (
                    "function_call_output",
                    Object(&[
                        KIND,
                        ITEM_ID,
                        OBJECT,
                        STATUS,
                        must("call_id", Text),
                        must("output", Text),
                    ]),
                ),
                $($more,)*
            ],
        )
    };
}

/// Text only: the voice of before cannot be given back.
macro_rules! message {
    ($content:literal) => {
        Object(&[
            KIND,
            ITEM_ID,
            OBJECT,
            STATUS,
            must("role", Text),
            must(
                "content",
                List(&Object(&[
                    must("type", Word(&[$content])),
                    must("text", Text),
                ])),
            ),
        ])
    };
}

const ITEM: Shape = items!("output_text");
const BETA_ITEM: Shape = items!("text");
const XAI_ITEM: Shape = items!(
    "output_text",
    (
        "force_message",
        Object(&[
            KIND,
            must("role", Word(&["assistant"])),
            must(
                "content",
                List(&Object(&[
                    must("type", Word(&["output_text"])),
                    must("text", Text),
                ])),
            ),
        ])
    )
);

// ---- responses ----

const RESPONSE: Shape = Object(&[
    may("instructions", Text),
    may("input", List(&ITEM)),
    may("conversation", Word(&["auto", "none"])),
    may("output_modalities", MODALITIES),
    may(
        "audio",
        Object(&[may(
            "output",
            Object(&[may("format", FORMAT), may("voice", VOICE)]),
        )]),
    ),
    may("tools", TOOLS),
    may("tool_choice", TOOL_CHOICE),
    may("metadata", Either(&[Null, Texts])),
    may("max_output_tokens", TOKENS),
    may("parallel_tool_calls", Bool),
    may("prompt", Either(&[Null, PROMPT])),
    may("reasoning", Object(&[may("effort", EFFORT)])),
]);

const BETA_RESPONSE: Shape = Object(&[
    may("instructions", Text),
    may("conversation", Word(&["auto", "none"])),
    may("modalities", MODALITIES),
    may("voice", Text),
    may("output_audio_format", BETA_FORMAT),
    may("tools", TOOLS),
    may("tool_choice", TOOL_CHOICE),
    may("metadata", Either(&[Null, Texts])),
    may("temperature", Number(0.0, 2.0)),
    may("max_response_output_tokens", TOKENS),
]);
