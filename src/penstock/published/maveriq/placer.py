"""Placement as MaverIQ does it (UT-SysML/MaverIQ, commit 067d7a1), its endless loop mended.

First the layer map: the devices with most free memory, in blocks of a tensor-parallel group, get
layers in turn. Then each rank's share of memory is dealt to a device by how busy devices are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from penstock.core.errors import InputError, nearest
from penstock.core.units import ceil_div
from penstock.policy.place.layers import shortfall
from penstock.policy.place.protocol import Placer
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

Strategy = Literal["none", "llf", "packing", "hybrid"]


def maveriq_placer(settings: Mapping[str, Any]) -> Placer:
    """The placer with the settings that the registry declares for it."""
    return MaveriqPlacer(**settings)


@dataclass(frozen=True, slots=True)
class MaveriqPlacer:
    """``strategy`` says which device a rank of the map gets, the largest ranks choosing first.

    - ``none``: the one that the map was made with.
    - ``llf``: the least busy.
    - ``packing``: the busiest that computes in less than all samples, then the busiest of the rest.
    - ``hybrid``: the busiest below ``threshold``, then the least busy of the rest.

    Each takes devices with enough free memory only; the original looped for ever if some device was
    not too busy but none of those had room, here the others follow. The map counts the footprint
    as spread evenly over layers, as the original does; where a stage then truly exceeds a device,
    the answer is Infeasible.

    ``as_published`` deals devices one by one in order of size and cuts that list into stages: a
    later stage that is larger than an earlier one gets the other's devices, and tensor-parallel
    groups may be torn over nodes. Otherwise a stage keeps its devices, and they are of one node if
    any node has enough.
    """

    strategy: Strategy = "llf"
    threshold: float = 0.7
    as_published: bool = False

    def place(self, footprint: Footprint, devices: Sequence[Device]) -> Placement | Infeasible:
        checked(footprint, devices)
        if self.strategy not in get_args(Strategy):
            raise InputError(f"strategy: unknown name {self.strategy!r}"
                             f"{nearest(self.strategy, get_args(Strategy))}")
        made = round_robin_map(footprint, devices)
        if isinstance(made, Infeasible):
            return made
        layers, chosen = made
        dealt = chosen if self.strategy == "none" else self._deal(footprint, layers, devices)
        placement = Placement(footprint, tuple(
            Stage(count, tuple(device.device_id for device in group))
            for count, group in zip(layers, dealt, strict=True)))
        wrong = faults(placement, by_id(devices))
        if wrong:
            return Infeasible(f"{footprint.model}: the map {list(layers)} does not hold: "
                              + "; ".join(wrong), shortfall(footprint, devices).max_layers)
        return placement

    def _deal(self, footprint: Footprint, layers: Sequence[int],
              devices: Sequence[Device]) -> list[list[Device]]:
        """Groups of devices by stage. There always is one: the map's own devices have the room, and
        what a larger stage took of them had room for any smaller one."""
        order = sorted(range(len(layers)), key=lambda stage: (-layers[stage], stage))
        waiting = self._preferred(devices)
        dealt: list[list[Device]] = []
        for stage in order:
            needed = _spread_bytes(footprint, layers[stage])
            fitting = [device for device in waiting if device.free_bytes >= needed]
            group = (fitting[:footprint.tensor] if self.as_published
                     else _of_one_node(fitting, footprint.tensor))
            dealt.append(group)
            waiting = [device for device in waiting if device not in group]
        if self.as_published:
            return dealt
        return [dealt[order.index(stage)] for stage in range(len(layers))]

    def _preferred(self, devices: Sequence[Device]) -> list[Device]:
        """Devices in the order in which the strategy would have them."""
        limit = {"packing": 1.0, "hybrid": self.threshold}.get(self.strategy, 0.0)
        busiest = sorted(devices, key=lambda d: (-d.busy_share, d.device_id))
        open_to = [device for device in busiest if device.busy_share < limit]
        rest = [device for device in busiest if device.busy_share >= limit]
        if self.strategy != "packing":
            rest.sort(key=lambda d: (d.busy_share, d.device_id))
        return open_to + rest


def round_robin_map(footprint: Footprint, devices: Sequence[Device]
                    ) -> tuple[tuple[int, ...], list[list[Device]]] | Infeasible:
    """Layers and devices by stage: stages in turn take a layer while all their devices have room.

    One layer takes its part of the whole footprint, embedding and head included.
    """
    width, num_stages = footprint.tensor, footprint.pipeline
    ranked = sorted(devices, key=lambda d: (d.used_bytes - d.total_bytes, d.device_id))
    if len(ranked) < footprint.num_devices:
        return shortfall(footprint, devices)
    groups = [ranked[stage * width:(stage + 1) * width] for stage in range(num_stages)]
    rooms = [min(device.free_bytes for device in group) * width * footprint.num_layers
             // footprint.total_bytes for group in groups]
    layers = [0] * num_stages
    left, moved = footprint.num_layers, True
    while left and moved:
        moved = False
        for stage, most in enumerate(rooms):
            if left and layers[stage] < most:
                layers[stage] += 1
                left -= 1
                moved = True
    if left or min(layers) == 0:
        told = (f"{footprint.num_layers - left} of {footprint.num_layers} layers" if left
                else f"a layer in each of {num_stages - layers.count(0)} of {num_stages} stages")
        general = shortfall(footprint, devices)
        return Infeasible(f"{footprint.model}: the map {layers} has room for {told}; "
                          + general.reason, general.max_layers, general.short_bytes)
    return tuple(layers), groups


def _spread_bytes(footprint: Footprint, num_layers: int) -> int:
    """Memory per device for so many layers when all of the footprint is spread over layers."""
    return ceil_div(footprint.total_bytes * num_layers, footprint.tensor * footprint.num_layers)


def _of_one_node(preferred: Sequence[Device], width: int) -> list[Device]:
    """The first devices of the first node that has enough; the first of all if none has."""
    seen: dict[str, list[Device]] = {}
    for device in preferred:
        group = seen.setdefault(device.node, [])
        group.append(device)
        if len(group) == width:
            return group
    return list(preferred[:width])
