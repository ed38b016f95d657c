"""Exact placement: the best there is, alone and together, and what is said where there is none."""

from fractions import Fraction

import pytest

from penstock.core.errors import InputError
from penstock.core.units import GIB
from penstock.plan.place.exact import ExactPlacer, ExactPlan, place_exact, quick, settled
from penstock.plan.place.objective import LEVELS, Level, objective
from penstock.plan.place.program import build_program, decode, encode, level_terms
from penstock.policy.place.penstock import PenstockPlacer
from penstock.policy.place.score import Score, score
from penstock.policy.place.values import (
    Device,
    Footprint,
    Infeasible,
    Placement,
    by_id,
    faults,
)
from penstock.published.maveriq.placer import MaveriqPlacer
from support.small_placements import best_by_trying_all, footprint, node


def solved(footprints: list[Footprint], devices: list[Device], **options: float) -> ExactPlan:
    found = place_exact(footprints, devices, **options)
    assert isinstance(found, ExactPlan), found
    return found


CASES = [
    (footprint(80, 2, 2), node(57, 60, 23, 30, links="xxyy")),
    (footprint(80, 2, 4, first=3, last=2), node(40, 12, 33, 25, 41, 18, 22, 30, links="xxyyzzww")),
    (footprint(30, 1, 3, first=5, last=9), node(12, 11, 18, 30, 13, 9)),
    (footprint(20, 4, 2, fixed=2), node(9, 20, 14, 14, 14, 15, 30, 16, links="xxyyzzww")),
    (footprint(24, 3, 2), node(9, 20, 14, 14, 14, 15, 30, 16, links="xxxxyyyy")),
    (footprint(20, 1, 4), [*node(9, 9, 4), *node(9, 3, 9, name="b", start=3)]),
    (footprint(20, 2, 3, first=2), [*node(9, 9, 9, 8), *node(9, 3, 9, 8, name="b", start=4)]),
    (footprint(8, 4, 1), [*node(9, 9), *node(9, 9, name="b", start=2)]),
    (footprint(12, 2, 2, last=1), [*node(9, 9, 9), *node(9, name="b", start=3)]),
    (footprint(9, 1, 3, first=4), [*node(7, 2), *node(2, 7, name="b", start=2)]),
    (footprint(50), node(80, 50, 51, 20)),
]


@pytest.mark.parametrize(("wanted", "devices"), CASES)
def test_it_finds_what_trying_everything_finds(wanted: Footprint, devices: list[Device]) -> None:
    best = best_by_trying_all(wanted, devices)
    plan = solved([wanted], devices)
    placement = plan.placements[0]
    assert faults(placement, by_id(devices)) == []
    assert score(placement, by_id(devices)) == best
    assert plan.proven
    assert [level.gap for level in plan.levels] == [0.0] * 5
    assert ExactPlacer().place(wanted, devices) == placement


@pytest.mark.parametrize(("wanted", "devices"), CASES)
def test_columns_stand_for_placements(wanted: Footprint, devices: list[Device]) -> None:
    placement = solved([wanted], devices).placements[0]
    built = build_program([wanted], devices, across=True)
    values = encode(built, [placement])
    for name, value in zip(LEVELS, objective([placement], by_id(devices)), strict=True):
        terms, constant = level_terms(built, name)
        total = constant + sum(values[column] * each for column, each in terms.items())
        assert total == pytest.approx(float(value)), name
    arrays = built.program.arrays()
    assert (arrays.lower <= values).all()
    assert (values <= arrays.upper).all()
    for row in range(len(arrays.row_lower)):
        span = slice(arrays.starts[row], arrays.starts[row + 1])
        held = float(values[arrays.index[span]] @ arrays.value[span])
        assert held <= arrays.row_upper[row] + 1e-9
    again = settled(decode(built, values), by_id(devices))
    assert again is not None
    assert objective(again, by_id(devices)) == objective([placement], by_id(devices))


def test_it_is_better_than_quick_placement_where_that_is_possible() -> None:
    # The quick placer puts the end with the greater extra on the roomiest pair.
    wanted, devices = CASES[1]
    quick_one = PenstockPlacer().place(wanted, devices)
    mark = score(solved([wanted], devices).placements[0], by_id(devices))
    if isinstance(quick_one, Placement):
        assert mark <= score(quick_one, by_id(devices))
    torn = MaveriqPlacer("none").place(*CASES[0])
    assert isinstance(torn, Placement)
    assert torn.layer_map == (57, 23)


def test_models_share_devices_when_placed_together() -> None:
    devices = node(48, 48, links="xx")
    plan = solved([footprint(40, 2, 1, model="a"), footprint(8, 2, 1, model="b")], devices)
    assert [placement.device_ids for placement in plan.placements] == [(0, 1), (0, 1)]
    assert [placement.footprint.model for placement in plan.placements] == ["a", "b"]


def test_together_they_fit_where_one_after_another_does_not() -> None:
    # The larger one alone would take device 0; the smaller one then finds no room.
    devices = node(10, 12, 7)
    wanted = [footprint(10, model="a"), footprint(7, model="b"), footprint(12, model="c")]
    assert quick(wanted, devices) is not None
    # Even halves of the pipeline would leave 5 and 5; beside it 8 layers need a device.
    pair = [footprint(12, 1, 2, model="a"), footprint(8, model="b")]
    tight = node(10, 10)
    assert quick(pair, tight) is None
    plan = solved(pair, tight)
    assert sorted(plan.placements[0].layer_map) == [2, 10]
    assert plan.levels[3] == Level("largest_stage", Fraction(10, 12) + 1, Fraction(10, 12) + 1)


def test_levels_count_several_models_as_a_whole() -> None:
    devices = by_id(node(10, 20, 30))
    both = [solved([footprint(10)], node(10)).placements[0],
            solved([footprint(8, 1, 2)], node(10, 20)).placements[0]]
    assert objective(both, devices) == (0, 0, 0, Fraction(3, 2), 30 - 18)


def test_one_model_that_does_not_fit_is_explained() -> None:
    found = place_exact([footprint(10, 2, 2, layer_bytes=GIB)],
                        node(5 * GIB, 5 * GIB, 4 * GIB, 4 * GIB))
    assert isinstance(found, Infeasible)
    assert (found.max_layers, found.short_bytes) == (9, 2 * GIB)
    ends = place_exact([footprint(5, 1, 2, layer_bytes=10, first=95, last=95)], node(200, 99))
    assert isinstance(ends, Infeasible)
    assert ends.reason == ("m at tp 1 pp 2: no choice of devices has room for what the first and "
                           "last stage hold beside layers")


def test_what_does_not_fit_together_says_without_which_it_would() -> None:
    devices = node(10 * GIB, 10 * GIB)
    wanted = [footprint(9, layer_bytes=GIB, model="a"), footprint(8, layer_bytes=GIB, model="b"),
              footprint(3, layer_bytes=GIB, model="c")]
    found = place_exact(wanted, devices)
    assert isinstance(found, Infeasible)
    assert found.reason == ("a, b, c do not fit together: they need 20.00 GiB, 20.00 GiB are free; "
                            "without c the rest would fit")
    more = place_exact([*wanted, footprint(9, layer_bytes=GIB, model="d")], devices)
    assert isinstance(more, Infeasible)
    assert more.reason.endswith("leaving out one of them does not do")
    assert more.short_bytes == 9 * GIB
    alone = place_exact([*wanted, footprint(99, layer_bytes=GIB, model="e")], devices)
    assert isinstance(alone, Infeasible)
    assert alone.reason.startswith("e at tp 1 pp 1: the device with most")


def test_rounding_of_the_solver_takes_no_memory_that_is_not_there() -> None:
    free = 80 * GIB
    over = [footprint(1, layer_bytes=free // 2, model="a"),
            footprint(1, layer_bytes=free // 2 + 20, model="b")]
    assert isinstance(place_exact(over, node(free)), Infeasible)
    fits = [over[0], footprint(1, layer_bytes=free // 2, model="b")]
    assert solved(fits, node(free)).proven


def test_out_of_time_is_not_called_impossible() -> None:
    pair = [footprint(12, 1, 2, model="a"), footprint(8, model="b")]
    found = place_exact(pair, node(10, 10), time_limit_s=0.0)
    assert isinstance(found, Infeasible)
    assert found.reason == "a, b: no placement was found in time; whether there is one is open"
    wanted, devices = footprint(40), node(90, 80, 40)
    rushed = solved([wanted, wanted], devices, time_limit_s=0.0)
    assert faults(rushed.placements[0], by_id(devices)) == []
    assert all(level.bound <= level.value for level in rushed.levels)
    assert not rushed.proven
    assert rushed.levels[-1].gap > 0.0


def test_too_many_groups_are_refused() -> None:
    with pytest.raises(InputError, match="735471 groups of 8 devices, expected at most 20000; "
                                         "place it with 'penstock'"):
        place_exact([footprint(80, 8)], node(*[90] * 24))


def test_nothing_to_place() -> None:
    assert solved([], node(9)).placements == ()


def test_a_whole_node_of_eighty_layers() -> None:
    devices = node(*(int(each * GIB) for each in (47.1, 30.2, 22.9, 47.5, 12.4, 40.8, 33.3, 26.0)),
                   links="xxyyzzww")
    wanted = Footprint("llama-2-70b", 80, 2, 4, int(0.8 * GIB), int(0.3 * GIB), int(0.3 * GIB),
                       int(0.5 * GIB))
    plan = solved([wanted], devices)
    assert plan.proven
    assert score(plan.placements[0], by_id(devices)) == best_by_trying_all(wanted, devices)


def test_a_node_of_sixteen() -> None:
    devices = node(*(20 + 3 * (7 * i % 11) for i in range(16)), links="xxxxxxxxyyyyyyyy")
    plan = solved([footprint(120, 2, 4, first=2)], devices)
    assert plan.proven
    assert score(plan.placements[0], by_id(devices)) == Score(0, 0, 0, 30, plan.levels[4].value)
