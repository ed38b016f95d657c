"""Fitting: recovery of known models, robustness, honest hold-out, real measurements."""

from pathlib import Path

import numpy as np
import pytest

from penstock.core.errors import InputError
from penstock.core.step import StepFeatures
from penstock.perf.evidence import Evidence
from penstock.perf.profiles.step_tables import read_steps
from penstock.perf.step_time.fitting import blocked_split, errors_of, fit_step_time
from penstock.perf.step_time.knee import KneeStepTime
from penstock.perf.step_time.linear import LinearStepTime
from penstock.perf.step_time.steps import StepTable

EXACT = Evidence("truth", 0.0, 0.0)
LINEAR = LinearStepTime(0.010, 6e-5, 2.5e-9, 2e-5, 9e-8, EXACT)
KNEE = KneeStepTime(0.010, 6e-5, 4.0, 1e-5, 0.0, 2.5e-9, 9e-8, EXACT)


def measured(model, num_steps: int = 400, noise: float = 0.0, seed: int = 1) -> StepTable:
    rng = np.random.default_rng(seed)
    prefill = np.where(rng.random(num_steps) < 0.5, 0, rng.integers(1, 2048, num_steps))
    past = rng.integers(0, 4000, num_steps)
    decodes = rng.integers(1, 64, num_steps)
    context = decodes * rng.integers(100, 4000, num_steps)
    work = prefill * (past + prefill / 2)
    rows = zip(prefill.tolist(), work.tolist(), decodes.tolist(), context.tolist(), strict=True)
    seconds = np.array([model.seconds(*row) for row in rows])
    seconds *= 1 + noise * rng.standard_normal(num_steps)
    return StepTable(prefill.astype(float), work, decodes.astype(float),
                     context.astype(float), seconds, "made")


def with_stalls(table: StepTable) -> StepTable:
    seconds = table.seconds.copy()
    seconds[::17] *= 5.0
    return StepTable(table.prefill_tokens, table.attention_work, table.decode_seqs,
                     table.context_tokens, seconds, "stalled")


def test_linear_truth_is_recovered():
    model = fit_step_time(measured(LINEAR), "linear").model
    for name in ("base_s", "prefill_token_s", "work_s", "decode_seq_s", "context_s"):
        assert getattr(model, name) == pytest.approx(getattr(LINEAR, name), rel=1e-4)


def test_knee_truth_is_predicted_better_than_by_a_line():
    table = measured(KNEE)
    knee, line = fit_step_time(table, "knee"), fit_step_time(table, "linear")
    assert knee.blocked.p95 < 0.01
    assert line.blocked.mean > 5 * knee.blocked.mean


def test_stalled_steps_do_not_lead_the_fit_astray():
    model = fit_step_time(with_stalls(measured(LINEAR, noise=0.02)), "linear").model
    assert errors_of(model, measured(LINEAR, seed=2)).p95 < 0.03


def test_no_coefficient_is_negative():
    falling = LinearStepTime(0.05, 6e-5, 2.5e-9, -2e-4, 9e-8, EXACT)
    for form in ("linear", "knee", "tabulated"):
        report = fit_step_time(measured(falling), form)
        values = np.hstack([np.ravel(v) for v in report.coefficients.values()])
        assert values.min() >= 0.0


def test_tabulated_curve_never_falls():
    model = fit_step_time(measured(KNEE, noise=0.1), "tabulated").model
    assert np.diff(model.knot_s).min() >= 0.0
    assert np.diff(model.knot_tokens).min() > 0.0


def test_auto_takes_the_simplest_form_that_suffices():
    assert fit_step_time(measured(LINEAR, noise=0.03)).form == "linear"
    assert fit_step_time(measured(KNEE)).form != "linear"


def test_same_table_same_answer():
    table = measured(KNEE, noise=0.05)
    assert fit_step_time(table, "knee") == fit_step_time(table, "knee")


def test_blocks_hold_out_neighbours_of_the_stated_share():
    held = blocked_split(1000, 0.2)
    assert held.sum() == 200
    assert np.count_nonzero(np.diff(held.astype(int)) == 1) == 4


def test_the_models_interval_is_the_error_on_held_out_blocks():
    report = fit_step_time(measured(LINEAR, noise=0.05), "linear")
    answer = report.model.predict(StepFeatures(100, 5000.0, 10, 10_000))
    assert answer.high_s / answer.total_s - 1 == pytest.approx(report.blocked.p95)
    assert report.blocked.num_steps == 80
    assert 0.9 < report.blocked.r2 <= 1.0
    beyond = report.model.predict(StepFeatures(report.largest.prefill_tokens + 1, 0.0, 1, 1))
    assert beyond.extrapolated


def test_confounded_columns_are_warned_about():
    table = measured(LINEAR)
    alike = StepTable(table.prefill_tokens, table.attention_work, table.decode_seqs,
                      table.decode_seqs * 1000.0, table.seconds, "alike")
    constant = StepTable(np.full(len(table), 64.0), table.attention_work, table.decode_seqs,
                         table.context_tokens, table.seconds, "constant")
    assert any("move together" in w for w in fit_step_time(alike, "linear").warnings)
    assert any("prefill_tokens never varies" in w
               for w in fit_step_time(constant, "linear").warnings)


@pytest.mark.parametrize(("arguments", "message"), [
    ({"form": "kneee"}, "did you mean 'knee'"), ({"holdout": 0.0}, "holdout"),
    ({"holdout": 0.9}, "holdout")])
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(InputError, match=message):
        fit_step_time(measured(LINEAR), **arguments)


def test_too_few_steps_are_refused():
    with pytest.raises(InputError, match="19 steps; expected at least 20"):
        fit_step_time(measured(LINEAR, 19))


def test_decode_only_and_constant_tables_can_be_fitted():
    count = 40
    table = StepTable(np.zeros(count), np.zeros(count), np.ones(count), np.arange(count) + 1.0,
                      0.01 + 1e-5 * np.arange(count), "decodes")
    for form in ("linear", "knee", "tabulated"):
        assert fit_step_time(table, form).blocked.mean < 0.01


def ordinary_least_squares_error(table: StepTable, held) -> float:
    def design(part: StepTable):
        return np.column_stack([np.ones(len(part)), part.prefill_tokens, part.attention_work,
                                part.decode_seqs, part.context_tokens])
    train, test = table.rows(~held), table.rows(held)
    found = np.linalg.lstsq(design(train), train.seconds, rcond=None)[0]
    return float(np.mean(np.abs(design(test) @ found / test.seconds - 1)))


@pytest.mark.parametrize(("name", "mean"), [("tiny4l256h", 0.065), ("half24l896h", 0.040)])
def test_beats_ordinary_least_squares_on_a_real_engine(shared_data: Path, name, mean):
    table = read_steps(shared_data / f"niyama/vllm_cpu_steps_{name}.csv")
    held = blocked_split(len(table), 0.2)
    ordinary = ordinary_least_squares_error(table, held)
    assert fit_step_time(table, "linear").blocked.mean < ordinary
    best = fit_step_time(table)
    assert best.blocked.mean < mean < ordinary
    assert any("step_wall_s not used" in warning for warning in best.warnings)
