"""Requests to an engine: the bodies of /v1/completions and /v1/chat/completions.

Other fields are ignored, whatever their value, as vLLM ignores unknown fields.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from struct import unpack
from typing import Any

import orjson

from penstock.core.units import ceil_div
from penstock.engines.http_body import read_json
from penstock.engines.server.errors import ApiError

BYTES_PER_TOKEN = 4
"""UTF-8 bytes for each token of a text prompt."""
_DEFAULT_COMPLETION_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Ask:
    """A valid request. ``prompt`` has four bytes per token, also for token ids.

    ``max_tokens`` is None where only the context limits the answer. ``service_class`` and
    ``priority`` are those of the body, if stated. ``token_ids`` is a prompt given as token ids,
    ``messages`` (role, text) a conversation, ``said`` all of ``vllm_xargs``. ``temperature`` and
    ``seed`` are the body's values, not validated. Prompts of another ``cache_salt``, or for another
    ``adapter``, share no cached prefix. ``kv_transfer`` is the body's ``kv_transfer_params``.
    """

    model: str | None
    prompt: bytes
    max_tokens: int | None
    ignore_eos: bool = False
    stream: bool = False
    include_usage: bool = False
    continuous_usage: bool = False
    service_class: str | None = None
    priority: int | None = None
    temperature: Any = None
    seed: Any = None
    token_ids: tuple[int, ...] | None = None
    messages: tuple[tuple[str, str], ...] = ()
    said: Mapping[str, Any] = field(default_factory=dict)
    cache_salt: str = ""
    kv_transfer: Mapping[str, Any] = field(default_factory=dict)
    adapter: str = ""

    @property
    def prompt_tokens(self) -> int:
        """Number of prompt tokens, at least 1."""
        return max(1, ceil_div(len(self.prompt), BYTES_PER_TOKEN))

    def tokens(self) -> tuple[int, ...]:
        """Return made-up ids of the prompt's tokens: the ids that the prompt has, else numbers of
        four bytes of the text each, the last ones without what is missing to four."""
        if self.token_ids is not None:
            return self.token_ids
        num = self.prompt_tokens
        return unpack(f">{num}I", self.prompt.ljust(num * BYTES_PER_TOKEN, b"\0"))

    def prefix_hashes(self, block_tokens: int) -> tuple[int, ...]:
        """Return chained hashes of the prompt's full blocks. Equal hashes mean equal prefixes."""
        size = block_tokens * BYTES_PER_TOKEN
        salt = f"{self.adapter}\0{self.cache_salt}" if self.adapter else self.cache_salt
        hashes, last = [], salt.encode(errors="replace")
        for start in range(0, len(self.prompt) - size + 1, size):
            last = blake2b(last + self.prompt[start:start + size], digest_size=8).digest()
            hashes.append(int.from_bytes(last, "big") >> 1)  # journals keep 63 bits and a sign
        return tuple(hashes)


def read_completion(body: bytes) -> Ask:
    """Parse a body of /v1/completions. Raises ApiError."""
    document = _document(body)
    prompt, token_ids = _prompt(document)
    ask = _ask(document, prompt, _count(document, "max_tokens") or _DEFAULT_COMPLETION_TOKENS)
    return replace(ask, token_ids=token_ids)


def read_chat(body: bytes) -> Ask:
    """Parse a body of /v1/chat/completions. Raises ApiError."""
    document = _document(body)
    limit = _count(document, "max_completion_tokens") or _count(document, "max_tokens")
    messages = _conversation(document)
    ask = _ask(document, b"\n".join([_utf8(text, "messages") for _, text in messages]), limit)
    return replace(ask, messages=messages)


def _document(body: bytes) -> Mapping[str, Any]:
    try:
        document = read_json(body)
    except orjson.JSONDecodeError as error:
        raise ApiError(400, f"the body is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise ApiError(400, "the body is not a JSON object")
    return document


def _ask(document: Mapping[str, Any], prompt: bytes, max_tokens: int | None) -> Ask:
    if document.get("n") not in (None, 1):
        raise ApiError(400, "n must be 1: this engine gives one answer", "n")
    options = _object(document, "stream_options")
    extra = _object(document, "vllm_xargs")
    return Ask(
        _text(document, "model"), prompt, max_tokens, _flag(document, "ignore_eos"),
        _flag(document, "stream"), _flag(options, "include_usage"),
        _flag(options, "continuous_usage_stats"), _text(extra, "service_class"),
        _whole(document, "priority"), document.get("temperature"), document.get("seed"),
        said=extra, cache_salt=_text(document, "cache_salt") or "",
        kv_transfer=_object(document, "kv_transfer_params"))


def _prompt(document: Mapping[str, Any]) -> tuple[bytes, tuple[int, ...] | None]:
    prompt = document.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1 and not isinstance(prompt[0], int):
        prompt = prompt[0]  # a batch of one
    if isinstance(prompt, str):
        return _utf8(prompt, "prompt"), None
    if isinstance(prompt, list) and prompt and all(type(token) is int for token in prompt):
        if not all(0 <= token < 1 << 32 for token in prompt):
            raise ApiError(400, "prompt has a token id that no vocabulary has", "prompt")
        return b"".join(token.to_bytes(BYTES_PER_TOKEN, "big") for token in prompt), tuple(prompt)
    raise ApiError(400, "prompt must be one text (a string, or a list of one) or a list of token "
                        "ids", "prompt")


def _conversation(document: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    messages = document.get("messages")
    if not isinstance(messages, list) or not messages:
        raise ApiError(400, "messages must be a list of at least one message", "messages")
    texts = [_content(message) for message in messages]
    return tuple((message["role"], text) for message, text in zip(messages, texts, strict=True))


def _content(message: Any) -> str:
    """Return the text of a message. Other parts, such as images, are ignored."""
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise ApiError(400, "every message must be an object with a role", "messages")
    content = message.get("content")
    if content is None:  # a message that only calls tools
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(isinstance(part, dict) for part in content):
        texts = [part.get("text", "") for part in content if part.get("type") == "text"]
        if all(isinstance(text, str) for text in texts):
            return "".join(texts)
    raise ApiError(400, "the content of a message must be a string or a list of parts", "messages")


def _utf8(text: str, param: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise ApiError(400, f"{param} holds half of a surrogate pair", param) from None


def _object(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = document.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ApiError(400, f"{name} must be an object", name)
    return value


def _flag(document: Mapping[str, Any], name: str) -> bool:
    value = document.get(name)
    if value is None or isinstance(value, bool):
        return bool(value)
    raise ApiError(400, f"{name} must be true or false", name)


def _text(document: Mapping[str, Any], name: str) -> str | None:
    value = document.get(name)
    if value is None or isinstance(value, str):
        return value
    raise ApiError(400, f"{name} must be a string", name)


def _whole(document: Mapping[str, Any], name: str) -> int | None:
    value = document.get(name)
    if value is None or type(value) is int:
        return value
    raise ApiError(400, f"{name} must be a whole number", name)


def _count(document: Mapping[str, Any], name: str) -> int | None:
    value = _whole(document, name)
    if value is not None and value < 1:
        raise ApiError(400, f"{name} is {value}; it must be at least 1", name)
    return value
