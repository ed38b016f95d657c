"""Arrangement of device groups into a pipeline: order of the groups, and layers of each."""

from collections.abc import Mapping, Sequence
from itertools import permutations

from penstock.core.units import ceil_div
from penstock.policy.place.layers import room, spread
from penstock.policy.place.score import crossings, home
from penstock.policy.place.values import Device, Footprint, Placement, Stage

Group = tuple[Device, ...]

# With more stages than this, only this many of the largest groups are tried as first and last.
_ENDS = 16


def arrange(footprint: Footprint, groups: Sequence[Group]) -> Placement | None:
    """Return the best pipeline of these tensor-parallel groups, None if their memory does not
    suffice.

    Tries pairs as first and last stage until none can be better: fewest node crossings, then the
    smallest largest stage. Stages of one node follow each other, layers are as even as memory
    allows.
    """
    free = {group: min(device.free_bytes for device in group) for group in groups}
    ranked = sorted(groups, key=lambda group: (-free[group], _ids(group)))
    homes = {home(group) or group for group in groups}
    ideal = (len(homes) - 1, ceil_div(footprint.num_layers, len(groups)))
    best: tuple[tuple[int, int], list[Group], tuple[int, ...]] | None = None
    for first, last in _ends(footprint, ranked):
        order = in_line(ranked, first, last)
        rooms = [room(footprint, free[group], first=group is first, last=group is last)
                 for group in order]
        layers = spread(footprint.num_layers, rooms)
        if layers is None:
            continue
        key = (crossings([home(group) for group in order]), max(layers))
        if best is None or key < best[0]:
            best = key, order, layers
            if key == ideal:
                break
    if best is None:
        return None
    return Placement(footprint, tuple(Stage(count, _ids(group)) for group, count
                                      in zip(best[1], best[2], strict=True)))


def in_line(groups: Sequence[Group], first: Group, last: Group) -> list[Group]:
    """Return all groups from first to last, those of one node together, and nodes by their first
    device."""
    nodes: dict[object, list[Group]] = {}
    for group in sorted(groups, key=_ids):
        if group is not first and group is not last:
            nodes.setdefault(home(group) or group, []).append(group)
    head = nodes.pop(home(first) or first, [])
    tail = nodes.pop(home(last) or last, []) if first is not last else []
    between = [group for key in nodes for group in nodes[key]]
    return [first, *head, *between, *tail, *([last] if last is not first else [])]


def by_group(placement: Placement, devices: Mapping[int, Device]) -> list[Group]:
    """Return the tensor-parallel groups of a placement, by stage."""
    return [tuple(devices[device] for device in stage.device_ids) for stage in placement.stages]


def _ends(footprint: Footprint, ranked: Sequence[Group]) -> list[tuple[Group, Group]]:
    """Return the pairs to try as first and last stage, the most promising first."""
    if len(ranked) == 1:
        return [(ranked[0], ranked[0])]
    alike = not footprint.first_bytes and not footprint.last_bytes
    if alike and len({home(group) for group in ranked}) == 1 and home(ranked[0]):
        in_order = sorted(ranked, key=_ids)
        return [(in_order[0], in_order[-1])]
    return list(permutations(ranked[:_ENDS], 2))


def _ids(group: Group) -> tuple[int, ...]:
    return tuple(device.device_id for device in group)
