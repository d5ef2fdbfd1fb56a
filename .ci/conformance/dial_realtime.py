#!/usr/bin/env python3
"""The official openai client dials the simulated Realtime server: dial_realtime.py URL STRICT_URL KEY

URL and STRICT_URL are ws://127.0.0.1:PORT/v1/realtime of two simulators, KEY the one that both know. At
the first the client holds a conversation by the book: it configures the session, has itself greeted,
talks in real time, answers a tool call, cuts an answer short, deletes it, types, and stays until the
server ends it. At the second it does what the real server refuses, and must be refused in its words.
Every event that comes must be one of the SDK's models without anything left over (realtime_models.py),
and the conversation must make sense: one response at a time, its parts in order, words and audio that
add up. A wrong key must be refused with 401.
"""

import asyncio
import base64
import collections
import contextlib
import json
import math
import sys
import urllib.parse

from openai import AsyncOpenAI
from websockets.exceptions import ConnectionClosed, InvalidStatus

import realtime_models

DEADLINE = 60
RATE = 8000
FRAME = 160  # samples and, in mu-law, bytes: 20 ms
MODEL = "gpt-realtime-2.1"
LAST = "simulated_end"

# What a telephone bridge has to live with; a server that never sends one of them shows nothing.
NEEDED = {
    "session.created",
    "session.updated",
    "conversation.item.added",
    "conversation.item.done",
    "conversation.item.deleted",
    "conversation.item.truncated",
    "conversation.item.input_audio_transcription.delta",
    "conversation.item.input_audio_transcription.completed",
    "input_audio_buffer.speech_started",
    "input_audio_buffer.speech_stopped",
    "input_audio_buffer.committed",
    "response.created",
    "response.output_item.added",
    "response.output_item.done",
    "response.content_part.added",
    "response.content_part.done",
    "response.output_audio.delta",
    "response.output_audio.done",
    "response.output_audio_transcript.delta",
    "response.output_audio_transcript.done",
    "response.function_call_arguments.delta",
    "response.function_call_arguments.done",
    "response.done",
    "error",
}

PCMU = {"type": "audio/pcmu"}
TOOL = {
    "type": "function",
    "name": "opening_hours",
    "description": "When the shop is open.",
    "parameters": {"type": "object", "properties": {"day": {"type": "string"}}, "required": ["day"]},
}
SESSION = {
    "type": "realtime",
    "output_modalities": ["audio"],
    "instructions": "You work for a museum.",
    "audio": {
        "input": {
            "format": PCMU,
            "transcription": {"model": "gpt-transcribe"},
            "turn_detection": {"type": "server_vad"},
        },
        "output": {"format": PCMU, "voice": "marin"},
    },
    "tools": [TOOL],
    "tool_choice": "auto",
}


def demand(condition, words):
    if not condition:
        raise AssertionError(words)


def mulaw(sample):
    """G.711 by the textbook."""
    sign = 0x80 if sample < 0 else 0
    magnitude = min(abs(sample), 32635) + 132
    exponent = magnitude.bit_length() - 8
    return ~(sign | exponent << 4 | (magnitude >> (exponent + 3)) & 0x0F) & 0xFF


def voice(frame):
    """20 ms of somebody who talks."""
    first = frame * FRAME
    tone = lambda n: sum(math.sin(2 * math.pi * hz * n / RATE) for hz in (220, 440, 1100))
    swell = lambda n: 0.6 + 0.4 * math.sin(2 * math.pi * 4 * n / RATE)
    return bytes(mulaw(int(5000 * swell(n) * tone(n))) for n in range(first, first + FRAME))


SILENCE = bytes([0xFF]) * FRAME


def client(url, key):
    """An SDK client that knows no other address than the simulator's."""
    parts = urllib.parse.urlsplit(url)
    path = parts.path.removesuffix("/realtime")
    if parts.scheme != "ws" or not parts.hostname or path == parts.path:
        sys.exit(f"dial_realtime.py: {url!r} is not ws://HOST:PORT/.../realtime")
    # The SDK adds the /realtime, and is told not to dial again: an end is an end here.
    return AsyncOpenAI(api_key=key, base_url=f"http://{parts.netloc}{path}", max_retries=0)


def connect(url, key, **more):
    return client(url, key).realtime.connect(model=MODEL, **more)


class Conversation:
    """A connection of which every event is judged as it comes."""

    def __init__(self, connection, counts):
        self.connection = connection
        self.counts = counts
        # The response under way and what came of it.
        self.active = None
        self.audio = collections.Counter()
        self.words = collections.defaultdict(str)
        self.items = []
        self.ids = set()

    async def next(self):
        text = await self.connection.recv_bytes()
        event, wrong = realtime_models.server_event(text)
        demand(not wrong, f"{wrong}\n    {text[:400].decode(errors='replace')}")
        # What the SDK itself makes of it, which checks nothing, is of the same kind.
        demand(type(self.connection.parse_event(text)) is type(event), f"{event.type} is ambiguous")
        demand(event.event_id not in self.ids, f"event_id {event.event_id!r} comes twice")
        self.ids.add(event.event_id)
        self.counts[event.type] += 1
        self.follow(event)
        return event

    def follow(self, event):
        """The parts of a response come in order, and for no other response than the one under way."""
        kind = event.type
        if kind == "response.created":
            demand(self.active is None, f"{event.response.id} begins within {self.active}")
            demand(event.response.status == "in_progress", f"created as {event.response.status}")
            self.active = event.response.id
            self.items = []
        elif kind == "response.done":
            demand(event.response.id == self.active, f"{event.response.id} is done, not begun")
            self.active = None
        # The vendor's own tools belong to items and name no response.
        elif kind.startswith("response.") and not kind.startswith("response.mcp_call"):
            demand(event.response_id == self.active, f"{kind} for {event.response_id}, not {self.active}")
        if kind == "response.output_item.added":
            self.items.append(event.item.id)
        elif kind == "response.output_audio.delta":
            demand(event.item_id in self.items, f"audio of {event.item_id}, which was not added")
            self.audio[event.item_id] += len(base64.b64decode(event.delta))
        elif kind == "response.output_audio_transcript.delta":
            self.words[event.item_id] += event.delta
        elif kind == "response.output_audio_transcript.done":
            said = self.words[event.item_id]
            demand(said == event.transcript, f"the deltas say {said!r}, their end {event.transcript!r}")
        elif kind == "response.function_call_arguments.delta":
            self.words[event.item_id] += event.delta
        elif kind == "response.function_call_arguments.done":
            said = self.words[event.item_id]
            demand(said == event.arguments, f"the deltas say {said!r}, their end {event.arguments!r}")

    async def until(self, kind, error=None):
        """The next event of this kind. An error is one of the code `error`, or a failure."""
        while True:
            event = await self.next()
            if event.type == "error" and (kind != "error" or event.error.code != error):
                raise AssertionError(f"the server says {event.error.code}: {event.error.message}")
            if event.type == kind:
                return event

    async def response(self, status="completed"):
        """The response that comes, or is under way, to its end."""
        done = (await self.until("response.done")).response
        demand(done.status == status, f"a response is {done.status}, not {status}")
        demand(done.usage is not None, "a response without usage")
        return done

    async def answered(self, kind, code):
        """The error that an event of ours of this id must get."""
        error = (await self.until("error", code)).error
        demand(error.event_id == kind, f"{code} answers {error.event_id!r}, not {kind!r}")
        return error


class Caller:
    """Sends audio in real time for as long as the connection is open, silence unless told to talk."""

    def __init__(self, connection):
        self.connection = connection
        self.frames = 0
        self.to_say = 0

    def talk(self, seconds):
        self.to_say = int(seconds * 50)

    async def run(self):
        began = asyncio.get_running_loop().time()
        while True:
            frame = SILENCE
            if self.to_say:
                self.to_say -= 1
                frame = voice(self.frames)
            await self.connection.input_audio_buffer.append(audio=base64.b64encode(frame).decode())
            self.frames += 1
            await asyncio.sleep(max(0, began + self.frames * 0.02 - asyncio.get_running_loop().time()))


def text_item(text):
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


async def by_the_book(chat, caller):
    connection = chat.connection
    created = await chat.next()
    demand(created.type == "session.created", f"the first event is {created.type}")
    await connection.session.update(session=SESSION)
    updated = (await chat.until("session.updated")).session
    for side in (updated.audio.input, updated.audio.output):
        demand(side.format.type == "audio/pcmu", f"the session's audio is {side.format.type}")
    demand(updated.audio.output.voice == "marin", f"the voice is {updated.audio.output.voice}")
    demand([tool.name for tool in updated.tools] == ["opening_hours"], "the tools are others")

    # A greeting, of which half a second was heard.
    await connection.response.create(response={"instructions": "Greet the caller."})
    await chat.response()
    greeting = chat.items[-1]
    demand(chat.audio[greeting] > RATE, f"the greeting is {chat.audio[greeting]} bytes")
    await connection.conversation.item.truncate(item_id=greeting, content_index=0, audio_end_ms=500)
    cut = await chat.until("conversation.item.truncated")
    demand((cut.item_id, cut.audio_end_ms) == (greeting, 500), f"{cut.item_id} cut at {cut.audio_end_ms}")

    # The caller asks, and a tool is called.
    talking = asyncio.create_task(caller.run())
    try:
        caller.talk(1.5)
        began = await chat.until("input_audio_buffer.speech_started")
        stopped = await chat.until("input_audio_buffer.speech_stopped")
        demand(began.item_id == stopped.item_id, "speech of one item ends as another's")
        # What the server puts in front, and what it waits for at the end.
        spoken = stopped.audio_end_ms - began.audio_start_ms
        demand(1300 <= spoken <= 2800, f"1500 ms of speech are {spoken} ms to the server")
        committed = await chat.until("input_audio_buffer.committed")
        demand(committed.item_id == began.item_id, "another item is committed than was spoken")
        done = await chat.response()
        calls = [item for item in done.output if item.type == "function_call"]
        demand([call.name for call in calls] == ["opening_hours"], f"called: {calls}")
        json.loads(calls[0].arguments)
        output = {"type": "function_call_output", "call_id": calls[0].call_id, "output": '{"open":"9"}'}
        await connection.conversation.item.create(item=output)
        await connection.response.create()
        answer = await chat.response()
        said = [item.type for item in answer.output]
        demand(said == ["message", "message"], f"the answer is {said}")
        demand([item.id for item in answer.output] == chat.items, "other items are done than began")

        # A long answer is cut short by us, and forgotten.
        caller.talk(1.5)
        first = await chat.until("response.output_audio.delta")
        await connection.response.cancel(response_id=first.response_id)
        gone = await chat.response("cancelled")
        demand(gone.status_details.reason == "client_cancelled", f"cancelled: {gone.status_details}")
        await connection.conversation.item.delete(item_id=first.item_id)
        deleted = await chat.until("conversation.item.deleted")
        demand(deleted.item_id == first.item_id, f"deleted: {deleted.item_id}")
    finally:
        talking.cancel()
        await asyncio.gather(talking, return_exceptions=True)

    # Words that are typed; to these the server says goodbye in its way.
    await connection.conversation.item.create(item={**text_item("Goodbye."), "id": "typed"})
    added = await chat.until("conversation.item.added")
    demand(added.item.id == "typed", f"added: {added.item.id}")
    await connection.response.create()
    await chat.until("error", LAST)
    with contextlib.suppress(ConnectionClosed):
        while True:
            await chat.next()
    if missing := NEEDED - chat.counts.keys():
        raise AssertionError(f"never seen: {sorted(missing)}")


async def refusals(chat):
    """Wrong shapes, one after the other; the session goes on after each."""
    connection = chat.connection
    await chat.until("session.created")
    await connection.session.update(session=SESSION)
    await chat.until("session.updated")

    def update(name, **session):
        return {"type": "session.update", "event_id": name, "session": {"type": "realtime", **session}}

    def item(name, **fields):
        return {"type": "conversation.item.create", "event_id": name, "item": fields}

    wrong = [
        (
            update("rate", audio={"input": {"format": {**PCMU, "rate": 8000}}}),
            "unknown_parameter",
            "session.audio.input.format.rate",
        ),
        (update("flat voice", voice="marin"), "unknown_parameter", "session.voice"),
        (update("older name", modalities=["audio"]), "unknown_parameter", "session.modalities"),
        (
            update("both", output_modalities=["text", "audio"]),
            "invalid_value",
            "session.output_modalities",
        ),
        (
            {"type": "session.update", "event_id": "no type", "session": {}},
            "missing_required_parameter",
            "session.type",
        ),
        ({"type": "session.close", "event_id": "no such event"}, "invalid_value", "type"),
        (
            item("object", type="function_call_output", call_id="c", output={"open": 1}),
            "invalid_type",
            "item.output",
        ),
        (
            item("older text", type="message", role="assistant", content=[{"type": "text", "text": "t"}]),
            "invalid_value",
            "item.content[0].type",
        ),
        (
            {
                "type": "conversation.item.truncate",
                "event_id": "decimal",
                "item_id": "i",
                "content_index": 0,
                "audio_end_ms": 12.5,
            },
            "invalid_type",
            "audio_end_ms",
        ),
        (
            {"type": "input_audio_buffer.append", "event_id": "no audio"},
            "missing_required_parameter",
            "audio",
        ),
    ]
    for event, code, param in wrong:
        # Raw: the SDK's own way of sending would drop what it does not know.
        await connection.send_raw(json.dumps(event))
        error = await chat.answered(event["event_id"], code)
        demand(error.param == param, f"{code} is about {error.param!r}, not {param!r}")

    # Races, and no faults: what everybody's client runs into.
    await connection.response.cancel(event_id="nothing to cancel")
    await chat.answered("nothing to cancel", "response_cancel_not_active")
    await connection.response.create(event_id="first")
    await connection.response.create(event_id="second")
    await chat.answered("second", "conversation_already_has_active_response")
    await chat.response()
    # And still the server listens.
    await connection.session.update(session={"type": "realtime", "instructions": "Be brief."})
    await chat.until("session.updated")
    return len(wrong)


async def older_dialect(url, key):
    """The header of the older protocol: let in, told so, and shown out."""
    async with connect(url, key, extra_headers={"OpenAI-Beta": "realtime=v1"}) as connection:
        chat = Conversation(connection, collections.Counter())
        await chat.until("error", "beta_api_shape_disabled")
        try:
            await chat.next()
        except ConnectionClosed as closed:
            close = closed.rcvd
            demand(close is not None and close.code == 4000, f"closed with {close}")
            demand("beta_api_shape_disabled" in close.reason, f"closed with {close}")
            return
    raise AssertionError("the older protocol's header is let in")


async def refused(url):
    try:
        async with connect(url, "not-the-key"):
            pass
    except InvalidStatus as error:
        status = error.response.status_code
        demand(status == 401, f"a wrong key is answered {status}")
        return
    raise AssertionError("a wrong key is let in")


async def run(url, strict_url, key):
    counts = collections.Counter()
    await refused(url)
    print("a wrong key is refused with 401")
    async with connect(url, key) as connection:
        await by_the_book(Conversation(connection, counts), Caller(connection))
    print("a conversation by the book")
    async with connect(strict_url, key) as connection:
        wrong = await refusals(Conversation(connection, counts))
    print(f"{wrong} wrong shapes and two races are answered as they should be")
    await older_dialect(strict_url, key)
    print("the older protocol's header is refused")
    return counts


def main(argv):
    if len(argv) != 4:
        sys.exit("usage: dial_realtime.py URL STRICT_URL KEY")
    try:
        counts = asyncio.run(asyncio.wait_for(run(*argv[1:]), DEADLINE))
    # The SDK's errors repeat request headers, and with them the key: the type must do.
    except AssertionError as error:
        sys.exit(f"dial_realtime.py: {error}")
    except Exception as error:
        sys.exit(f"dial_realtime.py: {type(error).__name__}")
    for kind in sorted(counts):
        print(f"parsed {kind}: {counts[kind]}")


if __name__ == "__main__":
    main(sys.argv)
