"""Learnt models as files: one ``.npz`` of arrays, with the rest as JSON in one of them.

No pickle is written or read: a LightGBM model is its text, a network the arrays of its state
dictionary. Every shape is checked against the features before it is used.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.core.errors import InputError, nearest
from penstock.predict.learned.boosting import boosted_from
from penstock.predict.learned.features import FEATURES
from penstock.predict.learned.linear import LinearModel, RooflineModel
from penstock.predict.learned.protocol import LATENCY_TARGETS, MEMORY_TARGETS, LatencyModel
from penstock.predict.learned.recurrent import recurrent_from
from penstock.predict.learned.training import KINDS, LearnedModel, TargetError
from penstock.predict.saved import load_arrays, save_arrays

FORMAT = "penstock-learned-1"
_FIRST, _EACH = 4, 3  # terms of a roofline's TTFT and TPOT
_LONGEST_WINDOW = 1024


def save_learned(learned: LearnedModel, path: Path) -> None:
    """Write a model with its interval and errors."""
    numbers, arrays = learned.model.state()
    head = {"format": FORMAT, "kind": learned.model.kind, "features": learned.model.features,
            "targets": learned.model.targets, "window": learned.model.window,
            "low": learned.low, "high": learned.high, "num_rows": learned.num_rows,
            "seed": learned.seed, **numbers,
            "errors": {name: asdict(error) for name, error in learned.errors.items()},
            "baseline": {name: asdict(error) for name, error in learned.baseline.items()}}
    save_arrays(path, head, arrays)


def load_learned(path: Path) -> LearnedModel:
    """Read what ``save_learned`` wrote. Raises InputError for anything else."""
    return load_arrays(path, FORMAT, "a learnt model", "the .npz of `penstock lab train`",
                       lambda head, arrays: _learned(head, arrays, str(path)))


def _learned(head: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]],
             where: str) -> LearnedModel:
    features, targets = tuple(head["features"]), tuple(head["targets"])
    unknown = [name for name in features if name not in FEATURES]
    if unknown or len(set(features)) != len(features):
        raise InputError(f"{where}: feature {str((unknown or ['twice'])[0])!r} is unknown"
                         f"{nearest(str((unknown or ['twice'])[0]), FEATURES)}")
    if targets not in (LATENCY_TARGETS, MEMORY_TARGETS):
        raise InputError(f"{where}: targets {targets} are unknown")
    low, high = (tuple(float(value) for value in head[name]) for name in ("low", "high"))
    if len(low) != len(targets) or len(high) != len(targets):
        raise InputError(f"{where}: {len(low)} and {len(high)} ends of intervals; expected "
                         f"{len(targets)} each")
    return LearnedModel(_model(head, features, targets, arrays, where), low, high,
                        int(head["num_rows"]), int(head["seed"]),
                        {name: TargetError(**error) for name, error in head["errors"].items()},
                        {name: TargetError(**error) for name, error in head["baseline"].items()})


def _model(head: Mapping[str, Any], features: tuple[str, ...], targets: tuple[str, ...],
           arrays: Mapping[str, NDArray[Any]], where: str) -> LatencyModel:
    kind = str(head["kind"])
    if kind not in KINDS:
        raise InputError(f"{where}: kind {kind!r} is unknown{nearest(kind, KINDS)}")
    if kind == "boosting":
        return boosted_from(features, targets, arrays, where)
    if kind == "lstm":
        window = int(head["window"])
        if not 0 < window <= _LONGEST_WINDOW:
            raise InputError(f"{where}: window {window}; expected 1 to {_LONGEST_WINDOW}")
        return recurrent_from(features, targets, window, head, arrays, where)
    if kind == "roofline":
        if targets != LATENCY_TARGETS:
            raise InputError(f"{where}: a roofline of {targets}; expected {LATENCY_TARGETS}")
        return RooflineModel(features, targets, _shaped(arrays, "ttft", (_FIRST,), where),
                             _shaped(arrays, "tpot", (_EACH,), where))
    return LinearModel(features, targets,
                       _shaped(arrays, "weights", (len(features), len(targets)), where),
                       _shaped(arrays, "intercepts", (len(targets),), where))


def _shaped(arrays: Mapping[str, NDArray[Any]], name: str, shape: tuple[int, ...],
            where: str) -> NDArray[np.float64]:
    array = arrays[name]
    if array.shape != shape or array.dtype.kind != "f" or not np.isfinite(array).all():
        raise InputError(f"{where}: {name} is {array.dtype} of shape {array.shape}; expected "
                         f"finite floats of shape {shape}")
    return array.astype(np.float64)
