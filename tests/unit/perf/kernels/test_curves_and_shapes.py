"""Interpolation along one and two axes, shapes between measured ones, and times made monotone."""

import numpy as np
import pytest

from penstock.core.errors import InputError
from penstock.perf.kernels.curves import NOTHING, BatchPlane, Curve, Plane, total_curve
from penstock.perf.kernels.shapes import (
    clamped_shape,
    monotone,
    monotone_grid,
    monotone_points,
    shortest_at_no_less,
    times_of_shape,
)
from penstock.perf.kernels.tables import read_kernel_tables
from support.kernel_tables import gemm_ms, write_tables

CURVE = Curve((1.0, 2.0, 4.0), (1.0, 3.0, 4.0), 0.5)
PLANE = Plane((1.0, 3.0), (10.0, 20.0, 40.0), ((1.0, 2.0, 4.0), (3.0, 4.0, 9.0)), (20.0, 40.0),
              0.25, 0.1)


@pytest.mark.parametrize(("value", "seconds"), [
    (0.0, 1.0), (1.0, 1.0), (1.5, 2.0), (2.0, 3.0), (3.0, 3.5), (4.0, 4.0), (6.0, 5.0)])
def test_a_curve_is_linear_between_knots_and_goes_on(value, seconds):
    assert CURVE.at(value) == pytest.approx(seconds)


def test_calls_and_units_of_a_curve():
    many = CURVE.times(3.0, unit=2.0)  # inputs in pairs
    assert [many.at(x / 2) for x in (1, 3, 6)] == pytest.approx([3 * CURVE.at(x)
                                                                 for x in (1, 3, 6)])


@pytest.mark.parametrize("value", [0.5, 1.0, 1.7, 3.0, 5.0, 9.0])
def test_a_sum_of_curves_is_their_sum_everywhere(value):
    other = Curve((1.5, 5.0), (0.1, 0.8), 0.2)
    total = total_curve((CURVE, NOTHING, other))
    # A curve between its last knot and another's goes on at its own rate.
    assert total.at(value) == pytest.approx(CURVE.at(value) + other.at(value))


def test_a_sum_of_nothing_is_nothing():
    assert total_curve(()) is NOTHING
    assert NOTHING.at(100.0) == 0.0


@pytest.mark.parametrize(("x", "y", "seconds"), [
    (1, 10, 1.0), (3, 40, 9.0), (2, 10, 2.0), (1, 15, 1.5), (2, 30, (3.0 + 6.5) / 2),
    (0, 0, 1.0), (5, 10, 3.5), (1, 50, 5.0), (5, 50, 9.0 + 0.5 + 1.0)])
def test_a_plane_is_bilinear_and_goes_on(x, y, seconds):
    assert PLANE.at(x, y) == pytest.approx(seconds)


@pytest.mark.parametrize(("x", "y", "inside"), [
    (1, 20, True), (1, 21, False), (2, 30, True), (2, 31, False), (3, 40, True), (4, 10, False)])
def test_a_plane_knows_what_was_measured(x, y, inside):
    assert PLANE.covers(x, y) is inside


@pytest.mark.parametrize(("count", "total", "seconds"), [
    (1, 15, 1.5), (2, 60, (3.0 + 6.5) / 2), (1, 50, 4.0 + 10 * 0.7), (5, 50, 3.0 + 0.5 + 20 * 0.7)])
def test_a_batch_is_looked_up_by_its_mean(count, total, seconds):
    batches = BatchPlane(PLANE, 0.7)
    assert batches.at(count, total) == pytest.approx(seconds)
    assert batches.times(2.0).at(count, total) == pytest.approx(2 * seconds)
    assert batches.covers(count, total) is PLANE.covers(count, total / count)


def test_a_measured_shape_is_taken_as_it_is(tmp_path):
    table = read_kernel_tables(write_tables(tmp_path), "toy").table("gemm")
    found = times_of_shape(table, {"n": 1024, "k": 512}, ("m",))
    assert found[(64.0,)] == pytest.approx(gemm_ms(64, 1024, 512) / 1e3, rel=1e-12)


def test_a_shape_between_is_interpolated_in_logarithms(tmp_path):
    table = read_kernel_tables(write_tables(tmp_path), "toy").table("gemm")
    middle = times_of_shape(table, {"n": 2**10.5, "k": 512}, ("m",))[(8.0,)]
    assert middle == pytest.approx((gemm_ms(8, 1024, 512) * gemm_ms(8, 2048, 512)) ** 0.5 / 1e3)


def test_a_shape_outside_is_moved_inside(tmp_path):
    table = read_kernel_tables(write_tables(tmp_path), "toy").table("gemm")
    assert clamped_shape(table, {"n": 9999, "k": 8}) == {"n": 4096, "k": 512}


def test_sparse_shapes_are_bracketed_by_what_is_there(tmp_path):
    # Only 16 heads have 8 key and value heads; beside 8 heads the most is 4.
    table = read_kernel_tables(write_tables(tmp_path), "toy").table("context_attention")
    eight = table.rows((table.columns["num_heads"] == 16) & (
        table.columns["num_key_value_heads"] == 4))
    assert clamped_shape(eight, {"num_heads": 12, "num_key_value_heads": 2}) == {
        "num_heads": 16, "num_key_value_heads": 4}


def test_no_common_rows_is_told(tmp_path):
    table = read_kernel_tables(write_tables(tmp_path), "toy").table("gemm")
    apart = table.rows(((table.columns["n"] == 512) & (table.columns["m"] == 1))
                       | ((table.columns["n"] == 1024) & (table.columns["m"] == 8)))
    with pytest.raises(InputError, match="no rows around n 700, k 512"):
        times_of_shape(apart, {"n": 700, "k": 512}, ("m",))


def test_rising_times_are_left_alone():
    times = np.array([[1.0, 2.0], [1.5, 2.5]])
    assert monotone(times) is times


def test_falling_times_meet_in_the_middle():
    assert monotone(np.array([1.0, 4.0, 2.0, 8.0])) == pytest.approx([1, 8**0.5, 8**0.5, 8])


def test_points_that_agree_are_left_alone():
    xs, ys = np.array([1.0, 2.0, 1.0, 2.0]), np.array([1.0, 1.0, 2.0, 2.0])
    times = np.array([1.0, 3.0, 2.0, 4.0])
    assert monotone_points(xs, ys, times).tolist() == times.tolist()


def test_points_that_disagree_meet_in_the_middle():
    # (2, 1) does more than (1, 1) in a ninth of the time.
    found = monotone_points(np.array([1.0, 2.0, 9.0]), np.array([1.0, 1.0, 9.0]),
                            np.array([9.0, 1.0, 20.0]))
    assert found == pytest.approx([3.0, 3.0, 20.0])


def test_a_grid_goes_through_its_points_and_rises():
    xs, ys = np.array([1.0, 2.0, 4.0]), np.array([1.0, 3.0, 9.0])
    points = {(1.0, 1.0): 1.0, (2.0, 3.0): 4.0, (4.0, 9.0): 9.0}
    wild = np.array([[7.0, 0.5, 8.0], [3.0, 2.0, 5.0], [0.1, 99.0, 1.0]])
    found = monotone_grid(xs, ys, wild, points)
    assert (found[0, 0], found[1, 1], found[2, 2]) == (1.0, 4.0, 9.0)
    assert (np.diff(found, axis=0) >= 0).all()
    assert (np.diff(found, axis=1) >= 0).all()
    assert found[1, 0] == 3.0


def test_the_shortest_of_those_that_do_more_counts():
    found = shortest_at_no_less(np.array([1.0, 2.0, 9.0]), np.array([1.0, 1.0, 9.0]),
                                np.array([9.0, 1.0, 20.0]))
    assert found.tolist() == [1.0, 1.0, 20.0]
