"""MaverIQ's map and its ways to deal devices, worked out by hand."""

from dataclasses import replace

import pytest

from penstock.core.errors import InputError
from penstock.core.units import GIB
from penstock.policy.place.values import Device, Footprint, Infeasible, Placement
from penstock.published.maveriq.placer import MaveriqPlacer, Strategy, round_robin_map
from support.small_placements import footprint, node


def placed(wanted: Footprint, devices: list[Device], strategy: Strategy = "none",
           **options: object) -> Placement:
    found = replace(MaveriqPlacer(strategy), **options).place(wanted, devices)
    assert isinstance(found, Placement), found
    return found


@pytest.mark.parametrize(("num_layers", "tensor", "pipeline", "free", "expected"), [
    # llama-2-70b at TP 2 PP 2 in the published logs: in turn to 23 each, then the rest.
    (80, 2, 2, [60, 57, 30, 23], (57, 23)),
    (80, 4, 2, [50, 50, 46, 46, 40, 36, 35, 34], (46, 34)),   # 70b, TP 4 PP 2
    (28, 4, 2, [24, 24, 24, 24, 4, 4, 4, 4], (24, 4)),        # gptj-6b, TP 4 PP 2
    (80, 2, 2, [40, 40, 40, 40], (40, 40)),                   # balanced where memory allows
    (32, 1, 3, [90, 90, 90], (11, 11, 10)),                   # the first stages take what is over
    (10, 1, 4, [9, 3, 1, 1], (5, 3, 1, 1)),
])
def test_maps_of_the_published_shapes(num_layers: int, tensor: int, pipeline: int, free: list[int],
                                      expected: tuple[int, ...]) -> None:
    found = placed(footprint(num_layers, tensor, pipeline), node(*free))
    assert found.layer_map == expected
    assert found.device_ids == tuple(range(len(free)))


def test_the_map_takes_the_devices_with_most_free_memory() -> None:
    found = placed(footprint(12, 2, 2), node(1, 8, 3, 9, 7, 8))
    assert [stage.device_ids for stage in found.stages] == [(3, 1), (5, 4)]


def test_most_free_is_before_the_buffer_and_room_behind_it() -> None:
    devices = [Device(0, "a", 100, 40, buffer_share=0.5), Device(1, "a", 50, 0)]
    made = round_robin_map(footprint(20, 1, 2), devices)
    assert not isinstance(made, Infeasible)
    assert [group[0].device_id for group in made[1]] == [0, 1]
    assert made[0] == (10, 10)


def test_what_is_left_over_or_empty_is_infeasible() -> None:
    found = MaveriqPlacer("none").place(footprint(20, 2, 2, layer_bytes=GIB),
                                        node(*(gib * GIB for gib in (9, 9, 8, 8))))
    assert isinstance(found, Infeasible)
    assert found.reason.startswith("m: the map [9, 8] has room for 17 of 20 layers; ")
    assert (found.max_layers, found.short_bytes) == (17, 6 * GIB)
    empty = MaveriqPlacer("none").place(footprint(9, 1, 2, layer_bytes=2), node(90, 1))
    assert isinstance(empty, Infeasible)
    assert empty.reason.startswith("m: the map [9, 0] has room for a layer in each of 1 of 2 stage")
    few = MaveriqPlacer().place(footprint(9, 2, 2), node(90, 90))
    assert isinstance(few, Infeasible)
    assert "needs 4 devices, there are 2" in few.reason


BUSY = [0.9, 0.1, 0.6, 0.3, 1.0]


@pytest.mark.parametrize(("strategy", "expected"), [
    ("none", (0, 1)),
    ("llf", (1, 3)),          # least busy first
    ("packing", (0, 2)),      # busiest that is not always busy
    ("hybrid", (2, 3)),       # busiest below 0.7
])
def test_strategies_deal_by_how_busy_devices_are(strategy: Strategy,
                                                 expected: tuple[int, ...]) -> None:
    found = placed(footprint(10, 1, 2), node(9, 9, 9, 9, 9, busy=BUSY), strategy)
    assert found.device_ids == expected


def test_a_device_without_room_is_passed_over() -> None:
    devices = node(9, 2, 9, 9, 9, busy=BUSY)
    assert placed(footprint(10, 1, 2), devices, "llf").device_ids == (3, 2)
    # Sized to the map, so that the smaller stage may have what the larger could not use.
    assert placed(footprint(11, 1, 2), node(9, 2, busy=[0.5, 0.1]), "llf").device_ids == (0, 1)


def test_beyond_the_threshold_the_least_busy_follow_or_the_busiest() -> None:
    devices = node(9, 9, 9, 9, busy=[0.8, 0.9, 1.0, 0.2])
    assert placed(footprint(12, 1, 3), devices, "hybrid").device_ids == (3, 0, 1)
    assert placed(footprint(12, 1, 4), devices, "packing").device_ids == (1, 0, 3, 2)
    assert placed(footprint(12, 1, 2), devices, "hybrid", threshold=0.85).device_ids == (0, 3)


@pytest.mark.parametrize("strategy", ["packing", "hybrid"])
def test_the_endless_loop_is_mended(strategy: Strategy) -> None:
    # Device 0 is idle enough to be offered, but nothing fits on it.
    devices = node(1, 9, 9, busy=[0.5, 1.0, 1.0])
    assert placed(footprint(12, 1, 2), devices, strategy).device_ids == (1, 2)


def test_a_published_deal_may_tear_groups_and_swap_stages() -> None:
    devices = [*node(9, 9, busy=[0.1, 0.4]), *node(9, 9, name="b", start=2, busy=[0.2, 0.3])]
    torn = placed(footprint(8, 2, 2), devices, "llf", as_published=True)
    assert [stage.device_ids for stage in torn.stages] == [(0, 2), (3, 1)]
    # Kept together: device 3 completes the pair of the second node before 1 that of the first.
    kept = placed(footprint(8, 2, 2), devices, "llf")
    assert [stage.device_ids for stage in kept.stages] == [(2, 3), (0, 1)]


def test_a_published_deal_may_give_a_stage_the_devices_of_another() -> None:
    # By memory without its buffer device 0 comes first, so that the second stage is the larger one.
    devices = [Device(0, "a", 100, 0, 0.9, buffer_share=0.95), Device(1, "a", 20, 0, 0.8)]
    kept = placed(footprint(20, 1, 2), devices, "llf")
    assert (kept.layer_map, kept.device_ids) == ((5, 15), (0, 1))
    found = MaveriqPlacer("llf", as_published=True).place(footprint(20, 1, 2), devices)
    assert isinstance(found, Infeasible)
    assert "the map [5, 15] does not hold: device 0 has 5 bytes free, 15 bytes" in found.reason


def test_a_group_goes_over_nodes_only_where_no_node_has_enough() -> None:
    devices = [*node(9, name="a"), *node(9, name="b", start=1)]
    assert placed(footprint(8, 2, 1), devices, "llf").device_ids == (0, 1)


def test_an_embedding_that_was_counted_as_spread_may_not_fit() -> None:
    wanted = footprint(10, 1, 2, layer_bytes=10, first=20)
    assert placed(wanted, node(72, 60), "none").layer_map == (5, 5)
    found = MaveriqPlacer("none").place(wanted, node(60, 60))
    assert isinstance(found, Infeasible)
    assert "the map [5, 5] does not hold: device 0 has 60 bytes free, 70 bytes" in found.reason
    assert found.max_layers == 10


def test_an_unknown_strategy_is_named() -> None:
    with pytest.raises(InputError, match="unknown name 'packed'; did you mean 'packing'"):
        MaveriqPlacer("packed").place(footprint(2), node(9))  # type: ignore[arg-type]
