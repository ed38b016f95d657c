"""Penstock's own placer: fast for clusters of any size."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from penstock.policy.place.arrange import Group, arrange
from penstock.policy.place.layers import room, shortfall, spread
from penstock.policy.place.score import Score, score
from penstock.policy.place.values import Device, Footprint, Infeasible, Placement, by_id, checked

Lane = list[Device]
Cost = tuple[int, int, list[int]]


@dataclass(frozen=True, slots=True)
class PenstockPlacer:
    """Prefers groups within link groups to groups within nodes, one node to several, even stages to
    uneven ones, and full devices to empty ones.

    Devices are searched in *lanes*, which a tensor-parallel group does not leave: link groups, then
    nodes, then all devices. In a lane, the blocks with most free memory determine how even stages
    can be. Then each stage, the largest first, takes the smallest group with room for it. With
    lanes of one kind this finds every possible placement, except for the additional memory of the
    first and last stage. The work grows with devices times stages.
    """

    def place(self, footprint: Footprint, devices: Sequence[Device]) -> Placement | Infeasible:
        checked(footprint, devices)
        known = by_id(sorted(devices, key=lambda device: device.device_id))
        usable = [device for device in known.values()
                  if room(footprint, device.free_bytes) > 0]
        nodes: dict[str, Lane] = {}
        for device in usable:
            nodes.setdefault(device.node, []).append(device)
        best: tuple[Score, Placement] | None = None
        for attempt in _attempts(footprint, list(nodes.values())):
            for lanes in attempt:
                for found in _place_in(footprint, lanes):
                    mark = score(found, known)
                    if best is None or mark < best[0]:
                        best = mark, found
            if best is not None and best[0].link_splits == best[0].node_crossings == 0:
                break
        return best[1] if best is not None else _reason(footprint, usable, devices)


def _attempts(footprint: Footprint, nodes: Sequence[Lane]) -> Iterable[Iterable[list[Lane]]]:
    """Yield sets of lanes to place within, the better kinds first."""
    for split in (_links, _whole):
        lanes = [split(node) for node in nodes]
        yield lanes
        if len(nodes) > 1 and footprint.pipeline > 1:
            yield _few_nodes(footprint, lanes)
    if len(nodes) > 1:
        yield [[[device for node in nodes for device in node]]]


def _links(node: Lane) -> list[Lane]:
    """Return a node's lanes by link group."""
    found: dict[object, Lane] = {}
    for device in node:
        found.setdefault(device.link, []).append(device)
    return list(found.values())


def _whole(node: Lane) -> list[Lane]:
    """Return a node as one lane."""
    return [node]


def _few_nodes(footprint: Footprint, nodes: Sequence[list[Lane]]) -> Iterable[list[Lane]]:
    """Yield the fewest nodes that suffice, in order of most layers; then all nodes."""
    held = []
    for index, lanes in enumerate(nodes):
        rooms = [room(footprint, free) for free in _blocks(footprint, lanes)]
        if rooms:
            held.append((-sum(rooms), index))
    ranked = [nodes[index] for _, index in sorted(held)]
    for count in range(2, min(len(ranked), footprint.pipeline) + 1):
        lanes = [lane for node in ranked[:count] for lane in node]
        if _needs(footprint, lanes):
            return [lanes]
    return [[lane for node in ranked for lane in node]]


def _blocks(footprint: Footprint, lanes: Sequence[Lane]) -> list[int]:
    """Return the free memory per device of the largest groups that the lanes can form, largest
    first, at most one for each stage."""
    width, found = footprint.tensor, []
    for lane in lanes:
        free = sorted((device.free_bytes for device in lane), reverse=True)
        found += free[width - 1:width * footprint.pipeline:width]
    return sorted(found, reverse=True)[:footprint.pipeline]


def _needs(footprint: Footprint, lanes: Sequence[Lane]) -> list[list[int]]:
    """Return the memory per device of each stage, largest first, in two variants: stages as even as
    possible, and the last stage as small as possible, which may leave a large device free. Empty if
    the lanes cannot hold the footprint."""
    blocks = _blocks(footprint, lanes)
    if len(blocks) < footprint.pipeline:
        return []
    # The stages with additional memory are the likeliest to fit on the largest blocks.
    ends = [0] if footprint.pipeline == 1 else [0, footprint.pipeline - 1]
    if footprint.first_bytes < footprint.last_bytes:
        ends.reverse()
    stages = [*ends, *range(1, footprint.pipeline - 1)]
    rooms = [room(footprint, free, first=stage == 0, last=stage == footprint.pipeline - 1)
             for stage, free in zip(stages, blocks, strict=True)]
    even = spread(footprint.num_layers, rooms)
    if even is None:
        return []
    filled: list[int] = []
    for index, most in enumerate(rooms):
        left = footprint.num_layers - sum(filled) - (len(rooms) - index - 1)
        filled.append(min(most, max(even), left))
    return [sorted((footprint.stage_bytes(stage, count)
                    for stage, count in zip(stages, layers, strict=True)), reverse=True)
            for layers in dict.fromkeys((even, tuple(filled)))]


def _place_in(footprint: Footprint, lanes: Sequence[Lane]) -> Iterator[Placement]:
    """Yield placements within lanes, each stage on the tightest group; none if they do not fit."""
    for needs in _needs(footprint, lanes):
        groups = _groups(footprint, lanes, needs)
        placement = arrange(footprint, groups) if groups else None
        if placement is not None:
            yield placement


def _groups(footprint: Footprint, lanes: Sequence[Lane], needs: Sequence[int]
            ) -> list[Group] | None:
    """Return a group for each of these needs, None if one of them has no group."""
    waiting = [sorted(lane, key=lambda d: (d.free_bytes, d.device_id)) for lane in lanes]
    groups: list[Group] = []
    offers: dict[int, tuple[Cost, int, Group]] = {}
    changed, before = range(len(waiting)), -1
    for needed in needs:
        for index in changed if needed == before else range(len(waiting)):
            group = _tightest([device for device in waiting[index] if device.free_bytes >= needed],
                              footprint.tensor)
            offers.pop(index, None)
            if group:
                offers[index] = _cost(group), index, group
        if not offers:
            return None
        _, index, group = min(offers.values())
        waiting[index] = [device for device in waiting[index] if device not in group]
        groups.append(group)
        changed, before = range(index, index + 1), needed
    return groups


def _tightest(fitting: Lane, width: int) -> Group | None:
    """Return the group over the fewest link groups, then of least memory. ``fitting`` is in order
    of memory."""
    if len(fitting) < width:
        return None
    links = sorted(_links(fitting), key=lambda link: -len(link))
    chosen: Lane = []
    while len(chosen) < width:
        left = width - len(chosen)
        enough = [link for link in links if len(link) >= left]
        link = (min(enough, key=lambda link: sum(d.free_bytes for d in link[:left]))
                if enough else links[0])
        links.remove(link)
        chosen += link[:left]
    return tuple(sorted(chosen, key=lambda device: device.device_id))


def _cost(group: Group) -> Cost:
    """Return the sort key of groups with room: fewest link groups, least memory, serial numbers."""
    return (len({device.link for device in group}), sum(device.free_bytes for device in group),
            [device.device_id for device in group])


def _reason(footprint: Footprint, usable: Sequence[Device],
            devices: Sequence[Device]) -> Infeasible:
    """Return why nothing was found: too little memory, or no set of groups with the room."""
    general = shortfall(footprint, devices)
    if general.short_bytes or len(usable) < footprint.num_devices:
        return general
    return Infeasible(f"{footprint.model} at tp {footprint.tensor} pp {footprint.pipeline}: the "
                      "first or last stage has no room beside its layers on any choice of devices "
                      "that was tried", general.max_layers)
