"""Inferno's emulated load: the walk returns to its middle, splits keep totals, phases chain."""

from itertools import islice

import numpy as np
import pytest

from penstock.published.inferno.emulated_load import (
    Phase,
    Walk,
    emulated_loads,
    next_load,
    phase_factor,
    replica_tokens,
    split_rate,
)
from penstock.published.inferno.values import Load

NOMINAL = Load(120.0, 512, 128)


def test_the_walk_wanders_around_the_nominal_load():
    loads = list(islice(emulated_loads(NOMINAL, np.random.default_rng(0)), 20_000))
    rates = np.array([load.arrival_per_min for load in loads])
    assert rates.mean() == pytest.approx(120.0, rel=0.02)
    # An autoregression with factor 0.8 and steps of a tenth.
    assert rates.std() == pytest.approx(12.0 / np.sqrt(1.0 - 0.8**2), rel=0.05)
    assert np.corrcoef(rates[1:], rates[:-1])[0, 1] == pytest.approx(0.8, abs=0.02)
    tokens = np.array([load.input_tokens for load in loads])
    assert tokens.mean() == pytest.approx(512 + 2.5, rel=0.02)  # rounded up at every step
    assert all(isinstance(load.output_tokens, int) for load in loads[:9])


def test_without_noise_the_walk_goes_a_fifth_of_the_way():
    still = Walk(alpha=0.0)
    rng = np.random.default_rng(0)
    assert next_load(Load(20.0, 512, 128), NOMINAL, rng, still).arrival_per_min == 40.0
    assert next_load(NOMINAL, NOMINAL, rng, still, 2.0).arrival_per_min == pytest.approx(144.0)


def test_values_stay_within_a_factor_of_ten():
    wild = Walk(alpha=1.0, theta=0.0)
    load, rng = NOMINAL, np.random.default_rng(3)
    for _ in range(500):
        load = next_load(load, NOMINAL, rng, wild)
        assert 12.0 <= load.arrival_per_min <= 1200.0
        assert 52 <= load.input_tokens <= 5120


def test_the_same_seed_gives_the_same_walk():
    first, again = (list(islice(emulated_loads(NOMINAL, np.random.default_rng(5)), 9))
                    for _ in range(2))
    assert first == again


@pytest.mark.parametrize("skew", [0.0, 0.3, 1.0])
def test_a_split_keeps_the_total(skew):
    found = split_rate(90.0, 5, skew, np.random.default_rng(1))
    assert sum(found) == pytest.approx(90.0)
    assert (max(found) - min(found) < 1e-9) == (skew == 0.0)


def test_lengths_of_replicas_lie_around_the_nominal_one():
    rng = np.random.default_rng(2)
    found = [replica_tokens(1000, 0.3, rng) for _ in range(200)]
    assert 700 <= min(found) < 760
    assert 1240 < max(found) <= 1300
    assert replica_tokens(1000, 0.0, rng) == 1000
    assert replica_tokens(1, 0.3, rng) == 1


def test_phases_are_chained_ramps():
    phases = (Phase(100.0, 2.0), Phase(50.0), Phase(100.0, 0.5), Phase(0.0))
    found = [phase_factor(phases, at) for at in (0, 50, 100, 149, 200, 250, 1000)]
    assert found == pytest.approx([1.0, 1.5, 2.0, 2.0, 1.5, 1.0, 1.0])
    assert phase_factor((), 50.0) == 1.0
    assert phase_factor((Phase(0.0),), 50.0) == 1.0
