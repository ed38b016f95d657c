"""Calls of engines over HTTP for one request."""

import asyncio
from collections.abc import Callable, Mapping
from math import inf

import aiohttp

from penstock.core.slo import Slo
from penstock.engines.client.dialects import Question
from penstock.engines.client.state import EngineState
from penstock.engines.engine import engine_of, name_in_requests
from penstock.serving.gateway.engine_http import EngineAnswer, EngineHttp
from penstock.serving.gateway.exchange import FAULTS, Exchange, body_within_budget, failure_of
from penstock.serving.gateway.isolation import PrefixIsolation
from penstock.serving.gateway.limits import Limits
from penstock.serving.gateway.silence import Silence, SilenceWatch, SilenceWatches


class EngineCalls:
    """Makes questions to engines, and sends them."""

    def __init__(self, session: aiohttp.ClientSession, limits: Limits, isolation: PrefixIsolation,
                 clock: Callable[[], float], time_of_day: Callable[[], float],
                 watches: SilenceWatches) -> None:
        self._http = EngineHttp(session, limits.connect_s)
        self._isolation = isolation
        self._time_of_day = time_of_day
        self._longest_s = limits.silence_s
        self._watches = watches
        self.clock = clock

    def question(self, exchange: Exchange, engine: EngineState) -> Question:
        """Return the client's request as the engine gets it."""
        ask = exchange.ask
        return Question(exchange.path, {**body_within_budget(exchange), **exchange.more},
                        name_in_requests(engine, ask.adapter), ask.service_class, ask.stream,
                        exchange.decision.decision_id, ask.prompt_tokens,
                        int(self._time_of_day()), self._isolation.salt(ask),
                        self._isolation.session(ask))

    async def post(self, exchange: Exchange, engine: EngineState, path: str, body: bytes,
                   watch: SilenceWatch, trace_headers: Mapping[str, str]
                   ) -> EngineAnswer:
        """Return an engine's answer once its head is there. Raises EngineFailedError."""
        # How long an engine may take to answer is SilenceWatch's.
        headers = {"X-Request-Id": exchange.decision.decision_id, **trace_headers}
        if exchange.ask.session:
            headers[engine_of(engine.kind).session_header] = self._isolation.session(exchange.ask)
        try:
            return await self._http.post(engine.facts.url, path, headers, body)
        except asyncio.CancelledError:
            if watch.has_cancelled():
                raise failure_of(TimeoutError()) from None
            raise
        except FAULTS as error:
            raise failure_of(error) from error

    def watch(self, exchange: Exchange, engine: EngineState) -> SilenceWatch:
        """Return the watch over one attempt. A model that is loaded first takes its time."""
        ask = exchange.ask
        loads = bool(exchange.more) or engine.kind == "ollama"
        silence = Silence(Slo() if loads else ask.service_class.slo, self._longest_s,
                          stream=ask.stream)
        deadline_s = inf if ask.deadline_s is None else exchange.begun_s + ask.deadline_s
        return SilenceWatch(engine, silence, deadline_s, exchange.passed, self._watches)
