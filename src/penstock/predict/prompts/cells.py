"""Whether a stated uncertainty is true, judged by the errors of prompts that are alike.

One answer, right or wrong, says nothing of how unsure the *expectation* was. But prompts that lie
together share the error of their expectation, while the chance of each answer averages out.
"""

from collections.abc import Sequence
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from penstock.predict.embed.protocol import Vectors
from penstock.predict.prompts.rows import Values

CELL_ROWS = 64
Z90 = 1.6448536269514722  # of a normal variable 90 % lies within so many standard deviations


def cells(vectors: Vectors, max_rows: int = CELL_ROWS) -> list[NDArray[np.intp]]:
    """Places of the rows, parted into groups of like ones by halving along the widest dimension."""
    found: list[NDArray[np.intp]] = []
    waiting = [np.arange(len(vectors))]
    while waiting:
        places = waiting.pop()
        if len(places) <= max_rows:
            found.append(places)
            continue
        rows = vectors[places]
        widest = int(np.argmax(rows.var(axis=0)))
        order = places[np.argsort(rows[:, widest], kind="stable")]
        waiting += [order[:len(order) // 2], order[len(order) // 2:]]
    return [places for places in found if len(places)]


def spread_scale(errors: Values, spreads: Values, groups: Sequence[NDArray[np.intp]]) -> float:
    """Return the factor on ``spreads`` (rows) that makes groups' mean errors as wide as stated.

    Method of moments: the mean squared error of the groups, less what chance within each leaves in
    its mean, over the mean squared spread. At least 0.1.
    """
    means, chance, spread = _of_groups(errors, spreads, groups)
    squared = max(float((means**2 - chance).sum()), 0.0) / max(float((spread**2).sum()), 1e-12)
    return max(sqrt(squared), 0.1)


def spread_coverage(errors: Values, spreads: Values, groups: Sequence[NDArray[np.intp]]) -> float:
    """Share of groups whose mean error lies within the 90 % interval of spread and chance."""
    means, chance, spread = _of_groups(errors, spreads, groups)
    if not len(means):
        return float("nan")
    return float((np.abs(means) <= Z90 * np.sqrt(spread**2 + chance)).mean())


def _of_groups(errors: Values, spreads: Values,
               groups: Sequence[NDArray[np.intp]]) -> tuple[Values, Values, Values]:
    """Per group of two rows or more: mean error, variance that chance gives it, mean spread."""
    held = [places[~np.isnan(errors[places])] for places in groups]
    held = [places for places in held if len(places) > 1]
    return (np.array([errors[places].mean() for places in held]),
            np.array([errors[places].var(ddof=1) / len(places) for places in held]),
            np.array([spreads[places].mean() for places in held]))
