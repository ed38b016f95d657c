"""Reads OpenAI-style answers, streamed or in one piece, into an ``Answer``."""

from typing import Any

import orjson

from penstock.engines.client.answer import BROKEN, Answer, TokenEvent
from penstock.engines.client.sse import DONE, EventSplitter, data_of

_TEXTS = ("content", "reasoning_content", "reasoning", "refusal")


class MalformedAnswerError(Exception):
    """Error for bytes that are not an answer. The message says why."""


class StreamError(Exception):
    """The server reports a failure within the answer."""

    def __init__(self, document: dict[str, Any]) -> None:
        super().__init__("an error within the answer")
        self.document = document
        error = document.get("error", document)
        code = error.get("code") if isinstance(error, dict) else None
        self.status = code if isinstance(code, int) and 300 <= code < 600 else 500


class FrameReader:
    """Fills an answer from the bytes of a server. ``done`` once the answer has ended."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.done = False
        self._splitter = EventSplitter()

    def feed(self, chunk: bytes, now_s: float) -> None:
        """Read bytes of a stream that arrived at ``now_s``. Raises MalformedAnswerError and
        StreamError."""
        for event in self._splitter.feed(chunk):
            self._event(event, now_s)

    def close(self, now_s: float) -> None:
        """Handle the end of the stream. Raises MalformedAnswerError for an invalid answer in one
        piece."""
        rest = self._splitter.close().strip()
        if self.done:
            return
        if rest.startswith(b"{") and not self.answer.events:  # JSON under another content type
            self.whole(rest, now_s)
            return
        if rest:
            self._event(rest, now_s)
        if self.done:
            return
        if self.answer.finish_reason is None:
            self.answer.end(BROKEN, "the stream ended before the answer did")
            return
        self._end(now_s)

    def whole(self, body: bytes, now_s: float) -> None:
        """Read an answer in one piece as a single event."""
        document = _object(body)
        self.answer.streamed = False
        if not self._take(document, now_s):
            raise MalformedAnswerError("the answer has no choices")
        self._end(now_s)

    def _event(self, event: bytes, now_s: float) -> None:
        data = data_of(event)
        if not data or self.done:
            return
        if data.strip() == DONE:
            self._end(now_s)
            return
        self._take(_object(data), now_s)

    def _take(self, document: dict[str, Any], now_s: float) -> bool:
        """Record text, usage and finish reason. Returns whether there were choices. Raises
        StreamError."""
        if document.get("error") or document.get("object") == "error":
            raise StreamError(document)
        found = document.get("choices")
        choices = [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
        running = self._count(_usages(document, choices))
        for choice in choices:
            if isinstance(choice.get("finish_reason"), str):
                self.answer.finish_reason = choice["finish_reason"]
        text = "".join(_text(choice) for choice in choices)
        if text:
            self.answer.events.append(TokenEvent(now_s, text, running))
        return bool(choices)

    def _count(self, usages: list[dict[str, Any]]) -> int | None:
        """Record the counts of an event. Returns the output tokens so far, if the event reports
        them."""
        counted = None
        for usage in usages:
            prompt, output = usage.get("prompt_tokens"), usage.get("completion_tokens")
            if type(prompt) is int and prompt >= 0:
                self.answer.prompt_tokens = prompt
            if type(output) is int and output >= 0:
                self.answer.output_tokens = counted = output
        return counted

    def _end(self, now_s: float) -> None:
        self.done = True
        self.answer.ended_s = now_s
        if not self.answer.events and not self.answer.output_tokens:
            self.answer.end(BROKEN, "the answer ended without a token")


def _object(data: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise MalformedAnswerError(f"not JSON: {data[:60].decode(errors='replace')!r}") from None
    if not isinstance(document, dict):
        raise MalformedAnswerError(f"not a JSON object: {data[:60].decode(errors='replace')!r}")
    return document


def _usages(document: dict[str, Any], choices: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the usage from all places where servers put it: beside the choices, within a choice
    (Moonshot), within ``x_groq`` (Groq), or as llama.cpp's ``timings``; the most reliable place
    last."""
    found: list[Any] = []
    timings = document.get("timings")
    if isinstance(timings, dict):
        found.append({"prompt_tokens": timings.get("prompt_n"),
                      "completion_tokens": timings.get("predicted_n")})
    groq = document.get("x_groq")
    if isinstance(groq, dict):
        found.append(groq.get("usage"))
    found += [choice.get("usage") for choice in choices]
    found.append(document.get("usage"))
    return [usage for usage in found if isinstance(usage, dict)]


def _text(choice: dict[str, Any]) -> str:
    """Return the text of a choice, streamed or whole; a tool call counts as its name and
    arguments."""
    said = choice.get("delta") or choice.get("message")
    if not isinstance(said, dict):
        text = choice.get("text")
        return text if isinstance(text, str) else ""
    parts = [said[key] for key in _TEXTS if isinstance(said.get(key), str)]
    calls = said.get("tool_calls")
    for call in calls if isinstance(calls, list) else []:
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            parts += [function[key] for key in ("name", "arguments")
                      if isinstance(function.get(key), str)]
    return "".join(parts)
