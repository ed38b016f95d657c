"""Forecasts of a rate: the best one so far is taken."""

from math import exp
from random import Random

import pytest

from penstock.policy.scale.forecast import RateForecast

ALLOWED = 0.002


def fed(rate_at, until_s: float, step_s: float = 10.0, lead_s: float = 120.0) -> RateForecast:
    forecast, count, now_s = RateForecast(lead_s), 0.0, 0.0
    while now_s <= until_s:
        forecast.add(now_s, count, ALLOWED)
        count += step_s * rate_at(now_s)
        now_s += step_s
    return forecast


def test_nothing_is_known_before_arrivals() -> None:
    forecast = RateForecast(60.0)
    forecast.add(0.0, 0.0, ALLOWED)
    assert forecast.best(0.0) is None


def test_forecasts_of_before_any_arrival_are_not_judged() -> None:
    forecast = RateForecast(10.0)
    for now_s in range(100, 500, 30):
        forecast.add(float(now_s), 5.0 * now_s, ALLOWED)
    assert forecast.best(490.0) is not None


def test_a_steady_rate_is_forecast_by_its_mean() -> None:
    found = fed(lambda _: 5.0, 24 * 3600.0).best(24 * 3600.0)
    assert found is not None
    assert found.expected_per_s == pytest.approx(5.0, rel=0.02)
    assert found.bound_per_s(ALLOWED) == pytest.approx(5.0, rel=0.1)
    assert found.covered(6.0) == pytest.approx(1.0, abs=0.002)
    assert found.covered(2.5) == pytest.approx(0.5, rel=0.05)


def test_a_ramp_is_forecast_with_its_rise_until_the_lead() -> None:
    found = fed(lambda now_s: 5.0 * exp(now_s / 3600.0), 8 * 3600.0).best(8 * 3600.0)
    assert found is not None
    assert found.expected_per_s == pytest.approx(5.0 * exp(8.0 + 120.0 / 3600.0), rel=0.03)


def test_peaks_that_return_are_kept_in_mind() -> None:
    found = fed(lambda now_s: 9.0 if now_s // 60 % 10 == 0 else 3.0, 12 * 3600.0)
    best = found.best(12 * 3600.0 + 300.0)
    assert best is not None
    assert best.method.startswith("peak")
    assert best.bound_per_s(ALLOWED) > 8.0


def test_yesterday_counts_once_it_has_proved_itself() -> None:
    def rate_at(now_s: float) -> float:
        return 30.0 if now_s % 86400.0 >= 43200.0 and now_s % 7200.0 < 1800.0 else 10.0

    found = fed(rate_at, 4.5 * 86400.0, step_s=60.0).best(4.5 * 86400.0)
    assert found is not None
    assert found.method == "yesterday"
    assert fed(rate_at, 0.9 * 86400.0, step_s=60.0).best(0.9 * 86400.0).method != "yesterday"


def test_jumps_ask_for_headroom() -> None:
    rng = Random(1)
    levels = [rng.choice([6.0, 8.0, 10.0, 13.0]) for _ in range(200)]
    calm = fed(lambda now_s: 10.0, 86400.0).best(86400.0)
    wild = fed(lambda now_s: levels[int(now_s // 600)], 86400.0).best(86400.0)
    assert calm is not None
    assert wild is not None
    assert calm.ratios.headroom(ALLOWED) < 1.1
    assert wild.bound_per_s(ALLOWED) > 1.25 * wild.expected_per_s


def test_a_burst_is_the_rate_of_the_last_seconds_less_chance() -> None:
    found = fed(lambda now_s: 40.0 if now_s >= 3590.0 else 8.0, 3600.0).burst(3600.0)
    assert found == (pytest.approx(40.0 - 3 * 2.0), 10.0)


def test_a_longer_burst_is_surer() -> None:
    found = fed(lambda now_s: 40.0 if now_s >= 3580.0 else 8.0, 3600.0).burst(3600.0)
    assert found == (pytest.approx(40.0 - 3 * 2.0**0.5), 20.0)


def test_chance_is_no_burst() -> None:
    # 3 standard deviations of a count in 10 s: sqrt(80) / 10 each.
    found = fed(lambda now_s: 8.0 + 3 * 0.89 if now_s >= 3590.0 else 8.0, 3600.0)
    assert found.burst(3600.0).rate_per_s < 8.0


def test_uneven_arrivals_show_less_of_a_burst() -> None:
    rng = Random(1)
    uneven = fed(lambda now_s: 20.0 if now_s >= 3590.0 else rng.choice([2.0, 14.0]), 3600.0)
    even = fed(lambda now_s: 20.0 if now_s >= 3590.0 else 8.0, 3600.0)
    assert even.burst(3600.0).rate_per_s > 15.0
    assert uneven.burst(3600.0).rate_per_s < 8.0
