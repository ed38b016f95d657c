"""The optimizer's part of a cycle: allocations as ``/optimizeOne`` gives them, as orders."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from penstock.published.inferno.cluster.collect import Observed
from penstock.published.inferno.cluster.data import Part, Parts
from penstock.published.inferno.cluster.labels import ACCELERATOR, Managed, allocation_labels
from penstock.published.inferno.cluster.series import Backend
from penstock.published.inferno.doubts import doubts
from penstock.published.inferno.operations import TIME_LIMIT_S
from penstock.published.inferno.read import system_from
from penstock.published.inferno.solve import InfernoPlan, settings_of, solve
from penstock.published.inferno.values import Allocation, System

Unserved = Literal["keep", "zero", "abort"]
UNSERVED: tuple[Unserved, ...] = ("keep", "zero", "abort")
"""Outcome for a server without an allocation: it keeps its replicas; it gets 0, as by Inferno's
actuator; the whole cycle is given up, as by optimizer-light's answer."""

_SATURATED = "more arrives than its replicas serve within their targets"
_MIXED = "a Deployment has one accelerator, and the program mixes several"


@dataclass(frozen=True, slots=True)
class Rules:
    """Choices of the operator. ``max_batch`` pins batches, 0 lets the model data state them.
    ``with_cost`` states the cost of the present replicas, which Inferno's collector leaves out."""

    unserved: Unserved = "keep"
    backend: Backend = "serversim"
    keep_accelerator: bool = False
    min_replicas: int = 0
    max_batch: int = 0
    with_cost: bool = False


@dataclass(frozen=True, slots=True)
class Order:
    """The order for a server: its replicas and labels, and a remark on it. ``desired`` is None
    without an allocation."""

    observed: Observed
    desired: Allocation | None
    replicas: int
    labels: Mapping[str, str]
    told: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """A cycle's orders. ``body`` is the request that ``/optimizeOne`` answers with ``plan``."""

    body: Mapping[str, Any]
    plan: InfernoPlan
    orders: Sequence[Order]
    doubts: Sequence[str]


class AbortedError(Exception):
    """A cycle that was given up because a server would be left without an allocation."""


def decide(parts: Parts, servers: Sequence[Observed], rules: Rules) -> Decision:
    """Decide a cycle. Raises InputError with the place of bad data, AbortedError by the rules."""
    static = system_of(parts)
    rows = [server_row(one, rules, static) for one in servers]
    whole = {**parts, "serverData": Part("collected servers", {"servers": rows})}
    system = system_of(whole)
    plan = solve(system, replace(settings_of(system.options), time_limit_s=TIME_LIMIT_S))
    orders = [_order(one, plan, rules) for one in servers]
    missing = [order.observed.managed.name for order in orders if order.desired is None]
    if missing and rules.unserved == "abort":
        raise AbortedError(plan.upstream_error or "no feasible allocation for servers: "
                           f"[{', '.join(sorted(missing))}]")
    body = {"system": {name: part.document for name, part in whole.items()}}
    return Decision(body, plan, orders, _doubts(system, rules))


def system_of(parts: Parts) -> System:
    """Return the system of a bundle's parts. Raises InputError with the place."""
    return system_from({name: part.fields() for name, part in parts.items()})


def server_row(one: Observed, rules: Rules, static: System) -> dict[str, Any]:
    """Return a server as a row of server-data, with what was observed as its currentAlloc."""
    own, load = one.managed, one.measured.load
    return {
        "name": own.name, "class": own.service_class, "model": own.model,
        # Replicas alone are ordered of real engines: they stay on the accelerators that they have.
        "keepAccelerator": rules.keep_accelerator or rules.backend == "llmd",
        "minNumReplicas": rules.min_replicas, "maxBatchSize": rules.max_batch,
        "maxQueueSize": own.max_queue,
        "currentAlloc": {
            "accelerator": own.accelerator, "numReplicas": own.replicas,
            "maxBatch": own.max_batch,
            "cost": _cost(one.managed, static) if rules.with_cost else 0.0,
            "itlAverage": one.measured.itl_ms, "ttftAverage": one.measured.ttft_ms,
            "load": {"arrivalRate": load.arrival_per_min, "throughput": load.throughput_per_min,
                     "avgInTokens": load.input_tokens, "avgOutTokens": load.output_tokens}}}


def _cost(own: Managed, static: System) -> float:
    """Return the cents per hour of a server's present replicas, 0 on an unknown accelerator."""
    accelerator = static.accelerators.get(own.accelerator)
    profile = static.profiles.get((own.model, own.accelerator))
    if accelerator is None or profile is None:
        return 0.0
    return accelerator.cost_cents_per_hour * profile.acc_count * own.replicas


def _order(one: Observed, plan: InfernoPlan, rules: Rules) -> Order:
    own = one.managed
    parts = plan.parts.get(own.name, ())
    if len(parts) == 1:
        told = _SATURATED if own.name in plan.saturated else ""
        return Order(one, parts[0], parts[0].num_replicas, _labels(parts[0], rules), told)
    reason = _MIXED if parts else plan.unserved.get(own.name, "")
    if rules.unserved == "zero":
        return Order(one, None, 0, _labels(Allocation(), rules),
                     f"no allocation ({reason}); it gets 0 replicas, as by Inferno's actuator")
    return Order(one, None, own.replicas, {},
                 f"no allocation ({reason}); it keeps its {own.replicas} replicas")


def _labels(allocation: Allocation, rules: Rules) -> dict[str, str]:
    """Return the labels to set. A server that keeps its accelerator remembers it while it is
    idle."""
    if rules.backend == "llmd":
        return {}
    found = allocation_labels(allocation)
    if rules.keep_accelerator and not allocation.accelerator:
        del found[ACCELERATOR]
    return found


def _doubts(system: System, rules: Rules) -> tuple[str, ...]:
    """Return the doubts about a bundle. Data of optimizer-light 0.8, which searches batches, state
    no atTokens; by the rule of the versions before they mean a batch of 1."""
    without = [profile for profile in system.profiles.values() if not profile.at_tokens]
    if rules.max_batch or not without:
        return doubts(system)
    return (*doubts(system), f"model-data: {without[0].model!r} on {without[0].accelerator!r} has "
            f"no atTokens, so its batch is 1 ({len(without)} such entries); --pin-batch states one")
