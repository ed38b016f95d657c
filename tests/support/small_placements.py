"""Small devices and footprints for tests of placement, and every placement there is."""

from collections.abc import Iterator, Sequence
from itertools import combinations, permutations

from penstock.policy.place.layers import room, spread
from penstock.policy.place.score import Score, score
from penstock.policy.place.values import Device, Footprint, Placement, Stage, by_id


def node(*free: int, links: str = "", name: str = "a", start: int = 0,
         busy: Sequence[float] = ()) -> list[Device]:
    """A node's devices by free bytes; ``links`` has a letter for each, a dot for none."""
    return [Device(start + index, name, each, 0, busy[index] if busy else 0.0,
                   links[index].replace(".", "") if links else "")
            for index, each in enumerate(free)]


def footprint(num_layers: int, tensor: int = 1, pipeline: int = 1, layer_bytes: int = 1,
              first: int = 0, last: int = 0, fixed: int = 0, model: str = "m") -> Footprint:
    return Footprint(model, num_layers, tensor, pipeline, layer_bytes, first, last, fixed)


def groupings(devices: Sequence[Device], width: int, count: int
              ) -> Iterator[list[tuple[Device, ...]]]:
    """Every set of so many disjoint groups."""
    if count == 0:
        yield []
        return
    for index in range(len(devices)):
        for others in combinations(devices[index + 1:], width - 1):
            group = (devices[index], *others)
            rest = [device for device in devices[index + 1:] if device not in others]
            for groups in groupings(rest, width, count - 1):
                yield [group, *groups]


def best_by_trying_all(wanted: Footprint, devices: Sequence[Device]) -> Score | None:
    """The best score of all groups in all orders; None if nothing fits. Small cases only."""
    known, best = by_id(devices), None
    for groups in groupings(devices, wanted.tensor, wanted.pipeline):
        for order in permutations(groups):
            rooms = [room(wanted, min(device.free_bytes for device in group), first=index == 0,
                          last=index == wanted.pipeline - 1) for index, group in enumerate(order)]
            layers = spread(wanted.num_layers, rooms)
            if layers is None:
                continue
            found = score(Placement(wanted, tuple(
                Stage(count, tuple(device.device_id for device in group))
                for count, group in zip(layers, order, strict=True))), known)
            best = found if best is None or found < best else best
    return best
