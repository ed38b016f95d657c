"""Faults of simulated replicas, drawn at random."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from penstock.core.units import to_ps
from penstock.fleet.values_faults import FaultOptions, Spot
from penstock.sim.kernel import NEVER_PS

_HOUR_S: Final = 3600.0


class Faults:
    """Draws failures, reclaims and failed starts, and knows the blackouts. ``spots`` are by group,
    None where nobody takes its replicas back."""

    def __init__(self, options: FaultOptions, spots: Sequence[Spot | None],
                 rng: np.random.Generator) -> None:
        self._options = options
        self._spots = spots
        self._rng = rng
        self._restarts_ps = sorted(to_ps(at_s) for at_s in options.controller_restarts_s)

    def start_fails(self) -> bool:
        """Whether the next start fails."""
        share = self._options.failed_start_share
        return share > 0.0 and float(self._rng.random()) < share

    def fails_ps(self, now_ps: int) -> int:
        """Return when a replica that begins to serve now fails."""
        return self._next_ps(now_ps, self._options.failures_per_hour)

    def reclaimed_ps(self, group: int, now_ps: int) -> int:
        """Return when the owner of a group's replica that begins to serve now gives notice."""
        spot = self._spots[group]
        return NEVER_PS if spot is None else self._next_ps(now_ps, spot.reclaims_per_hour)

    def notice_ps(self, group: int) -> int:
        """Return the time from the notice to the end of a group's replica."""
        spot = self._spots[group]
        return 0 if spot is None else to_ps(spot.notice_s)

    def blind(self, now_s: float) -> bool:
        """Whether metrics are missing."""
        return any(one.from_s <= now_s < one.from_s + one.for_s for one in self._options.blackouts)

    @property
    def restart_ps(self) -> int:
        """When the next scaler takes over, NEVER_PS where none does."""
        return self._restarts_ps[0] if self._restarts_ps else NEVER_PS

    def restarted(self) -> None:
        """Forget the restart that has happened."""
        del self._restarts_ps[0]

    def _next_ps(self, now_ps: int, per_hour: float) -> int:
        if per_hour <= 0.0:
            return NEVER_PS
        return min(NEVER_PS, now_ps + to_ps(float(self._rng.exponential(_HOUR_S / per_hour))))
