"""An endpoint picker from its opening to its end: everything around its streams."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from functools import partial
from typing import Any

from aiohttp import web

from penstock.core.errors import InputError
from penstock.engines.client.of_fleet import facts_of
from penstock.engines.client.state import NEVER_S, EngineFacts
from penstock.engines.client.watch import Watcher
from penstock.engines.http import listening
from penstock.fleet.values import Fleet
from penstock.policy.route.live_index import LiveIndex
from penstock.policy.route.protocol import Router
from penstock.serving.adapters.adapters import Adapters, adapters_of
from penstock.serving.adapters.calls import AdapterCalls
from penstock.serving.adapters.claims import OneProcess
from penstock.serving.application import make_application
from penstock.serving.background import Work, background
from penstock.serving.callers import Address
from penstock.serving.endpoint_picker.account import Books
from penstock.serving.endpoint_picker.addresses import address_of
from penstock.serving.endpoint_picker.limits import PickerOptions
from penstock.serving.endpoint_picker.metrics import PickerMetrics
from penstock.serving.endpoint_picker.operations import operations
from penstock.serving.endpoint_picker.picker import Picker
from penstock.serving.endpoint_picker.pool_rules import NO_RULES, PoolRules
from penstock.serving.endpoint_picker.server import Health, Processor, grpc_listening
from penstock.serving.endpoint_picker.stream import StreamContext
from penstock.serving.errors import ServiceError
from penstock.serving.gateway.choice import Chooser
from penstock.serving.gateway.confidential import ConfidentialCounts
from penstock.serving.gateway.engine_session import engine_session
from penstock.serving.gateway.engines import Engines, keep
from penstock.serving.gateway.exact_prefixes import ExactPrefixes
from penstock.serving.gateway.metrics import GatewayMetrics
from penstock.serving.gateway.reload import FleetWatch, Reload
from penstock.serving.gateway.server import forecasts_of, offer_of, routed_part
from penstock.serving.kv_events import KvEvents, check_kv_events, note_unread_events
from penstock.serving.overload import OverloadGuard, default_limits
from penstock.serving.workers.load_board import Peers
from penstock.serving.workers.place import WorkerPlace
from penstock.serving.workers.private import privately_listening

Endpoints = Callable[[], Sequence[EngineFacts]]
"""Gives the present endpoints of the pool. Their numbers are those of the fleet's replicas, which
the router knows."""

_LOOK_S = 1.0
_READY_TICK_S = 0.05
HTTP_SHUTDOWN_S = 1.0


@dataclass(frozen=True, slots=True)
class Places:
    """Addresses to listen on. Port 0 takes a free one."""

    host: str = "127.0.0.1"
    port: int = 9002
    metrics_port: int = 9090
    host_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Running:
    """A picker that runs: its gRPC address, the URL of health and metrics, and its engines."""

    address: str
    url: str
    engines: Engines


@asynccontextmanager
async def running_picker(fleet: Fleet, router: Router, places: Places, options: PickerOptions, *,
                         endpoints: Endpoints | None = None, reload: Reload | None = None,
                         rules: Callable[[], PoolRules] = lambda: NO_RULES,
                         credentials: Any = None, worker: WorkerPlace | None = None,
                         live: LiveIndex | None = None,
                         on_bug: Callable[[str], None] = lambda _: None
                         ) -> AsyncIterator[Running]:
    """Run an endpoint picker until the context ends. ``endpoints`` are asked again and again, None
    for those of the fleet, which ``reload`` follows. A ``worker`` shares the gRPC port with others,
    and their load. ``live`` is the index of blocks that the router reads. Raises InputError where
    an address cannot be bound, or where an endpoint has none that the protocol can name."""
    check_kv_events(fleet)
    if worker is None or worker.number == 0:
        note_unread_events(fleet, on_bug)
    facts = list(facts_of(fleet) if endpoints is None else endpoints())
    check_endpoints(facts)
    async with engine_session(fleet.gateway.engine_tls, on_bug) as session:
        engines = Engines(facts)
        kv_events = KvEvents(engines, LiveIndex() if live is None else live, on_bug)
        adapters = Adapters(engines, AdapterCalls(session), adapters_of(fleet), time.monotonic,
                            on_bug, OneProcess() if worker is None else worker.claims())
        books = books_of(fleet, engines, router, options, time.monotonic, adapters,
                         ExactPrefixes(kv_events.index, engines, session))
        books.gateway.add(kv_events)
        pool = PickerFleet(fleet, books.picker)
        guard = OverloadGuard(
            default_limits(options.max_memory_bytes, 1 if worker is None else worker.num_workers),
            lambda: pool.offer.classes, time.monotonic)
        health = Health()
        processor = Processor(StreamContext(
            books, lambda: pool.offer, guard, options,
            lambda: _refused(processor.num_open, options.max_streams), on_bug, rules=rules))
        watcher = Watcher(engines, session, time.monotonic)
        await watcher.look()
        work: list[Work] = [watcher.run, guard.run, kv_events.run,
                            partial(keep, engines, time.monotonic, on_bug)]
        if worker is not None:
            work += [Peers(worker.board(), worker.number, engines).run, adapters.follow]
        if endpoints is not None:
            work.append(partial(_follow, engines, endpoints, facts, on_bug))
        if reload is not None:
            work.append(FleetWatch(reload, pool.adopt, on_bug,
                                   who="the endpoint picker").run)
        app = make_application(
            Address("Penstock endpoint picker", places.host, places.host_names),
            [operations(books, health)], on_bug)
        with closing(books.picker.forecasts):
            async with background(work, on_bug), _answering(app, places, worker) as url, \
                    grpc_listening(processor, health, places.host, places.port, credentials,
                                   options.drain_s, port_is_shared=worker is not None) as address, \
                    background([partial(_become_ready, engines, health)], on_bug):
                yield Running(address, url, engines)


@asynccontextmanager
async def _answering(app: web.Application, places: Places, worker: WorkerPlace | None
                     ) -> AsyncIterator[str]:
    """Yield the URL of health and metrics, empty for a worker: its keeper asks for them."""
    if worker is not None:
        async with privately_listening(app, worker.socket):
            yield ""
        return
    async with listening(app, places.host, places.metrics_port, HTTP_SHUTDOWN_S) as url:
        yield url


class PickerFleet:
    """The fleet of a picker, which may change."""

    def __init__(self, fleet: Fleet, picker: Picker) -> None:
        self.offer = offer_of(fleet)
        self._routed = routed_part(fleet)
        self._engine_tls = fleet.gateway.engine_tls
        self._picker = picker

    def adopt(self, fleet: Fleet, router: Router) -> str:
        """Apply a changed fleet. Requests in progress end under the old one. Returns a line about
        the differences. Raises InputError, and then nothing changes."""
        facts = facts_of(fleet)
        if not facts:
            raise InputError("replicas: found none with endpoints; expected at least one")
        if fleet.gateway.engine_tls != self._engine_tls:
            raise InputError("gateway.engine_tls has changed, which needs a restart of the "
                             "endpoint picker")
        check_endpoints(facts)
        check_kv_events(fleet)
        if self._picker.adapters is not None:
            self._picker.adapters.adopt(adapters_of(fleet))
        self.offer = offer_of(fleet)
        change = self._picker.engines.adopt(facts)
        # otherwise the router keeps what it has learned
        if (routed := routed_part(fleet)) != self._routed:
            self._routed = routed
            self._picker.chooser.use(router)
        return str(change)


def check_endpoints(facts: Sequence[EngineFacts]) -> None:
    """Raise InputError for an endpoint without an address that the protocol can name."""
    for one in facts:
        address_of(one.url)


def books_of(fleet: Fleet, engines: Engines, router: Router, options: PickerOptions,
             clock: Callable[[], float], adapters: Adapters | None = None,
             exact: ExactPrefixes | None = None) -> Books:
    """Return the picker of a fleet with all that is told how requests ended."""
    picker = Picker(engines, Chooser(engines, router, adapters=adapters), forecasts_of(fleet),
                    options.saturation, options.num_fallbacks, clock, adapters, exact)
    gateway = GatewayMetrics(ConfidentialCounts(fleet.disclosure))
    for one in (adapters, exact):
        if one is not None:
            gateway.add(one)
    metrics = PickerMetrics(fleet.name)
    gateway.add(metrics.registry)
    return Books(picker, gateway, metrics, clock)


def _refused(num_open: int, max_streams: int) -> ServiceError | None:
    if num_open <= max_streams:
        return None
    return ServiceError(429, f"the endpoint picker has {max_streams} open streams, the most that "
                             "it takes; try again in 1 s", "overloaded",
                        headers={"Retry-After": "1"})


async def _become_ready(engines: Engines, health: Health) -> None:
    """State readiness once an engine was seen."""
    while not any(one.observed_at_s > NEVER_S for one in engines):
        await asyncio.sleep(_READY_TICK_S)
    await health.set_ready(is_ready=True)
    await asyncio.Event().wait()  # until the end


async def _follow(engines: Engines, endpoints: Endpoints, before: Sequence[EngineFacts],
                  note: Callable[[str], None]) -> None:
    """Apply changes of the endpoints, until cancelled."""
    while True:
        await asyncio.sleep(_LOOK_S)
        now = list(endpoints())
        if now == before:
            continue
        before = now
        try:
            check_endpoints(now)
        except InputError as error:
            note(f"{error}; the endpoints known before stay")
            continue
        note(f"the pool has changed: {engines.adopt(now)}")
