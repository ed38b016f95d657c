"""Placers by name."""

from penstock.core.errors import InputError, nearest
from penstock.policy.place.balanced import BalancedPlacer
from penstock.policy.place.maveriq import MaveriqPlacer, Strategy
from penstock.policy.place.penstock import PenstockPlacer
from penstock.policy.place.protocol import Placer

PLACERS = ("penstock", "balanced", "maveriq")


def placer(name: str, *, strategy: Strategy = "llf", threshold: float = 0.7,
           as_published: bool = False) -> Placer:
    """One of ``PLACERS``; the settings are ``maveriq``'s. Raises InputError for other names."""
    if name == "penstock":
        return PenstockPlacer()
    if name == "balanced":
        return BalancedPlacer()
    if name == "maveriq":
        return MaveriqPlacer(strategy, threshold, as_published)
    raise InputError(f"placer: unknown name {name!r}{nearest(name, PLACERS)}")
