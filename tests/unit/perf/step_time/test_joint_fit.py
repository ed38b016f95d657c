"""Joint fit of rates: it finds the rates that made the times, and stays physical."""

from math import log

import numpy as np
import pytest

from penstock.perf.step_time.efficiency import fastest_kernels
from penstock.perf.step_time.joint_fit import JointFit, Run, Sum
from penstock.perf.step_time.rate_table import (
    SIDE_GROUPS,
    Deployment,
    RateTable,
    prior_rates,
)
from penstock.perf.step_time.terms import Rates

PRIOR = prior_rates("fast", "bf16")
CHIPS = {"fast": 1.0, "slow": 1.6}


def deployment(chip: str) -> Deployment:
    return Deployment(chip, "vllm", "0.19", "bf16", "full", "m", "1", "split")


def seconds(rates: Rates, parts: np.ndarray) -> np.ndarray:
    """The formula of ``terms``, written out."""
    times = np.array(rates)[:, None] * parts
    dense = (times[0]**3 + times[1]**3)**(1 / 3)
    experts = (times[2]**2 + times[3]**2)**0.5
    return dense + experts + times[4:].sum(axis=0)


def runs(rng: np.random.Generator, number: int = 160) -> list[Run]:
    """Runs whose weights take 1.5 times their time at the peak, on one chip 1.6 times more."""
    found = []
    for at in range(number):
        chip = ("fast", "slow")[at % 2]
        rates = PRIOR._replace(weights=1.5 * CHIPS[chip])
        parts = rng.lognormal(-6.0, 1.0, (len(PRIOR), 12)) / np.array(PRIOR)[:, None]
        parts[0] *= 6.0
        weights = rng.random((3, 12))
        found.append(Run(deployment(chip), parts,
                         *(Sum(weight, rest, float((weight * seconds(rates, parts)).sum()) + rest)
                           for weight, rest in zip(weights, (0.0, 0.01, 0.0), strict=True))))
    return found


def table(fit: JointFit, effects: np.ndarray) -> RateTable:
    return RateTable(fit.named(effects, 0.0), {}, "test")


def test_rates_that_made_the_times_are_found() -> None:
    measured = runs(np.random.default_rng(3))
    fit = JointFit(measured)
    effects = fit.solve()
    predicted = fit.predicted(effects)
    expected = np.array([[one.measured_s for one in run.sums] for run in measured]).T
    assert np.median(np.abs(predicted / expected - 1.0)) < 0.01
    found = {chip: table(fit, effects).rates(deployment(chip)).weights for chip in CHIPS}
    assert found["slow"] / found["fast"] == pytest.approx(1.6, rel=0.1)
    assert found["fast"] == pytest.approx(1.5, rel=0.1)


def test_the_table_gives_what_the_fit_predicts() -> None:
    measured = runs(np.random.default_rng(4), 60)
    fit = JointFit(measured)
    effects = fit.solve()
    made = table(fit, effects)
    for run, tpot_s in zip(measured, fit.predicted(effects)[0], strict=True):
        own = float((run.tpot.weights * seconds(made.rates(run.of), run.parts)).sum())
        assert own == pytest.approx(tpot_s, rel=0.02)  # the table has three digits


def test_runs_that_were_left_out_do_not_count() -> None:
    measured = runs(np.random.default_rng(5), 80)
    chosen = np.arange(80) < 60
    spoilt = [run if keep else Run(run.of, run.parts, *(
        Sum(one.weights, one.rest_s, 50.0 * one.measured_s) for one in run.sums))
        for run, keep in zip(measured, chosen, strict=True)]
    assert JointFit(spoilt).solve(chosen) == pytest.approx(JointFit(measured).solve(chosen))


def test_an_outlier_moves_little() -> None:
    measured = runs(np.random.default_rng(6), 80)
    odd = measured[0]
    measured[0] = Run(odd.of, odd.parts, *(
        Sum(one.weights, one.rest_s, 20.0 * one.measured_s) for one in odd.sums))
    found = table(fit := JointFit(measured), fit.solve()).rates(deployment("fast")).weights
    assert found == pytest.approx(1.5, rel=0.15)


def test_no_rate_is_faster_than_kernels_that_were_timed_alone() -> None:
    effects = {name: {"all": {"all": log(0.1)}}
               for name in ("weights", "dense_flops", "prompt_attention", "experts", "step_s")}
    rates = RateTable(effects, {}, "test").rates(deployment("h200"))
    kernels = fastest_kernels("h200", "bf16")
    assert rates.weights == 1.0 / kernels.weights > 1.1
    assert rates.dense_flops == 1.0 / kernels.products > 1.15
    assert rates.prompt_attention == 1.0 / kernels.prompts > 1.5
    assert rates.experts == 1.0
    assert rates.step_s == pytest.approx(0.1 * PRIOR.step_s)


def test_the_fit_itself_stays_behind_the_kernels() -> None:
    twice_as_fast = [Run(run.of, run.parts, *(
        Sum(one.weights, one.rest_s, 0.2 * one.measured_s) for one in run.sums))
        for run in runs(np.random.default_rng(7), 40)]
    fit = JointFit(twice_as_fast)
    predicted = fit.predicted(fit.solve())[0]
    least = RateTable({name: {"all": {"all": -9.0}} for name in Rates._fields}, {}, "")
    for run, found_s in zip(twice_as_fast, predicted, strict=True):
        bound_s = float((run.tpot.weights * seconds(least.rates(run.of), run.parts)).sum())
        assert found_s >= bound_s


def test_a_chip_without_measurements_has_the_rates_of_all() -> None:
    effects = {"layer_s": {"all": {"all": 0.5}, "chip": {"fast": 0.3}},
               "step_s": {"chip": {"fast": 0.0}}}
    made = RateTable(effects, {}, "test")
    assert made.rates(deployment("new")).layer_s == pytest.approx(PRIOR.layer_s * np.exp(0.5))
    assert (made.knows(deployment("fast"), "chip"), made.knows(deployment("new"), "chip")) == (
        True, False)


def test_roles_come_on_top_of_the_rates_of_whole_replicas() -> None:
    base = RateTable({"weights": {"chip": {"fast": log(1.5 / 1.25), "slow": log(2.4 / 1.25)}}}, {},
                     "")
    slower = [Run(run.of._replace(role="decode"), run.parts, *(
        Sum(one.weights, one.rest_s, 1.3 * (one.measured_s - one.rest_s) + one.rest_s)
        for one in run.sums)) for run in runs(np.random.default_rng(2))]
    fit = JointFit(slower, SIDE_GROUPS, base)
    effects = fit.solve()
    assert fit.predicted(effects)[0] == pytest.approx(
        [run.tpot.measured_s for run in slower], rel=0.05)
    found = fit.named(effects)
    assert all(group.startswith("role") for groups in found.values() for group in groups)
    both = RateTable({rate: {**base.effects.get(rate, {}), **groups}
                      for rate, groups in found.items()}, {}, "")
    assert both.rates(deployment("fast")) == base.rates(deployment("fast"))
    assert both.rates(slower[0].of).weights > base.rates(slower[0].of).weights
