"""Pairs of engines: one computes a request's prompt, another fetches its KV cache and answers.

The messages are those of vLLM's pull connectors (NIXL; vllm 0.32,
``distributed/kv_transfer/kv_connector/v1/nixl``): the first engine answers one token with
``kv_transfer_params``, which the second engine gets unchanged.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import orjson

from penstock.core.errors import InputError
from penstock.core.request import Request
from penstock.engines.client.state import EngineState, InFlight
from penstock.engines.engine import engine_of
from penstock.fleet.values import Fleet
from penstock.policy.route.roles import BOTH, PREFILL, Roles
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

_MOST_BYTES = 1 << 20
KEY = "kv_transfer_params"
PREFILLED = "prefilled for another engine"
_LIMITS = ("max_tokens", "max_completion_tokens")
_ASKED: Mapping[str, Any] = {
    "do_remote_decode": True, "do_remote_prefill": False, "remote_engine_id": None,
    "remote_block_ids": None, "remote_host": None, "remote_port": None}


class Pairing:
    """Which engines may take a request first, and which go on with it.

    ``min_prompt_tokens`` as in ``policy.route.roles``. An engine that takes no requests now has no
    role to play.
    """

    def __init__(self, engines: Sequence[EngineState], calls: EngineCalls, adapters: Adapters,
                 min_prompt_tokens: int) -> None:
        self._adapters = adapters
        self._engines = engines
        self._calls = calls
        self._min_prompt_tokens = min_prompt_tokens

    @property
    def active(self) -> bool:
        """Whether any engine has a role."""
        return any(engine.facts.role != BOTH for engine in self._engines)

    def not_first(self, ask: Ask, tried: Collection[EngineState], now_s: float
                  ) -> list[EngineState]:
        """Return the engines that may not begin a request."""
        able = self._able(ask, tried, now_s)
        first = self._roles().first(ask.prompt_tokens, able)
        return [engine for i, engine in enumerate(self._engines) if i in able and i not in first]

    def not_second(self, ask: Ask, tried: Collection[EngineState], now_s: float
                   ) -> list[EngineState]:
        """Return the engines that may not go on with a prefilled request."""
        second = self._roles().second(self._able(ask, tried, now_s))
        return [engine for i, engine in enumerate(self._engines) if i not in second]

    def splits(self, engine: EngineState, ask: Ask, tried: Collection[EngineState], now_s: float
               ) -> bool:
        """Whether another engine goes on with a request that begins at ``engine``."""
        return engine.facts.role == PREFILL and bool(
            self._roles().second(self._able(ask, tried, now_s)))

    async def prefill(self, exchange: Exchange, request: Request,
                      engine: EngineState) -> dict[str, Any] | None:
        """Let an engine compute the prompt. Returns the fields that the next engine gets, None
        where the engine failed. Raises ServiceError at the request's own deadline."""
        clock, found = self._calls.clock, None
        with Attempt(exchange, engine, InFlight(request.prompt_tokens, 1.0), clock) as attempt:
            async with adapter_held(self._adapters, exchange, engine, clock):
                found = await self._asked(exchange, engine, attempt.trace_headers)
            attempt.outcome = PREFILLED
        return None if found is None else {KEY: found}

    async def _asked(self, exchange: Exchange, engine: EngineState,
                     traced: Mapping[str, str]) -> dict[str, Any]:
        dialect = engine_of(engine.kind).dialect
        question = self._calls.question(exchange, engine)._replace(stream=False)
        path, body = dialect.call(question)
        with self._calls.watch(exchange, engine) as watch:
            try:
                answer = await self._calls.post(exchange, engine, path,
                                                encoded(prefill_body(body)), watch, traced)
                with answer:
                    later = answer.headers.get("Retry-After")
                    if dialect.is_busy(answer.status, later):
                        raise EngineBusyError(f"answered {answer.status}", later)
                    if (failure := unusable(answer)) is not None:
                        raise failure
                    return transfer_params(await _document(answer))
            except EngineFailedError as error:
                if watch.is_late:
                    raise late(exchange.ask) from error
                raise

    def _roles(self) -> Roles:
        return Roles([engine.facts.role for engine in self._engines], self._min_prompt_tokens)

    def _able(self, ask: Ask, tried: Collection[EngineState], now_s: float) -> list[int]:
        return [i for i, engine in enumerate(self._engines) if engine not in tried
                and (ask.models is None or engine.facts.model in ask.models)
                and engine.unavailable(now_s) is None]


def check_roles(fleet: Fleet) -> None:
    """Raise InputError where replicas with a role are not engines that run with a KV connector."""
    for number, group in enumerate(fleet.replicas):
        if group.role == BOTH:
            continue
        if not group.endpoints:
            raise InputError(f"replicas[{number}].role: {group.role}, but penstock serve starts "
                             "engines without a KV connector; expected endpoints of engines that "
                             "run with one (vLLM: --kv-transfer-config)")
        if group.engine not in ("auto", "vllm"):
            raise InputError(f"replicas[{number}].engine: {group.engine}; expected vllm for "
                             f"replicas with role: {group.role}, whose connectors penstock serve "
                             "speaks to")


async def _document(answer: EngineAnswer) -> Any:
    found = bytearray()
    try:
        while chunk := await answer.read():
            found += chunk
            if len(found) > _MOST_BYTES:
                raise EngineFailedError("answered one token with more than a megabyte")
        return orjson.loads(found)
    except (*FAULTS, orjson.JSONDecodeError) as error:
        raise failure_of(error) from error


def prefill_body(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body that asks the first engine for the prompt alone: one token, in one piece."""
    asked = {name: value for name, value in body.items() if name != "stream_options"}
    limits = [name for name in _LIMITS if name in body] or ["max_tokens"]
    return {**asked, **dict.fromkeys(limits, 1), "stream": False, KEY: dict(_ASKED)}


def transfer_params(document: Any) -> dict[str, Any]:
    """Return what the second engine must know, of the first engine's answer. Raises
    EngineFailedError where the engine has no connector."""
    found = document.get(KEY) if isinstance(document, dict) else None
    if not isinstance(found, dict):
        raise EngineFailedError("answered without kv_transfer_params",
                                "answered without kv_transfer_params: it runs without a KV "
                                "connector (vLLM: --kv-transfer-config)")
    return found
