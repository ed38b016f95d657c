"""Opens the scaling of a gateway: its groups, its loop, and the requests that wait for replicas."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import aiohttp

from penstock import __version__
from penstock.engines.client.state import EngineState
from penstock.fleet.scaler import fleet_deferral, scaler_context
from penstock.policy.scale.demand import DemandMeter
from penstock.registry.make import make_scaler
from penstock.registry.policies import SCALERS
from penstock.serving.deployments.startable import num_places
from penstock.serving.gateway.choice import has_engine
from penstock.serving.gateway.decision_log import DecisionLog
from penstock.serving.scaling.deferring import LiveDeferring
from penstock.serving.scaling.groups import LiveGroup
from penstock.serving.scaling.holding import LiveHolding
from penstock.serving.scaling.loop import LiveScaling
from penstock.serving.scaling.plan import ScalingPlan
from penstock.serving.scaling.processes import ProcessGroup
from penstock.serving.scaling.record import ScalingRecord
from penstock.serving.scaling.remote import AdvisedGroup, WebhookGroup
from penstock.serving.scaling.scaling import Scaling
from penstock.serving.scaling.totals import CountersReader

TOKEN = "PENSTOCK_SCALING_TOKEN"
"""Environment variable with the bearer token of the webhook."""


@contextmanager
def open_scaling(plan: ScalingPlan, engines: Sequence[EngineState],
                 session: aiohttp.ClientSession, max_queue: int, note: Callable[[str], None]
                 ) -> Iterator[Scaling]:
    """Yield the scaling of a gateway over its engines."""
    fleet, policy = plan.fleet, plan.fleet.policies.scale
    context = scaler_context(fleet, fleet.run.seed)
    demand, clock = DemandMeter(), time.monotonic
    groups = [_group(plan, number, engines, session, note) for number in range(len(fleet.replicas))]
    log = DecisionLog(plan.record, note)
    try:
        loop = LiveScaling(
            make_scaler(policy.name, policy.options, context), context.groups, groups, demand,
            ScalingRecord(log, policy.name, dict(policy.options), fleet.run.seed, __version__),
            clock, time.time, advise=plan.advise,
            reader=None if "gauges_only" in SCALERS.entry(policy.name).traits
            else CountersReader(session))
        holding = LiveHolding(
            () if plan.advise else {group.model.name for group in fleet.replicas},
            fleet.scaling.hold_s, max_queue, demand,
            lambda ask: has_engine(engines, ask, clock()), loop.on_held)
        yield Scaling(loop, holding, demand, _deferring(plan, loop, max_queue))
    finally:
        log.close()


def _deferring(plan: ScalingPlan, loop: LiveScaling, max_queue: int) -> LiveDeferring | None:
    """Return what holds requests back, None where no class may be or nothing is done. The fleet's
    carbon intensity counts by the time of day, from 1970-01-01 UTC."""
    fleet = plan.fleet
    found = fleet_deferral(fleet, fleet.run.seed, time.time() - loop.now_s)
    return None if found is None or plan.advise else LiveDeferring(
        found, max_queue, loop.observe, lambda: loop.now_s)


def _group(plan: ScalingPlan, number: int, engines: Sequence[EngineState],
           session: aiohttp.ClientSession, note: Callable[[str], None]) -> LiveGroup:
    fleet, group = plan.fleet, plan.fleet.replicas[number]
    owned = plan.started.of_group(number)
    if owned is not None:
        return ProcessGroup(*owned, engines, time.monotonic, note)
    first = sum(num_places(fleet, group) for group in fleet.replicas[:number])
    own = range(first, first + group.count)
    if plan.advise or fleet.scaling.webhook is None:
        return AdvisedGroup(engines, own, time.monotonic)
    token = os.environ.get(TOKEN)
    return WebhookGroup(engines, own, time.monotonic, session, fleet.scaling.webhook,
                        {"group": number, "model": group.model.name,
                         "accelerator": group.accelerator.name},
                        {} if token is None else {"Authorization": f"Bearer {token}"}, note)
