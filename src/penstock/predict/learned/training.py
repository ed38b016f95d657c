"""A latency or memory model from collected rows, with its error on rows that it has not seen."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from penstock.core.errors import InputError, nearest
from penstock.predict.learned.boosting import fit_boosted
from penstock.predict.learned.features import (
    REQUEST,
    Columns,
    Values,
    feature_matrix,
    features_of,
    windows,
)
from penstock.predict.learned.linear import fit_linear_model, fit_roofline
from penstock.predict.learned.protocol import LATENCY_TARGETS, MEMORY_TARGETS, LatencyModel
from penstock.predict.learned.recurrent import (
    FULL_SIZE,
    WINDOW,
    RecurrentOptions,
    fit_recurrent,
)

KINDS = ("linear", "roofline", "boosting", "lstm")
TARGETS: Mapping[str, tuple[str, ...]] = {"latency": LATENCY_TARGETS, "memory": MEMORY_TARGETS}
MIN_ROWS = 50
COVERED = 0.9
_HELD_OUT, _CALIBRATION = 0.2, 0.2


@dataclass(frozen=True, slots=True, eq=False)
class CollectedRows:
    """Requests in order of time: numbers by column (NaN where unknown), and where each one ran."""

    columns: Columns
    replicas: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.replicas)


@dataclass(frozen=True, slots=True)
class TargetError:
    """Errors of one target on held-out rows: mean and median of |predicted - true| / true, the
    share within the interval that is to hold 90 % (its coverage), and how wide that is (high over
    low)."""

    mape: float
    median_ape: float
    coverage: float
    width: float
    num_rows: int


@dataclass(frozen=True, slots=True, eq=False)
class LearnedModel:
    """A model with its 90 % interval: predictions times ``low`` and ``high``, one each per target.

    ``errors`` are by target, ``baseline`` those of always saying the training rows' median.
    """

    model: LatencyModel
    low: tuple[float, ...]
    high: tuple[float, ...]
    num_rows: int
    seed: int
    errors: Mapping[str, TargetError] = field(default_factory=dict)
    baseline: Mapping[str, TargetError] = field(default_factory=dict)

    def predict(self, rows: CollectedRows) -> tuple[Values, Values, Values]:
        """Prediction, low and high end of the interval, each (requests, targets)."""
        matrix = feature_matrix(rows.columns, self.model.features)
        found = self.model.predict(windows(matrix, rows.replicas, self.model.window))
        return found, found * np.array(self.low), found * np.array(self.high)


def train_learned(rows: CollectedRows, what: str, kind: str, seed: int,
                  options: RecurrentOptions = FULL_SIZE,
                  on_epoch: Callable[[int, float], None] = lambda _epoch, _loss: None,
                  ) -> LearnedModel:
    """Train on the first rows, set the interval on the next, report the error on the last fifth.

    Rows are parted by time because neighbours are alike: a random part would flatter. Raises
    InputError for an unknown kind or target, too few rows, and rows without what is needed.
    """
    _check(rows, what, kind)
    targets = TARGETS[what]
    features = features_of(tuple(rows.columns))
    matrix = feature_matrix(rows.columns, features)
    values = np.stack([rows.columns[target] for target in targets], axis=1)
    judged = ~np.isnan(values).all(axis=1)
    if int(judged.sum()) < MIN_ROWS:
        raise InputError(f"{int(judged.sum())} rows with {', '.join(targets)}; expected at least "
                         f"{MIN_ROWS}")
    shaped = windows(matrix, rows.replicas, WINDOW if kind == "lstm" else 1)[judged]
    values = values[judged]
    held_out = len(values) - max(int(_HELD_OUT * len(values)), 5)
    calibration = held_out - max(int(_CALIBRATION * held_out), 5)

    model = _fit(kind, features, targets, shaped[:calibration], values[:calibration], seed, options,
                 on_epoch)
    low, high = _interval(model.predict(shaped[calibration:held_out]),
                          values[calibration:held_out])
    errors = _errors(model.predict(shaped[held_out:]), values[held_out:], low, high)
    median = np.nanmedian(values[:calibration], axis=0)[None, :]
    flat_low, flat_high = _interval(np.repeat(median, held_out - calibration, 0),
                                    values[calibration:held_out])
    baseline = _errors(np.repeat(median, len(values) - held_out, 0), values[held_out:], flat_low,
                       flat_high)
    return LearnedModel(model, tuple(low.tolist()), tuple(high.tolist()), len(values), seed,
                        dict(zip(targets, errors, strict=True)),
                        dict(zip(targets, baseline, strict=True)))


def _check(rows: CollectedRows, what: str, kind: str) -> None:
    if what not in TARGETS:
        raise InputError(f"target {what!r} is unknown{nearest(what, TARGETS)}")
    if kind not in KINDS:
        raise InputError(f"kind {kind!r} is unknown{nearest(kind, KINDS)}")
    missing = [name for name in (*REQUEST, *TARGETS[what]) if name not in rows.columns]
    if missing:
        raise InputError(f"no column {missing[0]!r}{nearest(missing[0], rows.columns)}")


def _fit(kind: str, features: tuple[str, ...], targets: tuple[str, ...], rows: Values,
         values: Values, seed: int, options: RecurrentOptions,
         on_epoch: Callable[[int, float], None]) -> LatencyModel:
    if kind == "lstm":
        return fit_recurrent(features, targets, rows, values, seed, options, on_epoch)
    last = rows[:, -1]
    if kind == "boosting":
        return fit_boosted(features, targets, last, values, seed)
    # Gaps are few (the pace of answers of one token): least squares takes the median for them.
    filled = np.where(np.isnan(values), np.nanmedian(values, axis=0), values)
    if kind == "roofline":
        return fit_roofline(features, targets, last, filled)
    return fit_linear_model(features, targets, last, filled)


def _interval(predicted: Values, true: Values) -> tuple[Values, Values]:
    """Factors that part the middle 90 % of true / predicted, by split conformal prediction."""
    found = []
    for place in range(true.shape[1]):
        known = ~np.isnan(true[:, place])
        ratios = np.sort((true[known, place] + 1e-6) / (predicted[known, place] + 1e-6))
        if not len(ratios):
            found.append((0.0, float("inf")))
            continue
        rank = int(np.ceil((1.0 + COVERED) / 2.0 * (len(ratios) + 1)))
        found.append((float(ratios[max(len(ratios) - rank, 0)]),
                      float(ratios[min(rank, len(ratios)) - 1])))
    low, high = zip(*found, strict=True)
    return np.array(low), np.array(high)


def _errors(predicted: Values, true: Values, low: Values, high: Values) -> Sequence[TargetError]:
    found, nan = [], float("nan")
    for place in range(true.shape[1]):
        known = ~np.isnan(true[:, place]) & (true[:, place] > 0.0)
        truth, guess = true[known, place], predicted[known, place]
        if not len(truth):
            found.append(TargetError(nan, nan, nan, nan, 0))
            continue
        relative = np.abs(guess - truth) / truth
        within = ((guess + 1e-6) * low[place] <= truth + 1e-6) \
            & (truth + 1e-6 <= (guess + 1e-6) * high[place])
        found.append(TargetError(float(relative.mean()), float(np.median(relative)),
                                 float(within.mean()),
                                 float(high[place] / max(low[place], 1e-9)), int(known.sum())))
    return found
