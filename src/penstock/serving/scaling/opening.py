"""Opens the scaling of a gateway: its groups, its loop, and the requests that wait for replicas."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import aiohttp

from penstock import __version__
from penstock.engines.client.state import EngineState
from penstock.fleet.scaler import (
    fleet_deferral,
    patience_of,
    scaler_context,
    scaler_named,
    spending_of,
)
from penstock.fleet.values import Fleet
from penstock.fleet.values_observe import PrometheusOptions
from penstock.policy.scale.demand import DemandMeter
from penstock.registry.policies import SCALERS
from penstock.serving.deployments.startable import num_places
from penstock.serving.gateway.choice import has_engine
from penstock.serving.gateway.decision_log import DecisionLog
from penstock.serving.scaling.budget import LiveBudget, Room, all_may
from penstock.serving.scaling.deferring import LiveDeferring
from penstock.serving.scaling.groups import LiveGroup
from penstock.serving.scaling.holding import LiveHolding
from penstock.serving.scaling.loop import LiveScaling
from penstock.serving.scaling.observed import ObservedGroup, PrometheusSource, ScrapedGroup
from penstock.serving.scaling.plan import ScalingPlan
from penstock.serving.scaling.processes import ProcessGroup
from penstock.serving.scaling.prometheus import Prometheus
from penstock.serving.scaling.record import ScalingRecord
from penstock.serving.scaling.remote import AdvisedGroup, WebhookGroup
from penstock.serving.scaling.scaling import Scaling
from penstock.serving.scaling.source import GatewaySource, Source
from penstock.serving.scaling.tokens import PROMETHEUS_TOKEN, TOKEN, bearer
from penstock.serving.scaling.totals import CountersReader


@contextmanager
def open_scaling(plan: ScalingPlan, engines: Sequence[EngineState],
                 session: aiohttp.ClientSession, max_queue: int, note: Callable[[str], None]
                 ) -> Iterator[Scaling]:
    """Yield the scaling of a gateway over its engines."""
    fleet = plan.fleet
    demand, clock = DemandMeter(), time.monotonic
    observed = [ObservedGroup(group.served_name, clock,
                              may_begin_empty=group.count == 0) for group in fleet.replicas]
    spending = spending_of(fleet)
    budget = None if spending is None else LiveBudget(spending)
    groups = [_group(plan, number, engines, observed[number], session, note,
                     all_may if budget is None else partial(budget.room, number))
              for number in range(len(fleet.replicas))]
    if budget is not None:
        budget.groups = groups
    plan.record.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    log = DecisionLog(plan.record, note)
    try:
        loop = loop_of(fleet, groups, _source(fleet, groups, observed, demand, session, note), log,
                       advise=plan.advise)
        holding = LiveHolding(
            () if plan.advise else {group.model.name for group in fleet.replicas},
            fleet.scaling.hold_s, max_queue, demand,
            lambda ask: has_engine(engines, ask, clock()), loop.on_held,
            patience_of(fleet, fleet.run.seed))
        yield Scaling(loop, holding, demand, _deferring(plan, loop, max_queue))
    finally:
        log.close()


def loop_of(fleet: Fleet, groups: Sequence[LiveGroup], source: Source, log: DecisionLog, *,
            advise: bool = False) -> LiveScaling:
    """Return the loop of a fleet's scaler over its groups, whose decisions go to ``log``."""
    policy, seed = fleet.policies.scale, fleet.run.seed
    return LiveScaling(
        scaler_named(policy.name, policy.options, fleet, seed), scaler_context(fleet, seed).groups,
        groups, source, ScalingRecord(log, policy.name, dict(policy.options), seed, __version__),
        time.monotonic, time.time, advise=advise)


def prometheus_source(fleet: Fleet, options: PrometheusOptions, groups: Sequence[LiveGroup],
                      scraped: Sequence[ScrapedGroup], session: aiohttp.ClientSession,
                      note: Callable[[str], None]) -> PrometheusSource:
    """Return a fleet's observation through a Prometheus server."""
    return PrometheusSource(Prometheus(session, options.prometheus, bearer(PROMETHEUS_TOKEN)),
                            options, groups, scraped, fleet.service_classes[0],
                            [group.model.name for group in fleet.replicas], time.monotonic, note)


def _source(fleet: Fleet, groups: Sequence[LiveGroup], observed: Sequence[ObservedGroup],
            demand: DemandMeter, session: aiohttp.ClientSession,
            note: Callable[[str], None]) -> Source:
    options, policy = fleet.scaling.observe, fleet.policies.scale
    if options is None:
        return GatewaySource(groups, demand,
                             None if "gauges_only" in SCALERS.entry(policy.name).traits
                             else CountersReader(session))
    return prometheus_source(fleet, options, groups, observed, session, note)


def _deferring(plan: ScalingPlan, loop: LiveScaling, max_queue: int) -> LiveDeferring | None:
    """Return what holds requests back, None where no class may be or nothing is done. The fleet's
    carbon intensity counts by the time of day, from 1970-01-01 UTC."""
    fleet = plan.fleet
    found = fleet_deferral(fleet, fleet.run.seed, time.time() - loop.now_s)
    return None if found is None or plan.advise else LiveDeferring(
        found, max_queue, loop.observe, lambda: loop.now_s)


def _group(plan: ScalingPlan, number: int, engines: Sequence[EngineState],
           observed: ObservedGroup, session: aiohttp.ClientSession,
           note: Callable[[str], None], room: Room) -> LiveGroup:
    fleet, group = plan.fleet, plan.fleet.replicas[number]
    owned = plan.started.of_group(number)
    if owned is not None:
        return ProcessGroup(*owned, engines, time.monotonic, note, room)
    first = sum(num_places(fleet, group) for group in fleet.replicas[:number])
    present: LiveGroup = AdvisedGroup(engines, range(first, first + group.count), time.monotonic)
    if fleet.scaling.observe is not None:
        present = observed
    if plan.advise or fleet.scaling.webhook is None:
        return present
    return WebhookGroup(present, time.monotonic, session, fleet.scaling.webhook,
                        {"group": number, "model": group.model.name,
                         "accelerator": group.accelerator.name}, bearer(TOKEN), note, room)
