"""Fit a step-time model to measured steps, and say how far off it is on steps it has not seen."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from penstock.core.errors import InputError, nearest
from penstock.core.step import StepFeatures
from penstock.perf.evidence import Evidence
from penstock.perf.robust import fit_knee, fit_nonnegative
from penstock.perf.step_time.knee import KneeStepTime
from penstock.perf.step_time.linear import LinearStepTime
from penstock.perf.step_time.steps import Column, StepTable
from penstock.perf.step_time.tabulated import TabulatedStepTime

Form = Literal["linear", "knee", "tabulated", "auto"]
FittedStepTime = LinearStepTime | KneeStepTime | TabulatedStepTime

_FORMS = ("linear", "knee", "tabulated")
_MIN_STEPS = 20
_MAX_KNOTS = 12
_NUM_BLOCKS = 20
# A more elaborate form must be this much better on held-out steps to be preferred.
_PREFERENCE = 0.95


@dataclass(frozen=True, slots=True)
class FitErrors:
    """Relative errors |predicted / measured - 1| on held-out steps, and R^2 of the seconds."""

    mean: float
    median: float
    p95: float
    r2: float
    num_steps: int


@dataclass(frozen=True, slots=True)
class FitReport:
    """A fitted model with its errors.

    ``blocked`` holds out runs of neighbouring steps, ``random`` scattered ones. Neighbours are
    alike, so ``random`` is too kind; the model's interval comes from ``blocked``. ``model`` itself
    is fitted to all steps.
    """

    form: str
    model: FittedStepTime
    blocked: FitErrors
    random: FitErrors
    coefficients: Mapping[str, Any]
    largest: StepFeatures
    num_steps: int
    warnings: tuple[str, ...]


def fit_step_time(table: StepTable, form: Form = "auto", *, holdout: float = 0.2,
                  seed: int = 0) -> FitReport:
    """Fit ``form`` by robust non-negative least squares on relative errors.

    ``holdout`` is the part of the steps kept for testing; ``seed`` shuffles the random split. With
    ``auto`` the form that is best on held-out blocks wins, a simpler one unless it is 5 % worse.
    Raises InputError for an unknown form or too few steps.
    """
    if form != "auto" and form not in _FORMS:
        raise InputError(f"form {form!r} is unknown{nearest(form, (*_FORMS, 'auto'))}")
    if not 0.0 < holdout <= 0.5:
        raise InputError(f"holdout: {holdout:g}; expected more than 0, at most 0.5")
    if len(table) < _MIN_STEPS:
        raise InputError(f"{table.source or 'table'}: {len(table)} steps; expected at least "
                         f"{_MIN_STEPS}")
    blocked = blocked_split(len(table), holdout)
    errors = {name: _held_out(table, name, blocked)
              for name in (_FORMS if form == "auto" else (form,))}
    chosen = next(iter(errors))
    for name in errors:
        if errors[name].mean < _PREFERENCE * errors[chosen].mean:
            chosen = name
    scattered = np.random.default_rng(seed).permutation(len(table)) < holdout * len(table)
    return _report(table, chosen, errors[chosen], _held_out(table, chosen, scattered))


def blocked_split(num_steps: int, holdout: float) -> NDArray[np.bool_]:
    """Mask of held-out steps: every n-th of twenty blocks of neighbours, n = 1 / holdout."""
    num_blocks = min(_NUM_BLOCKS, num_steps)
    block = np.arange(num_steps) * num_blocks // num_steps
    every = max(2, round(1.0 / holdout))
    held: NDArray[np.bool_] = block % every == every // 2
    return held


def errors_of(model: FittedStepTime, table: StepTable) -> FitErrors:
    """Errors of a model on measured steps."""
    predicted = predicted_seconds(model, table)
    error = np.abs(predicted / table.seconds - 1.0)
    spread = float(np.sum((table.seconds - table.seconds.mean()) ** 2))
    missed = float(np.sum((table.seconds - predicted) ** 2))
    return FitErrors(mean=float(error.mean()), median=float(np.median(error)),
                     p95=float(np.quantile(error, 0.95)),
                     r2=1.0 - missed / spread if spread else 0.0, num_steps=len(table))


def predicted_seconds(model: FittedStepTime, table: StepTable) -> Column:
    """The model's estimate of every step."""
    counts = (column.astype(np.int64).tolist() for column in (
        table.prefill_tokens, table.decode_seqs, table.context_tokens))
    return np.array([model.seconds(prefill, work, seqs, context) for prefill, seqs, context, work
                     in zip(*counts, table.attention_work.tolist(), strict=True)])


def fit_form(table: StepTable, form: str) -> FittedStepTime:
    """Fit one form to all steps of the table; its evidence states no error yet."""
    evidence = Evidence(table.source, 0.0, 0.0, table.largest)
    if form == "linear":
        base, prefill, work, decodes, context = fit_nonnegative(_linear_design(table),
                                                                table.seconds)
        return LinearStepTime(base, prefill, work, decodes, context, evidence)
    if form == "knee":
        start = fit_nonnegative(_linear_design(table), table.seconds)
        floor, knee_token, sharpness, token, decode_seq, work, context = fit_knee(
            table.prefill_tokens + table.decode_seqs, table.decode_seqs, table.attention_work,
            table.context_tokens, table.seconds, start)
        return KneeStepTime(floor, knee_token, sharpness, token, decode_seq, work, context,
                            evidence)
    return fit_tabulated(table, _knots(table.prefill_tokens + table.decode_seqs))


def _linear_design(table: StepTable) -> NDArray[np.float64]:
    return np.column_stack([np.ones(len(table)), table.prefill_tokens, table.attention_work,
                            table.decode_seqs, table.context_tokens])


def fit_tabulated(table: StepTable, knots: Column) -> TabulatedStepTime:
    """Fit a curve with these knots; like ``fit_form``, it states no error yet.

    One non-negative fit: the curve's rises between knots are coefficients like the others.
    """
    evidence = Evidence(table.source, 0.0, 0.0, table.largest)
    tokens = table.prefill_tokens + table.decode_seqs
    widths = np.diff(knots)
    rises = np.clip(tokens[:, None] - knots[:-1], 0.0, widths) / widths
    design = np.column_stack([np.ones(len(table)), rises, table.decode_seqs,
                              table.attention_work, table.context_tokens])
    found = fit_nonnegative(design, table.seconds)
    num_rises = len(widths)
    curve = np.cumsum(found[:num_rises + 1])
    decode_seq, work, context = found[num_rises + 1:]
    return TabulatedStepTime(tuple(knots.tolist()), tuple(curve.tolist()), decode_seq, work,
                             context, evidence)


def _knots(tokens: Column) -> Column:
    """Quantiles of the token counts that occur, so that every segment has been seen."""
    counts = np.unique(tokens)
    if len(counts) < 2:
        return np.array([counts[0], counts[0] + 1.0])
    num_knots = min(_MAX_KNOTS, len(counts))
    positions = np.linspace(0, len(counts) - 1, num_knots).round().astype(int)
    return np.asarray(counts[positions], dtype=np.float64)


def _held_out(table: StepTable, form: str, held: NDArray[np.bool_]) -> FitErrors:
    return errors_of(fit_form(table.rows(~held), form), table.rows(held))


def _report(table: StepTable, form: str, blocked: FitErrors, random: FitErrors) -> FitReport:
    model = fit_form(table, form)
    source = (f"{form} fit to {len(table)} steps of {table.source or 'a table'}, "
              f"{blocked.num_steps} held out in blocks for the error")
    model = replace(model, evidence=Evidence(source, blocked.mean, blocked.p95, table.largest))
    coefficients = {f.name: getattr(model, f.name) for f in fields(model) if f.name != "evidence"}
    return FitReport(form, model, blocked, random, coefficients, table.largest, len(table),
                     table.notes + _warnings(table, blocked, random))


def _warnings(table: StepTable, blocked: FitErrors, random: FitErrors) -> tuple[str, ...]:
    found = []
    for name in ("prefill_tokens", "decode_seqs", "context_tokens"):
        values: Column = getattr(table, name)
        if values.max() == values.min():
            found.append(f"{name} never varies: its rate cannot be distinguished from the constant")
    if table.decode_seqs.max() > table.decode_seqs.min() and table.context_tokens.std():
        alike = np.corrcoef(table.decode_seqs, table.context_tokens)[0, 1]
        if alike > 0.95:
            found.append(f"decode_seqs and context_tokens move together (r = {alike:.2f}): their "
                         "rates are not reliable apart")
    if blocked.mean > 2.0 * random.mean:
        found.append(f"error on unseen stretches ({blocked.mean:.1%}) is far above that on "
                     f"scattered steps ({random.mean:.1%}): measure a wider range")
    if blocked.mean > 0.2:
        found.append(f"mean error {blocked.mean:.1%}: the durations hold more than these features")
    return tuple(found)
