"""Dialects of engines: how requests are sent and how answers are read."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from penstock.core.slo import ServiceClass

_TARGETS = ("ttft_s", "itl_s", "e2e_s")


class Question(NamedTuple):
    """A client's request for an engine, with its complete ``body``.

    ``model`` is the engine's name of the model, ``prompt_tokens`` an estimate for engines that do
    not count, ``created_s`` the time of day in Unix seconds. ``cache_salt`` keeps the prompt apart
    from those of other tenants, in engines that can. ``session`` is the same text for all requests
    of a session, empty without one.
    """

    path: str
    body: Mapping[str, Any]
    model: str
    service_class: ServiceClass
    stream: bool
    answer_id: str
    prompt_tokens: int
    created_s: int
    cache_salt: str | None = None
    session: str = ""


class UnsupportedError(Exception):
    """Error: this kind of engine cannot serve the request; another kind may."""


class StreamTranslator(Protocol):
    """Translates an engine's own stream to OpenAI's events.

    ``load_s`` is the time to load the model for this answer, None where the engine does not report
    it.
    """

    load_s: float | None

    def feed(self, chunk: bytes) -> bytes:
        """Return the events that these bytes complete. An incomplete event is kept."""

    def close(self) -> bytes:
        """Return the events that end the stream."""


class Dialect(Protocol):
    """One kind of API."""

    def call(self, question: Question) -> tuple[str, dict[str, Any]]:
        """Return the path and the body to send. Raises UnsupportedError for a request that the API
        cannot express."""

    def is_busy(self, status: int, retry_after: str | None) -> bool:
        """Whether the status means that the engine has no room now, rather than a failure."""

    def stream(self, question: Question) -> StreamTranslator | None:
        """Return a translator of the engine's stream to OpenAI's events, None where the stream has
        that form."""

    def whole(self, question: Question, document: dict[str, Any],
              status: int) -> tuple[dict[str, Any], float | None] | None:
        """Translate an answer in one piece to OpenAI's form, with the time to load the model for
        it. Returns None where the engine's answer is passed on unchanged. Raises ValueError."""


class OpenAiDialect:
    """Engines with OpenAI's API: everything is passed on unchanged, except the model's name.

    ``tells_class``: the engine's scheduler takes a service class, its targets and the session
    (``vllm_xargs``).
    ``salts_cache``: only requests with the same ``cache_salt`` share the engine's cached prefixes.
    ``leaves_out``: a field by which a client could ask for another adapter than its model's name.
    """

    def __init__(self, *, tells_class: bool, salts_cache: bool = False,
                 leaves_out: str = "") -> None:
        self._tells_class = tells_class
        self.salts_cache = salts_cache
        self._leaves_out = leaves_out

    def call(self, question: Question) -> tuple[str, dict[str, Any]]:
        body = {**question.body, "model": question.model}
        body.pop(self._leaves_out, None)
        if self._tells_class:
            extra, slo = body.get("vllm_xargs"), question.service_class.slo
            body["vllm_xargs"] = {
                **(extra if isinstance(extra, dict) else {}),
                "service_class": question.service_class.name,
                **({"session": question.session} if question.session else {}),
                **{name: target for name in _TARGETS
                   if (target := getattr(slo, name)) is not None}}
        if self.salts_cache and question.cache_salt is not None:
            body["cache_salt"] = question.cache_salt
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
