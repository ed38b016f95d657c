"""A gateway from its opening to its end: everything around its requests."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import (
    AbstractContextManager,
    AsyncExitStack,
    asynccontextmanager,
    closing,
    nullcontext,
)
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import aiohttp

from penstock.core.errors import InputError
from penstock.core.loopback import is_loopback
from penstock.engines.client.of_fleet import facts_of
from penstock.engines.client.watch import Watcher
from penstock.engines.engine import EngineEnvironment
from penstock.engines.http import listening
from penstock.engines.tls import ServerTls
from penstock.fleet.values import Fleet
from penstock.policy.route.live_index import LiveIndex
from penstock.policy.route.protocol import Router
from penstock.serving.application import Part, make_application
from penstock.serving.attest.evidence import EvidenceWatcher, check_rules
from penstock.serving.background import Work, background
from penstock.serving.callers import Address
from penstock.serving.gateway.decision_log import DecisionLog
from penstock.serving.gateway.engine_session import engine_session
from penstock.serving.gateway.engines import Engines, keep
from penstock.serving.gateway.forecasts import BudgetPrices
from penstock.serving.gateway.keeper import Keeper
from penstock.serving.gateway.limits import Limits
from penstock.serving.gateway.model_pools import ModelPools
from penstock.serving.gateway.reload import FleetWatch, Reload
from penstock.serving.gateway.server import Gateway, forecasts_of, gateway_config
from penstock.serving.gateway.traces import NO_TRACING, Tracing
from penstock.serving.kv_events import KvEvents, check_kv_events, note_unread_events
from penstock.serving.multiplex.make import driver_of
from penstock.serving.scaling.plan import ScalingPlan
from penstock.serving.scaling.scaling import Scaling
from penstock.serving.tenants.audit import AuditFile, AuditLog
from penstock.serving.tenants.gate import TenantGate
from penstock.serving.tenants.opening import open_gate
from penstock.serving.workers.load_board import Peers
from penstock.serving.workers.place import WorkerPlace
from penstock.serving.workers.private import Client, privately_listening

SHUTDOWN_S = 60.0
"""Time for answers in progress when a gateway stops."""

_KEEPER_S = 10.0  # the keeper asks all workers
_SETTLE_S = 0.25  # for requests that are on their way when the gateway stops


@dataclass(frozen=True, slots=True)
class Access:
    """Access rules: the store of keys and spending (an SQLAlchemy URL, None for no store), whether
    requests from any address are admitted while there are no keys, and names of the gateway beside
    its address."""

    ledger_url: str | None = None
    open_to_all: bool = False
    host_names: tuple[str, ...] = ()
    audit_file: AuditFile | None = None


NO_KEYS = Access()


@asynccontextmanager
async def open_model_pools(fleet: Fleet, session: aiohttp.ClientSession, folder: Path,
                           note: Callable[[str], None]) -> AsyncIterator[ModelPools | None]:
    """Yield the fleet's pools of multiplexed models, synchronized with their engines; None where
    there are none."""
    if not fleet.multiplexing:
        yield None
        return
    around = EngineEnvironment(session, folder, asyncio.get_running_loop(), note)
    drivers = [driver_of(fleet, pool, around) for pool in fleet.multiplexing]
    try:
        for driver in drivers:
            await driver.recover()
        model_pools = ModelPools(list(zip(fleet.multiplexing, drivers, strict=True)), time.time)
        evidence = EvidenceWatcher(model_pools.attestation_status, fleet.attestation, session,
                                   time.time,
                                   time.monotonic, note)
        await evidence.look()
        async with background([evidence.run, *(driver.watch for driver in drivers)], note):
            yield model_pools
    finally:
        await asyncio.gather(*(driver.close() for driver in drivers))


@asynccontextmanager
async def running(fleet: Fleet, router: Router, host: str, port: int, *,
                  limits: Limits, access: Access = NO_KEYS, reload: Reload | None = None,
                  engines_folder: Path = Path("engines"),
                  tracing: Tracing = NO_TRACING, prices: BudgetPrices | None = None,
                  log: DecisionLog | None = None, work: Sequence[Work] = (),
                  beside: Sequence[Part] = (),
                  tls: ServerTls | None = None, scaling: ScalingPlan | None = None,
                  worker: WorkerPlace | None = None, live: LiveIndex | None = None,
                  on_bug: Callable[[str], None] = lambda _: None
                  ) -> AsyncIterator[tuple[str, Engines]]:
    """Run a gateway and yield its URL and its engines. It stops when the context ends.
    ``engines_folder`` has the logs of processes that it starts. ``work`` runs in the background,
    and the services of ``beside`` answer administrators. A ``worker`` shares the port with others,
    and their load. ``live`` is the index of blocks that the router reads. Raises InputError where
    the address cannot be bound, or where the gateway would be open to anyone."""
    forecasts = forecasts_of(fleet)
    check_kv_events(fleet)
    if worker is None or worker.number == 0:
        note_unread_events(fleet, on_bug)
    check_rules(fleet.attestation)
    async with engine_session(fleet.gateway.engine_tls, on_bug) as session, open_gate(
            gateway_config(fleet, limits), access.ledger_url, on_bug) as gate, open_model_pools(
            fleet, session, engines_folder, on_bug) as model_pools, AsyncExitStack() as stack:
        _check_exposure(gate, host, access, on_bug)
        engines = Engines(facts_of(fleet))
        scaled = stack.enter_context(_scaling(scaling, engines, session, limits, on_bug))
        audit = AuditLog(gate.ledger, access.audit_file, time.time, on_bug)
        keeper = None if worker is None else Keeper(
            await stack.enter_async_context(Client(_KEEPER_S)), worker)
        gateway = Gateway(fleet, gate, router, forecasts, session, tracing, limits, on_bug, audit,
                          engines, log, model_pools, scaled, keeper,
                          1 if worker is None else worker.num_workers,
                          KvEvents(engines, LiveIndex() if live is None else live, on_bug),
                          None if worker is None else worker.claims())
        watcher = Watcher(engines, session, time.monotonic)
        await asyncio.gather(watcher.look(), gateway.evidence.look())
        if prices is not None:
            prices.state_of = gate.budget_state
        chores: list[Work] = [watcher.run, gateway.evidence.run, *gateway.chores, *work,
                              partial(keep, engines, time.monotonic, on_bug)]
        if worker is not None:
            chores.append(Peers(worker.board(), worker.number, engines).run)
            drained = worker.drained()
            for engine in engines:
                engine.draining = engine.facts.url in drained
        if reload is not None:
            chores.append(FleetWatch(reload, gateway.adopt, on_bug, partial(
                audit.add, "", "reload", str(reload.path), peer="the gateway")).run)
        with closing(forecasts):
            address = Address("Penstock", host, access.host_names, lambda: gate.needs_keys,
                              size_hint=" (--max-body-mb)")
            app = make_application(address, [gateway.part(), *map(gateway.guarded, beside)],
                                    on_bug)
            if worker is not None:
                await stack.enter_async_context(privately_listening(
                    make_application(address, [gateway.private_part()], on_bug), worker.socket))
            async with background(chores, on_bug), listening(
                    app, host, port, SHUTDOWN_S, limits.head_s, _SETTLE_S, tls,
                    port_is_shared=worker is not None) as url:
                yield url, engines


def _scaling(plan: ScalingPlan | None, engines: Engines, session: aiohttp.ClientSession,
             limits: Limits, note: Callable[[str], None]
             ) -> AbstractContextManager[Scaling | None]:
    if plan is None:
        return nullcontext()
    # Only here, for its memory: most gateways do not scale.
    from penstock.serving.scaling.opening import open_scaling

    return open_scaling(plan, engines, session, limits.max_queue, note)


def _check_exposure(gate: TenantGate, host: str, access: Access,
                    note: Callable[[str], None]) -> None:
    """Raises InputError where the gateway would be open to anyone by oversight."""
    if gate.needs_keys:
        if not gate.num_keys and not gate.issuers.num_issuers:
            note("there is no API key yet, so no request is admitted; penstock keys create makes "
                 "one")
    elif not is_loopback(host) and not access.open_to_all:
        raise InputError(f"--host {host}: beyond the loopback interface a gateway needs keys "
                         "(penstock keys create makes one), or --open to admit anyone")
