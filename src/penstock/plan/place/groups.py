"""Groups of devices that serve several models each, chosen by simulation, as AlpaServe does it.

Li et al., "AlpaServe: Statistical Multiplexing with Model Parallelism for Deep Learning Serving"
(OSDI 2023), section 4.2. Devices are cut into groups of equal size, and all groups run in one
parallel configuration. Replicas of models are added one by one, each time the replica with which a
simulator reports the highest attainment. AlpaServe's buckets of models with similar latency, each
with devices of its own, are left out. This is a baseline: stages are equal whatever memory is free,
as in AlpaServe.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from penstock.core.errors import InputError
from penstock.policy.place.balanced import BalancedPlacer
from penstock.policy.place.values import Device, Footprint, Placement, by_id, checked

# A model's footprint by (tensor, pipeline); it is not served in configurations that it lacks.
Footprints = Mapping[tuple[int, int], Footprint]


@dataclass(frozen=True, slots=True)
class DeviceGroup:
    """Devices that work as one, and the models that they all hold, in order of addition."""

    device_ids: tuple[int, ...]
    tensor: int
    pipeline: int
    placements: tuple[Placement, ...] = ()

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models that the group serves."""
        return tuple(placement.footprint.model for placement in self.placements)


Judge = Callable[[Sequence[DeviceGroup]], float]


@dataclass(frozen=True, slots=True)
class GroupPlan:
    """The best groups that were found, their attainment by the judge, and the number of calls of
    the judge. ``complete`` is False where ``max_judged`` ended the search."""

    groups: tuple[DeviceGroup, ...]
    attainment: float
    num_judged: int
    complete: bool

    @property
    def served(self) -> tuple[str, ...]:
        """Models that some group serves, by name; AlpaServe drops what does not pay."""
        return tuple(sorted({model for group in self.groups for model in group.models}))


def place_groups(models: Mapping[str, Footprints], devices: Sequence[Device], judge: Judge, *,
                 sizes: Sequence[int] | None = None, beam: int = 1,
                 max_judged: int = 5000) -> GroupPlan:
    """The groups of most attainment, by trying sizes and configurations and adding greedily.

    ``models`` has footprints by name, ``sizes`` of groups are the powers of two by default. Devices
    are cut in order of serial numbers; what is left over when they are divided serves nothing.
    ``judge`` answers attainment, 0 to 1, of groups; it is asked at most ``max_judged`` times, and
    no more once it says 1. ``beam`` placements are kept at each addition.
    Raises InputError for values that mean nothing.
    """
    search = _Search(models, by_id(devices), judge, beam, max_judged)
    if beam < 1:
        raise InputError(f"beam is {beam}, expected at least 1")
    for name, footprints in models.items():
        for spread, footprint in footprints.items():
            if spread != (footprint.tensor, footprint.pipeline) or footprint.model != name:
                raise InputError(f"footprint of {name!r} at {spread}: it is of {footprint.model!r} "
                                 f"at {(footprint.tensor, footprint.pipeline)}")
            checked(footprint, devices)
    for size in sizes or _powers_of_two(len(devices)):
        if not 1 <= size <= len(devices):
            raise InputError(f"sizes: {size} is not between 1 and the {len(devices)} devices")
        for tensor, pipeline in _configurations(size):
            if search.attainment < 1.0:
                search.add_greedily(tensor, pipeline)
    return GroupPlan(search.groups, max(search.attainment, 0.0), search.num_judged,
                     search.num_judged < max_judged)


@dataclass(slots=True)
class _Search:
    """The best groups so far."""

    models: Mapping[str, Footprints]
    devices: Mapping[int, Device]
    judge: Judge
    beam: int
    max_judged: int
    groups: tuple[DeviceGroup, ...] = ()
    attainment: float = -1.0
    num_judged: int = 0

    def add_greedily(self, tensor: int, pipeline: int) -> None:
        """Adds replicas in one configuration until none fits."""
        ids, size = sorted(self.devices), tensor * pipeline
        empty = tuple(DeviceGroup(tuple(ids[start:start + size]), tensor, pipeline)
                      for start in range(0, len(ids) - size + 1, size))
        kept: list[tuple[DeviceGroup, ...]] = [empty]
        while kept:
            ranked: list[tuple[float, int, tuple[DeviceGroup, ...]]] = []
            seen: set[object] = set()
            for groups in kept:
                for added in self._additions(groups):
                    key = tuple(tuple(sorted(group.models)) for group in added)
                    if key in seen or self.num_judged >= self.max_judged:
                        continue
                    seen.add(key)
                    self.num_judged += 1
                    attainment = self.judge(added)
                    if attainment > self.attainment:
                        self.groups, self.attainment = added, attainment
                    if attainment >= 1.0:
                        return
                    ranked.append((-attainment, len(ranked), added))
            kept = [groups for _, _, groups in sorted(ranked, key=lambda r: r[:2])[:self.beam]]

    def _additions(self, groups: tuple[DeviceGroup, ...]) -> Iterator[tuple[DeviceGroup, ...]]:
        """Every way to add one model to one group; of groups alike only to the first."""
        placer = BalancedPlacer()
        for name in sorted(self.models):
            tried: set[object] = set()
            for index, group in enumerate(groups):
                footprint = self.models[name].get((group.tensor, group.pipeline))
                left = self._left(group)
                alike = (tuple(sorted(group.models)), tuple(d.free_bytes for d in left))
                if footprint is None or name in group.models or alike in tried:
                    continue
                tried.add(alike)
                placement = placer.place(footprint, left)
                if isinstance(placement, Placement):
                    fuller = replace(group, placements=(*group.placements, placement))
                    yield (*groups[:index], fuller, *groups[index + 1:])

    def _left(self, group: DeviceGroup) -> list[Device]:
        """The group's devices beside what it holds."""
        held = [placement.bytes_by_device for placement in group.placements]
        return [replace(self.devices[device], used_bytes=self.devices[device].used_bytes
                        + sum(each[device] for each in held)) for device in group.device_ids]


def _powers_of_two(most: int) -> list[int]:
    return [1 << power for power in range(most.bit_length()) if 1 << power <= most]


def _configurations(size: int) -> list[tuple[int, int]]:
    """(tensor, pipeline) of so many devices, the widest pipeline first."""
    return [(tensor, size // tensor) for tensor in range(1, size + 1) if size % tensor == 0]
