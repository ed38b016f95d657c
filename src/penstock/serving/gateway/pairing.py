"""Pairs of engines: one computes a request's prompt, another fetches its KV cache and answers.

The messages are those of the engines' connectors (``engines/client/connectors.py``).
"""

import hashlib
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import orjson
from aiohttp import web

from penstock.core.errors import InputError
from penstock.core.request import Request
from penstock.engines.client.connectors import KEY_BITS, NIXL, Connector, Meeting
from penstock.engines.client.state import EngineState, InFlight
from penstock.engines.engine import engine_of
from penstock.fleet.disaggregation import least_tokens
from penstock.fleet.values import Fleet
from penstock.policy.route.roles import BOTH, PREFILL, Roles
from penstock.registry.engines import engine_can
from penstock.serving.adapters.adapters import Adapters
from penstock.serving.gateway.adapter_hold import adapter_held
from penstock.serving.gateway.ask import Ask
from penstock.serving.gateway.attempt import Attempt
from penstock.serving.gateway.calls import EngineCalls
from penstock.serving.gateway.engine_http import EngineAnswer
from penstock.serving.gateway.exchange import (
    FAULTS,
    EngineBusyError,
    EngineFailedError,
    Exchange,
    encoded,
    failure_of,
    late,
    unusable,
)
from penstock.serving.gateway.partner import Partner

_MOST_BYTES = 1 << 24  # TensorRT-LLM repeats the tokens of the prompt
PREFILLED = "prefilled for another engine"
LEFT = "was left, as the other engine gave no answer"


class Pairing:
    """Which engines may take a request first, and which go on with it.

    An engine that takes no requests now has no role to play.
    """

    def __init__(self, engines: Sequence[EngineState], calls: EngineCalls, adapters: Adapters
                 ) -> None:
        self._adapters = adapters
        self._engines = engines
        self._calls = calls

    @property
    def active(self) -> bool:
        """Whether any engine has a role."""
        return any(engine.facts.role != BOTH for engine in self._engines)

    def not_first(self, ask: Ask, tried: Collection[EngineState], now_s: float
                  ) -> list[EngineState]:
        """Return the engines that may not begin a request."""
        able = self._able(ask, tried, now_s)
        first = [i for i in self._roles().first(ask.prompt_tokens, able)
                 if self._begins(self._engines[i], able)]
        return [engine for i, engine in enumerate(self._engines) if i in able and i not in first]

    def not_second(self, first: EngineState, ask: Ask, tried: Collection[EngineState],
                   now_s: float) -> list[EngineState]:
        """Return the engines that may not go on with a request that begins at ``first``."""
        second = self._second(first, self._able(ask, tried, now_s))
        return [engine for i, engine in enumerate(self._engines) if i not in second]

    def splits(self, engine: EngineState, ask: Ask, tried: Collection[EngineState], now_s: float
               ) -> bool:
        """Whether another engine goes on with a request that begins at ``engine``."""
        return engine.facts.role == PREFILL and bool(
            self._second(engine, self._able(ask, tried, now_s)))

    def partner(self, exchange: Exchange, first: EngineState) -> Partner | None:
        """Return ``first`` as the partner of the engine that answers, None where that engine is
        asked afterwards."""
        if not _connector(first).together:
            return None
        meeting = _meeting(exchange, first)
        return Partner(first, meeting, _connector(first).second(meeting, None))

    async def prefill(self, exchange: Exchange, request: Request,
                      engine: EngineState) -> Mapping[str, Any] | None:
        """Let an engine compute the prompt. Returns the fields that the next engine gets, None
        where the engine failed. Raises ServiceError at the request's own deadline."""
        clock, found, meeting = self._calls.clock, None, _meeting(exchange, engine)
        with Attempt(exchange, engine, InFlight(request.prompt_tokens, 1.0), clock) as attempt:
            async with adapter_held(self._adapters, exchange, engine, clock):
                answer = await self._asked(exchange, engine, meeting, attempt.trace_headers)
            try:
                found = _connector(engine).second(meeting, answer)
            except ValueError as error:
                raise EngineFailedError(str(error).partition(":")[0], str(error)) from error
            attempt.outcome = PREFILLED
        return found

    async def together(self, exchange: Exchange, request: Request, partner: Partner,
                       answer: Callable[[], Awaitable[web.StreamResponse | None]]
                       ) -> web.StreamResponse | None:
        """Let the ``partner`` compute the prompt while another engine's ``answer`` is awaited.
        Returns that answer. Raises ServiceError at the request's own deadline."""
        clock, engine, response = self._calls.clock, partner.engine, None
        with Attempt(exchange, engine, InFlight(request.prompt_tokens, 1.0), clock) as attempt:
            async with adapter_held(self._adapters, exchange, engine, clock):
                partner.begin(self._asked(exchange, engine, partner.meeting,
                                          attempt.trace_headers))
                try:
                    response = await answer()
                finally:
                    await partner.leave()
            if partner.failure is not None:
                raise partner.failure
            attempt.outcome = PREFILLED if response is not None or partner.is_done else LEFT
        return response

    async def _asked(self, exchange: Exchange, engine: EngineState, meeting: Meeting,
                     traced: Mapping[str, str]) -> Any:
        """Return the document with which an engine answers that has computed the prompt."""
        dialect = engine_of(engine.kind).dialect
        question = self._calls.question(exchange, engine)._replace(stream=False)
        path, body = dialect.call(question)
        with self._calls.watch(exchange, engine) as watch:
            try:
                answer = await self._calls.post(
                    exchange, engine, path, encoded(_connector(engine).first(body, meeting)),
                    watch, traced)
                with answer:
                    later = answer.headers.get("Retry-After")
                    if dialect.is_busy(answer.status, later):
                        raise EngineBusyError(f"answered {answer.status}", later)
                    if (failure := unusable(answer)) is not None:
                        raise failure
                    return await _document(answer)
            except EngineFailedError as error:
                if watch.is_late:
                    raise late(exchange.ask) from error
                raise

    def _begins(self, engine: EngineState, able: list[int]) -> bool:
        """Whether an engine has what it needs to begin a request: some need a second one."""
        role = engine.facts.role
        return role == BOTH or not _connector(engine).needs_both or (
            role == PREFILL and bool(self._second(engine, able)))

    def _second(self, first: EngineState, able: list[int]) -> list[int]:
        """Return the engines that can fetch a KV cache from ``first``: of the same software and
        model."""
        return [i for i in self._roles().second(able)
                if self._engines[i].facts.model == first.facts.model
                and _connector(self._engines[i]) is _connector(first)]

    def _roles(self) -> Roles:
        return Roles([engine.facts.role for engine in self._engines],
                     [engine.facts.min_prompt_tokens for engine in self._engines])

    def _able(self, ask: Ask, tried: Collection[EngineState], now_s: float) -> list[int]:
        return [i for i, engine in enumerate(self._engines) if engine not in tried
                and (ask.models is None or engine.facts.model in ask.models)
                and engine.unavailable(now_s) is None]


def _connector(engine: EngineState) -> Connector:
    return engine_of(engine.kind).connector or NIXL  # which says what is missing


def _meeting(exchange: Exchange, first: EngineState) -> Meeting:
    """Return where the engines meet in this attempt, by a number that no other attempt has."""
    decision = exchange.decision
    name = f"{decision.decision_id}/{len(decision.attempts)}"
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return Meeting(int.from_bytes(digest) >> (64 - KEY_BITS),
                   urlsplit(first.facts.url).hostname or "", first.facts.bootstrap_port)


def check_roles(fleet: Fleet) -> None:
    """Raise InputError where replicas with a role are not engines that run with a KV connector, or
    where their connector cannot do what the file asks for."""
    for number, group in enumerate(fleet.replicas):
        if group.role == BOTH:
            continue
        place = f"replicas[{number}]"
        connector = engine_of(group.engine).connector if engine_can(group.engine, "serve") else None
        if connector is None:
            raise InputError(f"{place}.engine: {group.engine}; expected vllm, sglang or "
                             f"tensorrt-llm for replicas with role: {group.role}, whose connectors "
                             "penstock serve speaks to")
        if not group.endpoints and group.engine != "vllm":
            raise InputError(f"{place}.role: {group.role}, but penstock serve starts no "
                             f"{group.engine} with a KV connector; expected engine: vllm, or "
                             "endpoints of engines that run with one")
        options = fleet.disaggregation
        if not group.endpoints and options is not None and options.connector not in (None, "nixl"):
            raise InputError(f"disaggregation.connector: {options.connector}, but penstock serve "
                             f"starts the engines of {place} (vllm) with nixl; expected nixl")
        least = least_tokens(fleet, group)
        if connector.needs_both and least and not any(
                one.role == BOTH and one.model.name == group.model.name for one in fleet.replicas):
            stated = "disaggregation" if group.min_prompt_tokens is None else place
            raise InputError(f"{stated}.min_prompt_tokens: {least}, but the engines of {place} "
                             f"({group.engine}) cannot serve whole requests while they have a "
                             "role; expected 0, or replicas with role: both beside them")


async def _document(answer: EngineAnswer) -> Any:
    found = bytearray()
    try:
        while chunk := await answer.read():
            found += chunk
            if len(found) > _MOST_BYTES:
                raise EngineFailedError("answered a prompt alone with more than 16 MiB")
        return orjson.loads(found)
    except (*FAULTS, orjson.JSONDecodeError) as error:
        raise failure_of(error) from error
