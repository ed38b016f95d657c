"""Latency from step times, corrected by what was observed, with chances that hold."""

from dataclasses import replace
from math import exp, inf, isfinite
from random import Random

import pytest

from penstock.core.snapshot import ReplicaSnapshot
from penstock.predict.latency import (
    E2E,
    TPOT,
    TTFT,
    Asked,
    Correction,
    LatencyPredictor,
    LatencyPrior,
    Residuals,
)
from support.small_routing import PRIOR, STEP, snapshot

# -- the prior ----------------------------------------------------------------------------------


def test_an_idle_replica_takes_a_step_per_chunk_and_per_token() -> None:
    pace = PRIOR.pace(snapshot(0))
    alone_s = STEP.seconds(0, 0.0, 1, 0)
    # 1,000 tokens: two chunks of 512.
    assert pace.ttft_s(1000) == pytest.approx(2 * alone_s + 1000 * 1e-4)
    assert pace.ttft_s(512) == pytest.approx(alone_s + 512 * 1e-4)
    assert pace.tpot_of(300) == pytest.approx(STEP.seconds(0, 0.0, 1, 300))


def test_a_prompt_waits_for_the_prompts_before_it() -> None:
    pace = PRIOR.pace(snapshot(0, waiting=1, queued=700, pending=100.0))
    alone_s = STEP.seconds(0, 0.0, 1, 0)
    assert pace.ttft_s(100) == pytest.approx(2 * alone_s + 800 * 1e-4)


def test_tokens_take_as_long_as_all_who_decode_together_make_them() -> None:
    pace = PRIOR.pace(snapshot(0, waiting=2, running=5, queued=200, kv_used=1000, pending=500.0))
    assert pace.tpot_of(150) == pytest.approx(STEP.seconds(0, 0.0, 8, 1350))


def test_what_a_sequence_adds_to_a_step_is_its_slope() -> None:
    pace = PRIOR.pace(snapshot(0, running=5, kv_used=1000, pending=500.0))
    assert (pace.seq_s, pace.context_s) == (pytest.approx(1e-4), 1e-7)


def test_a_model_that_must_be_loaded_first_is_waited_for() -> None:
    loading = snapshot(0).replace(load_s=30.0)
    assert PRIOR.pace(loading).ttft_s(1) == pytest.approx(30.0 + PRIOR.pace(snapshot(0)).ttft_s(1))


def test_with_all_seats_taken_the_first_to_end_makes_room() -> None:
    prior = LatencyPrior(STEP, 4, 512)
    pace = prior.pace(snapshot(0, running=4, kv_used=400, pending=200.0))
    # Four answers of about 100 tokens, half done: the first of them ends after a fifth of one.
    assert pace.wait_s == pytest.approx(20 * pace.tpot_s + 0.5 * STEP.seconds(0, 0.0, 4, 400))


def test_those_who_wait_take_seats_for_whole_answers() -> None:
    prior = LatencyPrior(STEP, 4, 512)
    pace = prior.pace(snapshot(0, waiting=5, queued=500, pending=500.0))
    assert pace.wait_s == pytest.approx(100 * pace.tpot_s)  # nobody has begun: all end together
    pace = prior.pace(snapshot(0, waiting=11, queued=1100, pending=1100.0))
    assert pace.wait_s == pytest.approx(200 * pace.tpot_s)  # 8 of 11 must end: two rounds of four


def test_a_full_kv_cache_has_seats_for_as_many_as_it_holds() -> None:
    roomy = PRIOR.pace(snapshot(0, waiting=3, running=3, queued=300, kv_used=300, pending=450.0))
    full = PRIOR.pace(snapshot(0, waiting=3, running=3, queued=300, kv_used=300, pending=450.0,
                               kv_total=500))
    assert roomy.wait_s < 0.01
    # Five seats of 100 tokens for seven: two of the three who run must end, of 100 tokens each.
    assert full.wait_s - roomy.wait_s == pytest.approx(50 * full.tpot_s)


def test_a_burst_onto_an_idle_replica_waits_for_answers_not_for_ages() -> None:
    """The whole queue arrives before the first step: nobody runs yet, but all seats will be."""
    waits = [PRIOR.pace(snapshot(0, waiting=num, queued=100 * num, kv_total=10**7,
                                 pending=200.0 * num)).wait_s for num in (63, 64, 70, 100, 127)]
    answer_s = 200 * STEP.seconds(0, 0.0, 64, 64 * 100)
    assert waits[0] == 0.0
    assert all(answer_s <= wait_s <= 1.3 * answer_s for wait_s in waits[1:])


# -- what is learned ----------------------------------------------------------------------------


def _serve(predictor: LatencyPredictor, rng: Random, ttft_factor: float, tpot_factor: float,
           num: int, noise: float = 0.0) -> None:
    for _ in range(num):
        replica = _some_replica(rng)
        prompt, output = rng.randint(1, 2000), rng.randint(2, 500)
        pace = predictor.pace(replica)
        asked = predictor.asked(replica, pace, prompt, float(output))
        ttft_s = asked.prior_ttft_s * ttft_factor * exp(rng.gauss(0.0, noise))
        tpot_s = asked.prior_tpot_s * tpot_factor * exp(rng.gauss(0.0, noise))
        predictor.ended(asked, ttft_s, ttft_s + (output - 1) * tpot_s, output)


def _some_replica(rng: Random) -> ReplicaSnapshot:
    running, waiting = rng.randint(0, 40), rng.randint(0, 10)
    return snapshot(0, waiting=waiting, running=running, queued=waiting * 200,
                    kv_used=running * 300, pending=100.0 * (running + waiting))


def test_constant_factors_are_learned() -> None:
    predictor = LatencyPredictor(PRIOR)
    _serve(predictor, Random(1), 1.5, 0.8, 400)
    for replica in (snapshot(0), snapshot(0, running=30, kv_used=9000, pending=3000.0)):
        factors = predictor.pace(replica).factors
        assert factors[TTFT] == pytest.approx(1.5, rel=0.03)
        assert factors[TPOT] == pytest.approx(0.8, rel=0.03)


def test_a_slope_in_the_load_is_learned_and_drift_is_followed() -> None:
    correction, rng = Correction(), Random(2)
    for _ in range(300):
        load = (rng.random(), rng.random())
        correction.update(load, 0.2 + 0.5 * load[0])
    assert correction.log_factor((0.0, 0.5)) == pytest.approx(0.2, abs=0.03)
    assert correction.log_factor((1.0, 0.5)) == pytest.approx(0.7, abs=0.03)
    for _ in range(500):
        correction.update((rng.random(), rng.random()), -0.4)
    assert correction.log_factor((0.5, 0.5)) == pytest.approx(-0.4, abs=0.03)


@pytest.mark.parametrize("steady", [(0.0, 0.0), (0.2, 0.35), (0.95, 0.9), (1.0, 0.0)])
def test_a_load_that_stays_the_same_for_long_spoils_nothing(steady: tuple[float, float]) -> None:
    """What is never seen keeps its prior, and does not blow up when it is seen at last."""
    correction, rng = Correction(), Random(3)
    for _ in range(5000):
        correction.update(steady, 0.5 + rng.gauss(0.0, 0.3))
    assert correction.log_factor(steady) == pytest.approx(0.5, abs=0.15)
    for load in ((1.0, 0.9), (0.0, 0.9), (1.0, 0.0), (0.0, 0.0)):
        assert abs(correction.log_factor(load)) < 1.2
    for _ in range(300):
        correction.update((rng.random(), rng.random()), 0.5)
    for load in ((1.0, 0.9), (0.0, 0.9), (1.0, 0.0), (0.0, 0.0)):
        assert correction.log_factor(load) == pytest.approx(0.5, abs=0.05)


def test_one_wild_observation_is_bounded() -> None:
    correction = Correction()
    for _ in range(50):
        correction.update((0.5, 0.5), 0.0)
    correction.update((0.5, 0.5), 1e9)
    assert 0.0 < correction.log_factor((0.5, 0.5)) < 0.1


def test_corrections_stay_within_bounds() -> None:
    correction = Correction()
    for _ in range(1000):
        correction.update((1.0, 1.0), 50.0)
    assert correction.log_factor((1.0, 1.0)) == pytest.approx(Correction.MOST, rel=0.01)


@pytest.mark.parametrize(("ttft_s", "e2e_s"), [(0.0, 1.0), (-1.0, 1.0), (2.0, 1.0)])
def test_impossible_times_teach_nothing(ttft_s: float, e2e_s: float) -> None:
    predictor = LatencyPredictor(PRIOR)
    pace = predictor.pace(snapshot(0))
    predictor.ended(predictor.asked(snapshot(0), pace, 10, 10.0), ttft_s, e2e_s, 10)
    assert predictor.pace(snapshot(0)) == pace


def test_an_answer_of_one_token_teaches_nothing_of_the_pace_of_tokens() -> None:
    predictor = LatencyPredictor(PRIOR)
    predictor.ended(Asked((0.0, 0.0), 0.1, 0.01, 0.1, 0.01, 0.1), 0.2, 0.2, 1)
    factors = predictor.pace(snapshot(0)).factors
    assert factors[TTFT] > 1.0
    assert factors[TPOT] == 1.0


# -- chances and quantiles ----------------------------------------------------------------------


def test_a_quantile_that_too_few_have_shown_is_unknown() -> None:
    residuals = Residuals()
    assert residuals.quantile(0.95) == inf
    assert residuals.quantile(0.9) == 0.7
    assert residuals.quantile(0.0) == -0.7
    for _ in range(20):
        residuals.add(0.1)
    assert residuals.quantile(0.95) == 0.7
    assert residuals.quantile(0.5) == 0.1


def test_what_stands_in_at_first_leaves_when_the_window_is_full() -> None:
    residuals = Residuals()
    for _ in range(Residuals.WINDOW):
        residuals.add(0.05)
    assert residuals.quantile(0.99) == 0.05
    assert residuals.chance(0.0) == pytest.approx(0.5 / 257)
    assert residuals.chance(0.05) == pytest.approx(256.5 / 257)


def test_a_chance_is_never_quite_none_or_all_but_of_what_cannot_be() -> None:
    predictor = LatencyPredictor(PRIOR)
    assert 0.0 < predictor.chance(TTFT, 1.0, 1e-9) < 0.1
    assert 0.9 < predictor.chance(TTFT, 1.0, 1e9) < 1.0
    assert predictor.chance(TTFT, 1.0, 0.0) == 0.0  # the time is over
    assert predictor.chance(TTFT, 0.0, 1.0) == 1.0


def test_chances_grow_with_the_limit() -> None:
    predictor = LatencyPredictor(PRIOR)
    _serve(predictor, Random(4), 1.2, 1.0, 200, 0.3)
    chances = [predictor.chance(TTFT, 1.0, 0.2 * k) for k in range(1, 20)]
    assert chances == sorted(chances)
    assert chances[0] < 0.05 < 0.95 < chances[-1]


@pytest.mark.parametrize("what", [TTFT, TPOT, E2E])
def test_chances_are_calibrated_on_requests_not_seen_before(what: int) -> None:
    """Of requests whose target was said to be kept with chance p, about p keep it."""
    predictor, rng = LatencyPredictor(PRIOR), Random(5)
    _serve(predictor, rng, 1.4, 0.9, 400, 0.3)
    said, kept, below = 0.0, 0, 0
    num = 1500
    for _ in range(num):
        replica = _some_replica(rng)
        prompt, output = rng.randint(1, 2000), rng.randint(2, 500)
        pace = predictor.pace(replica)
        asked = predictor.asked(replica, pace, prompt, float(output))
        ttft_s = asked.prior_ttft_s * 1.4 * exp(rng.gauss(0.0, 0.3))
        tpot_s = asked.prior_tpot_s * 0.9 * exp(rng.gauss(0.0, 0.3))
        e2e_s = ttft_s + (output - 1) * tpot_s
        forecast = (asked.ttft_s, asked.tpot_s, asked.e2e_s)[what]
        observed = (ttft_s, tpot_s, e2e_s)[what]
        limit_s = forecast * exp(rng.uniform(-0.6, 0.6))
        said += predictor.chance(what, forecast, limit_s)
        kept += observed <= limit_s
        below += observed <= predictor.upper_s(what, forecast, 0.9)
        predictor.ended(asked, ttft_s, e2e_s, output)
    assert kept / num == pytest.approx(said / num, abs=0.03)
    assert below / num == pytest.approx(0.9, abs=0.03)


def test_predictions_are_numbers_however_odd_the_snapshot() -> None:
    odd = [snapshot(0, waiting=500, running=0), snapshot(0, running=200, kv_used=10**6),
           snapshot(0, waiting=1, kv_total=1, queued=10**6, pending=1e6),
           snapshot(0, running=64, kv_used=99_999, pending=0.0)]
    for replica in odd:
        pace = PRIOR.pace(replica)
        times = (pace.ttft_s(0), pace.ttft_s(10**6), pace.tpot_of(0.0), pace.wait_s, pace.token_s)
        assert all(isfinite(value) and value >= 0.0 for value in times)


def test_a_fit_that_falls_below_nothing_is_nothing() -> None:
    """As published fits do outside the range they were made for: here at more than 20 sequences."""
    falling = replace(STEP, decode_seq_s=-5e-4)
    predictor = LatencyPredictor(LatencyPrior(falling, 512))
    crowded = snapshot(0, running=100, kv_used=10_000, pending=5000.0)
    pace = predictor.pace(crowded)
    assert 0.0 < pace.tpot_s <= 1e-9
    assert pace.ttft_s(100) > 0.0
    predictor.ended(predictor.asked(crowded, pace, 100, 50.0), 0.1, 1.0, 50)
    assert predictor.pace(crowded).factors[TPOT] > 1.0
