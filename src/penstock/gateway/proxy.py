"""One request from a client to an engine and back, with another try where nothing was sent yet."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

import aiohttp
import orjson
from aiohttp import web

from penstock.core.request import Request
from penstock.engine.live.state import EngineState, InFlight
from penstock.gateway.ask import Ask
from penstock.gateway.choice import Chooser, Decision
from penstock.gateway.errors import GatewayError
from penstock.gateway.metrics import GatewayMetrics
from penstock.gateway.relay import Passed, relayed

DECISION_HEADER = "X-Penstock-Decision"
_FAULTS = (aiohttp.ClientError, TimeoutError, ConnectionError)


@dataclass(frozen=True, slots=True)
class Limits:
    """``max_in_flight`` requests are on engines at once; ``attempts`` engines are tried before the
    first byte; an engine may be silent for ``silence_s``."""

    max_in_flight: int = 4096
    attempts: int = 3
    connect_s: float = 3.0
    silence_s: float = 300.0


class EngineFailedError(Exception):
    """An engine failed before anything was sent to the client."""


class Proxy:
    """Relays requests to engines. One object belongs to one event loop."""

    def __init__(self, chooser: Chooser, session: aiohttp.ClientSession, metrics: GatewayMetrics,
                 limits: Limits, clock: Callable[[], float]) -> None:
        self._chooser = chooser
        self._session = session
        self._metrics = metrics
        self._limits = limits
        self._clock = clock
        self._numbers = count()
        self._num_in_flight = 0
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=limits.connect_s,
                                              sock_read=limits.silence_s)

    async def answer(self, http: web.Request, path: str, ask: Ask,
                     decision_id: str) -> web.StreamResponse:
        """The engine's answer for the client. Raises GatewayError."""
        if self._num_in_flight >= self._limits.max_in_flight:
            raise GatewayError(429, f"{self._num_in_flight} requests are under way, as many as "
                                    "this gateway takes; try again in 1 s", "too_many_requests",
                               headers={"Retry-After": "1"})
        begun_s = self._clock()
        decision = self._chooser.open(decision_id, ask, begun_s)
        passed = Passed()
        outcome = "cancelled"
        self._num_in_flight += 1
        try:
            response = await self._tried(http, path, ask, decision, passed)
            outcome = "finished" if response.status < 400 else "refused"
            return response
        except GatewayError:
            outcome = "failed"
            raise
        finally:
            self._num_in_flight -= 1
            self._settle(ask, decision, passed, outcome, begun_s)

    async def _tried(self, http: web.Request, path: str, ask: Ask, decision: Decision,
                     passed: Passed) -> web.StreamResponse:
        tried: list[EngineState] = []
        number = next(self._numbers)
        while True:
            now_s = self._clock()
            request = Request(number, now_s, ask.prompt_tokens, ask.max_tokens, ask.service_class,
                              ask.model or "")
            if len(tried) == self._limits.attempts:
                faults = "; ".join(f"{a['url']} {a['outcome']}" for a in decision.attempts)
                raise GatewayError(502, f"no engine could answer: {faults}", "engines_failed")
            engine = self._chooser.choose(request, decision, ask, tried, now_s)
            attempt = {"url": engine.facts.url, "at_s": now_s, "outcome": "is under way"}
            decision.attempts.append(attempt)
            in_flight = engine.in_flight[number] = InFlight(ask.prompt_tokens)
            try:
                response = await self._asked(http, path, ask, decision, engine, in_flight, passed)
            except EngineFailedError as error:
                engine.failed(self._clock())
                attempt["outcome"] = str(error)
                self._metrics.retries.labels(engine.facts.url).inc()
                tried.append(engine)
            except asyncio.CancelledError:
                attempt["outcome"] = "the client left"
                raise
            else:
                attempt["outcome"] = f"answered {response.status}"
                return response
            finally:
                del engine.in_flight[number]

    async def _asked(self, http: web.Request, path: str, ask: Ask, decision: Decision,
                     engine: EngineState, in_flight: InFlight,
                     passed: Passed) -> web.StreamResponse:
        body = orjson.dumps(_for_engine(ask, engine.facts.model))
        headers = {"Content-Type": "application/json", "X-Request-Id": decision.decision_id}
        try:
            async with self._session.post(f"{engine.facts.url}{path}", data=body, headers=headers,
                                          timeout=self._timeout) as answer:
                if answer.status >= 500 or answer.status == 429:
                    raise EngineFailedError(f"answered {answer.status}")
                if not ask.stream or answer.status >= 400:
                    whole = await answer.read()
                    engine.succeeded()
                    return self._whole(answer, whole, decision, passed)
                first = await answer.content.readany()
                if not first:
                    raise EngineFailedError("ended its stream before it began")
                return await self._streamed(http, ask, answer, first, decision, engine, in_flight,
                                            passed)
        except _FAULTS as error:
            raise EngineFailedError(f"failed ({type(error).__name__})") from error

    def _whole(self, answer: aiohttp.ClientResponse, whole: bytes, decision: Decision,
               passed: Passed) -> web.Response:
        try:
            usage = orjson.loads(whole).get("usage")
        except (orjson.JSONDecodeError, AttributeError):
            usage = None
        if isinstance(usage, dict):
            passed.usage = usage
        passed.last_token_s = self._clock()
        return web.Response(body=whole, status=answer.status,
                            content_type=answer.content_type,
                            headers={DECISION_HEADER: decision.decision_id})

    async def _streamed(self, http: web.Request, ask: Ask, answer: aiohttp.ClientResponse,
                        first: bytes, decision: Decision, engine: EngineState,
                        in_flight: InFlight, passed: Passed) -> web.StreamResponse:
        response = web.StreamResponse(headers={
            "Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache",
            DECISION_HEADER: decision.decision_id})
        await response.prepare(http)
        try:
            async for part in relayed(_chunks(first, answer), in_flight, passed,
                                      keep_usage=ask.wants_usage, clock=self._clock):
                await response.write(part)
        except _FAULTS as error:
            if http.transport is None or http.transport.is_closing():
                raise asyncio.CancelledError from error
            # Too late for another try: the client must hear that this is not the end it seems.
            engine.failed(self._clock())
            failure = GatewayError(502, "the engine failed in the middle of its answer",
                                   "engine_failed")
            await response.write(b"data: " + orjson.dumps(failure.document()) + b"\n\n")
            passed.finish_reason = "error"
        else:
            engine.succeeded()
        await response.write_eof()
        return response

    def _settle(self, ask: Ask, decision: Decision, passed: Passed, outcome: str,
                begun_s: float) -> None:
        now_s = self._clock()
        usage = passed.usage or {}
        output_tokens = usage.get("completion_tokens", passed.num_tokens)
        if passed.finish_reason == "error":
            outcome = "broken"
        decision.outcome = {
            "outcome": outcome, "e2e_s": now_s - begun_s, "finish_reason": passed.finish_reason,
            "ttft_s": None if passed.first_token_s is None else passed.first_token_s - begun_s,
            "prompt_tokens": usage.get("prompt_tokens"), "output_tokens": output_tokens}
        labels = (ask.model or "", ask.service_class.name)
        metrics = self._metrics
        metrics.requests.labels(*labels, outcome).inc()
        if isinstance(output_tokens, int):
            metrics.output_tokens.labels(*labels).inc(max(0, output_tokens))
        if isinstance(usage.get("prompt_tokens"), int):
            metrics.prompt_tokens.labels(*labels).inc(max(0, usage["prompt_tokens"]))
        if passed.first_token_s is not None:
            metrics.ttft.labels(*labels).observe(passed.first_token_s - begun_s)
        if outcome == "finished":
            metrics.e2e.labels(*labels).observe(now_s - begun_s)


async def _chunks(first: bytes, answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    yield first
    async for chunk in answer.content.iter_any():
        yield chunk


def _for_engine(ask: Ask, model: str) -> dict[str, Any]:
    """The client's body with what the engine's scheduler needs to know; all else as it is."""
    body = {**ask.body, "model": model}
    extra = body.get("vllm_xargs")
    body["vllm_xargs"] = {**(extra if isinstance(extra, dict) else {}),
                          "service_class": ask.service_class.name}
    if ask.stream:
        options = body.get("stream_options")
        body["stream_options"] = {**(options if isinstance(options, dict) else {}),
                                  "include_usage": True}
    return body
