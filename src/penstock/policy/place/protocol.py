"""The contract of a placer."""

from collections.abc import Sequence
from typing import Protocol

from penstock.policy.place.values import Device, Footprint, Infeasible, Placement


class Placer(Protocol):
    """Places one replica on devices."""

    def place(self, footprint: Footprint, devices: Sequence[Device]) -> Placement | Infeasible:
        """Return a placement that fits, or why there is none. The answer does not depend on the
        order of devices.

        Raises InputError for invalid values.
        """
        ...
