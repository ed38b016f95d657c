"""Moves that make room, and their price."""

from dataclasses import replace

import pytest

from penstock.policy.place.defragment import (
    Defragmenter,
    Deployed,
    Migration,
    MoveRates,
    arriving_bytes,
)
from penstock.policy.place.penstock import PenstockPlacer
from penstock.policy.place.values import Device, Infeasible, Placement, Stage, by_id, faults
from support.small_placements import footprint, node

SEARCH = Defragmenter(PenstockPlacer(), MoveRates(10.0, 1.0, restart_s=2.0))


def deployed(name: str, *layers: int, on: tuple[int, ...], movable: bool = True) -> Deployed:
    return Deployed(name, Placement(footprint(sum(layers), 1, len(layers), model=name), tuple(
        Stage(count, (device,)) for count, device in zip(layers, on, strict=True))), movable)


def in_use(devices: list[Device], those: list[Deployed]) -> list[Device]:
    """Devices with these on them."""
    taken = {device.device_id: 0 for device in devices}
    for each in those:
        for device, held in each.placement.bytes_by_device.items():
            taken[device] += held
    return [replace(device, used_bytes=device.used_bytes + taken[device.device_id])
            for device in devices]


def moved(devices: list[Device], those: list[Deployed], layers: int, tensor: int = 1,
          search: Defragmenter = SEARCH) -> Migration:
    found = search.make_room(footprint(layers, tensor, model="new"), in_use(devices, those), those)
    assert isinstance(found, Migration), found
    after = {each.name: each for each in those}
    for move in found.moves:
        after[move.name] = replace(after[move.name], placement=move.after)
    full = in_use(devices, list(after.values()))
    assert all(device.used_bytes <= device.total_bytes for device in full)
    assert faults(found.placement, by_id(full)) == []
    return found


def test_nothing_moves_where_there_is_room() -> None:
    found = moved(node(10, 10), [deployed("a", 4, on=(0,))], 8)
    assert (found.moves, found.placement.device_ids, found.downtime_s) == ((), (1,), 0.0)
    assert found.explanation == "new fits without moves"


def test_the_smaller_of_two_moves_aside() -> None:
    found = moved(node(10, 10), [deployed("a", 4, on=(0,)), deployed("b", 3, on=(1,))], 8)
    move, = found.moves
    assert (move.name, move.after.device_ids, found.placement.device_ids) == ("b", (0,), (1,))
    assert (move.moved_bytes, move.downtime_s) == (3, pytest.approx(3 / 10 + 2))
    assert found.in_turn
    assert found.explanation.endswith(
        "To make room, one after another: move b from devices 1 to 0 (3 bytes, down for 2.3 s); "
        "then new goes to devices 1. 3 of 3 sets of at most 2 moves were tried")
    assert found.explanation.startswith("new at tp 1 pp 1: the device with most free memory")


def test_a_move_within_a_node_is_cheaper_than_one_to_another() -> None:
    devices = [*node(10, 4), *node(9, name="b", start=2)]
    # Either may go: 4 bytes within the node in 0.4 s, or 3 bytes to another node in 3 s.
    those = [deployed("near", 4, on=(0,)), deployed("far", 3, on=(2,))]
    found = moved(devices, those, 8)
    assert [move.name for move in found.moves] == ["near"]
    assert found.downtime_s == pytest.approx(2.4)
    far = moved(devices, [replace(those[0], movable=False), those[1]], 8)
    assert [(move.name, move.downtime_s) for move in far.moves] == [("far", 5.0)]


def test_two_may_have_to_move() -> None:
    those = [deployed("a", 3, on=(0,)), deployed("b", 3, on=(1,)), deployed("c", 3, on=(2,)),
             deployed("d", 3, on=(3,))]
    found = moved(node(8, 8, 8, 8), those, 8, tensor=2)
    assert len(found.moves) == 2
    assert found.moved_bytes == 6
    assert found.in_turn
    one = replace(SEARCH, max_moves=1)
    stuck = one.make_room(footprint(8, 2, model="new"), in_use(node(8, 8, 8, 8), those), those)
    assert isinstance(stuck, Infeasible)
    assert stuck.reason.endswith("no moves make room: 4 of 4 sets of at most 1 moves were tried")


def test_a_swap_needs_both_to_stop() -> None:
    # Only device 1 is large enough for what comes and a; but a has no room there until b has left,
    # and b none on device 0 until a has.
    devices = node(10, 12)
    those = [deployed("a", 3, on=(0,)), deployed("b", 10, on=(1,))]
    found = moved(devices, those, 9)
    assert not found.in_turn
    assert {move.name: move.after.device_ids for move in found.moves} == {"a": (1,), "b": (0,)}
    assert [move.downtime_s for move in found.moves] == [pytest.approx(2.3 + 3.0)] * 2
    assert "stopping all of them first" in found.explanation


def test_the_search_is_bounded() -> None:
    those = [deployed(f"d{index}", 3 + index % 2, on=(index,)) for index in range(8)]
    devices = node(*[10] * 8)
    few = moved(devices, those, 8, search=replace(SEARCH, max_sets=1))
    assert (few.num_tried, few.num_sets) == (1, 36)
    assert few.moves[0].name == "d0"
    fixed = [replace(each, movable=False) for each in those]
    stuck = SEARCH.make_room(footprint(8, model="new"), in_use(devices, those), fixed)
    assert isinstance(stuck, Infeasible)
    assert stuck.reason.endswith("; it would not fit even if everything that may move were gone")


def test_sets_have_a_node_in_common() -> None:
    devices = [*node(8, 8), *node(8, 8, name="b", start=2)]
    those = [deployed(name, 3, on=(index,)) for index, name in enumerate("abcd")]
    found = moved(devices, those, 6)
    assert found.num_sets == 4 + 2


def test_what_a_device_has_already_does_not_move() -> None:
    wanted = footprint(10, 1, 2, layer_bytes=10, first=3, last=5, fixed=7)
    before = Placement(wanted, (Stage(6, (0,)), Stage(4, (1,))))
    assert arriving_bytes(before, before) == {0: 0, 1: 0}
    assert arriving_bytes(before, Placement(wanted, (Stage(4, (0,)), Stage(6, (1,))))) == {
        0: 0, 1: 20}
    assert arriving_bytes(before, Placement(wanted, (Stage(7, (0,)), Stage(3, (2,))))) == {
        0: 10, 2: 35}
    swapped = arriving_bytes(before, Placement(wanted, (Stage(5, (1,)), Stage(5, (0,)))))
    assert swapped == {1: 53, 0: 45}
    # As another rank of the group a device has other parts of the same layers.
    pair = footprint(4, 2, 1, layer_bytes=10)
    assert arriving_bytes(Placement(pair, (Stage(4, (0, 1)),)),
                          Placement(pair, (Stage(4, (1, 2)),))) == {1: 40, 2: 40}
