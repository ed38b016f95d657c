"""Demand by bins of time."""

import numpy as np
import pytest

from penstock.metrics.bins import demand_curve
from support.scaled_runs import requests


def test_every_request_and_token_is_counted_once():
    table = requests(np.random.default_rng(2).uniform(0.0, 1000.0, 5000), late=range(50))
    found = demand_curve(table, 1000.0)
    width_s = 2 * found.time_s[0]
    assert len(found.time_s) <= 5000 / 30
    assert (found.arrivals_per_s * width_s).sum() == pytest.approx(5000)
    assert (found.prompt_tokens_per_s * width_s).sum() == pytest.approx(500_000)
    assert (found.output_tokens_per_s * width_s).sum() == pytest.approx(250_000)
    met = np.nansum(found.attainment * found.arrivals_per_s * width_s)
    assert met == pytest.approx(4950)


def test_a_bin_without_arrivals_has_no_attainment():
    found = demand_curve(requests([1.0] * 100 + [999.0] * 100), 1000.0)
    assert np.isnan(found.attainment).any()
    assert np.nanmin(found.attainment) == 1.0


def test_a_run_without_requests_has_a_curve():
    found = demand_curve(requests([]), 10.0)
    assert found.arrivals_per_s.tolist() == [0.0]
    assert np.isnan(found.attainment).all()
