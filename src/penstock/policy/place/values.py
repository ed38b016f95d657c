"""Values of placement: the footprint, the devices, and the answer."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from penstock.core.errors import InputError
from penstock.core.units import GIB


@dataclass(frozen=True, slots=True)
class Device:
    """One accelerator as its monitor sees it.

    ``used_bytes`` is memory in use by any process. ``buffer_share`` of the memory is never used for
    placements. ``busy_share`` is the share of recent samples in which the device computed, 0 to 1.
    Devices of one ``node`` with the same ``link_group`` share a fast link (an NVLink pair, an
    NVSwitch); a device without a link group shares none. Serial numbers (``device_id``) are unique
    in a cluster.
    """

    device_id: int
    node: str
    total_bytes: int
    used_bytes: int = 0
    busy_share: float = 0.0
    link_group: str = ""
    buffer_share: float = 0.0

    @property
    def free_bytes(self) -> int:
        """Bytes that are free for placements."""
        kept = int(self.total_bytes * self.buffer_share)
        return max(0, self.total_bytes - kept - self.used_bytes)

    @property
    def link(self) -> tuple[str, str | int]:
        """The link group within its node. A device without one is its own group."""
        return self.node, self.link_group or self.device_id


@dataclass(frozen=True, slots=True)
class Footprint:
    """The memory of one replica of a model in one configuration.

    A pipeline stage has ``tensor`` devices, each of which holds its part of every layer of the
    stage. All bytes are per device: ``layer_bytes`` of one layer (weights and KV cache),
    ``first_bytes`` beyond that on the first stage (embedding), ``last_bytes`` on the last (head),
    ``fixed_bytes`` on every device (context, workspace).
    """

    model: str
    num_layers: int
    tensor: int
    pipeline: int
    layer_bytes: int
    first_bytes: int = 0
    last_bytes: int = 0
    fixed_bytes: int = 0

    @property
    def num_devices(self) -> int:
        """Devices that one replica occupies."""
        return self.tensor * self.pipeline

    @property
    def total_bytes(self) -> int:
        """Memory over all devices, which does not depend on the spread of layers."""
        per_rank = (self.num_layers * self.layer_bytes + self.first_bytes + self.last_bytes
                    + self.pipeline * self.fixed_bytes)
        return self.tensor * per_rank

    def stage_bytes(self, stage: int, num_layers: int) -> int:
        """Return the memory per device of a stage (0 is the first) with this many layers."""
        return (num_layers * self.layer_bytes + self.fixed_bytes
                + (self.first_bytes if stage == 0 else 0)
                + (self.last_bytes if stage == self.pipeline - 1 else 0))


@dataclass(frozen=True, slots=True)
class Stage:
    """Consecutive layers, and the devices of their tensor-parallel group in order of rank."""

    num_layers: int
    device_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Placement:
    """A placed footprint: its stages in the order of the layers."""

    footprint: Footprint
    stages: tuple[Stage, ...]

    @property
    def layer_map(self) -> tuple[int, ...]:
        """Layers by stage."""
        return tuple(stage.num_layers for stage in self.stages)

    @property
    def device_ids(self) -> tuple[int, ...]:
        """Devices in order of rank."""
        return tuple(device for stage in self.stages for device in stage.device_ids)

    @property
    def bytes_by_device(self) -> dict[int, int]:
        """Return the memory that each device provides."""
        return {device: self.footprint.stage_bytes(index, stage.num_layers)
                for index, stage in enumerate(self.stages) for device in stage.device_ids}


@dataclass(frozen=True, slots=True)
class Infeasible:
    """There is no placement. ``reason`` is one line with numbers: the shortfall, and what would
    fit.

    ``max_layers`` is the number of layers that fit in this configuration (0: not even one in every
    stage). ``short_bytes`` is the memory of the remaining layers over all devices.
    """

    reason: str
    max_layers: int = 0
    short_bytes: int = 0


def gib(num_bytes: float) -> str:
    """Format bytes as GiB."""
    return f"{num_bytes / GIB:.2f} GiB" if num_bytes >= GIB / 100 else f"{num_bytes:,.0f} bytes"


def checked(footprint: Footprint, devices: Sequence[Device]) -> None:
    """Raises InputError for invalid values."""
    where = f"footprint of {footprint.model!r}"
    for name in ("num_layers", "tensor", "pipeline", "layer_bytes"):
        if getattr(footprint, name) < 1:
            raise InputError(f"{where}: {name} is {getattr(footprint, name)}, expected at least 1")
    for name in ("first_bytes", "last_bytes", "fixed_bytes"):
        if getattr(footprint, name) < 0:
            raise InputError(f"{where}: {name} is {getattr(footprint, name)}, expected 0 or more")
    by_id(devices)
    for device in devices:
        if device.total_bytes < 0 or device.used_bytes < 0:
            raise InputError(f"device {device.device_id}: {device.used_bytes} bytes of "
                             f"{device.total_bytes} are used, expected 0 or more of each")
        if not 0.0 <= device.buffer_share <= 1.0:
            raise InputError(f"device {device.device_id}: buffer_share is {device.buffer_share}, "
                             "expected 0 to 1")


def by_id(devices: Iterable[Device]) -> dict[int, Device]:
    """Return devices by serial number. Raises InputError where one occurs twice."""
    found: dict[int, Device] = {}
    for device in devices:
        if device.device_id in found:
            raise InputError(f"device {device.device_id} occurs twice, expected serial numbers "
                             "that are unique")
        found[device.device_id] = device
    return found


def faults(placement: Placement, devices: Mapping[int, Device]) -> list[str]:
    """Return every violation of the footprint or of memory by a placement, empty if it is valid."""
    footprint, found = placement.footprint, []
    if len(placement.stages) != footprint.pipeline:
        found.append(f"{len(placement.stages)} stages, expected {footprint.pipeline}")
    if sum(placement.layer_map) != footprint.num_layers:
        found.append(f"{sum(placement.layer_map)} layers, expected {footprint.num_layers}")
    for index, stage in enumerate(placement.stages):
        if stage.num_layers < 1:
            found.append(f"stage {index} has no layer")
        if len(stage.device_ids) != footprint.tensor:
            found.append(f"stage {index} has {len(stage.device_ids)} devices, "
                         f"expected {footprint.tensor}")
    ids = placement.device_ids
    found += [f"device {device} occurs {ids.count(device)} times" for device in sorted(set(ids))
              if ids.count(device) > 1]
    for device_id, needed in sorted(placement.bytes_by_device.items()):
        if device_id not in devices:
            found.append(f"device {device_id} is unknown")
        elif needed > devices[device_id].free_bytes:
            found.append(f"device {device_id} has {gib(devices[device_id].free_bytes)} free, "
                         f"{gib(needed)} are needed")
    return found
