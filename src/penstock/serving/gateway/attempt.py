"""One attempt to have an engine compute a request, or a part of the request."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

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


@dataclass(slots=True)
class Attempt:
    """An attempt in progress: the ``outcome`` that the request's decision shows, and the headers
    that let an engine go on with the request's trace."""

    trace_headers: Mapping[str, str]
    outcome: str = ""


@contextmanager
def attempted(exchange: Exchange, engine: EngineState, in_flight: InFlight,
              clock: Callable[[], float]) -> Iterator[Attempt]:
    """Count a request to an engine until the block ends, and record the outcome.

    A failure of the engine before anything was sent ends the block without an exception: another
    engine may be asked.
    """
    exchange.engine, failed = engine, False
    record: dict[str, Any] = {"url": engine.facts.url, "replica": engine.facts.name,
                              "at_s": clock(), "outcome": "is in progress"}
    exchange.decision.attempts.append(record)
    engine.begin(exchange.number, in_flight)
    try:
        attempt = Attempt(exchange.trace.attempt(engine.facts.url))
        yield attempt
        record["outcome"] = attempt.outcome
    except (EngineFailedError, EngineBusyError, UnsupportedError, AdapterError) as error:
        if isinstance(error, AdapterError):
            exchange.adapter_after_s = error.after_s
        elif isinstance(error, EngineFailedError):
            if not isinstance(error, PartnerFailedError):
                engine.failed(clock())
        elif isinstance(error, EngineBusyError):
            exchange.retry_after = error.retry_after or "1"
        else:
            exchange.unsupported = str(error)
        record["outcome"], failed = exchange.failed(engine, error), True
    except (asyncio.CancelledError, ClientDisconnectedError):
        record["outcome"] = "the client left"
        raise
    except ServiceError as error:
        record["outcome"] = str(error)
        raise
    finally:
        engine.end(exchange.number)
        exchange.trace.attempted(record["outcome"], failed=failed)
