"""Linear models of latency and memory."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from penstock.core.errors import InputError
from penstock.predict.learned.features import Values


@dataclass(frozen=True, slots=True, eq=False)
class LinearModel:
    """Least squares on all features: ``features @ weights + intercepts``, 0 or more."""

    kind: ClassVar[str] = "linear"

    features: tuple[str, ...]
    targets: tuple[str, ...]
    weights: Values
    intercepts: Values
    window: int = 1

    def predict(self, rows: Values) -> Values:
        found: Values = np.maximum(rows[:, -1] @ self.weights + self.intercepts, 0.0)
        return found

    def state(self) -> tuple[Mapping[str, Any], Mapping[str, NDArray[np.generic]]]:
        return {}, {"weights": self.weights, "intercepts": self.intercepts}


def fit_linear_model(features: tuple[str, ...], targets: tuple[str, ...], rows: Values,
                     values: Values) -> LinearModel:
    """On rows (requests, features); a feature that never changes gets no weight."""
    scales = rows.std(axis=0)
    used = scales > 1e-12
    means = rows.mean(axis=0)
    standard = (rows[:, used] - means[used]) / scales[used]
    # A trace of ridge, so that features that say the same do not cancel in huge weights.
    normal = standard.T @ standard + 1e-6 * len(rows) * np.eye(int(used.sum()))
    found = np.linalg.solve(normal, standard.T @ (values - values.mean(axis=0)))
    weights = np.zeros((len(features), len(targets)))
    weights[used] = found / scales[used][:, None]
    return LinearModel(features, targets, weights, values.mean(axis=0) - means @ weights)


@dataclass(frozen=True, slots=True, eq=False)
class RooflineModel:
    """Work over rates, each rate 0 or more: what a request waits for and what it computes itself.

    TTFT = fixed + (pending prefill + prompt) / prefill rate + pending decode / decode rate; TPOT =
    fixed + running * seconds per sequence; e2e = TTFT + (predicted output - 1) * TPOT. The form of
    RouteBalance's roofline predictor, with the rates fitted instead of stated. Terms that the rows
    do not have are left out.
    """

    kind: ClassVar[str] = "roofline"

    features: tuple[str, ...]
    targets: tuple[str, ...]
    ttft: Values
    tpot: Values
    window: int = 1

    def predict(self, rows: Values) -> Values:
        first, each = _terms(rows[:, -1], self.features)
        ttft_s, tpot_s = first @ self.ttft, each @ self.tpot
        output = rows[:, -1, self.features.index("predicted_output_tokens")]
        return np.stack([ttft_s, tpot_s, ttft_s + np.maximum(output - 1.0, 0.0) * tpot_s], axis=1)

    def state(self) -> tuple[Mapping[str, Any], Mapping[str, NDArray[np.generic]]]:
        return {}, {"ttft": self.ttft, "tpot": self.tpot}


def _terms(rows: Values, features: tuple[str, ...]) -> tuple[Values, Values]:
    """Columns that TTFT and TPOT are sums of."""
    def column(name: str) -> Values:
        return rows[:, features.index(name)] if name in features else np.zeros(len(rows))

    one = np.ones(len(rows))
    prefill = column("pending_prefill_tokens") + column("prompt_tokens")
    return (np.stack([one, prefill, column("pending_decode_tokens"), column("num_waiting")], 1),
            np.stack([one, column("num_running"), column("pending_prefill_tokens")], 1))


def fit_roofline(features: tuple[str, ...], targets: tuple[str, ...], rows: Values,
                 values: Values) -> RooflineModel:
    """Non-negative least squares of relative errors, so that short answers count like long ones.

    Raises InputError for targets other than the latencies.
    """
    from scipy.optimize import nnls  # type: ignore[import-untyped]

    if "ttft_s" not in targets:
        raise InputError("kind 'roofline' predicts latencies only; expected linear, boosting or "
                         "lstm for memory")
    first, each = _terms(rows, features)
    found = []
    for terms, target in ((first, "ttft_s"), (each, "tpot_s")):
        value = values[:, targets.index(target)]
        known = value > 0.0  # one token has no time per token
        weight = 1.0 / np.maximum(value[known], 1e-4)
        found.append(nnls(terms[known] * weight[:, None], value[known] * weight)[0])
    return RooflineModel(features, targets, found[0], found[1])
