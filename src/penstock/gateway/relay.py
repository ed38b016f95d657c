"""Carries one answer from an engine to a client, and counts what passes."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import orjson

from penstock.engine.live.sse import DONE, EventSplitter, data_of
from penstock.engine.live.state import InFlight


@dataclass(slots=True)
class Passed:
    """What has passed. Moments are seconds on the gateway's clock, None before they came.

    Tokens are counted by events until the engine says how many it counted (``usage``).
    """

    first_token_s: float | None = None
    last_token_s: float | None = None
    num_tokens: int = 0
    finish_reason: str | None = None
    usage: dict[str, Any] | None = None
    done: bool = False


async def relayed(chunks: AsyncIterator[bytes], in_flight: InFlight, passed: Passed, *,
                  keep_usage: bool, clock: Callable[[], float]) -> AsyncIterator[bytes]:
    """The stream for the client: every event as it came, but for usage that it did not ask for."""
    splitter = EventSplitter()
    async for chunk in chunks:
        out = [event for event in splitter.feed(chunk)
               if _passes(event, in_flight, passed, keep_usage, clock)]
        if out:
            yield b"".join(out)
    rest = splitter.close()
    if rest.strip():
        yield rest


def _passes(event: bytes, in_flight: InFlight, passed: Passed, keep_usage: bool,
            clock: Callable[[], float]) -> bool:
    data = data_of(event)
    if not data:
        return True
    if data == DONE:
        passed.done = True
        return True
    if b'"usage":{' in data or b'"usage": {' in data or b'"finish_reason":"' in data:
        return _closing(data, in_flight, passed, keep_usage, clock)
    if b'"content":""' in data and b'"role"' in data:  # opens a chat, says nothing yet
        return True
    _count(in_flight, passed, clock)
    return True


def _closing(data: bytes, in_flight: InFlight, passed: Passed, keep_usage: bool,
             clock: Callable[[], float]) -> bool:
    """An event near the end: its numbers are read."""
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError:
        return True  # the client may make sense of it
    if not isinstance(document, dict):
        return True
    if isinstance(document.get("usage"), dict):
        passed.usage = document["usage"]
    choices = document.get("choices")
    if not choices:
        return keep_usage or passed.usage is None
    for choice in choices:
        if isinstance(choice, dict) and choice.get("finish_reason"):
            passed.finish_reason = str(choice["finish_reason"])
    if any(_has_text(choice) for choice in choices if isinstance(choice, dict)):
        _count(in_flight, passed, clock)
    return True


def _has_text(choice: dict[str, Any]) -> bool:
    delta = choice.get("delta")
    return bool(choice.get("text") or (isinstance(delta, dict) and (
        delta.get("content") or delta.get("reasoning_content") or delta.get("tool_calls"))))


def _count(in_flight: InFlight, passed: Passed, clock: Callable[[], float]) -> None:
    now_s = clock()
    if passed.first_token_s is None:
        passed.first_token_s = now_s
    passed.last_token_s = now_s
    passed.num_tokens += 1
    in_flight.output_tokens = passed.num_tokens
