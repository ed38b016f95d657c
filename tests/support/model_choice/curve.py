"""Quality against the share of prompts that the strong model answers.

Definitions of RouteLLM (Ong et al., arXiv 2406.18665): the gap recovered at a share is
``(quality - weak) / (strong - weak)``; APGR is its average over all shares, and the cost of a level
is the least share that recovers it. A random choice has APGR 0.5 and cost equal to the level.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class GapCurve:
    """Part of the gap recovered with 0, 1, ... of the prompts sent to the strong model."""

    recovered: Values

    @property
    def apgr(self) -> float:
        """Average part of the gap recovered over all shares; can exceed 1."""
        steps = (self.recovered[1:] + self.recovered[:-1]) / 2
        return float(steps.mean())

    def cost(self, level: float) -> float:
        """The least share of calls to the strong model that recovers this part of the gap."""
        reached = np.flatnonzero(self.recovered >= level - 1e-12)
        return float(reached[0]) / (len(self.recovered) - 1) if len(reached) else 1.0


def gap_curve(scores: Values, weak: Values, strong: Values) -> GapCurve:
    """Prompts go to the strong model in order of ``scores``, the highest first.

    Prompts of equal score share their gain, so the order of rows does not matter.
    """
    gains = strong - weak
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
    counts = np.diff(np.concatenate([starts, [len(ranked)]]))
    means = np.add.reduceat(gains[order], starts) / counts
    total = float(gains.sum())
    return GapCurve(np.concatenate([[0.0], np.cumsum(np.repeat(means, counts))]) / total)


def recovered_at(chosen: NDArray[np.bool_], weak: Values, strong: Values) -> tuple[float, float]:
    """Share of the prompts that a choice sends to the strong model, and the gap it recovers."""
    gains = strong - weak
    return float(chosen.mean()), float(gains[chosen].sum() / gains.sum())
