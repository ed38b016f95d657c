"""Relays one streamed answer from an engine to a client and counts its tokens."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from penstock.engines.client.dialects import StreamTranslator
from penstock.engines.client.sse import DONE, EventSplitter, data_of
from penstock.serving.gateway.ask_limits import UNLIMITED, StreamLimit
from penstock.serving.gateway.tally import Pace
from penstock.serving.tenants.usage import Relayed

_BYTES_PER_TOKEN = 4
_BACKSLASH = ord("\\")
_TEXT, _CONTENT = (b'"text":"', b'"text": "'), (b'"content":"', b'"content": "')


@dataclass(slots=True)
class RelayedStream:
    """Record of a relayed answer. Times are seconds on the gateway's clock, None until they happen.

    Tokens are counted by events, or estimated from the text of an answer in one piece, until the
    engine reports its own count (``usage``). ``num_bytes`` is at least the text's size. ``error``
    is the engine's message where it ended the stream with an error. ``is_cut`` says whether the
    stream was stopped at its limit.
    """

    first_token_s: float | None = None
    last_token_s: float | None = None
    num_tokens: int = 0
    num_bytes: int = 0
    finish_reason: str | None = None
    usage: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    done: bool = False
    is_cut: bool = False
    in_one_piece: bool = False

    @property
    def whole(self) -> bool:
        """Whether the answer is complete, as far as the engine has said."""
        return self.done or self.finish_reason is not None or self.in_one_piece

    @property
    def delivered(self) -> tuple[object, object]:
        """Prompt and output tokens of the relayed part, by the engine's count or by events; 0 and 0
        where nothing was relayed."""
        usage = self.usage or {}
        if not usage and not self.num_tokens and not self.num_bytes:
            return 0, 0
        output = usage.get("completion_tokens", self.num_tokens)
        if not self.whole and isinstance(output, int):  # the engine's count may be old
            output = max(output, self.num_tokens)
        return usage.get("prompt_tokens"), output

    @property
    def relayed(self) -> Relayed:
        """The relayed part by the gateway's own count."""
        return Relayed(self.num_tokens, self.num_bytes, not self.in_one_piece, self.whole,
                       self.is_cut)

    def take_whole(self, document: dict[str, Any], now_s: float) -> None:
        """Record an answer in one piece. Its tokens are estimated from the bytes of its text."""
        self.last_token_s = now_s
        self.in_one_piece = True
        if isinstance(document.get("usage"), dict):
            self.usage = document["usage"]
        if isinstance(choices := document.get("choices"), list):
            for one in choices:
                tokens, num_bytes = _size_of(one)
                self.num_tokens += tokens
                self.num_bytes += num_bytes
        elif document.get("data"):  # embeddings have no output tokens
            self.num_bytes = 1


class Relay:
    """Turns an engine's stream into the client's: every event unchanged, except usage that the
    client did not request.

    Events are parsed as JSON. Most events of a stream differ only in the text of one string. The
    bytes before and after that string are kept from a parsed event, so runs of similar events need
    no parsing. Searching the bytes for keywords would sometimes be wrong, because answers can
    contain JSON themselves.

    At the first event beyond the ``limit`` the stream is cut: neither this event nor a later one
    passes. Nothing passes after the end of the engine's stream, either.
    """

    def __init__(self, passed: RelayedStream, pace: Pace,
                 translator: StreamTranslator | None = None, *,
                 keep_usage: bool, limit: StreamLimit = UNLIMITED) -> None:
        self.passed = passed
        self.fault: Exception | None = None
        self._pace = pace
        self._translator = translator
        self._keep_usage = keep_usage
        self._limit = limit
        # Of each unfinished answer, whether it is a chat's. Documents would take more memory.
        self._open: dict[object, bool] = {}
        self._last = b"data: {}"  # the last event with choices
        self._splitter = EventSplitter()
        self._event_template: _EventTemplate | None = None

    def feed(self, chunk: bytes, now_s: float, *, at_end: bool = False) -> bytes:
        """Take bytes of the engine and return the bytes that may go to the client: all before a
        ``fault``, if there is one."""
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
        """Append to ``out`` the bytes that may go to the client. Raises ValueError, TypeError and
        AttributeError."""
        passed, splitter, limit = self.passed, self._splitter, self._limit
        if self._translator is not None:
            chunk = self._translator.feed(chunk)
            if at_end:
                chunk += self._translator.close()
        if passed.done or passed.is_cut:
            return
        splitter.add(chunk)
        is_alike = True  # whether the next event may be like the last one with text
        while True:
            if is_alike and (template := self._event_template) is not None:
                num_events, num_bytes = template.run(splitter.buffer, splitter.at,
                                                     limit.num_events - passed.num_tokens)
                if num_events:
                    passed.num_tokens += num_events
                    passed.num_bytes += num_bytes
                    out.append(splitter.take(num_bytes + num_events * len(template.between)))
                    if passed.num_bytes > limit.num_bytes:
                        passed.is_cut = True
                        return
            event = splitter.next()
            if event is None:
                break
            before = passed.num_tokens
            if self._passes(event):
                out.append(event)
            if passed.done or passed.is_cut:
                return
            is_alike = passed.num_tokens > before
        if at_end and (rest := splitter.close()).strip() and self._passes(rest):
            out.append(rest)

    def _passes(self, event: bytes) -> bool:
        if event[:7] != b"data: {":
            return self._other_passes(event)
        try:
            document = orjson.loads(event[6:])  # a trailing empty line is harmless
        except orjson.JSONDecodeError:
            return self._other_passes(event)
        choices, usage = document.get("choices"), document.get("usage")
        if usage is not None and isinstance(usage, dict):
            self.passed.usage = usage
        if not choices:
            self._note_error(document.get("error"))
            return self._keep_usage or not isinstance(usage, dict)
        says = False
        self._last = event
        for choice in choices:
            delta = choice.get("delta")
            if (reason := choice.get("finish_reason")) is None:
                self._open[choice.get("index", 0)] = "delta" in choice
            else:
                self.passed.finish_reason = str(reason)
                self._open.pop(choice.get("index", 0), None)
            says = says or _says(choice, delta)
        if says:
            passed = self.passed
            if passed.num_tokens >= self._limit.num_events or \
                    passed.num_bytes > self._limit.num_bytes:
                passed.is_cut = True
                return False
            passed.num_tokens += 1
            for choice in choices:
                passed.num_bytes += _size_of(choice)[1]
            if usage is None and len(choices) == 1 and choices[0].get("finish_reason") is None:
                self._event_template = _event_template(event, choices[0]) or self._event_template
        return True

    def ending(self, prompt_tokens: int, output_tokens: int) -> bytes:
        """Return the events that end a stream that was cut, with these tokens as its usage."""
        # orjson reads deeper nesting than it writes, and an ending needs none.
        envelope = {name: value for name, value in orjson.loads(self._last[6:]).items()
                    if not isinstance(value, dict | list) and name != "usage"}
        choices: list[dict[str, Any]] = [
            {"index": index, **({"delta": {}} if is_chat else {"text": ""}),
             "logprobs": None, "finish_reason": "length"}
            for index, is_chat in self._open.items()]
        self.passed.finish_reason, self.passed.done = "length", True
        documents = [{**envelope, "choices": choices}] if choices else []
        if self._keep_usage:
            documents.append({**envelope, "choices": [], "usage": {
                "prompt_tokens": prompt_tokens, "completion_tokens": output_tokens,
                "total_tokens": prompt_tokens + output_tokens}})
        return b"".join(b"data: %b\n\n" % one for one in (*map(orjson.dumps, documents), DONE))

    def _note_error(self, error: object) -> None:
        if error is not None:
            self.passed.error = error if isinstance(error, dict) else {"message": str(error)}

    def _other_passes(self, event: bytes) -> bool:
        """Whether an event that is not a single line with a JSON object passes."""
        data = data_of(event)
        if not data:
            return True
        if data == DONE:
            self.passed.done = True
            return True
        if not isinstance(orjson.loads(data), dict):  # its error is a ValueError
            raise ValueError("an event that is not a JSON object")
        return self._passes(b"data: " + data.replace(b"\n", b" ").lstrip())


class _EventTemplate(NamedTuple):
    """Similar events, which differ in one text: the bytes before and after that text, and between
    the texts of two events."""

    opening: bytes
    ending: bytes
    between: bytes

    def run(self, stream: bytes, start: int, most: int) -> tuple[int, int]:
        """Return how many such events follow from ``start`` on, at most ``most``, and the bytes of
        their texts. A text is the whole, non-empty inside of a JSON string."""
        opening, ending, between = self
        find, begins = stream.find, stream.startswith
        num_events = num_bytes = 0
        if not begins(opening, start):
            return 0, 0
        at, to_next = start + len(opening), len(between)
        while num_events < most:
            # A search for all of ``between`` would prepare itself anew for every event.
            end = find(b'"', at)
            if end <= at or stream[end - 1] == _BACKSLASH or find(b"\n", at, end) >= 0:
                break
            is_last = not begins(between, end)
            if is_last and not begins(ending, end):
                break
            num_events += 1
            num_bytes += end - at
            if is_last:
                break
            at = end + to_next
        return num_events, num_bytes


def _event_template(event: bytes, choice: dict[str, Any]) -> _EventTemplate | None:
    """Return the template of events like this one, None where the place or the end of its text is
    not certain."""
    if not event.endswith(b"\n"):
        return None
    delta = choice.get("delta")
    text, markers = (choice.get("text"), _TEXT) if delta is None else (delta.get("content"),
                                                                       _CONTENT)
    for marker in markers:
        found = event.find(marker)
        if found >= 0 and event.rfind(marker) == found:
            start = found + len(marker)
            end = event.find(b'"', start)
            try:
                if end > start and orjson.loads(event[start - 1:end + 1]) == text:
                    opening, ending = event[:start], event[end:]
                    return _EventTemplate(opening, ending, ending + opening)
            except orjson.JSONDecodeError:
                return None
    return None


def _size_of(choice: object) -> tuple[int, int]:
    """Return the estimated tokens of an answer, or of a part of it, and the bytes of its text."""
    if not isinstance(choice, dict):
        return 0, 0
    message = choice.get("message", choice.get("delta"))
    said = [value for name, value in message.items() if name != "role"] \
        if isinstance(message, dict) else [choice.get("text")]
    num_bytes = 0
    for part in said:
        if part:
            num_bytes += len(part.encode() if isinstance(part, str) else orjson.dumps(part))
    ids = choice.get("token_ids")
    num_ids = len(ids) if isinstance(ids, list) else 0
    return max(num_ids, -(-num_bytes // _BYTES_PER_TOKEN)), max(num_ids, num_bytes)


def _says(choice: dict[str, Any], delta: dict[str, Any] | None) -> bool:
    """Whether a part of a stream has a token. A chat begins with a role and no text."""
    if delta is None:
        return bool(choice.get("text") or choice.get("token_ids"))
    return bool(delta.get("content") or delta.get("tool_calls") or delta.get("reasoning_content")
                or delta.get("reasoning") or choice.get("token_ids"))
