"""Residency policies by name."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from penstock.core.errors import InputError, nearest
from penstock.policy.multiplex.beliefs import LoadBelief
from penstock.policy.multiplex.evict import Keep, dear_and_recent, least_recent
from penstock.policy.multiplex.options import ResidencyOptions
from penstock.policy.multiplex.penstock import ValueRate
from penstock.policy.multiplex.protocol import Residency
from penstock.policy.multiplex.simple import (
    InTurn,
    Order,
    RoundRobin,
    earliest_deadline,
    first_come,
    longest,
)
from penstock.policy.multiplex.sincere import STRATEGIES, Sincere, SincereSettings
from penstock.policy.multiplex.values import HostedModel

PENSTOCK = "penstock"


@dataclass(frozen=True, slots=True)
class ResidencySettings:
    """Knobs of all policies; each takes its own. ``sincere`` is needed by SINCERE's strategies,
    which know one SLA for all. ``shed`` and ``cost_aware`` (eviction) are those of the simple
    ones."""

    penstock: ResidencyOptions = field(default_factory=ResidencyOptions)
    sincere: SincereSettings | None = None
    quantum_s: float = 30.0
    shed: bool = False
    cost_aware: bool = True


ORDERS: dict[str, Callable[[ResidencySettings], Order]] = {
    "longest-queue": lambda _: longest,
    "edf": lambda _: earliest_deadline,
    "round-robin": lambda settings: RoundRobin(settings.quantum_s),
    "first-come": lambda _: first_come,
}
"""First come with cost-aware eviction is a cache of models: each request is served in its turn."""

NAMES = (PENSTOCK, *ORDERS, *STRATEGIES)


def residency(name: str, models: Sequence[HostedModel], loads: LoadBelief,
              settings: ResidencySettings = ResidencySettings()) -> Residency:
    """A policy for these models. Raises InputError with the nearest name for an unknown one, and
    for one of SINCERE's without its settings."""
    if name == PENSTOCK:
        return ValueRate(models, loads, settings.penstock)
    if name in ORDERS:
        keep: Keep = least_recent
        if settings.cost_aware:
            keep = dear_and_recent(lambda device, model: loads.load_s(device.index, model))
        return InTurn(models, ORDERS[name](settings), keep, shed=settings.shed)
    if name in STRATEGIES:
        if settings.sincere is None:
            raise InputError(f"residency policy {name!r}: needs one SLA for all requests and a "
                             "table of load times")
        return Sincere(STRATEGIES[name], settings.sincere)
    raise InputError(f"residency policy {name!r} is not known{nearest(name, NAMES)}")
