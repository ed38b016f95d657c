"""The contract of a placer."""

from collections.abc import Sequence
from typing import Protocol

from penstock.policy.place.values import Device, Footprint, Infeasible, Placement


class Placer(Protocol):
    """Lays one replica out over devices."""

    def place(self, footprint: Footprint, devices: Sequence[Device]) -> Placement | Infeasible:
        """A placement that fits, or why there is none; the same for the same input in any order.

        Raises InputError for values that mean nothing.
        """
        ...
