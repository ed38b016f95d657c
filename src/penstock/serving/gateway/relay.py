"""Carries one streamed answer from an engine to a client, and counts what passes."""

from dataclasses import dataclass
from itertools import takewhile
from typing import Any, NamedTuple

import orjson

from penstock.engines.client.dialects import StreamTranslator
from penstock.engines.client.sse import DONE, EventSplitter, data_of
from penstock.serving.gateway.tally import Pace

_BYTES_PER_TOKEN = 4
_BACKSLASH = ord("\\")


@dataclass(slots=True)
class Passed:
    """Record of a relayed stream. Moments are seconds on the gateway's clock, None before they
    came.

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
        output = usage.get("completion_tokens", self.num_tokens)
        if not self.whole and isinstance(output, int):  # it may be what was counted long before
            output = max(output, self.num_tokens)
        return usage.get("prompt_tokens"), output

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

    Events are read as JSON. Most of a stream differ from each other in the text of one string only;
    what comes before and after that string is remembered from an event that was read, so that runs
    of events of that kind need no reading. Looking for words in the bytes would be wrong now and
    then: answers are about JSON, too.
    """

    def __init__(self, passed: Passed, pace: Pace, translator: StreamTranslator | None = None, *,
                 keep_usage: bool) -> None:
        self.passed = passed
        self.fault: Exception | None = None
        self._pace = pace
        self._translator = translator
        self._keep_usage = keep_usage
        self._splitter = EventSplitter()
        self._alike: _Alike | None = None

    def feed(self, chunk: bytes, now_s: float, *, at_end: bool = False) -> bytes:
        """Return the part of the stream that may go to the client after these bytes of the engine:
        all bytes before a ``fault``, if one came."""
        passed = self.passed
        before = passed.num_tokens
        out: list[bytes] = []
        try:
            self._relay(chunk, out, at_end=at_end)
        except (ValueError, TypeError, AttributeError) as error:
            self.fault = error
        if passed.num_tokens > before:
            if passed.first_token_s is None:
                passed.first_token_s = now_s
            passed.last_token_s = now_s
            self._pace.pass_tokens(before, passed.num_tokens, now_s)
        return b"".join(out)

    def _relay(self, chunk: bytes, out: list[bytes], *, at_end: bool) -> None:
        """Puts ``out`` what may go on. Raises ValueError, TypeError and AttributeError."""
        passed, splitter = self.passed, self._splitter
        if self._translator is not None:
            chunk = self._translator.feed(chunk)
            if at_end:
                chunk += self._translator.close()
        splitter.add(chunk)
        while True:
            if self._alike is not None:
                num_events, num_bytes = self._alike.run(splitter.rest)
                if num_events:
                    passed.num_tokens += num_events
                    out.append(splitter.take(num_bytes))
            event = splitter.next()
            if event is None:
                break
            if self._passes(event):
                out.append(event)
        if at_end and (rest := splitter.close()).strip() and self._passes(rest):
            out.append(rest)

    def _passes(self, event: bytes) -> bool:
        if event[:7] != b"data: {":
            return self._other_passes(event)
        try:
            document = orjson.loads(event[6:])  # the empty line after it is no harm
        except orjson.JSONDecodeError:
            return self._other_passes(event)
        choices, usage = document.get("choices"), document.get("usage")
        if usage is not None and isinstance(usage, dict):
            self.passed.usage = usage
        if not choices:
            self._note_error(document.get("error"))
            return self._keep_usage or not isinstance(usage, dict)
        says = False
        for choice in choices:
            if (reason := choice.get("finish_reason")) is not None:
                self.passed.finish_reason = str(reason)
            delta = choice.get("delta")
            if delta is None:
                says = says or bool(choice.get("text"))
            else:  # a chat opens with a role that says nothing yet
                says = says or bool(delta.get("content") or _says_more(delta))
        if says:
            self.passed.num_tokens += 1
            if usage is None and len(choices) == 1 and choices[0].get("finish_reason") is None:
                self._alike = _alike(event, choices[0]) or self._alike
        return True

    def _note_error(self, error: object) -> None:
        if error is not None:
            self.passed.error = error if isinstance(error, dict) else {"message": str(error)}

    def _other_passes(self, event: bytes) -> bool:
        """Events that are not one line of data that is an object."""
        data = data_of(event)
        if not data:
            return True
        if data == DONE:
            self.passed.done = True
            return True
        if not isinstance(orjson.loads(data), dict):  # its error is a ValueError
            raise ValueError("an event that is no JSON object")
        return self._passes(b"data: " + data.replace(b"\n", b" ").lstrip())


class _Alike(NamedTuple):
    """Events that differ in one text: what stands before and after it."""

    opening: bytes
    ending: bytes

    def run(self, stream: bytes) -> tuple[int, int]:
        """How many such events a stream begins with, and how many bytes they are."""
        opening, ending = self
        if not stream.startswith(opening):
            return 0, 0
        texts = stream[len(opening):].split(ending + opening)
        last, ends, _ = texts.pop().partition(ending)
        if ends:
            texts.append(last)
        together = b"".join(texts)
        if not all(texts) or b'"' in together or b"\\" in together or b"\n" in together:
            texts = list(takewhile(_is_plain, texts))
            together = b"".join(texts)
        return len(texts), len(together) + len(texts) * (len(opening) + len(ending))


def _is_plain(text: bytes) -> bool:
    """Whether it is the whole inside of a string in JSON, and says something."""
    return bool(text) and b'"' not in text and text[-1] != _BACKSLASH and b"\n" not in text


def _alike(event: bytes, choice: dict[str, Any]) -> _Alike | None:
    """Events like this one; None where it is not plain to see where its text is, or its end."""
    if not event.endswith(b"\n"):
        return None
    delta = choice.get("delta")
    text, name = (choice.get("text"), b"text") if delta is None else (delta.get("content"),
                                                                      b"content")
    for marker in (b'"%b":"' % name, b'"%b": "' % name):
        if event.count(marker) == 1:
            start = event.index(marker) + len(marker)
            end = event.find(b'"', start)
            try:
                if end > start and orjson.loads(event[start - 1:end + 1]) == text:
                    return _Alike(event[:start], event[end:])
            except orjson.JSONDecodeError:
                return None
    return None


def _says_more(delta: dict[str, Any]) -> bool:
    return bool(delta.get("tool_calls") or delta.get("reasoning_content")
                or delta.get("reasoning"))
