"""Inferno's tuner: guess, gates, cold start, sliding window and fallbacks."""

import math
from dataclasses import replace

import numpy as np
import pytest

from penstock.core.errors import InputError
from penstock.published.inferno.tuner.ekf import Estimate, Filter, new_filter, step
from penstock.published.inferno.tuner.fits import (
    UNFIT,
    condition_number,
    errors,
    first_fit,
    guess,
    nelder_mead,
)
from penstock.published.inferno.tuner.model import predicted
from penstock.published.inferno.tuner.tuner import Tuner, around
from penstock.published.inferno.tuner.values import (
    FilterConfig,
    OperatingPoint,
    TunerSettings,
    parse_config,
)
from penstock.published.inferno.tuner.window import SlidingWindow

SEED = (5.0, 0.05, 5e-5)
TRUTH = (8.0, 0.033, 0.000333)
LOADS = ((60, 256, 512), (180, 1024, 256), (120, 512, 1024))
MEASURED = OperatingPoint(100, 128, 0, 1123, 487, 80.48, 15.911)


def observed(load, state=TRUTH, factor=1.0):
    rate_per_min, prompt, answer = load
    blank = OperatingPoint(rate_per_min, 256, 128, prompt, answer, 1.0, 1.0)
    ttft_ms, itl_ms = predicted([blank], np.array([state]))[0, 0].tolist()
    return replace(blank, ttft_ms=ttft_ms * factor, itl_ms=itl_ms * factor)


def cycle(tuner, num, loads=LOADS, **changes):
    return [tuner.tune([observed(loads[each % len(loads)], **changes)]) for each in range(num)]


def test_the_guess_pins_gamma_and_solves_for_the_rest():
    alpha, beta, gamma = guess(MEASURED, SEED)
    assert (alpha, beta, gamma) == pytest.approx((15.785, 0.05756, 5e-5), rel=1e-3)
    assert alpha + (beta + gamma) * 1123 == pytest.approx(80.48)
    assert alpha + beta + gamma * (1123 + 244) == pytest.approx(15.911)


def test_the_guess_falls_back_to_the_seed_and_to_a_share_of_itl():
    inverted = replace(MEASURED, ttft_ms=5.0, itl_ms=20.0)
    assert guess(inverted, SEED) == SEED
    assert guess(inverted, None) is None
    assert guess(replace(MEASURED, input_tokens=1.0), SEED) == SEED
    assert guess(replace(MEASURED, ttft_ms=0.0), SEED) is None
    alpha, _, gamma = guess(MEASURED, None)
    assert alpha == pytest.approx(0.9 * 15.911)
    assert gamma > 10 * SEED[2]


def test_the_model_gives_nothing_for_states_that_are_not_positive():
    points = [MEASURED, replace(MEASURED, output_tokens=0.5), replace(MEASURED, rate_per_min=0.0)]
    found = predicted(points, np.array([SEED, (5.0, -0.05, 5e-5), (math.nan, 1.0, 1.0)]))
    assert (found[0, 0] > 0.0).all()
    assert not found[0, 1:].any()
    assert not found[1:].any()
    assert np.isinf(errors(points, np.array([(5.0, -0.05, 5e-5)]))).all()


def test_noise_and_first_covariance_are_those_of_the_configuration():
    of, estimate = new_filter(FilterConfig())
    assert np.sqrt(of.noise) == pytest.approx((51.02, 10.204), rel=1e-3)
    assert np.diag(estimate.covariance) == pytest.approx(np.square(0.15 * np.array(SEED)))
    assert np.diag(estimate.covariance) == pytest.approx(of.process)


def test_a_surprise_is_refused_and_rolled_back_unless_the_gate_is_off():
    of, before = new_filter(FilterConfig())
    surprise = replace(observed(LOADS[0]), ttft_ms=5000.0, itl_ms=5000.0)
    found = step(of, before, surprise)
    assert found.refused == "nis"
    assert found.nis > 7.378
    assert found.estimate is before
    taken = step(of, before, surprise, None)
    assert taken.refused is None
    assert max(np.array(taken.estimate.state) / SEED) <= 100.0


def test_a_state_that_turns_negative_is_refused_without_the_nis_gate_too():
    config = FilterConfig(error_level=0.05, init_state=(100.0, 0.001, 1e-6), bounded=False,
                          percent_change=(50.0, 50.0, 50.0), expected_observations=(0.001, 0.001))
    of, before = new_filter(config)
    assert of.least is None
    found = step(of, before, replace(observed(LOADS[0]), ttft_ms=0.001, itl_ms=0.001), None)
    assert found.refused == "state"
    assert found.estimate is before


def test_the_state_keeps_to_its_bounds():
    of = Filter((1e6, 1.0, 1.0), (1e-6, 1e-6), (1.0, 0.01, 1e-5), (6.0, 0.1, 1e-4))
    before = Estimate(SEED, ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)))
    found = step(of, before, observed(LOADS[2]), None).estimate.state
    assert all(low <= value <= high
               for low, value, high in zip(of.least, found, of.most, strict=True))


def test_a_fit_of_three_loads_finds_the_truth_and_one_load_cannot():
    several = [observed(load) for load in LOADS]
    found = nelder_mead(several, guess(several[0], SEED))
    assert found.state == pytest.approx(TRUTH, rel=1e-4)
    assert condition_number(several, found.state) < 100
    alone = [observed(LOADS[0])] * 5
    assert condition_number(alone, TRUTH) > 1000
    assert condition_number(alone[:1], TRUTH) == math.inf  # two residuals, three parameters
    refused = first_fit(alone, SEED, 1000.0)
    assert refused.state == guess(alone[0], SEED)
    assert refused.objective == 0.0
    assert refused.condition > 1000
    assert first_fit(alone, SEED, 0.0).state != refused.state
    assert first_fit([replace(alone[0], ttft_ms=0.0)] * 5, None, 1000.0) is None


@pytest.mark.parametrize("mode", ["ekf", "sliding-window"])
def test_a_cold_start_waits_for_five_observations_and_five_updates(mode):
    tuner = Tuner(TunerSettings(mode=mode))
    assert not tuner.warming_up  # nothing is known of the pair yet
    found = cycle(tuner, 9)
    assert found[:4] == [None] * 4
    assert [one.num_updates for one in found[4:]] == [1, 2, 3, 4, 5]
    assert tuner.learned.state == pytest.approx(TRUTH, rel=1e-3)
    assert not tuner.warming_up
    assert tuner.warning is None


def test_without_traffic_the_tuner_warns_and_keeps_what_it_knows():
    tuner = Tuner()
    cycle(tuner, 5)
    learned = tuner.learned
    assert tuner.warming_up
    assert tuner.tune([replace(observed(LOADS[0]), rate_per_min=0.0)]) is None
    assert tuner.warning == "no replica with traffic"
    assert tuner.learned is learned


def test_after_warm_up_the_nis_gate_holds():
    tuner = Tuner()
    cycle(tuner, 10)
    learned = tuner.learned
    assert cycle(tuner, 1, factor=20.0) == [None]
    assert tuner.warning == "no update was accepted (gate: nis)"
    assert tuner.learned is learned
    two = tuner.tune([observed(LOADS[0], factor=20.0), observed(LOADS[1])])
    assert two.num_updates == learned.num_updates + 1


def test_each_cycle_bounds_the_state_around_the_last():
    tuner = Tuner()
    cycle(tuner, 5)
    config = around(FilterConfig(), tuner.learned.state)
    assert config.least_state == pytest.approx(np.array(tuner.learned.state) / 10.0)
    assert config.most_state == pytest.approx(np.array(tuner.learned.state) * 10.0)


def test_the_sliding_window_drops_one_outlier():
    points = [observed(LOADS[each % 3]) for each in range(9)]
    points[4] = replace(points[4], ttft_ms=3.0 * points[4].ttft_ms)
    clean = SlidingWindow(TunerSettings(), points, TRUTH)
    assert clean.fit() == pytest.approx(TRUTH, rel=1e-3)
    kept = SlidingWindow(TunerSettings(residual_limit=0.0), points, TRUTH)
    assert kept.fit() != pytest.approx(TRUTH, rel=0.05)


def test_the_sliding_window_holds_its_last_good_fit_where_loads_do_not_differ():
    window = SlidingWindow(TunerSettings(window=4), [observed(load) for load in LOADS], None)
    good = window.fit()
    assert not window.held
    for _ in range(4):
        window.add(observed(LOADS[0], factor=1.1))
    assert window.fit() == good
    assert window.held


def test_a_held_fit_is_corrected_by_one_step_of_the_filter():
    tuner = Tuner(TunerSettings(mode="sliding-window", window=5))
    cycle(tuner, 5)
    steady = cycle(tuner, 6, loads=LOADS[2:], factor=1.2)[-1]
    assert steady.state != pytest.approx(TRUTH, rel=1e-3)
    assert steady.state == pytest.approx(TRUTH, rel=0.3)


def test_a_poor_first_fit_sends_the_sliding_window_to_the_filter_for_good():
    tuner = Tuner(TunerSettings(mode="sliding-window", objective_limit=1e-3, condition_limit=0.0))
    for each in range(5):
        assert tuner.tune([observed(LOADS[each % 3], factor=(1.0, 4.0)[each % 2])]) is None
    assert "filter takes over" in tuner.warning
    assert tuner.fit.objective > 1e-3
    assert cycle(tuner, 1)[0].covariance is not None


def test_an_impossible_fit_has_the_worst_objective(monkeypatch):
    monkeypatch.setattr("penstock.published.inferno.tuner.fits.nelder_mead", lambda *_: None)
    points = [observed(load) for load in LOADS]
    assert first_fit(points, SEED, 1000.0).objective == UNFIT


@pytest.mark.parametrize(("part", "field", "value"), [
    ("modelData", "initState", [5.0]), ("modelData", "minState", [1.0, 2.0]),
    ("modelData", "percentChange", None), ("modelData", "initState", [5.0, 0.05, -1.0]),
    ("modelData", "expectedObservations", [200.0]), ("filterData", "gammaFactor", 0.0)])
def test_a_configuration_of_another_form_is_refused(part, field, value):
    document = {"filterData": {"gammaFactor": 1.0, "errorLevel": 0.5, "tPercentile": 1.96},
                "modelData": {"initState": list(SEED), "percentChange": [0.15] * 3,
                              "boundedState": True, "minState": [0.05, 5e-4, 5e-7],
                              "maxState": [500, 5, 0.005], "expectedObservations": [200, 40]}}
    assert parse_config(document, "file") == FilterConfig()
    document[part][field] = value
    with pytest.raises(InputError, match="file"):
        parse_config(document, "file")
