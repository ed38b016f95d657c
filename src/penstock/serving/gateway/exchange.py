"""One accepted request from the decision to the answer, and its failures."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson
from aiohttp import web

from penstock.core.request import Request
from penstock.engines.client.dialects import UnsupportedError
from penstock.engines.client.state import EngineState
from penstock.serving.adapters.shelf import unavailable
from penstock.serving.errors import ServiceError
from penstock.serving.gateway.ask import Ask
from penstock.serving.gateway.choice import Decision
from penstock.serving.gateway.engine_http import EngineAnswer
from penstock.serving.gateway.partner import Partner
from penstock.serving.gateway.relay import RelayedStream
from penstock.serving.gateway.tally import Pace
from penstock.serving.gateway.traces import Trace
from penstock.serving.tenants.lease import Charge, Lease

FAULTS = (aiohttp.ClientError, TimeoutError, ConnectionError)
"""Exceptions that the HTTP client raises for a faulty engine."""


KNOWN_ENDS = frozenset({"stop", "length", "tool_calls", "function_call", "content_filter", "abort",
                        "error", "load", "unload", "eos_token", "stop_sequence"})
"""Reasons of engines to end an answer that decisions and traces show."""


class EngineFailedError(Exception):
    """An engine failed before anything was sent to the client. ``said`` are the engine's own words,
    which may repeat the prompt: they are for the client, and not for decisions, logs and traces."""

    def __init__(self, message: str, said: str = "") -> None:
        super().__init__(message)
        self.said = said


class PartnerFailedError(EngineFailedError):
    """The engine that was to compute the prompt failed, so that this one waited in vain."""

    def __init__(self) -> None:
        super().__init__("got no KV cache from the engine that was to compute the prompt")


class EngineBusyError(Exception):
    """An engine has no room now. ``retry_after`` is the engine's own header."""

    def __init__(self, message: str, retry_after: str | None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ClientDisconnectedError(Exception):
    """The client has disconnected."""


@dataclass(slots=True)
class Exchange:
    """One accepted request: its body, tenant, routing decision and relayed answer.

    ``request`` is the routers' view of it, ``engine`` the last engine that was tried. The fields of
    ``more`` replace those of the body. ``faults`` of engines are for the client alone. ``ending``
    is the outcome with what a trace tells of it, None until the request is settled.
    ``adapter_after_s`` is there once an engine could not load the adapter, and the time after which
    it may. ``asked_again`` are the engines that had lost it. ``partner`` computes the prompt while
    another engine answers, None where one engine is asked at a time.
    """

    http: web.Request
    path: str
    lease: Lease
    ask: Ask
    decision: Decision
    number: int
    begun_s: float
    passed: RelayedStream
    pace: Pace
    trace: Trace
    request: Request | None = None
    engine: EngineState | None = None
    asked_s: float = 0.0
    retry_after: str | None = None
    unsupported: str | None = None
    adapter_after_s: float | None = None
    lost_adapter: bool = False
    asked_again: list[EngineState] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    more: Mapping[str, Any] = field(default_factory=dict)
    partner: Partner | None = None
    ending: tuple[str, dict[str, Any]] | None = None

    def charge(self) -> Charge:
        """Charge the part of the answer that was relayed; once, however often this is called."""
        lease, passed = self.lease, self.passed
        return lease.charge or lease.settle(*passed.delivered, passed.relayed)

    def answering(self, model: str) -> str:
        """Return the name to charge where an engine of a model answers."""
        return model if self.ask.adapter is None else self.ask.adapter.name

    def failed(self, engine: EngineState, error: Exception) -> str:
        """Forget a relayed part of which nothing has reached the client, and keep the fault for the
        client. Return the fault for decisions, without words of the engine or the client."""
        said = error.said if isinstance(error, EngineFailedError) else ""
        self.faults.append(f"{engine.facts.name} {said or error}")
        if engine is self.engine:  # a partner relays nothing
            self.passed = RelayedStream()
            self.pace = Pace(self.ask.service_class.slo, self.begun_s)
        return "lacks a field" if isinstance(error, UnsupportedError) else str(error)


def failure_of(error: Exception) -> EngineFailedError:
    """Return the failure of an engine that an exception shows."""
    if isinstance(error, EngineFailedError):
        return error
    if isinstance(error, TimeoutError):
        return EngineFailedError("was silent for too long")
    if isinstance(error, ValueError | TypeError | AttributeError) and not isinstance(
            error, aiohttp.ClientError):
        return EngineFailedError("answered with something other than an event stream")
    return EngineFailedError(f"failed ({type(error).__name__})")


def late(ask: Ask) -> ServiceError:
    """Return the error for the client of a request whose answer did not begin by its deadline."""
    return ServiceError(429, f"no token of an answer came within {ask.deadline_s:g} s, its "
                             "deadline", "deadline")


def given_up(exchange: Exchange) -> ServiceError:
    """Return the error for the client when no engine is left to try."""
    faults = "; ".join(exchange.faults)
    if exchange.adapter_after_s is not None:
        return unavailable(exchange.faults, exchange.adapter_after_s)
    if exchange.retry_after is not None:
        return ServiceError(429, f"the engines have no room: {faults}", "engines_busy",
                            headers={"Retry-After": exchange.retry_after})
    if exchange.unsupported is not None:
        return ServiceError(400, f"no engine can serve this: {faults}", "unsupported")
    return ServiceError(502, f"no engine could answer: {faults}", "engines_failed")


def unusable(answer: EngineAnswer) -> EngineFailedError | None:
    """Return the fault of an answer that no client may see, None for a usable answer.

    A redirect would carry the prompt to a server that is not in the fleet. The gateway never asks
    for a packed answer, and a packed one may unpack to any size.
    """
    if answer.status >= 500 or 300 <= answer.status < 400:
        return EngineFailedError(f"answered {answer.status}")
    packing = answer.headers.get("Content-Encoding", "identity")
    return None if packing == "identity" else EngineFailedError(
        "packed its answer unasked", f"packed its answer ({packing[:20]!r}) unasked")


def encoded(body: dict[str, Any]) -> bytes:
    """Return the body of a request to an engine. Raises ServiceError."""
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError as error:  # orjson reads deeper nesting than it writes
        raise ServiceError(400, "the body is nested too deeply", "invalid_json") from error


def body_within_budget(exchange: Exchange) -> dict[str, Any]:
    """Return the client's body, with the token limit lowered to what its own budget pays for."""
    body, most = exchange.ask.body, exchange.decision.answer_tokens
    if most is None:
        return body
    names = [name for name in ("max_completion_tokens", "max_tokens") if name in body]
    if not names or exchange.path == "/v1/completions":  # this path knows only the older name
        names.append("max_tokens")
    return {**body, **dict.fromkeys(names, most)}
