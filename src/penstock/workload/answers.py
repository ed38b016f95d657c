"""Answers of several models to each request, and their forecasts."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from penstock.core.forecast import Forecast

IntColumn: TypeAlias = NDArray[np.int64]
Matrix: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Predictions:
    """One row per request, one column per model, as in ``core.forecast.Forecast``."""

    output_tokens: Matrix
    output_high_tokens: Matrix
    quality: Matrix
    quality_sd: Matrix
    source: str = "given"


@dataclass(frozen=True, slots=True)
class Answers:
    """``output_tokens`` (whole, at least 1) and ``quality`` (0 to 1) are the oracle's: one row per
    request, one column per model. ``predictions`` are what a router may see of them."""

    models: tuple[str, ...]
    output_tokens: NDArray[np.int64]
    quality: Matrix
    predictions: Predictions

    def tokens_of(self, model: str) -> IntColumn:
        """True output tokens on one model."""
        return self.output_tokens[:, self.models.index(model)]

    def forecasts(self, rows: slice) -> Iterator[Mapping[str, Forecast]]:
        """Return the forecasts for those requests, by model."""
        predicted = self.predictions
        columns = [matrix[rows].tolist() for matrix in (
            predicted.output_tokens, predicted.output_high_tokens, predicted.quality,
            predicted.quality_sd)]
        for tokens, high, quality, sd in zip(*columns, strict=True):
            yield {model: Forecast(tokens[i], high[i], quality[i], sd[i], predicted.source)
                   for i, model in enumerate(self.models)}

    def take(self, rows: IntColumn) -> "Answers":
        """The answers to some of the requests."""
        predicted = self.predictions
        return replace(
            self, output_tokens=self.output_tokens[rows], quality=self.quality[rows],
            predictions=Predictions(
                predicted.output_tokens[rows], predicted.output_high_tokens[rows],
                predicted.quality[rows], predicted.quality_sd[rows], predicted.source))
