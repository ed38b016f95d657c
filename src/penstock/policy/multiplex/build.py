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
    InTurn,
    Order,
    RoundRobin,
    earliest_deadline,
    first_come,
    longest,
)
from penstock.policy.multiplex.values import HostedModel

USUAL_SLA_S = 60.0
"""The deadline after arrival that policies go by where no request has one."""
USUAL_QUANTUM_S = 30.0


class MultiplexContext(NamedTuple):
    """The models that share devices, and beliefs about their loads.

    ``load_s`` has each model's load on a device that holds nothing, where ``loads`` changes with
    what devices and the host hold. ``sla_s`` is the tightest end-to-end objective of any request.
    """

    models: Sequence[HostedModel]
    loads: LoadBelief
    load_s: Sequence[float] = ()
    sla_s: float = USUAL_SLA_S


def value_rate(settings: Mapping[str, Any], context: MultiplexContext) -> Multiplexer:
    """Penstock's own policy."""
    return ValueRate(context.models, context.loads, MultiplexOptions(**settings))


def _in_turn(make_order: Callable[[float], Order]) -> Callable[..., Multiplexer]:
    """A policy that takes models one after the other; ``make_order`` is given the quantum."""

    def factory(settings: Mapping[str, Any], context: MultiplexContext) -> Multiplexer:
        keep: Keep = least_recent
        if settings.get("cost_aware", True):
            loads = context.loads
            keep = dear_and_recent(lambda device, model: loads.load_s(device.index, model))
        order = make_order(settings.get("quantum_s", USUAL_QUANTUM_S))
        return InTurn(context.models, order, keep, shed=settings.get("shed", False))

    return factory


ORDERS: Mapping[str, Callable[..., Multiplexer]] = {
    "longest-queue": _in_turn(lambda _: longest),
    "edf": _in_turn(lambda _: earliest_deadline),
    "round-robin": _in_turn(RoundRobin),
    "first-come": _in_turn(lambda _: first_come),
}
"""First come with cost-aware eviction is a cache of models: each request is served in its turn."""
