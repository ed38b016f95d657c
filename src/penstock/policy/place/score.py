"""Score of a placement: one order for all placers.

Fewer is better, in this order: tensor-parallel groups across nodes, link groups that they are split
over, pipeline steps between nodes, layers of the largest stage, memory left free on used devices.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from penstock.policy.place.values import Device, Placement


@dataclass(frozen=True, slots=True, order=True)
class Score:
    """Scores compare field by field; less is better.

    ``node_splits`` and ``link_splits`` count, over all tensor-parallel groups, the nodes and the
    link groups beyond the first that a group uses. ``node_crossings`` counts neighbouring stages
    that are not on the same node. ``stranded_bytes`` is the memory that stays free on used devices;
    if it is small, other devices stay empty.
    """

    node_splits: int
    link_splits: int
    node_crossings: int
    largest_stage: int
    stranded_bytes: int


def score(placement: Placement, devices: Mapping[int, Device]) -> Score:
    """Return the score of a placement on devices before its use."""
    groups = [[devices[device] for device in stage.device_ids] for stage in placement.stages]
    stranded = sum(device.free_bytes for group in groups for device in group)
    return Score(sum(len({device.node for device in group}) - 1 for group in groups),
                 sum(len({device.link for device in group}) - 1 for group in groups),
                 crossings([home(group) for group in groups]),
                 max(placement.layer_map), stranded - placement.footprint.total_bytes)


def home(group: Iterable[Device]) -> str | None:
    """Return the node of the whole group, None if it has several nodes."""
    nodes = {device.node for device in group}
    return nodes.pop() if len(nodes) == 1 else None


def crossings(homes: Sequence[str | None]) -> int:
    """Count the steps between stages with these homes that leave a node."""
    return sum(1 for one, other in pairwise(homes) if one is None or one != other)
