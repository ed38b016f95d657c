"""The quick placer: groups together, even stages, tight fits."""

import pytest

from penstock.core.units import GIB
from penstock.policy.place.penstock import PenstockPlacer
from penstock.policy.place.score import Score, score
from penstock.policy.place.values import Device, Footprint, Infeasible, Placement, by_id
from support.small_placements import best_by_trying_all, footprint, node


def placed(wanted: Footprint, devices: list[Device]) -> Placement:
    found = PenstockPlacer().place(wanted, devices)
    assert isinstance(found, Placement), found
    return found


def groups(found: Placement) -> list[tuple[int, ...]]:
    return [stage.device_ids for stage in found.stages]


def test_a_group_stays_within_a_link_group() -> None:
    # The two roomiest devices are of different pairs.
    assert groups(placed(footprint(4, 2), node(9, 5, 5, 9, links="xxyy"))) == [(0, 1)]
    # Where no pair has room, a group of one node is torn over pairs.
    assert groups(placed(footprint(8, 2), node(9, 5, 5, 9, links="xxyy"))) == [(0, 3)]


def test_a_group_wider_than_link_groups_takes_whole_ones() -> None:
    devices = node(9, 9, 9, 9, 9, 9, links="xyxyzz")
    found = placed(footprint(8, 4), devices)
    assert score(found, by_id(devices)).link_splits == 1
    assert groups(found) == [(0, 1, 2, 3)]


def test_a_pipeline_stays_on_one_node_if_any_holds_it() -> None:
    devices = [*node(9, 9, 2, 2), *node(8, 8, 8, 8, name="b", start=4)]
    assert groups(placed(footprint(24, 1, 3), devices)) == [(4,), (5,), (6,)]
    # With the first node's roomy devices it would be as even, but cross over.
    far = placed(footprint(40, 1, 5), devices)
    assert score(far, by_id(devices)).node_crossings == 1
    assert sum(far.layer_map) == 40


def test_stages_are_uneven_only_where_memory_asks_for_it() -> None:
    assert placed(footprint(80, 2, 2), node(57, 60, 23, 30)).layer_map == (57, 23)
    assert placed(footprint(80, 2, 2), node(99, 99, 99, 99)).layer_map == (40, 40)
    skewed = placed(footprint(80, 1, 4), node(10, 99, 99, 99))
    assert sorted(skewed.layer_map) == [10, 23, 23, 24]


def test_the_tightest_fit_leaves_whole_devices_free() -> None:
    devices = node(90, 50, 45, 90)
    assert groups(placed(footprint(40), devices)) == [(2,)]
    assert set(placed(footprint(80, 1, 2), devices).device_ids) == {1, 2}
    nodes = [*node(90, 90), *node(50, 50, name="b", start=2)]
    assert groups(placed(footprint(40, 2), nodes)) == [(2, 3)]


def test_embedding_and_head_go_where_there_is_room() -> None:
    wanted = footprint(8, 1, 3, layer_bytes=10, first=40, last=20)
    found = placed(wanted, node(30, 70, 50))
    assert groups(found) == [(1,), (0,), (2,)]
    assert found.layer_map == (3, 2, 3) or found.layer_map == (3, 3, 2)


def test_groups_over_nodes_are_the_last_resort() -> None:
    devices = [*node(9, 9), *node(9, 9, name="b", start=2)]
    found = placed(footprint(8, 4), devices)
    assert score(found, by_id(devices)) == Score(1, 3, 0, 8, 4)


def test_serial_numbers_break_ties_whatever_the_order() -> None:
    devices = [device for name in "abc"
               for device in node(9, 9, 9, 9, links="xxyy", name=name, start=4 * (ord(name) - 97))]
    wanted = footprint(12, 2, 2)
    assert groups(placed(wanted, devices)) == [(0, 1), (2, 3)]
    assert placed(wanted, devices[::-1]) == placed(wanted, devices)


def test_what_does_not_fit_is_explained() -> None:
    short = PenstockPlacer().place(footprint(10, 2, 2, layer_bytes=GIB),
                                   node(5 * GIB, 5 * GIB, 4 * GIB, 4 * GIB))
    assert isinstance(short, Infeasible)
    assert (short.max_layers, short.short_bytes) == (9, 2 * GIB)
    ends = PenstockPlacer().place(footprint(3, 1, 2, layer_bytes=10, first=99), node(99, 99))
    assert isinstance(ends, Infeasible)
    assert "first" in ends.reason or ends.max_layers < 3
    none = PenstockPlacer().place(footprint(3), [])
    assert isinstance(none, Infeasible)


@pytest.mark.parametrize("links", ["........", "xxyyzzww", "xxxxyyyy", "xxxxxxxx"])
@pytest.mark.parametrize(("tensor", "pipeline"), [(1, 3), (2, 2), (2, 4), (4, 2)])
def test_on_fresh_devices_it_is_as_good_as_trying_everything(links: str, tensor: int,
                                                             pipeline: int) -> None:
    devices = node(*[48] * 8, links=links)
    wanted = footprint(80, tensor, pipeline, first=2, last=1)
    best = best_by_trying_all(wanted, devices)
    assert score(placed(wanted, devices), by_id(devices)) == best


def test_a_thousand_devices_of_every_size() -> None:
    devices = [device for number in range(125)
               for device in node(*(20 + (7 * number + 13 * i) % 61 for i in range(8)),
                                  links="xxyyzzww", name=f"n{number}", start=8 * number)]
    for tensor, pipeline, num_layers in ((1, 1, 60), (2, 4, 200), (8, 4, 90), (4, 12, 500)):
        found = placed(footprint(num_layers, tensor, pipeline), devices)
        assert sum(found.layer_map) == num_layers
        assert score(found, by_id(devices)).node_splits == 0
