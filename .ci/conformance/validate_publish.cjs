// Holds what the bridge sent to EVI against Hume's own npm package: node validate_publish.cjs FRAMES
//
// FRAMES has one frame a line, in the order sent. Strict: unknown types, keys and enum values fail,
// and so does a missing key; the SDK itself skips all of that when it talks. Before it judges
// anybody the validator proves itself on samples: one that lets a bad sample pass is no judge.
"use strict";

const fs = require("node:fs");
const { serialization } = require("hume");
const evi = serialization.empathicVoice;

// The serializer of one type says what is wrong; the union's would list eight opinions.
const TYPES = {
  audio_input: evi.AudioInput,
  session_settings: evi.SessionSettings,
  user_input: evi.UserInput,
  assistant_input: evi.AssistantInput,
  tool_response: evi.ToolResponseMessage,
  tool_error: evi.ToolErrorMessage,
  pause_assistant_message: evi.PauseAssistantMessage,
  resume_assistant_message: evi.ResumeAssistantMessage,
};
const STRICT = {
  unrecognizedObjectKeys: "fail",
  allowUnrecognizedUnionMembers: false,
  allowUnrecognizedEnumValues: false,
  skipValidation: false,
};

// The problem with a frame, or null.
function problem(frame) {
  if (frame === null || typeof frame !== "object" || Array.isArray(frame)) return "not an object";
  if (!Object.hasOwn(frame, "type")) return "no `type`";
  if (!Object.hasOwn(TYPES, frame.type)) return `unknown type ${JSON.stringify(frame.type)}`;
  const parsed = TYPES[frame.type].parse(frame, STRICT);
  if (!parsed.ok) {
    return parsed.errors.map((e) => `${e.path.join(".") || "(frame)"}: ${e.message}`).join("; ");
  }
  return null;
}

// Every type that the bridge has a use for.
const NEEDED = [
  "session_settings", "audio_input", "assistant_input", "tool_response", "tool_error",
  "pause_assistant_message", "resume_assistant_message",
];

const audio = { encoding: "linear16", sample_rate: 8000, channels: 1 };
const tool = { type: "function", name: "f", parameters: "{}" };
const GOOD = [
  { type: "audio_input", data: "AAAA" },
  { type: "session_settings", audio },
  {
    type: "session_settings", audio, custom_session_id: "s", system_prompt: "p", voice_id: "v",
    context: { text: "t", type: "persistent" }, variables: { a: "x", b: 1, c: true },
    tools: [tool, { ...tool, description: "d", fallback_content: "w" }],
    builtin_tools: [{ name: "hang_up" }, { name: "web_search", fallback_content: "w" }],
    metadata: { any: { thing: 1 } },
  },
  { type: "user_input", text: "t" },
  { type: "assistant_input", text: "t" },
  { type: "tool_response", tool_call_id: "i", content: "{}", tool_name: "f", tool_type: "function" },
  { type: "tool_error", tool_call_id: "i", error: "e", content: "c", code: "x", level: "warn" },
  { type: "pause_assistant_message" },
  { type: "resume_assistant_message" },
];
const BAD = [
  null, [], "audio_input", {},
  { data: "AAAA" },
  { type: "audio_output", data: "AAAA" },
  { type: "toString" },
  { type: "audio_input" },
  { type: "audio_input", data: 1 },
  { type: "audio_input", dat: "AAAA" },
  { type: "audio_input", data: "AAAA", metadata: {} },
  { type: "session_settings", audio: { sample_rate: 8000, channels: 1 } },
  { type: "session_settings", audio: { ...audio, encoding: "mulaw" } },
  { type: "session_settings", audio: { ...audio, sample_rate: "8000" } },
  { type: "session_settings", audio: { format: "linear16", sample_rate: 8000, channels: 1 } },
  { type: "session_settings", audio: { encoding: "linear16", channels: 1 } },
  { type: "session_settings", voice: "v" },
  { type: "session_settings", session_settings: { audio } },
  { type: "session_settings", context: { text: "t", type: "editable" } },
  { type: "session_settings", context: { type: "temporary" } },
  { type: "session_settings", variables: { a: {} } },
  { type: "session_settings", tools: [{ ...tool, parameters: {} }] },
  { type: "session_settings", tools: [{ ...tool, type: "tool" }] },
  { type: "session_settings", builtin_tools: [{ name: "fly" }] },
  { type: "session_settings", builtin_tools: ["hang_up"] },
  { type: "user_input" },
  { type: "tool_response", tool_call_id: "i" },
  { type: "tool_response", tool_call_id: "i", content: { a: 1 } },
  { type: "tool_response", tool_call_id: "i", content: "c", tool_type: "other" },
  { type: "tool_error", tool_call_id: "i", content: "c" },
  { type: "tool_error", tool_call_id: "i", error: "e", fallback_content: "c" },
  { type: "tool_error", tool_call_id: "i", error: "e", level: "fatal" },
  { type: "pause_assistant_message", text: "t" },
];

function fail(words) {
  console.error(`validate_publish.cjs: ${words}`);
  process.exit(1);
}

for (const sample of GOOD) {
  const wrong = problem(sample);
  if (wrong) fail(`proves nothing: it refuses ${JSON.stringify(sample)}: ${wrong}`);
}
for (const sample of BAD) {
  if (!problem(sample)) fail(`proves nothing: it accepts ${JSON.stringify(sample)}`);
}
console.log(`validator: ${GOOD.length} good samples accepted, ${BAD.length} bad ones refused`);

const path = process.argv[2];
if (!path) fail("usage: validate_publish.cjs FRAMES");
const counts = {};
let refused = 0;
fs.readFileSync(path, "utf8").split("\n").forEach((line, index) => {
  if (line === "") return;
  let frame;
  let wrong;
  try {
    frame = JSON.parse(line);
    wrong = problem(frame);
  } catch (error) {
    wrong = error.message;
  }
  if (wrong) {
    refused += 1;
    console.error(`${path}:${index + 1}: ${wrong}\n    ${line.slice(0, 200)}`);
  } else {
    counts[frame.type] = (counts[frame.type] || 0) + 1;
  }
});
for (const type of Object.keys(counts).sort()) console.log(`accepted ${type}: ${counts[type]}`);
if (refused) fail(`${refused} frames refused`);
for (const needed of NEEDED) {
  if (!counts[needed]) fail(`no ${needed} among the frames: nothing was shown`);
}
