"""How good a placement is: one order for all placers.

Least comes first in each of: tensor-parallel groups across nodes, link groups that they are split
over, steps of the pipeline from node to node, layers of the largest stage, memory left beside it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from penstock.policy.place.values import Device, Placement


@dataclass(frozen=True, slots=True, order=True)
class Score:
    """Compares field by field; less is better.

    ``node_splits`` and ``link_splits`` count, over all tensor-parallel groups, the nodes and the
    link groups beyond the first that a group touches. ``node_crossings`` counts neighbouring
    stages that are not on one and the same node. ``stranded_bytes`` is what stays free on the
    devices in use: where it is little, other devices are left whole.
    """

    node_splits: int
    link_splits: int
    node_crossings: int
    largest_stage: int
    stranded_bytes: int


def score(placement: Placement, devices: Mapping[int, Device]) -> Score:
    """The score on devices as they were before."""
    groups = [[devices[device] for device in stage.device_ids] for stage in placement.stages]
    stranded = sum(device.free_bytes for group in groups for device in group)
    return Score(sum(len({device.node for device in group}) - 1 for group in groups),
                 sum(len({device.link for device in group}) - 1 for group in groups),
                 crossings([home(group) for group in groups]),
                 max(placement.layer_map), stranded - placement.footprint.total_bytes)


def home(group: Iterable[Device]) -> str | None:
    """The node that holds the whole group; None if several do."""
    nodes = {device.node for device in group}
    return nodes.pop() if len(nodes) == 1 else None


def crossings(homes: Sequence[str | None]) -> int:
    """Steps between stages with these homes that do not stay on one node."""
    return sum(1 for one, other in pairwise(homes) if one is None or one != other)
