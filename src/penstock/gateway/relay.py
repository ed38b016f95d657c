"""Carries one streamed answer from an engine to a client, and counts what passes."""

from dataclasses import dataclass
from typing import Any

import orjson

from penstock.engine.live.ollama import OllamaStream
from penstock.engine.live.sse import DONE, EventSplitter, data_of
from penstock.gateway.tally import Pace

_BYTES_PER_TOKEN = 4


@dataclass(slots=True)
class Passed:
    """What has passed. Moments are seconds on the gateway's clock, None before they came.

    Tokens are counted by events until the engine says how many it counted (``usage``). ``error`` is
    what the engine said where it broke off in words.
    """

    first_token_s: float | None = None
    last_token_s: float | None = None
    num_tokens: int = 0
    finish_reason: str | None = None
    usage: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    done: bool = False

    @property
    def whole(self) -> bool:
        """Whether the answer has come to its end, as far as the engine said anything."""
        return self.done or self.finish_reason is not None

    @property
    def delivered(self) -> tuple[object, object]:
        """Prompt and output tokens of what has passed, as the engine says or as they were counted;
        0 and 0 where nothing has."""
        usage = self.usage or {}
        if not usage and not self.num_tokens:
            return 0, 0
        return usage.get("prompt_tokens"), usage.get("completion_tokens", self.num_tokens)

    def take_whole(self, document: dict[str, Any], now_s: float) -> None:
        """An answer in one piece. Its tokens are guessed from its bytes where the engine does not
        say how many there are."""
        self.last_token_s = now_s
        if isinstance(document.get("usage"), dict):
            self.usage = document["usage"]
        elif isinstance(choices := document.get("choices"), list):
            self.num_tokens = sum(max(1, len(orjson.dumps(one)) // _BYTES_PER_TOKEN)
                                  for one in choices)


class Relay:
    """Makes the client's stream of an engine's: every event as it came, but for usage that it did
    not ask for.

    Every event is read as JSON. Looking for words in its bytes would be quicker by little (16
    events take 14 us) and wrong now and then: answers are about JSON, too.
    """

    def __init__(self, passed: Passed, pace: Pace, translator: OllamaStream | None = None, *,
                 keep_usage: bool) -> None:
        self.passed = passed
        self._pace = pace
        self._translator = translator
        self._keep_usage = keep_usage
        self._splitter = EventSplitter()

    def feed(self, chunk: bytes, now_s: float, *, at_end: bool = False) -> bytes:
        """What of the stream may go to the client with these bytes of the engine's. Raises
        ValueError where they are no stream of events."""
        passed = self.passed
        before = passed.num_tokens
        if self._translator is not None:
            chunk = self._translator.feed(chunk)
            if at_end:
                chunk += self._translator.close()
        out = [event for event in self._splitter.feed(chunk) if self._passes(event)]
        if at_end and (rest := self._splitter.close()).strip() and self._passes(rest):
            out.append(rest)
        if passed.num_tokens > before:
            if passed.first_token_s is None:
                passed.first_token_s = now_s
            passed.last_token_s = now_s
            self._pace.pass_tokens(before, passed.num_tokens, now_s)
        return b"".join(out)

    def _passes(self, event: bytes) -> bool:
        data = data_of(event)
        if not data:
            return True
        if data == DONE:
            self.passed.done = True
            return True
        document = orjson.loads(data)  # its error is a ValueError
        if not isinstance(document, dict):
            raise ValueError("an event that is no JSON object")
        passed = self.passed
        usage, choices = document.get("usage"), document.get("choices")
        if isinstance(usage, dict):
            passed.usage = usage
        if not choices:
            if (error := document.get("error")) is not None:
                passed.error = error if isinstance(error, dict) else {"message": str(error)}
            return self._keep_usage or not isinstance(usage, dict)
        says = False
        for choice in choices:
            if choice.get("finish_reason"):
                passed.finish_reason = str(choice["finish_reason"])
            says = says or _says(choice)
        passed.num_tokens += says
        return True


def _says(choice: dict[str, Any]) -> bool:
    """Whether a choice brings tokens: a chat opens with a role that says nothing yet."""
    delta = choice.get("delta")
    if delta is None:
        return bool(choice.get("text"))
    return bool(delta.get("content") or delta.get("tool_calls") or delta.get("reasoning_content")
                or delta.get("reasoning"))
