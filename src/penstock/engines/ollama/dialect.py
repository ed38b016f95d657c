"""Translation of Ollama's answers to OpenAI's: JSON lines become events, counts become usage."""

from collections.abc import Mapping
from typing import Any

import orjson

from penstock.engines.client.sse import DONE, MOST_EVENT_BYTES

_NS = 1e-9
_DURATIONS = {"total_duration": "total_s", "load_duration": "load_s",
              "prompt_eval_duration": "prefill_s", "eval_duration": "decode_s"}


class OllamaStream:
    """Translates Ollama's stream (one JSON object a line) to OpenAI's events, independent of the
    network's packets.

    The last line has the counts. Where a count is missing (older versions leave out the prompt's
    when all of it was cached), the caller's estimate and the number of lines replace it. ``load_s``
    is the time to load the model for this answer, None until it is reported.
    """

    def __init__(self, answer_id: str, model: str, created_s: int, prompt_tokens: int, *,
                 chat: bool) -> None:
        self.load_s: float | None = None
        self._answer_id = answer_id
        self._answer = {
            "id": answer_id, "object": "chat.completion.chunk" if chat else "text_completion",
            "created": created_s, "model": model}
        self._prompt_tokens = prompt_tokens
        self._chat = chat
        self._rest = b""
        self._num_lines = 0
        self._num_tool_calls = 0
        self._done = False

    def feed(self, chunk: bytes) -> bytes:
        """Return the events that these bytes complete. Raises ValueError for an invalid stream."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > MOST_EVENT_BYTES:
            raise ValueError(f"a line of more than {MOST_EVENT_BYTES:,} bytes")
        return b"".join(self._events(line) for line in lines if line.strip())

    def close(self) -> bytes:
        """Return the last events of the stream. Raises ValueError in the middle of a line."""
        rest, self._rest = self._rest, b""
        return self._events(rest) if rest.strip() else b""

    def _events(self, line: bytes) -> bytes:
        document = orjson.loads(line)
        if not isinstance(document, dict):
            raise ValueError("a line that is not a JSON object")
        if document.get("error"):
            return _event(error_document(document, 500))
        out = b""
        says = self._delta(document)
        if says:
            self._num_lines += 1
            out = self._choice(says, None)
        if document.get("done") and not self._done:
            self._done = True
            self.load_s = seconds_of(document).get("load_s")
            reason = _finish_reason(document, self._num_tool_calls)
            usage = usage_of(document, self._prompt_tokens, self._num_lines)
            out += (self._choice({}, reason) + _event({**self._answer, "choices": [],
                                                       "usage": usage})
                    + b"data: " + DONE + b"\n\n")
        return out

    def _delta(self, document: Mapping[str, Any]) -> dict[str, Any]:
        if not self._chat:
            text = document.get("response")
            return {"text": text} if text else {}
        message = document.get("message")
        delta = _said(message if isinstance(message, dict) else {}, self._answer_id,
                      self._num_tool_calls, indexed=True)
        self._num_tool_calls += len(delta.get("tool_calls", ()))
        if delta and not self._num_lines:
            delta = {"role": "assistant", **delta}
        return delta

    def _choice(self, says: dict[str, Any], reason: str | None) -> bytes:
        body = {"delta": says} if self._chat else {"text": says.get("text", "")}
        return _event({**self._answer, "choices": [
            {"index": 0, **body, "logprobs": None, "finish_reason": reason}]})


class OllamaWhole:
    """Translates an answer of Ollama in one piece to OpenAI's form."""

    def __init__(self, answer_id: str, model: str, created_s: int, prompt_tokens: int) -> None:
        self._answer_id = answer_id
        self._model = model
        self._created_s = created_s
        self._prompt_tokens = prompt_tokens

    def document(self, path: str,
                 document: Mapping[str, Any]) -> tuple[dict[str, Any], float | None]:
        """Return OpenAI's answer, and the seconds to load the model for it. Raises ValueError."""
        if path.endswith("/embeddings"):
            return self._embeddings(document), seconds_of(document).get("load_s")
        chat = path.endswith("/chat/completions")
        said = document.get("message" if chat else "response")
        if not isinstance(said, dict if chat else str):
            raise ValueError("an answer of Ollama's that says nothing")
        num_calls, choice = 0, {"text": said}
        if isinstance(said, dict):
            message = {"role": "assistant", "content": "",
                       **_said(said, self._answer_id, 0, indexed=False)}
            num_calls, choice = len(message.get("tool_calls", ())), {"message": message}
        answer = {
            "id": self._answer_id, "object": "chat.completion" if chat else "text_completion",
            "created": self._created_s, "model": self._model,
            "choices": [{"index": 0, **choice, "logprobs": None,
                         "finish_reason": _finish_reason(document, num_calls)}],
            "usage": usage_of(document, self._prompt_tokens, 0)}
        return answer, seconds_of(document).get("load_s")

    def _embeddings(self, document: Mapping[str, Any]) -> dict[str, Any]:
        vectors = document.get("embeddings")
        if not isinstance(vectors, list):
            raise ValueError("an answer of Ollama's without embeddings")
        tokens = _count(document, "prompt_eval_count", self._prompt_tokens)
        return {"object": "list", "model": self._model,
                "data": [{"object": "embedding", "index": i, "embedding": vector}
                         for i, vector in enumerate(vectors)],
                "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}


def seconds_of(document: Mapping[str, Any]) -> dict[str, float]:
    """Return the durations in a last line, converted from Ollama's nanoseconds to seconds."""
    return {ours: value * _NS for theirs, ours in _DURATIONS.items()
            if isinstance(value := document.get(theirs), int) and value >= 0}


def usage_of(document: Mapping[str, Any], prompt_tokens: int, num_lines: int) -> dict[str, Any]:
    """Return OpenAI's usage from a last line, with Ollama's durations."""
    prompt = _count(document, "prompt_eval_count", prompt_tokens)
    output = _count(document, "eval_count", num_lines)
    usage: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": output,
                             "total_tokens": prompt + output}
    cached = _count(document, "prompt_eval_cached_count", -1)
    if cached >= 0:
        usage["prompt_tokens_details"] = {"cached_tokens": cached}
    if seconds := seconds_of(document):
        usage["durations"] = seconds
    return usage


def error_document(document: Mapping[str, Any], status: int) -> dict[str, Any]:
    """Return an error of Ollama in OpenAI's form."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": str(document.get("error") or "no reason was given")[:2000],
                      "type": kind, "param": None, "code": None}}


def _count(document: Mapping[str, Any], name: str, default: int) -> int:
    value = document.get(name)
    return value if isinstance(value, int) and value >= 0 else default


def _finish_reason(document: Mapping[str, Any], num_tool_calls: int) -> str:
    """Return OpenAI's finish reason. A model that was only loaded or unloaded counts as
    ``stop``."""
    if num_tool_calls:
        return "tool_calls"
    reason = document.get("done_reason")
    return "length" if reason == "length" else "stop"


def _said(message: Mapping[str, Any], answer_id: str, first: int, *,
          indexed: bool) -> dict[str, Any]:
    """Return a message in OpenAI's fields; tool calls are numbered from ``first``."""
    found: dict[str, Any] = {}
    if message.get("content"):
        found["content"] = message["content"]
    if message.get("thinking"):
        found["reasoning_content"] = message["thinking"]
    calls = [call.get("function") for call in message.get("tool_calls") or ()
             if isinstance(call, dict)]
    if calls:
        found["tool_calls"] = [
            {**({"index": number} if indexed else {}), "id": f"call_{answer_id}_{number}",
             "type": "function", "function": _function(one)}
            for number, one in enumerate(calls, first)]
    return found


def _function(function: Any) -> dict[str, str]:
    function = function if isinstance(function, dict) else {}
    arguments = function.get("arguments")
    return {"name": str(function.get("name", "")),
            "arguments": arguments if isinstance(arguments, str)
            else orjson.dumps(arguments or {}).decode()}


def _event(document: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(document) + b"\n\n"


def holds_model(document: Any, model: str) -> bool:
    """Whether /api/ps lists the model as loaded. A name without a tag means the tag ``latest``."""
    models = document.get("models") if isinstance(document, dict) else None
    tagged = model if ":" in model else f"{model}:latest"
    return any(isinstance(one, dict) and tagged in (one.get("name"), one.get("model"))
               for one in (models if isinstance(models, list) else ()))
