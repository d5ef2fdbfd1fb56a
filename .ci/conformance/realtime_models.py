"""The official openai package's models of Realtime events, held strictly.

By themselves they let much pass: extra fields are allowed, values are coerced, a `type` may be left out.
Here the type on the wire chooses the model, validation is strict, every object that has a `type` says
it, and no field may be left over, however deep.
"""

import base64
import binascii
import json
import typing

from openai.types.realtime import RealtimeClientEvent, RealtimeServerEvent
from pydantic import BaseModel, ValidationError


def by_type(annotated):
    """`type` -> model, of a union of events."""
    union = typing.get_args(annotated)[0]
    return {
        typing.get_args(model.model_fields["type"].annotation)[0]: model
        for model in typing.get_args(union)
    }


CLIENT = by_type(RealtimeClientEvent)
SERVER = by_type(RealtimeServerEvent)

# On the wire, and forgotten by the models: OpenAI's own server sends them with every session.
SERVER_EXTRAS = {"session.id", "session.object", "session.expires_at"}


def join(path, name):
    return f"{path}.{name}" if path else name


def left_over(value, path=""):
    """Fields that no model knows and objects that do not say what they are, however deep."""
    if isinstance(value, BaseModel):
        for name in value.model_extra or {}:
            yield join(path, name), "unknown field"
        fields = type(value).model_fields
        if "type" in fields and "type" not in value.model_fields_set:
            yield path, "no type"
        for name in fields:
            yield from left_over(getattr(value, name), join(path, name))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from left_over(item, f"{path}[{index}]")
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from left_over(item, join(path, name))


def base64_problem(text, path):
    try:
        if not base64.b64decode(text, validate=True):
            return f"{path}: no audio"
    except (binascii.Error, ValueError):
        return f"{path}: not base64"
    return None


def modalities_problem(names, path):
    # The models take any list; the server takes just one of the two (SDK types' own words).
    if names is not None and names not in (["audio"], ["text"]):
        return f"{path}: {names} is not one modality"
    return None


def tools_problem(tools, path):
    for index, tool in enumerate(tools or []):
        if tool.type == "function" and not (tool.name and isinstance(tool.parameters, dict)):
            return f"{path}[{index}]: no name, or parameters that are no object"
    return None


def client_rules(event):
    """What the models do not say and the server holds the client to."""
    if event.type == "input_audio_buffer.append":
        yield base64_problem(event.audio, "audio")
    elif event.type == "session.update":
        session = event.session
        if session.type != "realtime":
            yield f"session.type: {session.type!r} has no voice"
            return
        yield modalities_problem(session.output_modalities, "session.output_modalities")
        yield tools_problem(session.tools, "session.tools")
    elif event.type == "response.create" and event.response is not None:
        response = event.response
        yield modalities_problem(response.output_modalities, "response.output_modalities")
        yield tools_problem(response.tools, "response.tools")
        if response.conversation not in (None, "auto", "none"):
            yield f"response.conversation: {response.conversation!r}"
    elif event.type == "conversation.item.truncate":
        if event.audio_end_ms < 0 or event.content_index < 0:
            yield "less than nothing is left"
    elif event.type == "conversation.item.create" and event.item.type == "message":
        if not event.item.content:
            yield "item.content: empty"
        for index, part in enumerate(event.item.content):
            if part.type in ("input_text", "output_text") and not part.text:
                yield f"item.content[{index}]: no text"


def server_rules(event):
    if event.type == "response.output_audio.delta":
        yield base64_problem(event.delta, "delta")
    elif event.type == "response.function_call_arguments.done":
        try:
            json.loads(event.arguments)
        except ValueError:
            yield "arguments: not JSON"


def parse(text, models, rules, known_extras=frozenset()):
    """The model that took an event, and what is wrong with it (one of them is None)."""
    try:
        event = json.loads(text)
    except ValueError as error:
        return None, f"not JSON: {error}"
    if not isinstance(event, dict):
        return None, "not an object"
    kind = event.get("type")
    if not isinstance(kind, str) or kind not in models:
        return None, f"unknown or missing type: {kind!r}"
    try:
        parsed = models[kind].model_validate_json(text, strict=True)
    except ValidationError as error:
        # A union names the complaints of all its members; the first few tell enough.
        complaints = [
            f"{'.'.join(map(str, one['loc'])) or 'event'}: {one['msg']}" for one in error.errors()
        ]
        return None, f"{kind}: " + "; ".join(complaints[:4])
    wrong = [
        f"{path or 'event'}: {what}"
        for path, what in left_over(parsed)
        if what != "unknown field" or path not in known_extras
    ]
    wrong += [problem for problem in rules(parsed) if problem]
    if wrong:
        return None, f"{kind}: " + "; ".join(wrong)
    return parsed, None


def client_event(text):
    return parse(text, CLIENT, client_rules)


def server_event(text):
    return parse(text, SERVER, server_rules, SERVER_EXTRAS)


# --- the validator shows that it judges

def _create(item):
    return {"type": "conversation.item.create", "item": item}


def _update(**session):
    return {"type": "session.update", "session": {"type": "realtime", **session}}


def _input(**fields):
    return _update(audio={"input": fields})


def _message(role, kind, text="t"):
    return _create({"type": "message", "role": role, "content": [{"type": kind, "text": text}]})


_TOOL = {"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}}
_TRUNCATE = {"type": "conversation.item.truncate", "item_id": "i", "content_index": 0}

CLIENT_GOOD = [
    _update(
        output_modalities=["audio"],
        instructions="Be brief.",
        audio={
            "input": {
                "format": {"type": "audio/pcmu"},
                "transcription": {"model": "m"},
                "turn_detection": {"type": "server_vad", "threshold": 0.5, "silence_duration_ms": 500},
            },
            "output": {"format": {"type": "audio/pcmu"}, "voice": "marin"},
        },
        tools=[_TOOL],
        tool_choice="auto",
    ),
    _input(turn_detection=None, transcription=None, noise_reduction={"type": "near_field"}),
    _input(format={"type": "audio/pcm", "rate": 24000}),
    {"type": "input_audio_buffer.append", "audio": "////"},
    {"type": "input_audio_buffer.append", "audio": "////", "event_id": "e"},
    _message("user", "input_text"),
    _message("system", "input_text"),
    _message("assistant", "output_text"),
    _create({"type": "function_call_output", "call_id": "c", "output": "{}"}),
    {**_TRUNCATE, "audio_end_ms": 1200},
    {"type": "conversation.item.delete", "item_id": "i"},
    {"type": "response.create"},
    {
        "type": "response.create",
        "response": {"instructions": "Say hello.", "input": [], "tool_choice": "none", "metadata": {"a": "b"}},
    },
    {"type": "response.cancel"},
    {"type": "response.cancel", "response_id": "r"},
]

CLIENT_BAD = [
    None,
    [],
    {},
    # Names and shapes of the older protocol.
    {"type": "transcription_session.update", "session": {}},
    {"type": "session.update", "session": {"instructions": "no type"}},
    _update(modalities=["audio"]),
    _update(voice="marin"),
    _update(turn_detection={"type": "server_vad"}),
    _update(input_audio_format="g711_ulaw"),
    _update(output_audio_format="g711_ulaw"),
    _update(input_audio_transcription={"model": "m"}),
    _update(temperature=0.8),
    _update(max_response_output_tokens=100),
    _message("assistant", "text"),
    _message("assistant", "audio"),
    {"type": "response.create", "response": {"modalities": ["audio"]}},
    # Formats.
    _input(format={"type": "audio/pcmu", "rate": 8000}),
    _input(format={"type": "audio/pcm", "rate": 8000}),
    _input(format={"rate": 24000}),
    _input(format="g711_ulaw"),
    _update(audio={"output": {"format": {"type": "audio/pcmu", "rate": 8000}}}),
    # Values of other types.
    {**_TRUNCATE, "audio_end_ms": "12"},
    {**_TRUNCATE, "audio_end_ms": 12.5},
    {**_TRUNCATE, "audio_end_ms": -1},
    _TRUNCATE,
    _input(turn_detection={"type": "server_vad", "silence_duration_ms": "500"}),
    _input(turn_detection={"type": "none"}),
    _create({"type": "function_call_output", "call_id": "c", "output": {"open": True}}),
    _create({"type": "function_call_output", "output": "{}"}),
    _update(output_modalities=["text", "audio"]),
    _update(output_modalities=["speech"]),
    _update(tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}]),
    _update(tools=[{**_TOOL, "parameters": "{}"}]),
    _update(tools=[{**_TOOL, "strict": True}]),
    {"type": "session.update", "session": {"type": "transcription"}},
    # What only others understand.
    _create({"type": "force_message", "role": "assistant", "content": [{"type": "output_text", "text": "t"}]}),
    _message("system", "output_text"),
    _message("user", "input_text", ""),
    {"type": "response.create", "response": {"input": [{"type": "item_reference", "id": "i"}]}},
    {"type": "response.create", "tools": []},
    {"type": "input_audio_buffer.append", "audio": "?"},
    {"type": "input_audio_buffer.append", "audio": ""},
    {"type": "input_audio_buffer.append", "audio": "////", "sample_rate_hz": 8000},
    {"type": "input_audio_buffer.append", "data": "////"},
    {"type": "session.close"},
    {"type": "response.created", "event_id": "e", "response": {}},
]

_DELTA = {
    "event_id": "e",
    "response_id": "r",
    "item_id": "i",
    "output_index": 0,
    "content_index": 0,
}
_DONE_CALL = {
    "type": "response.function_call_arguments.done",
    "event_id": "e",
    "response_id": "r",
    "item_id": "i",
    "output_index": 0,
    "call_id": "c",
    "name": "f",
    "arguments": "{}",
}
_HEARD = {
    "type": "conversation.item.input_audio_transcription.completed",
    "event_id": "e",
    "item_id": "i",
    "content_index": 0,
    "transcript": "t",
    "usage": {"type": "duration", "seconds": 1.5},
}
_ERROR = {"type": "invalid_request_error", "code": "c", "message": "m", "param": None, "event_id": "e"}

SERVER_GOOD = [
    {
        "type": "session.created",
        "event_id": "e",
        "session": {"type": "realtime", "id": "s", "object": "realtime.session", "expires_at": 1, "model": "m"},
    },
    {"type": "response.output_audio.delta", "delta": "////", **_DELTA},
    {"type": "response.created", "event_id": "e", "response": {"id": "r", "status": "in_progress", "output": []}},
    {"type": "error", "event_id": "e", "error": _ERROR},
    _DONE_CALL,
    _HEARD,
]

SERVER_BAD = [
    {"type": "session.created", "session": {"type": "realtime"}},
    {"type": "session.created", "event_id": "e", "session": {"type": "realtime", "mood": "good"}},
    {"type": "session.created", "event_id": "e", "session": {"id": "s", "modalities": ["audio"]}},
    {"type": "response.audio.delta", "delta": "////", **_DELTA},
    {"type": "response.cancelled", "event_id": "e"},
    {"type": "response.output_audio.delta", "delta": "?", **_DELTA},
    {"type": "response.output_audio.delta", "delta": "////", **{**_DELTA, "output_index": "0"}},
    {"type": "response.created", "event_id": "e", "response": {"id": "r", "status": "active"}},
    {"type": "error", "event_id": "e", "error": {**_ERROR, "status": 400}},
    {"type": "error", "event_id": "e", "error": {"type": "invalid_request_error"}},
    {name: value for name, value in _DONE_CALL.items() if name != "name"},
    {**_DONE_CALL, "arguments": {}},
    {**_DONE_CALL, "arguments": "{"},
    {name: value for name, value in _HEARD.items() if name != "usage"},
    {"type": "ping", "event_id": "e"},
]


def self_test():
    """The samples are judged as they should be; what that came to, or ValueError."""
    for judge, good, bad in (
        (client_event, CLIENT_GOOD, CLIENT_BAD),
        (server_event, SERVER_GOOD, SERVER_BAD),
    ):
        for sample in good:
            if wrong := judge(json.dumps(sample))[1]:
                raise ValueError(f"it refuses {sample}: {wrong}")
        for sample in bad:
            if not judge(json.dumps(sample))[1]:
                raise ValueError(f"it accepts {sample}")
    good, bad = len(CLIENT_GOOD) + len(SERVER_GOOD), len(CLIENT_BAD) + len(SERVER_BAD)
    return f"models: {good} good samples accepted, {bad} bad ones refused"
