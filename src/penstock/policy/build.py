"""The router of a fleet, with the admission that stands before it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from penstock.policy.admit.feasible import FeasibleOnly
from penstock.policy.route.build import free_of_charge, make_router
from penstock.policy.route.explore import Exploring
from penstock.policy.route.facts import ReplicaFacts
from penstock.policy.route.protocol import Router
from penstock.policy.route.settings import MIN_CHANCE, Setting
from penstock.policy.route.usual import UsualForecasts
from penstock.predict.length import HistoryLengths

ADMISSIONS: Mapping[str, Mapping[str, Setting]] = {
    "all": {}, "feasible": {"min_chance": MIN_CHANCE}}
Named = tuple[str, Mapping[str, Any]]
"""A policy's name and its settings."""


def make_dispatch(route: Named, admit: Named, facts: Sequence[ReplicaFacts],
                  draw: Callable[[int], int],
                  dual_price: Callable[[str], float] = free_of_charge,
                  explore: float = 0.0) -> Router:
    """The router, which also refuses where admission says so, and explores with a share of the
    requests. Other arguments as for ``make_router``."""
    router = make_router(*route, facts, draw, dual_price)
    name, settings = admit
    if name != "all":
        router = FeasibleOnly(router, facts, UsualForecasts(facts, HistoryLengths()), **settings)
    return Exploring(router, explore, draw) if explore > 0.0 else router
