"""Spread of values, and its share between groups."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from penstock.metrics.definitions import FloatColumn

QUANTILES = {"p5": 5, "p25": 25, "p50": 50, "p75": 75, "p95": 95}


@dataclass(frozen=True, slots=True)
class Spread:
    """Location and spread of values, None where there are too few values.

    ``sd`` is the sample standard deviation (n - 1), ``cv`` that divided by the mean.
    """

    num: int
    mean: float | None
    sd: float | None
    cv: float | None
    low: float | None
    high: float | None
    quantiles: dict[str, float | None]


@dataclass(frozen=True, slots=True)
class BetweenGroups:
    """A one-way decomposition of the variance of values.

    ``share`` is the share of a single value's variance that its group explains: the intraclass
    correlation, 0 where groups differ less than by chance. ``explained`` is the share of the sum of
    squares (eta squared), which is positive even by chance. ``f`` and ``p_value`` belong to the
    test that all groups have the same mean.
    """

    num_groups: int
    share: float
    explained: float
    f: float | None
    p_value: float | None


def spread(values: FloatColumn) -> Spread:
    """Return the spread of the values that are not NaN; quantiles by nearest rank."""
    known = values[~np.isnan(values)]
    if not len(known):
        return Spread(0, None, None, None, None, None, dict.fromkeys(QUANTILES))
    mean = float(known.mean())
    sd = float(known.std(ddof=1)) if len(known) > 1 else None
    ranks = np.percentile(known, list(QUANTILES.values()), method="inverted_cdf")
    return Spread(len(known), mean, sd, sd / abs(mean) if sd is not None and mean else None,
                  float(known.min()), float(known.max()),
                  dict(zip(QUANTILES, ranks.tolist(), strict=True)))


def between_groups(values: FloatColumn, groups: Sequence[Hashable]) -> BetweenGroups | None:
    """Decompose the variance into groups (``groups[i]`` is the group of value i).

    Analysis of variance with random groups of any size; the variance between groups is estimated by
    (MSB - MSW) / n0 (Searle, Casella, McCulloch, "Variance Components", 1992, section 3.6). Returns
    None with fewer than two groups, without a group of two values, and without variance.
    """
    by_group: dict[Hashable, list[float]] = {}
    for value, group in zip(values.tolist(), groups, strict=True):
        if not math.isnan(value):
            by_group.setdefault(group, []).append(value)
    num_groups, num = len(by_group), sum(map(len, by_group.values()))
    if num_groups < 2 or num <= num_groups:
        return None
    means = {group: float(np.mean(found)) for group, found in by_group.items()}
    grand = sum(means[group] * len(found) for group, found in by_group.items()) / num
    between = sum(len(found) * (means[group] - grand)**2 for group, found in by_group.items())
    within = sum((value - means[group])**2 for group, found in by_group.items() for value in found)
    scale = max(abs(value) for found in by_group.values() for value in found)
    if between + within <= (1e-12 * scale)**2 * num:  # rounding
        return None
    mean_between, mean_within = between / (num_groups - 1), within / (num - num_groups)
    typical = (num - sum(len(found)**2 for found in by_group.values()) / num) / (num_groups - 1)
    of_group = max(0.0, (mean_between - mean_within) / typical)
    f, p_value = None, None
    if within > 0:
        f = mean_between / mean_within
        p_value = _f_tail(f, num_groups - 1, num - num_groups)
    return BetweenGroups(num_groups, of_group / (of_group + mean_within),
                         between / (between + within), f, p_value)


def _f_tail(f: float, between_freedom: int, within_freedom: int) -> float:
    """Return the probability of this F, or a larger one, if all groups have the same mean."""
    from scipy.special import betainc  # type: ignore[import-untyped]

    # The F distribution's tail is a regularised incomplete beta function.
    x = within_freedom / (within_freedom + between_freedom * f)
    return float(betainc(within_freedom / 2, between_freedom / 2, x))
