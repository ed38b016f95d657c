"""Forecasts of a rate: the best one so far is taken."""

from random import Random

import pytest

from penstock.policy.scale.forecast import RateForecast


def fed(rate_at, until_s: float, step_s: float = 10.0, lead_s: float = 120.0) -> RateForecast:
    forecast, count, now_s = RateForecast(lead_s), 0.0, 0.0
    while now_s <= until_s:
        forecast.add(now_s, count)
        count += step_s * rate_at(now_s)
        now_s += step_s
    return forecast


def test_nothing_is_known_before_arrivals() -> None:
    forecast = RateForecast(60.0)
    forecast.add(0.0, 0.0)
    assert forecast.best(0.0) is None


def test_a_steady_rate_is_forecast_by_its_mean() -> None:
    found = fed(lambda _: 5.0, 3600.0).best(3600.0)
    assert found is not None
    assert found.rate_per_s == pytest.approx(5.0)
    assert found.spread < 0.03


def test_a_ramp_is_forecast_by_its_trend() -> None:
    found = fed(lambda now_s: 5.0 + now_s / 100.0, 7200.0).best(7200.0)
    assert found is not None
    assert found.method == "trend"
    assert found.rate_per_s == pytest.approx(5.0 + (7200.0 + 120.0) / 100.0, rel=0.02)


def test_an_alternating_rate_is_forecast_by_a_long_window() -> None:
    found = fed(lambda now_s: 9.0 if now_s // 60 % 2 else 1.0, 7200.0).best(7200.0)
    assert found is not None
    assert float(found.method.split()[1]) >= 120.0
    assert found.rate_per_s == pytest.approx(5.0, rel=0.3)


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
