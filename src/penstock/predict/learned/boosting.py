"""Gradient-boosted trees (LightGBM). Extra: ``boosting``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from penstock.core.errors import InputError, missing_extra
from penstock.predict.learned.features import Values

MAX_ROUNDS, PATIENCE = 500, 30
_PARAMETERS = {"objective": "regression", "max_depth": 6, "num_leaves": 63, "learning_rate": 0.1,
               "feature_fraction": 0.8, "bagging_fraction": 0.8, "bagging_freq": 1,
               "min_data_in_leaf": 5, "num_threads": 1, "deterministic": True, "verbosity": -1,
               "force_row_wise": True}


@dataclass(frozen=True, slots=True, eq=False)
class BoostedModel:
    """One booster per target, of ``log(1 + 1000 * value)``: relative errors count, and 0 is kept.

    Depth, rate and sampling are those of RouteBalance's XGBoost models. ``texts`` are the boosters
    in LightGBM's text form.
    """

    kind: ClassVar[str] = "boosting"

    features: tuple[str, ...]
    targets: tuple[str, ...]
    boosters: Sequence[Any]
    window: int = 1

    def predict(self, rows: Values) -> Values:
        found = [np.asarray(booster.predict(rows[:, -1]), np.float64) for booster in self.boosters]
        return from_log(np.stack(found, axis=1))

    def state(self) -> tuple[Mapping[str, Any], Mapping[str, NDArray[np.generic]]]:
        return {}, {f"text_{target}": np.frombuffer(booster.model_to_string().encode(), np.uint8)
                    for target, booster in zip(self.targets, self.boosters, strict=True)}


def to_log(values: Values) -> Values:
    """Seconds or shares as a logarithm that has room for 0."""
    found: Values = np.log1p(1000.0 * np.maximum(values, 0.0))
    return found


def from_log(values: Values) -> Values:
    """The inverse of ``to_log``; beyond what a float holds is cut."""
    found: Values = np.maximum(np.expm1(np.minimum(values, 50.0)), 0.0) / 1000.0
    return found


def _lightgbm() -> Any:
    try:
        import lightgbm
    except (ImportError, OSError) as error:
        raise missing_extra("kind 'boosting' (unlike linear and roofline)", "boosting",
                            error) from None
    return lightgbm


def fit_boosted(features: tuple[str, ...], targets: tuple[str, ...], rows: Values, values: Values,
                seed: int) -> BoostedModel:
    """The last tenth of the rows says when to stop. Raises InputError when the extra is absent."""
    lightgbm = _lightgbm()
    kept = max(len(rows) - max(len(rows) // 10, 1), 1)
    boosters = []
    for place in range(len(targets)):
        known = ~np.isnan(values[:, place])
        target = to_log(np.where(known, values[:, place], 0.0))
        # LightGBM guards its memory against changes by freeing the raw rows.
        early, late = np.flatnonzero(known[:kept]), kept + np.flatnonzero(known[kept:])
        learning = lightgbm.Dataset(rows[early], target[early])
        checking = lightgbm.Dataset(rows[late], target[late], reference=learning)
        boosters.append(lightgbm.train(
            {**_PARAMETERS, "seed": seed}, learning, MAX_ROUNDS, valid_sets=[checking],
            callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)]))
    return BoostedModel(features, targets, boosters)


def boosted_from(features: tuple[str, ...], targets: tuple[str, ...],
                 arrays: Mapping[str, NDArray[Any]], where: str) -> BoostedModel:
    """From the texts of a saved file."""
    lightgbm = _lightgbm()
    boosters = []
    for target in targets:
        text = arrays[f"text_{target}"].astype(np.uint8).tobytes().decode()
        if not text.startswith("tree\n"):
            raise InputError(f"{where}: {target} is not a LightGBM model in text form")
        try:
            booster = lightgbm.Booster(model_str=text)
        except lightgbm.basic.LightGBMError as error:
            raise InputError(f"{where}: {target}: {str(error)[:80]}") from None
        if booster.num_feature() != len(features):
            raise InputError(f"{where}: {target} takes {booster.num_feature()} features; expected "
                             f"{len(features)}")
        boosters.append(booster)
    return BoostedModel(features, targets, boosters)
