"""Factories of multiplexing policies: each takes the settings that the registry declares for it,
and the context."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from penstock.policy.multiplex.beliefs import LoadBelief
from penstock.policy.multiplex.evict import Keep, dear_and_recent, least_recent
from penstock.policy.multiplex.options import MultiplexOptions
from penstock.policy.multiplex.penstock import ValueRate
from penstock.policy.multiplex.protocol import Multiplexer
from penstock.policy.multiplex.simple import (
    Order,
    RoundRobin,
    Sequential,
    earliest_deadline,
    first_come,
    longest,
)
from penstock.policy.multiplex.values import HostedModel

USUAL_SLA_S = 60.0
"""Deadline after arrival that policies assume where no request has a deadline."""
USUAL_QUANTUM_S = 30.0


class MultiplexContext(NamedTuple):
    """The models that share devices, and beliefs about their loads.

    ``load_s`` has each model's load time on an empty device, while ``loads`` depends on what
    devices and host hold. ``sla_s`` is the tightest end-to-end objective of any request.
    """

    models: Sequence[HostedModel]
    loads: LoadBelief
    load_s: Sequence[float] = ()
    sla_s: float = USUAL_SLA_S


def value_rate(settings: Mapping[str, Any], context: MultiplexContext) -> Multiplexer:
    """Return Penstock's own policy."""
    return ValueRate(context.models, context.loads, MultiplexOptions(**settings))


def _sequential(make_order: Callable[[float], Order]) -> Callable[..., Multiplexer]:
    """Return a factory of sequential policies. ``make_order`` gets the quantum."""

    def factory(settings: Mapping[str, Any], context: MultiplexContext) -> Multiplexer:
        keep: Keep = least_recent
        if settings.get("cost_aware", True):
            loads = context.loads
            keep = dear_and_recent(lambda device, model: loads.load_s(device.index, model))
        order = make_order(settings.get("quantum_s", USUAL_QUANTUM_S))
        return Sequential(context.models, order, keep, shed=settings.get("shed", False))

    return factory


ORDERS: Mapping[str, Callable[..., Multiplexer]] = {
    "longest-queue": _sequential(lambda _: longest),
    "edf": _sequential(lambda _: earliest_deadline),
    "round-robin": _sequential(RoundRobin),
    "first-come": _sequential(lambda _: first_come),
}
"""First come, first served with cost-aware eviction acts as a cache of models."""
