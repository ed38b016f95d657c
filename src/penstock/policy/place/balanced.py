"""Equal stages over devices in order, as Hugging Face Accelerate's ``balanced`` device map does."""

from collections.abc import Sequence
from dataclasses import dataclass

from penstock.policy.place.layers import shortfall
from penstock.policy.place.values import (
    Device,
    Footprint,
    Infeasible,
    Placement,
    Stage,
    by_id,
    checked,
    faults,
)


@dataclass(frozen=True, slots=True)
class BalancedPlacer:
    """The first devices by serial number, layers in equal parts, whatever memory is free there.

    Accelerate cuts by bytes, here it is layers; what cannot be divided goes to the first stages.
    A baseline: it looks neither for room nor at links.
    """

    def place(self, footprint: Footprint, devices: Sequence[Device]) -> Placement | Infeasible:
        checked(footprint, devices)
        ranked = sorted(devices, key=lambda device: device.device_id)[:footprint.num_devices]
        if len(ranked) < footprint.num_devices or footprint.num_layers < footprint.pipeline:
            return shortfall(footprint, devices)
        each, rest = divmod(footprint.num_layers, footprint.pipeline)
        width = footprint.tensor
        placement = Placement(footprint, tuple(
            Stage(each + (stage < rest),
                  tuple(d.device_id for d in ranked[stage * width:(stage + 1) * width]))
            for stage in range(footprint.pipeline)))
        found = faults(placement, by_id(ranked))
        if found:
            return Infeasible(f"{footprint.model}: equal stages on the first devices do not fit: "
                              + "; ".join(found), shortfall(footprint, ranked).max_layers)
        return placement
