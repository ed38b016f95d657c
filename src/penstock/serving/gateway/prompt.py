"""The prompt of a request, as far as the gateway reads it."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

Part = str | list[Any]
"""A text, or a list of token ids."""

_BYTES_PER_TOKEN = 4
_TEXT_KINDS = frozenset({"text", "input_text", "output_text", "refusal", "thinking", "reasoning"})
_TEXT_FIELDS = frozenset({"type", "text", "content", "refusal", "thinking", "reasoning", "name",
                          "id", "index", "signature", "annotations", "cache_control"})
_MEDIA = frozenset({"images", "audio", "videos", "image", "video"})


class Prompt(NamedTuple):
    """The parts of a prompt in order. ``is_unbounded`` says whether the prompt may have more tokens
    than the request has bytes: it names images or audio, or brings a chat template."""

    parts: tuple[Part, ...]
    is_unbounded: bool


def read_prompt(body: Mapping[str, Any]) -> Prompt:
    """Return the prompt of a request's ``prompt``, ``input`` and ``messages``. An engine reads only
    those of its path."""
    parts: list[Part] = []
    is_unbounded = _brings_template(body)
    waiting = [body.get("messages"), body.get("input"), body.get("prompt")]
    while waiting:  # no recursion: the client decides how deeply a body is nested
        value = waiting.pop()
        if isinstance(value, str):
            parts.append(value)
        elif isinstance(value, dict):
            is_unbounded = is_unbounded or _is_media(value)
            text, content = value.get("text"), value.get("content")
            if text is not None:
                waiting.append(text)
            if content is not None:
                waiting.append(content)
        elif isinstance(value, list):
            if value and isinstance(value[0], int):
                parts.append(value)
                # No engine takes token ids mixed with messages.
                is_unbounded = is_unbounded or not all(isinstance(one, int) for one in value)
            else:
                waiting += reversed(value)
    return Prompt(tuple(parts), is_unbounded)


def estimated_tokens(parts: Iterable[Part]) -> int:
    """Return the tokens of a prompt, at least 1: exact for token ids, a quarter of the bytes of a
    text."""
    num_bytes = num_tokens = 0
    for part in parts:
        if isinstance(part, str):
            num_bytes += len(part) if part.isascii() else len(part.encode())
        else:
            num_tokens += len(part)
    return max(1, num_tokens - (-num_bytes // _BYTES_PER_TOKEN))


def _is_media(part: Mapping[str, Any]) -> bool:
    """Whether a message or a part of a message holds anything beside text."""
    if "role" in part:
        return not _MEDIA.isdisjoint(part) and any(part.get(name) for name in _MEDIA)
    if not part.keys() <= _TEXT_FIELDS:  # engines find an image by its field, whatever the type
        return True
    kind = part.get("type")
    if kind is None:
        return not ("text" in part or "content" in part)
    return not isinstance(kind, str) or kind not in _TEXT_KINDS


def _brings_template(body: Mapping[str, Any]) -> bool:
    variables = body.get("chat_template_kwargs")
    return body.get("chat_template") is not None or (
        isinstance(variables, dict) and variables.get("chat_template") is not None)
