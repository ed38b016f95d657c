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
    """Places equal parts on the first devices by serial number, without regard to free memory.

    Accelerate divides by bytes; this placer divides by layers, and remaining layers go to the first
    stages. It is a baseline that ignores memory and links.
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
