"""Answers in OpenAI's form, in one piece or as server-sent events."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from penstock.engines.server.ask import Ask

DONE = b"data: [DONE]\n\n"


def frame(document: Any) -> bytes:
    """Return one server-sent event."""
    return b"data: " + orjson.dumps(document) + b"\n\n"


@dataclass(frozen=True, slots=True)
class Frames:
    """The answer to one request. ``answer_id`` has no prefix for the kind of answer."""

    ask: Ask
    chat: bool
    answer_id: str
    model: str
    created: int
    prompt_tokens: int

    def first(self) -> bytes:
        """Return the frame before the first token: a chat states the role."""
        if not self.chat:
            return b""
        return frame(self._chunk(self._delta({"role": "assistant", "content": ""}, None), 0))

    def token(self, index: int, text: str, finish_reason: str | None) -> bytes:
        """Return the frame of one token."""
        choice = (self._delta({"content": text}, finish_reason) if self.chat
                  else self._completion(text, finish_reason))
        return frame(self._chunk(choice, index + 1))

    def last(self, output_tokens: int) -> bytes:
        """Return the frames after the last token: the usage if requested, and the end mark."""
        if not self.ask.include_usage:
            return DONE
        document = self._head(streamed=True)
        document |= {"choices": [], "usage": self._usage(output_tokens)}
        return frame(document) + DONE

    def whole(self, text: str, output_tokens: int, finish_reason: str,
              more: Mapping[str, Any]) -> bytes:
        """Return the answer in one piece, with ``more`` fields."""
        if self.chat:
            choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": finish_reason,
                                      "message": {"role": "assistant", "content": text}}
        else:
            choice = self._completion(text, finish_reason)
        document = self._head(streamed=False)
        return orjson.dumps(document | {"choices": [choice], "usage": self._usage(output_tokens),
                                        **more})

    def _head(self, *, streamed: bool) -> dict[str, Any]:
        if self.chat:
            prefix, kind = "chatcmpl-", "chat.completion.chunk" if streamed else "chat.completion"
        else:
            prefix, kind = "cmpl-", "text_completion"
        return {"id": prefix + self.answer_id, "object": kind, "created": self.created,
                "model": self.model}

    def _chunk(self, choice: dict[str, Any], output_tokens: int) -> dict[str, Any]:
        document = self._head(streamed=True) | {"choices": [choice]}
        if self.ask.include_usage:
            document["usage"] = (self._usage(output_tokens) if self.ask.continuous_usage else None)
        return document

    def _usage(self, output_tokens: int) -> dict[str, int]:
        return {"prompt_tokens": self.prompt_tokens, "completion_tokens": output_tokens,
                "total_tokens": self.prompt_tokens + output_tokens}

    @staticmethod
    def _delta(delta: dict[str, Any], finish_reason: str | None) -> dict[str, Any]:
        return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}

    @staticmethod
    def _completion(text: str, finish_reason: str | None) -> dict[str, Any]:
        return {"index": 0, "text": text, "logprobs": None, "finish_reason": finish_reason}
