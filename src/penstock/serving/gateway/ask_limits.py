"""The most that the answer to a request can take, as far as the request's body tells."""

from collections.abc import Mapping
from typing import Any, NamedTuple

MOST_ANSWER_BYTES = 256 * 2**20
"""No answer may have more bytes, whatever was asked for."""

MOST_BYTES_PER_TOKEN = 256
"""No tokenizer in use has a longer token."""

SLACK_TOKENS = 16
_SLACK_SHARE = 8
_BASE_BYTES = 2**20           # of a document without any token
_ESCAPED_BYTES = 1024         # a token's longest text as JSON, or the event around a shorter text
_ALTERNATIVE_BYTES = 256      # a token with its probability
_ALTERNATIVES = frozenset({"logprobs", "top_logprobs", "prompt_logprobs"})
_VECTOR_BYTES = 512 * 1024    # an embedding of 16,384 numbers


class StreamLimit(NamedTuple):
    """The most events with text that a stream may have, and the most bytes of text."""

    num_events: int
    num_bytes: int


UNLIMITED = StreamLimit(2**62, 2**62)


def with_slack(tokens: int) -> int:
    """Return the most events that so many tokens may come in: 16 and an eighth more, since an event
    may hold less than a token."""
    return tokens + SLACK_TOKENS + tokens // _SLACK_SHARE


def stream_limit(prompt_tokens: int, output_tokens: int) -> StreamLimit:
    """Return the limit of a stream. An engine may repeat the prompt before its answer."""
    return StreamLimit(with_slack(output_tokens),
                       MOST_BYTES_PER_TOKEN * (prompt_tokens + with_slack(output_tokens)))


def most_answer_bytes(body: Mapping[str, Any], tokens: int, num_vectors: int) -> int:
    """Return the most bytes that an answer can take with so many tokens, those of the prompt
    included, and so many embeddings."""
    alternatives = 1
    for name in _ALTERNATIVES.intersection(body):
        value = body[name]
        if isinstance(value, int):
            if value < 0:  # every token of the vocabulary
                return MOST_ANSWER_BYTES
            alternatives += value
    return min(MOST_ANSWER_BYTES, _BASE_BYTES + num_vectors * _VECTOR_BYTES + with_slack(tokens)
               * (_ESCAPED_BYTES + min(alternatives, MOST_ANSWER_BYTES) * _ALTERNATIVE_BYTES))


def hides_tokens(body: Mapping[str, Any]) -> bool:
    """Whether a request lets the engine count tokens that the answer's text does not show."""
    best_of = body.get("best_of")
    return (body.get("include_reasoning") is False or body.get("detokenize") is False
            or (isinstance(best_of, int) and best_of > 1))

