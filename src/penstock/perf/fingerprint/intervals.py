"""How far off estimates may be: errors on models that were left out, by kind of configuration.

Conformal prediction (Vovk et al., 2005) over models: each model in turn is estimated by weights
learnt from the others. A model to come is exchangeable with those as far as anyone knows, so its
errors should lie where theirs did.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil, exp, log

from penstock.core.configuration import Configuration
from penstock.core.prediction import Prediction

COVERAGE = 0.9
LEAST_ROWS = 20
FEW = 1.5
"""Intervals are this much wider where errors of one model, or of few runs, are all there is."""

UNKNOWN = log(2.0)
"""Half the width where nothing was left out to learn from: a factor of two either way."""

AT_BOUND = "fingerprints say less than is possible"


@dataclass(frozen=True, slots=True)
class Residual:
    """ln(estimated / measured) of one run of a model that was left out."""

    model: str
    group: str
    log_ratio: float


@dataclass(frozen=True, slots=True)
class Intervals:
    """Half widths of intervals, in logarithms, by group; ``COVERAGE`` of the truth should lie
    within. ``widest`` is for groups that nobody was seen in."""

    half_widths: Mapping[str, float]
    widest: float

    def around(self, value: float, group: str, source: str, extrapolated: tuple[str, ...],
               bound: float = 0.0) -> Prediction:
        """An estimate with its interval, neither below a physical bound: where the estimate was,
        that is said. Each thing that was extrapolated widens it."""
        if value <= bound:
            value, extrapolated = bound, (*extrapolated, AT_BOUND)
        half = self.half_widths.get(group, self.widest) * FEW ** len(extrapolated)
        return Prediction(value, max(bound, value * exp(-half)), value * exp(half), COVERAGE,
                          source, extrapolated)


def group_of(configuration: Configuration, batch: int) -> str:
    """Configurations whose errors are alike: by ranks, and one request or several."""
    tensor = configuration.parallelism.tensor
    ranks = "one or two ranks" if tensor <= 2 else "three to seven ranks" if tensor < 8 \
        else "eight ranks and more"
    return ranks if batch == 1 else f"{ranks}, batches"


def intervals_of(residuals: Iterable[Residual]) -> Intervals:
    """Intervals from errors on models that were left out."""
    groups: dict[str, list[Residual]] = {}
    for residual in residuals:
        groups.setdefault(residual.group, []).append(residual)
    widths = {group: _half_width(found) for group, found in groups.items()}
    return Intervals(widths, max(widths.values(), default=UNKNOWN))


def _half_width(residuals: list[Residual]) -> float:
    sizes = sorted(abs(one.log_ratio) for one in residuals)
    rank = min(len(sizes), ceil(COVERAGE * (len(sizes) + 1)))
    few = len(sizes) < LEAST_ROWS or len({one.model for one in residuals}) < 2
    return sizes[rank - 1] * (FEW if few else 1.0)
