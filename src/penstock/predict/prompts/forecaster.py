"""Forecasts for a prompt on every model, from the prompts nearest to it and a linear model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from penstock.core.errors import InputError
from penstock.core.errors import nearest as nearest_name
from penstock.core.forecast import Forecast
from penstock.predict.embed.protocol import Embedder, Vectors
from penstock.predict.length_distribution import LengthDistribution
from penstock.predict.prompts.conformal import ConformalFactor
from penstock.predict.prompts.linear import LengthTrend, LinearQuality
from penstock.predict.prompts.memory import PromptMemory
from penstock.predict.prompts.neighbours import Nearby, Neighbours, NeighbourSettings
from penstock.predict.prompts.rows import Values

HIGH_SHARE = 0.9  # of answers, that a forecast's output_high_tokens is to cover
_NUM_TYPICAL = 33


class Prior(NamedTuple):
    """Belief about a model before any observation of it."""

    output_tokens: float = 256.0
    quality: float = 0.5


class PromptForecast(NamedTuple):
    """A forecast, and the distribution of lengths that it sums up."""

    forecast: Forecast
    lengths: LengthDistribution


@dataclass(frozen=True, slots=True)
class ForecastSettings:
    """How forecasts are made of neighbours and of the linear model.

    ``quality`` and ``length`` say which neighbours count for either. ``linear_share`` is the linear
    model's part in the quality, from 0 to 1. ``sd_scale`` corrects the width of ``quality_sd`` as
    found on held-out rows. ``capacity`` bounds the memory in rows.
    """

    quality: NeighbourSettings = field(default_factory=NeighbourSettings)
    length: NeighbourSettings = field(default_factory=NeighbourSettings)
    linear_share: float = 0.5
    sd_scale: float = 1.0
    capacity: int = 20_000


class PromptForecaster:
    """Expected answer length and quality of a prompt on each model.

    Quality: the neighbours' weighted mean, shrunk towards the model's, averaged with a ridge
    regression on the vector. Length: the neighbours' lengths mixed with all of the model's in the
    same proportion, each scaled by what a trend says of the prompt; ``output_high_tokens`` is its
    90 % quantile times a conformal factor, so that nine of ten answers stay below it whatever the
    distribution's faults.
    """

    PRIOR_ROWS: ClassVar[int] = 8
    STALE_SHARE: ClassVar[float] = 0.02  # of the memory: typical lengths wait for as many new rows

    def __init__(self, embedder: Embedder, priors: Mapping[str, Prior],
                 settings: ForecastSettings | None = None,
                 linear: LinearQuality | None = None, trend: LengthTrend | None = None) -> None:
        """``priors`` names the models; columns of ``linear`` and ``trend`` are in their order.

        The memory holds lengths as they would be at a prompt to which the trend is 1.
        """
        self.embedder = embedder
        self.settings = settings or ForecastSettings()
        self.priors = dict(priors)
        self.linear = linear
        self.trend = trend
        self.memory = PromptMemory(embedder.num_dimensions, 2 * len(self.priors),
                                   self.settings.capacity)
        self.high_factors = {model: ConformalFactor(HIGH_SHARE) for model in self.priors}
        self._typical: dict[str, tuple[int, list[float]]] = {}

    @property
    def models(self) -> tuple[str, ...]:
        """The models that are forecast."""
        return tuple(self.priors)

    def judges(self, model: str) -> bool:
        """Whether it knows a judged answer of the model; without one, quality is a guess."""
        column = len(self.priors) + self.models.index(model)
        return bool(np.isfinite(self.memory.values[:, column]).any())

    @property
    def source(self) -> str:
        """The form of the forecaster and its embedder, in words."""
        if not len(self.memory):
            return "prior"
        share = self.settings.linear_share if self.linear else 0.0
        form = "knn" if share == 0.0 else "ridge" if share == 1.0 else "knn+ridge"
        return f"{form}/{self.embedder.name}"

    def forecast(self, prompt: str) -> Mapping[str, Forecast]:
        """Return the forecast for the prompt, by model."""
        return {model: outlook.forecast for model, outlook in self.outlook(prompt).items()}

    def outlook(self, prompt: str) -> Mapping[str, PromptForecast]:
        """As ``forecast``, each with its distribution of lengths."""
        return self.outlook_of(self.embedder.embed([prompt])[0])

    def outlook_of(self, vector: NDArray[np.float32]) -> Mapping[str, PromptForecast]:
        """The outlook of a prompt that is embedded already."""
        nearby = self._nearby(vector)
        linear = self.linear.predict(vector[None, :])[0] if self.linear else None
        source, factors = self.source, self._factors(vector)
        found = {}
        for place, model in enumerate(self.priors):
            lengths = self._lengths(model, place, nearby, factors[place])
            mean = lengths.mean_tokens
            high = self.high_factors[model].corrected(lengths.quantile(HIGH_SHARE))
            quality, sd = self._quality(model, place, nearby,
                                        None if linear is None else float(linear[place]))
            found[model] = PromptForecast(Forecast(mean, max(high, mean), quality, sd, source),
                                          lengths)
        return found

    def _nearby(self, vector: NDArray[np.float32]) -> Nearby:
        count = max(self.settings.quality.num_neighbours, self.settings.length.num_neighbours)
        return Nearby(self.memory.values, self.memory.cosines(vector), count)

    def _factors(self, vector: NDArray[np.float32]) -> list[float]:
        if self.trend is None:
            return [1.0] * len(self.priors)
        found: list[float] = self.trend.factors(vector[None, :])[0].tolist()
        return found

    def _lengths(self, model: str, place: int, nearby: Nearby, factor: float) -> LengthDistribution:
        return mixed_lengths(nearby.of(place, self.settings.length),
                             self._typical_lengths(model, place), factor)

    def _typical_lengths(self, model: str, place: int) -> list[float]:
        """Evenly spaced quantiles of all the model's lengths, and of the prior's while few."""
        added, held = self._typical.get(model, (0, []))
        if held and self.memory.num_added - added <= self.STALE_SHARE * len(self.memory):
            return held
        known = self.memory.known(place)
        spread = self.priors[model].output_tokens * np.linspace(0.1, 1.9, self.PRIOR_ROWS)
        typical = typical_lengths(
            np.concatenate([known, spread[:max(self.PRIOR_ROWS - len(known), 0)]]))
        self._typical[model] = (self.memory.num_added, typical)
        return typical

    def _quality(self, model: str, place: int, nearby: Nearby,
                 linear: float | None) -> tuple[float, float]:
        column = len(self.priors) + place
        near = nearby.of(column, self.settings.quality)
        mean = self.memory.mean(column, self.priors[model].quality, self.PRIOR_ROWS)
        quality = blend(near.shrunk(mean), linear, self.settings.linear_share)
        sd = quality_spread(quality, near.evidence, self.settings)
        return float(quality), float(sd)

    def observe(self, prompt: str, model: str, output_tokens: float,
                quality: float | None = None) -> None:
        """Learn from one finished answer; ``quality`` 0 to 1 where it was judged.

        Raises InputError for a model that is not forecast or a value out of range.
        """
        if model not in self.priors:
            raise InputError(f"model {model!r} has no forecasts{nearest_name(model, self.priors)}")
        if not 0.0 <= output_tokens < float("inf"):
            raise InputError(f"output_tokens: {output_tokens}; expected a number of 0 or more")
        if quality is not None and not 0.0 <= quality <= 1.0:
            raise InputError(f"quality: {quality}; expected 0 to 1")
        vector = self.embedder.embed([prompt])[0]
        place = self.models.index(model)
        factor = self._factors(vector)[place]
        expected = self._lengths(model, place, self._nearby(vector), factor).quantile(HIGH_SHARE)
        self.high_factors[model].add(output_tokens, expected)
        row = np.full((1, 2 * len(self.priors)), np.nan)
        row[0, place] = output_tokens / factor
        row[0, len(self.priors) + place] = np.nan if quality is None else quality
        self.memory.add(vector[None, :], row)

    def fill(self, vectors: Vectors, output_tokens: Values, quality: Values) -> None:
        """Add rows of all models to the memory, without touching the conformal factors.

        ``output_tokens`` are without the trend.
        """
        self.memory.add(vectors, np.hstack([output_tokens, quality]))


def typical_lengths(lengths: Values) -> list[float]:
    """Evenly spaced quantiles of one or more lengths, the middle of each of as many parts."""
    parts = (np.arange(_NUM_TYPICAL) + 0.5) / _NUM_TYPICAL
    found: list[float] = np.quantile(lengths, parts).tolist()
    return found


def mixed_lengths(near: Neighbours, typical: Sequence[float],
                  factor: float = 1.0) -> LengthDistribution:
    """The neighbours' lengths as far as they are trusted, and typical ones for the rest; all of
    them times ``factor``."""
    trust = float(near.trust)
    pairs = [(tokens * factor, (1.0 - trust) / len(typical)) for tokens in typical]
    if trust > 0.0:
        shares = near.weights * (trust / near.weights.sum())
        pairs += zip((near.values * factor).tolist(), shares.tolist(), strict=True)
    return LengthDistribution.of(pairs)


def blend(near: Values, linear: float | Values | None, linear_share: float) -> Values:
    """Quality as the average of both ways to predict it, within 0 to 1."""
    mixed = near if linear is None else linear_share * linear + (1.0 - linear_share) * near
    found: Values = np.clip(mixed, 0.0, 1.0)
    return found


def quality_spread(quality: Values, evidence: Values, settings: ForecastSettings) -> Values:
    """Standard deviation of an expected quality: that of a share, estimated from the evidence.

    The prior counts with its strength, Laplace's rule keeps a share of 0 or 1 from looking certain.
    """
    num_rows = evidence + max(settings.quality.strength, 1.0)
    share = (quality * num_rows + 1.0) / (num_rows + 2.0)
    found: Values = np.minimum(settings.sd_scale * np.sqrt(share * (1.0 - share) / num_rows), 0.5)
    return found
