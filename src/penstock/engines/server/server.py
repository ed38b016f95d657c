"""The HTTP side of an engine that Penstock drives: OpenAI's API and vLLM's /metrics (aiohttp)."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import count
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol
from uuid import uuid4

from aiohttp import web

from penstock.core.errors import nearest
from penstock.core.request import Request
from penstock.core.slo import ServiceClass
from penstock.engines.engine import SESSION_HEADER
from penstock.engines.http import METRICS_HEADERS, json_errors, json_response
from penstock.engines.http_body import read_body
from penstock.engines.server.ask import Ask, read_chat, read_completion
from penstock.engines.server.errors import ApiError
from penstock.engines.server.frames import DONE, Frames, frame
from penstock.engines.server.loras import Loras
from penstock.engines.server.metrics import EngineMetrics
from penstock.engines.server.stream import RefusedError, Token, TokenStream

MAX_BODY_BYTES = 16 * 2**20
_MOST_SESSION = 200  # characters
_JSON = "application/json"
NOTHING_MORE: Mapping[str, Any] = MappingProxyType({})


class Prompt(NamedTuple):
    """A prompt as the engine reads it. ``hash_block_tokens`` is 0 where no prefixes are cached."""

    num_tokens: int
    token_ids: tuple[int, ...] = ()
    prefix_hashes: tuple[int, ...] = ()
    hash_block_tokens: int = 0


class Answer(NamedTuple):
    """An answer in progress: its stream of tokens, the text of each, and more fields of an answer
    in one piece."""

    tokens: TokenStream
    text: Callable[[Token], str]
    more: Mapping[str, Any] = NOTHING_MORE


class Backend(Protocol):
    """The engine behind a server."""

    def read(self, ask: Ask) -> Prompt:
        """Tokenize the prompt of a request. Raises ApiError for an invalid prompt."""

    async def begin(self, ask: Ask, prompt: Prompt, request: Request) -> Answer:
        """Submit the request; the engine sets its ``arrival_s``. Raises RefusedError."""

    def cancel(self, request_id: int) -> None:
        """Cancel a request. Does nothing if it has already ended."""


@dataclass(frozen=True, slots=True)
class Service:
    """Models and classes that a server offers.

    ``classes`` are those that a request may name; ``default_class`` is for requests that name none.
    """

    model: str
    context_tokens: int
    classes: tuple[ServiceClass, ...]
    default_class: ServiceClass
    version: str

    def service_class(self, ask: Ask) -> ServiceClass:
        """Return the class of a request: by name, else by priority, else the default. Raises
        ApiError."""
        if ask.service_class is not None:
            known = {one.name: one for one in self.classes}
            if ask.service_class not in known:
                name = ask.service_class[:60]
                raise ApiError(400, f"no service class {name!r}{nearest(name, known)}",
                               "vllm_xargs.service_class")
            return known[ask.service_class]
        return next((one for one in self.classes if one.priority == ask.priority),
                    self.default_class)


class EngineServer:
    """The HTTP server of one engine. ``draining`` rejects new requests. ``loras`` are its adapters,
    None where it takes none."""

    def __init__(self, engine: Backend, service: Service, metrics: EngineMetrics,
                 on_bug: Callable[[str], None], loras: Loras | None = None) -> None:
        self.draining = False
        self._loras = loras
        self._engine = engine
        self._service = service
        self._metrics = metrics
        self._on_bug = on_bug
        self._ids = count()
        self._started = int(time.time())

    def app(self, max_body_bytes: int = MAX_BODY_BYTES) -> web.Application:
        """Return the application. Its runner must cancel handlers whose client has disconnected."""
        app = web.Application(client_max_size=max_body_bytes,
                              middlewares=[json_errors(
                                  lambda _, status, message: ApiError(status, message),
                                  self._on_bug)])
        app.router.add_post("/v1/completions", self._completions)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/tokenize", self._tokenize)
        if self._loras is not None:
            app.router.add_routes(self._loras.routes())
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/health", self._health)
        app.router.add_get("/version", self._version)
        app.router.add_get("/metrics", self._text)
        return app

    # -- health, models, metrics ----------------------------------------------------------------

    async def _models(self, _: web.Request) -> web.Response:
        card = {"id": self._service.model, "object": "model", "created": self._started,
                "owned_by": "penstock", "root": self._service.model, "parent": None,
                "max_model_len": self._service.context_tokens}
        adapters = {} if self._loras is None else self._loras.paths()
        return json_response({"object": "list", "data": [card, *(
            {**card, "id": name, "root": path, "parent": card["id"]}
            for name, path in adapters.items())]})

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response(status=503 if self.draining else 200)

    async def _version(self, _: web.Request) -> web.Response:
        return json_response({"version": self._service.version})

    async def _text(self, _: web.Request) -> web.Response:
        return web.Response(body=self._metrics.text(), headers=METRICS_HEADERS)

    async def _tokenize(self, request: web.Request) -> web.Response:
        """Return a prompt's tokens, as vLLM's /tokenize does."""
        body = await read_body(request)
        ask = read_chat(body) if b'"messages"' in body else read_completion(body)
        tokens = self._engine.read(ask).token_ids or ask.tokens()
        return json_response({"count": len(tokens), "max_model_len": self._service.context_tokens,
                              "tokens": tokens})

    # -- completions ----------------------------------------------------------------------------

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, read_completion(await read_body(request)), chat=False)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, read_chat(await read_body(request)), chat=True)

    async def _answer(self, http: web.Request, ask: Ask, *, chat: bool) -> web.StreamResponse:
        name = self._service.model
        if self._loras is not None and ask.model in self._loras:
            name = str(ask.model)
            ask = replace(ask, adapter=name)
        prompt = self._engine.read(ask)
        request = self._request(ask, prompt)._replace(
            session=http.headers.get(SESSION_HEADER, "")[:_MOST_SESSION])
        answer_id = http.headers.get("X-Request-Id", "")[:128] or uuid4().hex
        frames = Frames(ask, chat, answer_id, name, int(time.time()), prompt.num_tokens)
        try:
            answer = await self._engine.begin(ask, prompt, request)
        except RefusedError as error:
            raise _refusal(error) from None
        try:
            if ask.stream:
                return await self._stream(http, answer, frames)
            return await self._whole(answer, frames)
        finally:
            self._engine.cancel(request.request_id)  # does nothing for an ended request

    def _request(self, ask: Ask, prompt: Prompt) -> Request:
        service = self._service
        if self.draining:
            raise ApiError(503, "the engine is shutting down")
        if not ask.adapter and ask.model not in (None, service.model):
            raise ApiError(404, f"no model {str(ask.model)[:80]!r}; this engine serves "
                                f"{service.model!r}", "model")
        room = service.context_tokens - prompt.num_tokens
        if room < 1:
            raise ApiError(400, f"the prompt has {prompt.num_tokens:,} tokens, which leaves no "
                                f"room in the context of {service.context_tokens:,}", "prompt")
        if ask.max_tokens is not None and ask.max_tokens > room:
            raise ApiError(400, f"{prompt.num_tokens:,} prompt tokens and {ask.max_tokens:,} "
                                f"output tokens exceed the context of {service.context_tokens:,}",
                           "max_tokens")
        return Request(next(self._ids), 0.0, prompt.num_tokens, ask.max_tokens or room,
                       service.service_class(ask), service.model,
                       prefix_hashes=prompt.prefix_hashes,
                       hash_block_tokens=prompt.hash_block_tokens, adapter=ask.adapter)

    async def _whole(self, answer: Answer, frames: Frames) -> web.Response:
        text, reason, num = [], "", 0
        try:
            async for token in answer.tokens:
                text.append(answer.text(token))
                num, reason = token.number + 1, token.finish_reason or ""
        except RefusedError as error:
            raise _refusal(error) from None
        return web.Response(body=frames.whole("".join(text), num, reason, answer.more),
                            content_type=_JSON)

    async def _stream(self, http: web.Request, answer: Answer,
                      frames: Frames) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8",
                                               "Cache-Control": "no-cache"})
        await response.prepare(http)
        before, finished = frames.first(), False
        while not finished:
            try:
                some = await answer.tokens.some()
            except RefusedError as error:
                await response.write(frame(_refusal(error).document()) + DONE)
                break
            parts = [frames.token(token.number, answer.text(token), token.finish_reason)
                     for token in some]
            finished = some[-1].finish_reason is not None
            if finished:
                parts.append(frames.last(some[-1].number + 1))
            await response.write(before + b"".join(parts))
            before = b""
        await response.write_eof()
        return response


def _refusal(error: RefusedError) -> ApiError:
    return ApiError(400 if error.final else 503, str(error))
