#!/usr/bin/env python3
"""Hume's own client dials the simulated EVI: dial_evi.py URL KEY

URL is ws://127.0.0.1:PORT, KEY the one that the simulator knows. Sends session settings and a
caller's audio in real time, answers tool calls, and receives until every type of message that the
SDK knows has come; the last is an error with the slug that LAST names. Every message goes through
the SDK's own models, and a little stricter than the SDK does it: `type` must be on the wire and be
the model's, and no field may be unknown. Every audio_output must be a complete WAV. A wrong key
must be refused with 401.
"""

import asyncio
import base64
import collections
import contextlib
import io
import math
import struct
import sys
import typing
import urllib.parse
import wave

from hume import AsyncHumeClient
from hume.core.api_error import ApiError
from hume.empathic_voice.types.audio_configuration import AudioConfiguration
from hume.empathic_voice.types.audio_input import AudioInput
from hume.empathic_voice.types.session_settings import SessionSettings
from hume.empathic_voice.types.subscribe_event import SubscribeEvent
from hume.empathic_voice.types.tool_response_message import ToolResponseMessage
from hume.environment import HumeClientEnvironment
from pydantic import BaseModel
from websockets.exceptions import ConnectionClosed

DEADLINE = 45
RATE = 8000
FRAME = 160  # samples, 20 ms
NEEDED = {
    typing.get_args(model.model_fields["type"].annotation)[0]
    for model in typing.get_args(SubscribeEvent)
}
LAST = "simulated_end"


def client(url, key):
    """An SDK client that knows no other address than the simulator's."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "ws" or not parts.hostname:
        sys.exit(f"dial_evi.py: {url!r} is not ws://HOST:PORT")
    # The SDK adds the /chat.
    path = parts.path.rstrip("/").removesuffix("/chat") or "/v0/evi"
    http = f"http://{parts.netloc}"
    environment = HumeClientEnvironment(
        base=http, evi=f"ws://{parts.netloc}{path}", tts=http, stream=http
    )
    return AsyncHumeClient(api_key=key, environment=environment)


def unknown_fields(value, path):
    if isinstance(value, BaseModel):
        for name in value.model_extra or {}:
            yield f"{path}.{name}"
        for name in type(value).model_fields:
            yield from unknown_fields(getattr(value, name), f"{path}.{name}")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from unknown_fields(item, f"{path}[{index}]")


def check(message):
    """The message's type, if the SDK's model for just that type took it whole."""
    if not isinstance(message, BaseModel) or "type" not in message.model_fields_set:
        raise AssertionError(f"no type on the wire: {type(message).__name__}")
    literal = typing.get_args(type(message).model_fields["type"].annotation)
    if message.type not in literal:
        raise AssertionError(f"{message.type!r} was taken for {type(message).__name__}")
    if unknown := list(unknown_fields(message, message.type)):
        raise AssertionError(f"fields that the SDK does not know: {unknown}")
    if message.type == "error" and message.slug != LAST:
        raise AssertionError(f"EVI reports {message.code} {message.slug}: {message.message}")
    if message.type == "audio_output":
        with wave.open(io.BytesIO(base64.b64decode(message.data, validate=True))) as wav:
            samples = wav.readframes(wav.getnframes())
            if wav.getsampwidth() != 2 or wav.getnchannels() != 1 or not samples:
                raise AssertionError("audio_output is not 16-bit mono with samples in it")
            if len(samples) != 2 * wav.getnframes():
                raise AssertionError("audio_output's header promises more than is there")
    return message.type


def speech(frame):
    """20 ms of somebody talking for a second and a half, then listening."""
    if frame * 0.02 >= 1.5:
        return bytes(2 * FRAME)
    first = frame * FRAME
    tone = lambda n: sum(math.sin(2 * math.pi * hz * n / RATE) for hz in (220, 440, 1100))
    swell = lambda n: 0.6 + 0.4 * math.sin(2 * math.pi * 4 * n / RATE)
    return struct.pack(f"<{FRAME}h", *(int(5000 * swell(n) * tone(n)) for n in range(first, first + FRAME)))


async def talk(chat):
    # Before any audio: the server is deaf otherwise.
    audio = AudioConfiguration(encoding="linear16", sample_rate=RATE, channels=1)
    await chat.send_publish(SessionSettings(type="session_settings", audio=audio))
    frame, began = 0, asyncio.get_running_loop().time()
    while True:
        data = base64.b64encode(speech(frame)).decode()
        await chat.send_publish(AudioInput(type="audio_input", data=data))
        frame += 1
        await asyncio.sleep(max(0, began + frame * 0.02 - asyncio.get_running_loop().time()))


async def listen(chat, counts):
    kind = None
    while kind != "error":
        message = await chat.recv()
        kind = check(message)
        if not counts and kind != "chat_metadata":
            raise AssertionError(f"the first message is {kind}, not chat_metadata")
        counts[kind] += 1
        if kind == "tool_call" and message.response_required:
            answer = ToolResponseMessage(
                type="tool_response", tool_call_id=message.tool_call_id, content="from nine to five"
            )
            # The agent may have hung up meanwhile; what it said before is still to be heard.
            with contextlib.suppress(ConnectionClosed):
                await chat.send_publish(answer)
    if missing := NEEDED - counts.keys():
        raise AssertionError(f"never seen: {sorted(missing)}")


async def chat_once(url, key, counts):
    async with client(url, key).empathic_voice.chat.connect(verbose_transcription=True) as chat:
        talking = asyncio.create_task(talk(chat))
        listening = asyncio.create_task(listen(chat, counts))
        try:
            done, _ = await asyncio.wait(
                {talking, listening}, timeout=DEADLINE, return_when=asyncio.FIRST_COMPLETED
            )
            if talking in done:
                # The end is often first seen by the one who talks, with messages still to be heard.
                done, _ = await asyncio.wait({listening}, timeout=5)
            if not done:
                raise AssertionError(f"no end came, only {dict(counts)}")
            await listening
        finally:
            talking.cancel()
            listening.cancel()
            await asyncio.gather(talking, listening, return_exceptions=True)


async def refused(url):
    try:
        async with client(url, "not-the-key").empathic_voice.chat.connect():
            pass
    except ApiError as error:
        if error.status_code == 401:
            return
        raise AssertionError(f"a wrong key is answered {error.status_code}") from None
    raise AssertionError("a wrong key is let in")


async def main(argv):
    if len(argv) != 3:
        sys.exit("usage: dial_evi.py URL KEY")
    counts = collections.Counter()
    try:
        await refused(argv[1])
        await chat_once(argv[1], argv[2], counts)
    # The SDK's errors repeat request headers, and with them the key: the type must do.
    except ApiError as error:
        sys.exit(f"dial_evi.py: the SDK gives up: HTTP {error.status_code}")
    except Exception as error:
        sys.exit(f"dial_evi.py: {type(error).__name__}: {error}")
    print("a wrong key is refused with 401")
    for kind in sorted(counts):
        print(f"parsed {kind}: {counts[kind]}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv))
