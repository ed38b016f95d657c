"""Defragmentation: which running deployments to move where to make room, and the cost."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, permutations

from penstock.policy.place.protocol import Placer
from penstock.policy.place.values import (
    Device,
    Footprint,
    Infeasible,
    Placement,
    by_id,
    gib,
)


@dataclass(frozen=True, slots=True)
class Deployed:
    """A running deployment. ``movable`` says whether it may be interrupted."""

    name: str
    placement: Placement
    movable: bool = True


@dataclass(frozen=True, slots=True)
class MoveRates:
    """Transfer rates of weights between devices of a node and between nodes, in bytes/s and one
    way. ``restart_s`` is the further time to stop and restart an engine."""

    link_bytes_per_s: float
    node_bytes_per_s: float
    restart_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Move:
    """The move of one deployment. ``moved_bytes`` are the bytes that devices need and do not have
    yet; ``downtime_s`` is the time without this deployment."""

    name: str
    before: Placement
    after: Placement
    moved_bytes: int
    downtime_s: float


@dataclass(frozen=True, slots=True)
class Migration:
    """Moves in order, and the placement of the new deployment after them.

    ``in_turn`` says that each move fits while all later deployments still run in their old places.
    Otherwise all of them must stop before the first restarts, and each is down for the whole time.
    ``num_tried`` sets of deployments were tried of ``num_sets``.
    """

    moves: tuple[Move, ...]
    placement: Placement
    in_turn: bool
    num_tried: int
    num_sets: int
    explanation: str

    @property
    def moved_bytes(self) -> int:
        """Bytes of all moves."""
        return sum(move.moved_bytes for move in self.moves)

    @property
    def downtime_s(self) -> float:
        """Seconds without service, summed over the moved deployments."""
        return sum(move.downtime_s for move in self.moves)


@dataclass(frozen=True, slots=True)
class Defragmenter:
    """Finds the cheapest moves that make room, among those tried.

    Candidates are sets of at most ``max_moves`` deployments with a common node, ordered by: enough
    memory on their nodes, small sets, few bytes. For each set, ``placer`` places the new deployment
    and the set again, in either order. Of at most ``max_sets`` sets, the one with the least
    downtime wins, then the one with the fewest moved bytes. So the answer is the cheapest of those
    tried, not of all.
    """

    placer: Placer
    rates: MoveRates
    max_moves: int = 2
    max_sets: int = 500

    def make_room(self, footprint: Footprint, devices: Sequence[Device],
                  deployed: Sequence[Deployed]) -> Migration | Infeasible:
        """Return how the footprint fits, with moves where necessary (none where it fits as it is).

        ``devices`` include the memory of all present deployments. The reason of an Infeasible is
        the placer's, with the number of sets tried.
        """
        direct = self.placer.place(footprint, devices)
        if isinstance(direct, Placement):
            return Migration((), direct, True, 0, 0, f"{footprint.model} fits without moves")
        known = by_id(devices)
        emptied = _changed(known, (each.placement for each in deployed if each.movable), -1)
        if isinstance(self.placer.place(footprint, list(emptied.values())), Infeasible):
            return replace(direct,
                           reason=f"{direct.reason}; it would not fit even if everything that "
                           "may move were gone")
        sets = _sets(footprint, [each for each in deployed if each.movable], known, self.max_moves)
        best: Migration | None = None
        tried = sets[:self.max_sets]
        for lifted in tried:
            for found in self._with(footprint, known, lifted):
                if best is None or _cost(found) < _cost(best):
                    best = found
        searched = f"{len(tried)} of {len(sets)} sets of at most {self.max_moves} moves were tried"
        if best is None:
            return Infeasible(f"{direct.reason}; no moves make room: {searched}", direct.max_layers,
                              direct.short_bytes)
        return replace(best, num_tried=len(tried), num_sets=len(sets),
                       explanation=_explained(footprint, direct, best, searched))

    def _with(self, footprint: Footprint, devices: Mapping[int, Device],
              lifted: Sequence[Deployed]) -> Iterator[Migration]:
        """Yield the placements of the new deployment and of the moved set."""
        bare = _changed(devices, (each.placement for each in lifted), -1)
        nodes = {node for each in lifted for node in _nodes(each, devices)}
        newcomer = self.placer.place(footprint, [d for d in bare.values() if d.node in nodes])
        if isinstance(newcomer, Infeasible):
            newcomer = self.placer.place(footprint, list(bare.values()))
        if isinstance(newcomer, Infeasible):
            return
        back = sorted(lifted, key=lambda each: (-each.placement.footprint.total_bytes, each.name))
        wanted = [each.placement.footprint for each in back]
        behind = self._one_by_one(wanted, _changed(bare, [newcomer], 1))
        if behind is not None:
            yield self._migration(devices, list(zip(back, behind, strict=True)), newcomer)
        before = self._one_by_one([*wanted, footprint], bare)
        if before is not None:
            yield self._migration(devices, list(zip(back, before[:-1], strict=True)), before[-1])

    def _one_by_one(self, order: Sequence[Footprint],
                    devices: Mapping[int, Device]) -> list[Placement] | None:
        left, placed = dict(devices), []
        for wanted in order:
            found = self.placer.place(wanted, list(left.values()))
            if isinstance(found, Infeasible):
                return None
            placed.append(found)
            left = _changed(left, [found], 1)
        return placed

    def _migration(self, devices: Mapping[int, Device],
                   pairs: Sequence[tuple[Deployed, Placement]], newcomer: Placement) -> Migration:
        """Return the moves of these pairs, in an order in which each fits if there is one."""
        moves = [self._move(each, after, devices) for each, after in pairs
                 if after != each.placement]
        ordered = next((list(order) for order in permutations(moves)
                        if _fits_in_turn(order, devices)), None)
        in_turn = ordered is not None
        if ordered is None:
            whole_s = sum(move.downtime_s for move in moves)
            ordered = [replace(move, downtime_s=whole_s) for move in moves]
        return Migration(tuple(ordered), newcomer, in_turn, 0, 0, "")

    def _move(self, each: Deployed, after: Placement, devices: Mapping[int, Device]) -> Move:
        arriving = arriving_bytes(each.placement, after)
        old_nodes = {devices[device].node for device in each.placement.device_ids}
        seconds = 0.0
        for device, count in arriving.items():
            near = devices[device].node in old_nodes
            rate = self.rates.link_bytes_per_s if near else self.rates.node_bytes_per_s
            seconds = max(seconds, count / rate)
        return Move(each.name, each.placement, after, sum(arriving.values()),
                    seconds + self.rates.restart_s)


def arriving_bytes(before: Placement, after: Placement) -> dict[int, int]:
    """Return the bytes that each device of the new placement needs and does not have.

    A device keeps the layers that it holds as the same rank of a tensor-parallel group, and
    likewise embedding or head. ``fixed_bytes`` are allocated, not moved.
    """
    had = _contents(before)
    footprint = after.footprint
    found = {}
    for device, (rank, layers, first, last) in _contents(after).items():
        old_rank, old_layers, old_first, old_last = had.get(device, (-1, range(0), False, False))
        kept = old_rank == rank
        common = len(range(max(layers.start, old_layers.start), min(layers.stop, old_layers.stop)))
        new = (len(layers) - (common if kept else 0)) * footprint.layer_bytes
        new += footprint.first_bytes if first and not (kept and old_first) else 0
        new += footprint.last_bytes if last and not (kept and old_last) else 0
        found[device] = new
    return found


def _contents(placement: Placement) -> dict[int, tuple[int, range, bool, bool]]:
    """Return by device: rank in its group, layers, and whether it has the first and the last
    stage."""
    found, start = {}, 0
    for index, stage in enumerate(placement.stages):
        layers = range(start, start + stage.num_layers)
        start = layers.stop
        for rank, device in enumerate(stage.device_ids):
            found[device] = (rank, layers, index == 0, index == len(placement.stages) - 1)
    return found


def _sets(footprint: Footprint, movable: Sequence[Deployed], devices: Mapping[int, Device],
          max_moves: int) -> list[tuple[Deployed, ...]]:
    """Return sets of deployments with a common node, the most promising first."""
    free: dict[str, int] = {}
    for device in devices.values():
        free[device.node] = free.get(device.node, 0) + device.free_bytes
    nodes = {each.name: _nodes(each, devices) for each in movable}
    by_node: dict[str, list[Deployed]] = {}
    for each in sorted(movable, key=lambda each: each.name):
        for node in sorted(nodes[each.name]):
            by_node.setdefault(node, []).append(each)
    found = {tuple(each.name for each in those): those for neighbours in by_node.values()
             for size in range(1, max_moves + 1) for those in combinations(neighbours, size)}

    def rank(names: tuple[str, ...]) -> tuple[bool, int, int, tuple[str, ...]]:
        lifted = sum(each.placement.footprint.total_bytes for each in found[names])
        near = sum(free[node] for node in set().union(*(nodes[name] for name in names)))
        return near + lifted < footprint.total_bytes, len(names), lifted, names

    return [found[names] for names in sorted(found, key=rank)]


def _nodes(each: Deployed, devices: Mapping[int, Device]) -> set[str]:
    return {devices[device].node for device in each.placement.device_ids}


def _changed(devices: Mapping[int, Device], placements: Iterable[Placement],
             sign: int) -> dict[int, Device]:
    """Return the devices with these placements added (1) or removed (-1)."""
    found = dict(devices)
    for placement in placements:
        for device, held in placement.bytes_by_device.items():
            found[device] = replace(found[device],
                                    used_bytes=max(0, found[device].used_bytes + sign * held))
    return found


def _fits_in_turn(moves: Sequence[Move], devices: Mapping[int, Device]) -> bool:
    """Whether each move fits while all later deployments are still in their places."""
    left = dict(devices)
    for move in moves:
        left = _changed(left, [move.before], -1)
        if any(held > left[device].free_bytes
               for device, held in move.after.bytes_by_device.items()):
            return False
        left = _changed(left, [move.after], 1)
    return True


def _cost(migration: Migration) -> tuple[float, int, int]:
    return migration.downtime_s, migration.moved_bytes, len(migration.moves)


def _explained(footprint: Footprint, direct: Infeasible, found: Migration, searched: str) -> str:
    moves = "; ".join(
        f"move {move.name} from devices {_listed(move.before)} to {_listed(move.after)} "
        f"({gib(move.moved_bytes)}, down for {move.downtime_s:.1f} s)" for move in found.moves)
    how = "one after another" if found.in_turn else "stopping all of them first"
    return (f"{direct.reason}. To make room, {how}: {moves}; then {footprint.model} goes to "
            f"devices {_listed(found.placement)}. {searched}")


def _listed(placement: Placement) -> str:
    return ", ".join(str(device) for device in placement.device_ids)
