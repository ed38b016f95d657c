"""Devices, footprints and placements."""

from dataclasses import replace

import pytest

from penstock.core.errors import InputError
from penstock.core.units import GIB
from penstock.policy.place.score import Score, crossings, score
from penstock.policy.place.values import (
    Device,
    Placement,
    Stage,
    by_id,
    checked,
    faults,
    gib,
)
from support.small_placements import footprint, node


def test_a_buffer_is_never_placed_on() -> None:
    assert Device(0, "a", 100, 30).free_bytes == 70
    assert Device(0, "a", 100, 30, buffer_share=0.1).free_bytes == 60
    assert Device(0, "a", 100, 95, buffer_share=0.1).free_bytes == 0


def test_a_device_without_a_link_group_is_alone() -> None:
    one, other, third = node(1, 1, 1, links="x.x")
    assert one.link == third.link != other.link
    assert replace(one, node="b").link != one.link


def test_a_placement_knows_what_each_device_gives() -> None:
    wanted = footprint(10, 2, 2, layer_bytes=10, first=5, last=7, fixed=1)
    placement = Placement(wanted, (Stage(6, (3, 1)), Stage(4, (0, 2))))
    assert placement.layer_map == (6, 4)
    assert placement.device_ids == (3, 1, 0, 2)
    assert placement.bytes_by_device == {3: 66, 1: 66, 0: 48, 2: 48}
    assert sum(placement.bytes_by_device.values()) == wanted.total_bytes


def test_faults_tell_everything_that_is_wrong() -> None:
    wanted = footprint(10, 1, 2, layer_bytes=GIB)
    devices = by_id(node(6 * GIB, 3 * GIB))
    assert faults(Placement(wanted, (Stage(7, (0,)), Stage(3, (1,)))), devices) == [
        "device 0 has 6.00 GiB free, 7.00 GiB are needed"]
    wrong = faults(Placement(wanted, (Stage(2, (0, 1)), Stage(0, (1,)), Stage(1, (9,)))), devices)
    assert wrong == ["3 stages, expected 2", "3 layers, expected 10",
                     "stage 0 has 2 devices, expected 1", "stage 1 has no layer",
                     "device 1 occurs 2 times", "device 9 is unknown"]
    assert faults(Placement(wanted, (Stage(6, (0,)), Stage(4, (1,)))), devices) == [
        "device 1 has 3.00 GiB free, 4.00 GiB are needed"]


@pytest.mark.parametrize(("change", "message"), [
    ({"num_layers": 0}, "num_layers is 0, expected at least 1"),
    ({"tensor": -1}, "tensor is -1"),
    ({"layer_bytes": 0}, "layer_bytes is 0"),
    ({"fixed_bytes": -5}, "fixed_bytes is -5, expected 0 or more"),
])
def test_a_footprint_that_means_nothing_is_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        checked(replace(footprint(8), **change), node(9))


@pytest.mark.parametrize(("devices", "message"), [
    ([Device(0, "a", 9), Device(0, "b", 9)], "device 0 occurs twice"),
    ([Device(0, "a", 9, -1)], "device 0: -1 bytes of 9 are used"),
    ([Device(0, "a", 9, buffer_share=1.5)], "buffer_share is 1.5, expected 0 to 1"),
])
def test_devices_that_mean_nothing_are_refused(devices: list[Device], message: str) -> None:
    with pytest.raises(InputError, match=message):
        checked(footprint(8), devices)


def test_a_score_counts_splits_crossings_and_what_is_left() -> None:
    devices = by_id([*node(10, 10, 10, 10, links="xxyy"),
                     *node(9, 9, 9, 9, links="xxyy", name="b", start=4)])
    wanted = footprint(12, 2, 3, layer_bytes=2)
    kept = Placement(wanted, (Stage(4, (0, 1)), Stage(4, (2, 3)), Stage(4, (4, 5))))
    assert score(kept, devices) == Score(0, 0, 1, 4, 58 - 48)
    torn = Placement(wanted, (Stage(4, (0, 2)), Stage(5, (1, 4)), Stage(3, (6, 7))))
    assert score(torn, devices) == Score(1, 2, 2, 5, 57 - 48)
    assert score(kept, devices) < score(torn, devices)


def test_a_stage_on_two_nodes_is_never_next_door() -> None:
    assert crossings(["a", "a", "b", "b"]) == 1
    assert crossings(["a", "b", "a"]) == 2
    assert crossings(["a", None, None, "a"]) == 3
    assert crossings(["a"]) == 0


def test_bytes_read_well() -> None:
    assert gib(1.5 * GIB) == "1.50 GiB"
    assert gib(7_000) == "7,000 bytes"
