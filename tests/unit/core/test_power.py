"""Power curves and carbon intensity."""

from math import inf

import pytest

from penstock.core.errors import InputError
from penstock.core.power import CarbonIntensity, PowerCurve

DAY = CarbonIntensity((100.0, 200.0, 300.0), (5.0, 1.0, 3.0), 400.0)


def test_power_is_linear_between_idle_mid_and_full():
    curve = PowerCurve(100.0, 250.0, 350.0, 0.6)
    assert [curve.watts(share) for share in (0.0, 0.3, 0.6, 0.8, 1.0)] \
        == pytest.approx([100.0, 175.0, 250.0, 300.0, 350.0])
    assert curve.watts(1.2) == 350.0


def test_without_a_middle_point_power_is_a_straight_line():
    assert PowerCurve.of(100.0, 300.0).watts(0.25) == pytest.approx(150.0)
    assert PowerCurve.of(100.0, 300.0, 250.0).mid_utilization == 0.6


@pytest.mark.parametrize(("values", "text"), [
    ((300.0, 250.0, 350.0), "expected each at least the one before"),
    ((100.0, 400.0, 350.0), "expected each at least the one before"),
    ((100.0, 250.0, 350.0, 1.0), "between 0 and 1")])
def test_a_curve_that_falls_is_refused(values, text):
    with pytest.raises(InputError, match=text):
        PowerCurve(*values)


def test_a_series_holds_from_each_time_to_the_next():
    once = CarbonIntensity((100.0, 200.0), (5.0, 1.0))
    assert [once.at(time_s) for time_s in (0.0, 150.0, 200.0, 1e6)] == [5.0, 5.0, 1.0, 1.0]
    assert once.changes
    assert not CarbonIntensity.constant(3.0).changes


def test_a_repeated_series_begins_with_its_last_value():
    assert [DAY.at(time_s) for time_s in (0.0, 100.0, 250.0, 399.0, 400.0, 500.0, 650.0)] \
        == [3.0, 5.0, 1.0, 3.0, 3.0, 5.0, 1.0]


@pytest.mark.parametrize(("from_s", "to_s", "lowest"), [
    (100.0, 150.0, 5.0), (100.0, 200.0, 1.0), (300.0, 550.0, 3.0), (350.0, 600.0, 1.0),
    (0.0, 4000.0, 1.0), (500.0, 500.0, 5.0)])
def test_the_lowest_intensity_of_an_interval(from_s, to_s, lowest):
    assert DAY.lowest(from_s, to_s) == lowest


def test_the_end_of_a_clean_time():
    assert DAY.until(250.0, 2.0) == 300.0
    assert DAY.until(250.0, 4.0) == 500.0  # of the next round
    assert DAY.until(310.0, 3.5) == 500.0
    assert DAY.until(120.0, 4.0) == 120.0
    assert DAY.until(0.0, 9.0) == inf
    assert CarbonIntensity((0.0, 100.0), (5.0, 1.0)).until(150.0, 1.0) == inf
