#!/usr/bin/env python3
"""Holds what the bridge sent to Realtime servers against the official openai package's models:
validate_realtime.py FRAMES...

A file has one frame a line, in the order sent, and is named for whom it was sent to:
`frames-realtime.jsonl` and `frames-realtime-openai.jsonl` for OpenAI's own, `frames-realtime-xai.jsonl`
for xAI's. Every frame must be one of the models' without anything left over. Servers that are not like
OpenAI's get what they want instead of it: DEVIATIONS says who gets what. A deviation is put back into
OpenAI's form before the frame is judged, so the rest of the frame is judged as strictly; one that no
frame shows is a mistake in the table. Before it judges anybody the validator proves itself on samples;
with --self-test it does only that.
"""

import collections
import json
import pathlib
import sys

import realtime_models

OPENAI = "openai"


def at(frame, *names):
    """The object at a path, made on the way: `at(frame, "session", "audio")`."""
    for name in names:
        frame = frame.setdefault(name, {})
    return frame


def is_update(frame):
    return frame.get("type") == "session.update" and isinstance(frame.get("session"), dict)


def voice_at_top(frame):
    """`session.voice`."""
    if not is_update(frame) or "voice" not in frame["session"]:
        return False
    at(frame, "session", "audio", "output")["voice"] = frame["session"].pop("voice")
    return True


def turn_detection_at_top(frame):
    """`session.turn_detection`."""
    if not is_update(frame) or "turn_detection" not in frame["session"]:
        return False
    at(frame, "session", "audio", "input")["turn_detection"] = frame["session"].pop("turn_detection")
    return True


def force_message(frame):
    """An assistant's item of type `force_message`: spoken word for word."""
    item = frame.get("item")
    if not isinstance(item, dict) or item.get("type") != "force_message":
        return False
    item["type"] = "message"
    return True


# The older protocol's names of formats.
FORMATS = {
    "pcm16": {"type": "audio/pcm", "rate": 24000},
    "g711_ulaw": {"type": "audio/pcmu"},
    "g711_alaw": {"type": "audio/pcma"},
}


def flat_session(frame):
    """A session without `type`, its audio fields at the top, under their older names."""
    if not is_update(frame) or "type" in frame["session"]:
        return False
    session = frame["session"]
    session["type"] = "realtime"
    for name, place, new in (
        ("input_audio_format", ("audio", "input"), "format"),
        ("output_audio_format", ("audio", "output"), "format"),
        ("input_audio_transcription", ("audio", "input"), "transcription"),
        ("input_audio_noise_reduction", ("audio", "input"), "noise_reduction"),
        ("turn_detection", ("audio", "input"), "turn_detection"),
        ("voice", ("audio", "output"), "voice"),
        ("max_response_output_tokens", (), "max_output_tokens"),
    ):
        if name in session:
            value = session.pop(name)
            if new == "format":
                # What the older protocol does not know stays as it is, and is refused.
                value = FORMATS.get(value, value)
            at(session, *place)[new] = value
    return True


def modalities(frame):
    """`modalities`, text beside audio, in a session or a response."""
    holder = frame.get("session") or frame.get("response")
    if not isinstance(holder, dict) or "modalities" not in holder:
        return False
    if sorted(holder["modalities"]) in (["audio", "text"], ["audio"]):
        holder["output_modalities"] = ["audio"]
        del holder["modalities"]
    return True


def assistant_text(frame):
    """An assistant's words as content of type `text`."""
    item = frame.get("item")
    if not isinstance(item, dict) or item.get("role") != "assistant":
        return False
    found = False
    for part in item.get("content", []):
        if part.get("type") == "text":
            part["type"] = "output_text"
            found = True
    return found


def nested_tools(frame):
    """Tools as `{type, function: {...}}`."""
    found = False
    for tool in (frame.get("session") or {}).get("tools", []):
        if isinstance(tool.get("function"), dict):
            tool.update(tool.pop("function"))
            found = True
    return found


# Who gets what that OpenAI would refuse.
DEVIATIONS = {
    OPENAI: [],
    "azure": [],
    "localai": [],
    "custom": [],
    "xai": [voice_at_top, turn_detection_at_top, force_message],
    "beta": [flat_session, modalities, assistant_text, nested_tools],
}

# Every kind that the bridge has a use for, and without which nothing was shown.
NEEDED = {
    OPENAI: [
        "session.update",
        "input_audio_buffer.append",
        "conversation.item.create",
        "conversation.item.truncate",
        "conversation.item.delete",
        "response.create",
    ],
    "xai": ["session.update", "conversation.item.create", "response.create", "response.cancel"],
}


def whose(path):
    name = pathlib.Path(path).stem.removeprefix("frames-realtime").removeprefix("-") or OPENAI
    if name not in DEVIATIONS:
        sys.exit(f"validate_realtime.py: {path} is for nobody known: {', '.join(DEVIATIONS)}")
    return name


def judge(line, server):
    """What a frame shows of its server's deviations, and what is wrong with it, or None."""
    try:
        frame = json.loads(line)
    except ValueError as error:
        return [], f"not JSON: {error}"
    if not isinstance(frame, dict):
        return [], "not an object"
    shown = [deviation for deviation in DEVIATIONS[server] if deviation(frame)]
    # As it was sent if it deviates in nothing: numbers keep the form that they have on the wire.
    return shown, realtime_models.client_event(json.dumps(frame) if shown else line)[1]


def self_test():
    """Deviations are taken from those who may, and from nobody else; the models prove themselves."""
    said = realtime_models.self_test()
    create = {"type": "conversation.item.create"}
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    samples = {
        voice_at_top: {"type": "session.update", "session": {"type": "realtime", "voice": "v"}},
        turn_detection_at_top: {
            "type": "session.update",
            "session": {"type": "realtime", "turn_detection": {"type": "server_vad"}},
        },
        force_message: {
            **create,
            "item": {"type": "force_message", "role": "assistant", "content": [{"type": "output_text", "text": "t"}]},
        },
        flat_session: {
            "type": "session.update",
            "session": {
                "voice": "v",
                "input_audio_format": "pcm16",
                "output_audio_format": "g711_ulaw",
                "turn_detection": None,
            },
        },
        modalities: {"type": "response.create", "response": {"modalities": ["text", "audio"]}},
        assistant_text: {
            **create,
            "item": {"type": "message", "role": "assistant", "content": [{"type": "text", "text": "t"}]},
        },
        nested_tools: {"type": "session.update", "session": {"type": "realtime", "tools": [tool]}},
    }
    for server, deviations in DEVIATIONS.items():
        for deviation, sample in samples.items():
            shown, wrong = judge(json.dumps(sample), server)
            if deviation in deviations:
                if wrong or deviation not in shown:
                    raise ValueError(f"{deviation.__name__} is not taken from {server}: {wrong}")
            elif not wrong:
                raise ValueError(f"{deviation.__name__} is taken from {server}")
        spoilt = {"type": "session.update", "session": {"input_audio_format": "opus", "type_": 1}}
        if not judge(json.dumps(spoilt), server)[1]:
            raise ValueError(f"it takes {spoilt} from {server}")
    return f"{said}; {len(samples)} deviations told from faults"


def main(argv):
    try:
        print(self_test())
    except ValueError as error:
        sys.exit(f"validate_realtime.py proves nothing: {error}")
    if argv[1:] == ["--self-test"]:
        return
    if len(argv) < 2:
        sys.exit("usage: validate_realtime.py FRAMES... | --self-test")

    counts = collections.defaultdict(collections.Counter)
    shown = collections.defaultdict(set)
    refused = 0
    for path in argv[1:]:
        server = whose(path)
        accepted = 0
        with open(path, encoding="utf-8") as frames:
            for number, line in enumerate(frames, 1):
                if not (line := line.rstrip("\n")):
                    continue
                deviations, wrong = judge(line, server)
                shown[server].update(deviations)
                if wrong:
                    refused += 1
                    if refused <= 20:
                        print(f"{path}:{number}: {wrong}\n    {line[:300]}", file=sys.stderr)
                else:
                    counts[server][json.loads(line)["type"]] += 1
                    accepted += 1
        if not accepted:
            sys.exit(f"validate_realtime.py: {path} has no good frame: nothing was shown")
    for server, kinds in counts.items():
        for kind in sorted(kinds):
            print(f"accepted {server} {kind}: {kinds[kind]}")
        for deviation in DEVIATIONS[server]:
            print(f"deviation {server}: {deviation.__doc__}")
    if refused:
        sys.exit(f"validate_realtime.py: {refused} frames refused")
    for server in DEVIATIONS:
        if not counts[server]:
            sys.exit(f"validate_realtime.py: no frames for {server}: nothing was shown")
    for server, kinds in NEEDED.items():
        for kind in kinds:
            if not counts[server][kind]:
                sys.exit(f"validate_realtime.py: no {kind} for {server}: nothing was shown")
    for server in counts:
        for deviation in DEVIATIONS[server]:
            if deviation not in shown[server]:
                sys.exit(f"validate_realtime.py: {server} never got what the table says: {deviation.__doc__}")


if __name__ == "__main__":
    main(sys.argv)
