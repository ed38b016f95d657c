"""Forecasters as files. Every shape is checked before it is used."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.core.errors import InputError, nearest
from penstock.predict.embed.hashed import HashedNgrams
from penstock.predict.embed.hashing import NUM_TEXT_FEATURES
from penstock.predict.embed.joined import JoinedEmbedder
from penstock.predict.embed.make import BOTH, EMBEDDERS
from penstock.predict.embed.minilm import MiniLm, load_minilm
from penstock.predict.embed.protocol import Embedder
from penstock.predict.prompts.forecaster import ForecastSettings, Prior, PromptForecaster
from penstock.predict.prompts.linear import LengthTrend, LinearQuality
from penstock.predict.prompts.neighbours import NeighbourSettings
from penstock.predict.saved import load_arrays, save_arrays

FORMAT = "penstock-forecaster-1"
_HASHED_NUMBERS = ("text_weight", "max_words", "max_chars", "max_text_chars")


def save_forecaster(forecaster: PromptForecaster, path: Path) -> None:
    """Write everything that the forecaster knows, its memory included."""
    embedder = forecaster.embedder
    vectors, values = forecaster.memory.in_order()
    arrays: dict[str, NDArray[Any]] = {"vectors": vectors, "values": values}
    head: dict[str, Any] = {
        "format": FORMAT, "embedder": embedder.name, "settings": asdict(forecaster.settings),
        "models": {model: prior._asdict() for model, prior in forecaster.priors.items()},
        "scores": {model: list(factor.scores)
                   for model, factor in forecaster.high_factors.items()}}
    hashed = embedder.first if isinstance(embedder, JoinedEmbedder) else embedder
    if isinstance(hashed, HashedNgrams):
        arrays |= {name: getattr(hashed, name)
                   for name in ("weights", "projection", "means", "scales")}
        head["hashed"] = {name: getattr(hashed, name) for name in _HASHED_NUMBERS}
    if forecaster.linear is not None:
        arrays |= {"linear_weights": forecaster.linear.weights,
                   "linear_intercepts": forecaster.linear.intercepts}
    if forecaster.trend is not None:
        arrays |= {"trend_weights": forecaster.trend.logs.weights,
                   "trend_intercepts": forecaster.trend.logs.intercepts,
                   "trend_centres": forecaster.trend.centres}
        head["trend_share"] = forecaster.trend.share
    save_arrays(path, head, arrays)


def load_forecaster(path: Path) -> PromptForecaster:
    """Read what ``save_forecaster`` wrote. Raises InputError for anything else."""
    return load_arrays(path, FORMAT, "a saved forecaster",
                       "the .npz of `penstock lab train quality`",
                       lambda head, arrays: _forecaster(head, arrays, str(path)))


def _forecaster(head: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]],
                where: str) -> PromptForecaster:
    priors = {str(model): Prior(float(prior["output_tokens"]), float(prior["quality"]))
              for model, prior in head["models"].items()}
    embedder = _embedder(head, arrays, where)
    size = embedder.num_dimensions
    settings = _settings(head["settings"], where)
    linear, logs = (_linear(arrays, name, size, len(priors), where) for name in ("linear", "trend"))
    trend = None if logs is None else LengthTrend(
        logs, _shaped(arrays, "trend_centres", (len(priors),), where), float(head["trend_share"]))
    forecaster = PromptForecaster(embedder, priors, settings, linear, trend)
    vectors = _shaped(arrays, "vectors", (-1, size), where).astype(np.float32)
    values = _shaped(arrays, "values", (len(vectors), 2 * len(priors)), where, gaps=True)
    forecaster.memory.add(vectors, values)
    for model, scores in head["scores"].items():
        forecaster.high_factors[model].extend(float(score) for score in scores)
    return forecaster


def _settings(saved: Mapping[str, Any], where: str) -> ForecastSettings:
    """Raises InputError for a number that no training gives."""
    near = {name: NeighbourSettings(**saved[name]) for name in ("quality", "length")}
    found = ForecastSettings(**{**saved, **near})
    ranges = [("linear_share", found.linear_share, 0.0, 1.0),
              ("sd_scale", found.sd_scale, 0.0, 1e6), ("capacity", found.capacity, 1, 1 << 32)]
    for name, one in near.items():
        ranges += [(f"{name}.num_neighbours", one.num_neighbours, 1, 1 << 32),
                   (f"{name}.softening", one.softening, 1e-12, 1e6),
                   (f"{name}.strength", one.strength, 0.0, 1e12),
                   (f"{name}.far_cosine", one.far_cosine, -1.0, 1.0)]
    for name, value, low, high in ranges:
        if not low <= value <= high:
            raise InputError(f"{where}: settings: {name} {value}; expected {low:g} to {high:g}")
    return found


def _linear(arrays: Mapping[str, NDArray[Any]], name: str, num_dimensions: int, num_models: int,
            where: str) -> LinearQuality | None:
    if f"{name}_weights" not in arrays:
        return None
    return LinearQuality(
        _shaped(arrays, f"{name}_weights", (num_dimensions, num_models), where),
        _shaped(arrays, f"{name}_intercepts", (num_models,), where))


def _embedder(head: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]],
              where: str) -> Embedder:
    name = str(head["embedder"])
    if name not in EMBEDDERS:
        raise InputError(f"{where}: embedder {name!r} is unknown{nearest(name, EMBEDDERS)}")
    if name == MiniLm.name:
        return load_minilm()
    hashed = _hashed(head, arrays, where)
    return JoinedEmbedder(hashed, load_minilm()) if name == BOTH else hashed


def _hashed(head: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]],
            where: str) -> HashedNgrams:
    weights = _shaped(arrays, "weights", (-1,), where)
    return HashedNgrams(
        weights.astype(np.float32),
        _shaped(arrays, "projection", (len(weights), -1), where).astype(np.float32),
        _shaped(arrays, "means", (NUM_TEXT_FEATURES,), where),
        _shaped(arrays, "scales", (NUM_TEXT_FEATURES,), where),
        **{field.name: field.type(head["hashed"][field.name])  # type: ignore[operator]
           for field in fields(HashedNgrams) if field.name in _HASHED_NUMBERS})


def _shaped(arrays: Mapping[str, NDArray[Any]], name: str, shape: tuple[int, ...], where: str,
            *, gaps: bool = False) -> NDArray[Any]:
    """An array of finite numbers (NaN too with ``gaps``) in this shape, -1 for any length."""
    array = arrays[name]
    fits = array.ndim == len(shape) and all(
        wanted in (-1, found) for wanted, found in zip(shape, array.shape, strict=True))
    if not fits or array.dtype.kind != "f":
        raise InputError(f"{where}: {name} has shape {array.shape} of {array.dtype}; expected "
                         f"{shape} of floats")
    bad = np.isinf(array) if gaps else ~np.isfinite(array)
    if bad.any():
        raise InputError(f"{where}: {name} holds a number that is not finite")
    return array
