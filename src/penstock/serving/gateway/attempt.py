"""One attempt to have an engine compute a request, or a part of the request."""

import asyncio
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from penstock.engines.client.dialects import UnsupportedError
from penstock.engines.client.state import EngineState, InFlight
from penstock.serving.adapters.shelf import AdapterError
from penstock.serving.errors import ServiceError
from penstock.serving.gateway.exchange import (
    ClientDisconnectedError,
    EngineBusyError,
    EngineFailedError,
    Exchange,
    PartnerFailedError,
)


class Attempt:
    """Counts a request to an engine until the context ends, and records the ``outcome``, which the
    request's decision shows.

    A failure of the engine before anything was sent ends the context without an exception: another
    engine may be asked. ``trace_headers`` let an engine go on with the request's trace.
    """

    __slots__ = ("_clock", "_engine", "_exchange", "_in_flight", "_record", "outcome",
                 "trace_headers")

    def __init__(self, exchange: Exchange, engine: EngineState, in_flight: InFlight,
                 clock: Callable[[], float]) -> None:
        self.outcome = ""
        self.trace_headers: Mapping[str, str] = {}
        self._exchange = exchange
        self._engine = engine
        self._in_flight = in_flight
        self._clock = clock
        self._record: dict[str, Any] = {}

    def __enter__(self) -> Self:
        exchange, engine, facts = self._exchange, self._engine, self._engine.facts
        exchange.engine = engine
        self._record = {"url": facts.url, "replica": facts.name, "at_s": self._clock(),
                        "outcome": "is in progress"}
        exchange.decision.attempts.append(self._record)
        self.trace_headers = exchange.trace.attempt(facts.url)
        engine.begin(exchange.number, self._in_flight)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> bool:
        failed = isinstance(error, EngineFailedError | EngineBusyError | UnsupportedError
                            | AdapterError)
        self._record["outcome"] = self._outcome(error)
        self._engine.end(self._exchange.number)
        self._exchange.trace.attempted(self._record["outcome"], failed=failed)
        return failed

    def _outcome(self, error: BaseException | None) -> str:
        """Return the outcome for the decision, and note for the client why an engine failed."""
        exchange = self._exchange
        if error is None:
            return self.outcome
        if isinstance(error, asyncio.CancelledError | ClientDisconnectedError):
            return "the client left"
        if isinstance(error, ServiceError):
            return str(error)
        if isinstance(error, AdapterError):
            exchange.adapter_after_s = error.after_s
        elif isinstance(error, EngineFailedError):
            if not isinstance(error, PartnerFailedError):
                self._engine.failed(self._clock())
        elif isinstance(error, EngineBusyError):
            exchange.retry_after = error.retry_after or "1"
        elif isinstance(error, UnsupportedError):
            exchange.unsupported = str(error)
        else:
            return str(self._record["outcome"])  # a bug
        return exchange.failed(self._engine, error)
