"""How each kind of engine is spoken to: what is sent where, and how its answer is read."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from penstock.core.slo import ServiceClass

_TARGETS = ("ttft_s", "itl_s", "e2e_s")


@dataclass(frozen=True, slots=True)
class Question:
    """A client's request as an engine is to get it: ``body`` with every field of it.

    ``model`` is what the engine calls the model; ``prompt_tokens`` an estimate, for engines that do
    not count; ``created_s`` the time of day in Unix seconds.
    """

    path: str
    body: Mapping[str, Any]
    model: str
    service_class: ServiceClass
    stream: bool
    answer_id: str
    prompt_tokens: int
    created_s: int


class UnsupportedError(Exception):
    """A request that this kind of engine cannot serve; another kind may."""


class StreamTranslator(Protocol):
    """Makes OpenAI's events of an engine's own stream.

    ``load_s`` is how long the model was loaded for the answer, None where the engine does not tell.
    """

    load_s: float | None

    def feed(self, chunk: bytes) -> bytes:
        """Events of the bytes that came; the beginning of another event is kept."""

    def close(self) -> bytes:
        """Events that end the stream."""


class Dialect(Protocol):
    """One kind of API."""

    def call(self, question: Question) -> tuple[str, dict[str, Any]]:
        """The path and the body to send. Raises UnsupportedError for what it has no words for."""

    def is_busy(self, status: int, retry_after: str | None) -> bool:
        """Whether the engine says that it has no room now, rather than that something is wrong."""

    def stream(self, question: Question) -> StreamTranslator | None:
        """Translator of the engine's stream to OpenAI's events; None where the stream has that
        form."""

    def whole(self, question: Question, document: dict[str, Any],
              status: int) -> tuple[dict[str, Any], float | None] | None:
        """OpenAI's answer in place of the engine's, and how long the model was loaded for it; None
        where the engine's own answer goes on as it came. Raises ValueError."""


class OpenAiDialect:
    """Engines of OpenAI's API: everything goes on as it came, but for the model's name.

    ``tells_class``: the engine's scheduler takes a service class and its targets (``vllm_xargs``).
    """

    def __init__(self, *, tells_class: bool) -> None:
        self._tells_class = tells_class

    def call(self, question: Question) -> tuple[str, dict[str, Any]]:
        body = {**question.body, "model": question.model}
        if self._tells_class:
            extra, slo = body.get("vllm_xargs"), question.service_class.slo
            body["vllm_xargs"] = {
                **(extra if isinstance(extra, dict) else {}),
                "service_class": question.service_class.name,
                **{name: target for name in _TARGETS
                   if (target := getattr(slo, name)) is not None}}
        if question.stream:
            options = body.get("stream_options")
            body["stream_options"] = {**(options if isinstance(options, dict) else {}),
                                      "include_usage": True}
        return question.path, body

    def is_busy(self, status: int, retry_after: str | None) -> bool:
        return status == 429 or (status == 503 and retry_after is not None)

    def stream(self, question: Question) -> None:
        return None

    def whole(self, question: Question, document: dict[str, Any], status: int) -> None:
        return None
