#!/usr/bin/env python3
"""Holds what the bridge sent to EVI against Hume's own Python models: validate_publish.py FRAMES

FRAMES has one frame a line, in the order sent. The models by themselves let nearly everything pass
(extra fields allowed, `type` with a default, values coerced), so here the type must be there, the
model is the one whose literal it is, validation is strict, and no field may be left over, however
deep. Enums of tool and context types stay open in these models; the npm validator closes them.
Before it judges anybody the validator proves itself on samples.
"""

import collections
import json
import sys
import typing

from hume.empathic_voice.chat.types.publish_event import PublishEvent
from pydantic import BaseModel, ValidationError

MODELS = {
    typing.get_args(model.model_fields["type"].annotation)[0]: model
    for model in typing.get_args(PublishEvent)
}


def left_over(value, path="frame"):
    """Fields that no model knows, however deep."""
    if isinstance(value, BaseModel):
        for name in value.model_extra or {}:
            yield f"{path}: unknown field {name!r}"
        for name in type(value).model_fields:
            yield from left_over(getattr(value, name), f"{path}.{name}")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from left_over(item, f"{path}[{index}]")
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from left_over(item, f"{path}.{name}")


def problem(line):
    """What is wrong with a frame, or None."""
    try:
        frame = json.loads(line)
    except ValueError as error:
        return f"not JSON: {error}"
    if not isinstance(frame, dict):
        return "not an object"
    kind = frame.get("type")
    if not isinstance(kind, str) or kind not in MODELS:
        return f"unknown or missing type: {kind!r}"
    try:
        parsed = MODELS[kind].model_validate_json(line, strict=True)
    except ValidationError as error:
        return "; ".join(
            f"{'.'.join(map(str, one['loc'])) or '(frame)'}: {one['msg']}" for one in error.errors()
        )
    # The model gives the encoding a default; the server does not.
    if kind == "session_settings" and parsed.audio is not None:
        if "encoding" not in parsed.audio.model_fields_set:
            return "audio: no encoding"
    return "; ".join(left_over(parsed)) or None


# Every type that the bridge has a use for.
NEEDED = [
    "session_settings",
    "audio_input",
    "assistant_input",
    "tool_response",
    "tool_error",
    "pause_assistant_message",
    "resume_assistant_message",
]

AUDIO = {"encoding": "linear16", "sample_rate": 8000, "channels": 1}
TOOL = {"type": "function", "name": "f", "parameters": "{}"}
GOOD = [
    {"type": "audio_input", "data": "AAAA"},
    {"type": "session_settings", "audio": AUDIO},
    {
        "type": "session_settings",
        "audio": AUDIO,
        "custom_session_id": "s",
        "context": {"text": "t", "type": "persistent"},
        "variables": {"a": "x", "b": 1, "c": True},
        "tools": [TOOL, {**TOOL, "description": "d", "fallback_content": "w"}],
        "builtin_tools": [{"name": "hang_up"}, {"name": "web_search"}],
        "metadata": {"any": {"thing": 1}},
    },
    {"type": "user_input", "text": "t"},
    {"type": "assistant_input", "text": "t"},
    {"type": "tool_response", "tool_call_id": "i", "content": "{}", "tool_type": "function"},
    {"type": "tool_error", "tool_call_id": "i", "error": "e", "content": "c", "level": "warn"},
    {"type": "pause_assistant_message"},
    {"type": "resume_assistant_message"},
]
BAD = [
    None,
    [],
    {},
    {"data": "AAAA"},
    {"type": "audio_output", "data": "AAAA"},
    {"type": ["audio_input"], "data": "AAAA"},
    {"type": "audio_input"},
    {"type": "audio_input", "data": 1},
    {"type": "audio_input", "dat": "AAAA"},
    {"type": "audio_input", "data": "AAAA", "metadata": {}},
    {"type": "session_settings", "audio": {"sample_rate": 8000, "channels": 1}},
    {"type": "session_settings", "audio": {**AUDIO, "encoding": "mulaw"}},
    {"type": "session_settings", "audio": {**AUDIO, "sample_rate": "8000"}},
    {"type": "session_settings", "audio": {**AUDIO, "format": "wav"}},
    {"type": "session_settings", "audio": {"encoding": "linear16", "channels": 1}},
    {"type": "session_settings", "voice": "v"},
    {"type": "session_settings", "context": {"type": "temporary"}},
    {"type": "session_settings", "variables": {"a": {}}},
    {"type": "session_settings", "tools": [{**TOOL, "parameters": {}}]},
    {"type": "session_settings", "tools": [{**TOOL, "surplus": 1}]},
    {"type": "session_settings", "builtin_tools": ["hang_up"]},
    {"type": "user_input"},
    {"type": "tool_response", "tool_call_id": "i"},
    {"type": "tool_response", "tool_call_id": "i", "content": {"a": 1}},
    {"type": "tool_error", "tool_call_id": "i", "content": "c"},
    {"type": "tool_error", "tool_call_id": "i", "error": "e", "fallback_content": "c"},
    {"type": "pause_assistant_message", "text": "t"},
]


def main(argv):
    for sample in GOOD:
        if wrong := problem(json.dumps(sample)):
            sys.exit(f"validate_publish.py proves nothing: it refuses {sample}: {wrong}")
    for sample in BAD:
        if not problem(json.dumps(sample)):
            sys.exit(f"validate_publish.py proves nothing: it accepts {sample}")
    print(f"validator: {len(GOOD)} good samples accepted, {len(BAD)} bad ones refused")

    if len(argv) != 2:
        sys.exit("usage: validate_publish.py FRAMES")
    counts, refused = collections.Counter(), 0
    with open(argv[1], encoding="utf-8") as frames:
        for number, line in enumerate(frames, 1):
            if not (line := line.rstrip("\n")):
                continue
            if wrong := problem(line):
                refused += 1
                print(f"{argv[1]}:{number}: {wrong}\n    {line[:200]}", file=sys.stderr)
            else:
                counts[json.loads(line)["type"]] += 1
    for kind in sorted(counts):
        print(f"accepted {kind}: {counts[kind]}")
    if refused:
        sys.exit(f"validate_publish.py: {refused} frames refused")
    for needed in NEEDED:
        if not counts[needed]:
            sys.exit(f"validate_publish.py: no {needed} among the frames: nothing was shown")


if __name__ == "__main__":
    main(sys.argv)
