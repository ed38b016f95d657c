"""Curves of long runs keep their extremes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.report.html.steps import (
    FINE_POINTS,
    MOST_POINTS,
    Curves,
    kept_points,
    time_unit,
    weighted_steps,
)
from support.scaled_runs import event, group, scaling


@given(st.integers(1, 5), st.integers(20, 3000), st.integers(20, 500), st.integers(0, 99))
def test_few_points_keep_the_extremes_and_the_ends(num_rows, num, most, seed):
    random = np.random.default_rng(seed)
    x = np.sort(random.uniform(0.0, 1e6, num))
    rows = [random.normal(size=num) for _ in range(num_rows)]
    kept = kept_points(x, rows, most)
    assert len(kept) <= max(most, 2 * num_rows + 2)
    assert (kept[0], kept[-1]) == (0, num - 1)
    assert (np.diff(kept) > 0).all()
    for row in rows:
        assert (row[kept].min(), row[kept].max()) == (row.min(), row.max())


def test_every_bucket_keeps_its_own_extremes():
    x = np.arange(100_000.0)
    row = np.zeros(len(x))
    row[5_050::10_000] = 7.0
    row[8_050::10_000] = -3.0
    kept = kept_points(x, [row], 200)
    assert (row[kept] == 7.0).sum() == 10
    assert (row[kept] == -3.0).sum() == 10


def test_what_is_unknown_hides_no_extreme():
    row = np.tile([np.nan, 0.5, 1.0, np.nan], 1000)
    row[1234] = 0.1
    kept = kept_points(np.arange(4000.0), [row], 300)
    assert np.nanmin(row[kept]) == 0.1
    assert np.nanmax(row[kept]) == 1.0


def test_curves_have_few_points_first_and_finer_ones_for_zooming():
    curves = Curves(14 * 86_400.0)
    x = np.linspace(0.0, 14 * 86_400.0, 50_000)
    curves.add(x[:100], [x[:100]], [{"name": "short"}])
    curves.add(x, [np.sin(x), np.cos(x)], [{"name": "a"}, {"name": "b"}])
    short, first, second = curves.traces
    assert len(short["x"]) == 100
    assert len(first["x"]) == len(first["y"]) == len(second["x"]) <= MOST_POINTS
    assert (curves.unit, first["x"][-1]) == ("days", 14.0)
    (fine,) = curves.fine
    assert fine["traces"] == [1, 2]
    assert MOST_POINTS < len(fine["x"]) <= FINE_POINTS
    assert set(first["x"]) <= set(fine["x"])


@pytest.mark.parametrize(("end_s", "unit"), [(2400.0, "seconds"), (86_400.0, "hours"),
                                             (604_800.0, "days")])
def test_the_axis_has_a_unit_that_reads_well(end_s, unit):
    assert time_unit(end_s)[0] == unit


def test_the_bill_follows_all_groups():
    found = scaling([group(), group("b")], [
        event(0.0, target=1), event(0.0, 1, target=2), event(10.0, target=3),
        event(20.0, 1, target=0)], [])
    x, cost = weighted_steps(found, "held", [2.0, 5.0], 30.0)
    assert x.tolist() == [0.0, 10.0, 20.0, 30.0]
    assert cost.tolist() == [12.0, 16.0, 6.0, 6.0]
