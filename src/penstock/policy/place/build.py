"""Factories of placers: each takes the settings that the registry declares for it."""

from collections.abc import Callable, Mapping
from typing import Any

from penstock.policy.place.balanced import BalancedPlacer
from penstock.policy.place.penstock import PenstockPlacer
from penstock.policy.place.protocol import Placer

FACTORIES: Mapping[str, Callable[[Mapping[str, Any]], Placer]] = {
    "penstock": lambda _settings: PenstockPlacer(),
    "balanced": lambda _settings: BalancedPlacer(),
}
