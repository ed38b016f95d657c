"""How many layers fit, how they are spread, and what is said where they do not fit."""

import pytest

from penstock.core.units import GIB
from penstock.policy.place.layers import room, shortfall, spread
from support.small_placements import footprint, node


@pytest.mark.parametrize(("num_layers", "rooms", "expected"), [
    (80, [80, 80, 80, 80], (20, 20, 20, 20)),
    (10, [9, 9, 9, 9], (3, 3, 2, 2)),
    (80, [57, 23], (57, 23)),
    (80, [23, 57], (23, 57)),
    (80, [10, 80, 80, 80], (10, 24, 23, 23)),
    (7, [1, 2, 9], (1, 2, 4)),
    (3, [5, 5, 5], (1, 1, 1)),
    (5, [5], (5,)),
    (6, [2, 3, 3], (2, 2, 2)),
    (7, [2, 3, 3], (2, 3, 2)),
    (81, [57, 23], None),
    (2, [5, 5, 5], None),
    (2, [0, 5], None),
    (1, [], None),
])
def test_layers_are_as_even_as_rooms_allow(num_layers: int, rooms: list[int],
                                           expected: tuple[int, ...] | None) -> None:
    assert spread(num_layers, rooms) == expected


def test_room_counts_what_a_stage_holds_beside_its_layers() -> None:
    wanted = footprint(40, layer_bytes=10, first=15, last=25, fixed=3)
    assert room(wanted, 103) == 10
    assert room(wanted, 102) == 9
    assert room(wanted, 103, first=True) == 8
    assert room(wanted, 103, last=True) == 7
    assert room(wanted, 103, first=True, last=True) == 6
    assert room(wanted, 2) == 0
    assert room(wanted, 10_000) == 40


def test_a_shortfall_says_which_devices_are_missing() -> None:
    few = shortfall(footprint(8, tensor=2, pipeline=2), node(9, 9, 9))
    assert few.reason == "m at tp 2 pp 2 needs 4 devices, there are 3"
    thin = shortfall(footprint(8, pipeline=3, layer_bytes=GIB, fixed=GIB),
                     node(9 * GIB, 2 * GIB, GIB, GIB // 2))
    assert "3 devices with 2.00 GiB free" in thin.reason
    assert "2 of 4 have it: 1.00 GiB are short" in thin.reason
    assert (thin.max_layers, thin.short_bytes) == (0, GIB)
    flat = shortfall(footprint(2, pipeline=3), node(9, 9, 9))
    assert flat.reason == "m at tp 1 pp 3 has 2 layers, fewer than stages"


def test_a_shortfall_says_how_many_layers_fit_and_at_which_size_all_would() -> None:
    found = shortfall(footprint(10, tensor=2, pipeline=2, layer_bytes=GIB),
                      node(5 * GIB, 5 * GIB, 4 * GIB, 3 * GIB))
    assert (found.max_layers, found.short_bytes) == (8, 4 * GIB)
    assert "can hold 8 of 10 layers at 1.00 GiB each: 4.00 GiB are short" in found.reason
    # 6 layers on one stage need 5/6 GiB each, 4 on the other 3/4.
    assert found.reason.endswith("8 layers would fit, or all of them at 0.75 GiB each")


def test_no_size_of_layers_helps_an_end_that_is_too_large() -> None:
    found = shortfall(footprint(4, pipeline=2, layer_bytes=10, first=500), node(100, 100))
    assert found.reason.endswith("at no smaller size")
