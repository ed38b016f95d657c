"""Linear regression of step times on the prompt tokens and the KV tokens of a step.

Source: ai-dynamo/dynamo components/src/dynamo/planner/core/perf_model/base.py.
"""

from collections import deque
from math import inf, isqrt
from typing import NamedTuple

MOST_SAMPLES = 64
NUM_BUCKETS = 16
LEAST_SAMPLES = 5
LEAST_STEP_S = 1e-6
_ALIKE = 1e-9  # share of the variances below which both inputs are taken to move together


class Sample(NamedTuple):
    """Step with its prompt tokens, the KV tokens of its decodes, and its duration."""

    prefill_tokens: float
    kv_tokens: float
    seconds: float


class StepPlane(NamedTuple):
    """Fitted duration of a step: a constant, and seconds for each prompt and KV token."""

    base_s: float
    prefill_s: float
    kv_s: float

    def seconds(self, prefill_tokens: float, kv_tokens: float) -> float:
        """Return the duration of a step."""
        return max(LEAST_STEP_S,
                   self.base_s + self.prefill_s * prefill_tokens + self.kv_s * kv_tokens)


class StepRegression:
    """Keeps samples of all loads, and fits them.

    Each input is divided into equal ranges between its extremes. Where there are too many samples,
    the oldest of the fullest cell goes, so that a long time at one load does not drive out others.
    """

    def __init__(self) -> None:
        self._ranges = isqrt(NUM_BUCKETS)
        self._cells: dict[tuple[int, int], deque[Sample]] = {}
        self._low = (inf, inf)
        self._high = (-inf, -inf)
        self._plane: StepPlane | None = None
        self._fitted = False

    def __len__(self) -> int:
        return sum(map(len, self._cells.values()))

    def add(self, sample: Sample) -> None:
        """Add a step."""
        if sample.seconds <= 0.0:
            return
        low = (min(self._low[0], sample[0]), min(self._low[1], sample[1]))
        high = (max(self._high[0], sample[0]), max(self._high[1], sample[1]))
        if (low, high) != (self._low, self._high):
            self._low, self._high = low, high
            self._rebuild()
        self._cells.setdefault(self._cell(sample), deque()).append(sample)
        if len(self) > MOST_SAMPLES:
            fullest = max(self._cells, key=lambda cell: len(self._cells[cell]))
            self._cells[fullest].popleft()
        self._fitted = False

    def plane(self) -> StepPlane | None:
        """Return the fit, None with too few samples or where more load would take less time."""
        if not self._fitted:
            samples = [one for cell in self._cells.values() for one in cell]
            self._plane = fitted(samples) if len(samples) >= LEAST_SAMPLES else None
            self._fitted = True
        return self._plane

    def _cell(self, sample: Sample) -> tuple[int, int]:
        def place(axis: int) -> int:
            low, high = self._low[axis], self._high[axis]
            if high <= low:
                return 0
            return min(int((sample[axis] - low) / (high - low) * self._ranges), self._ranges - 1)

        return place(0), place(1)

    def _rebuild(self) -> None:
        samples = [one for cell in self._cells.values() for one in cell]
        self._cells = {}
        for one in samples:
            self._cells.setdefault(self._cell(one), deque()).append(one)


def fitted(samples: list[Sample]) -> StepPlane | None:
    """Return the least-squares plane, None where a slope is negative."""
    n = len(samples)
    mean = [sum(one[axis] for one in samples) / n for axis in range(3)]
    away = [[one[axis] - mean[axis] for axis in range(3)] for one in samples]

    def product(a: int, b: int) -> float:
        return sum(one[a] * one[b] for one in away)

    pp, kk, pk, pt, kt = product(0, 0), product(1, 1), product(0, 1), product(0, 2), product(1, 2)
    det = pp * kk - pk * pk
    if det > _ALIKE * pp * kk:
        slopes = ((pt * kk - kt * pk) / det, (kt * pp - pt * pk) / det)
    elif pp >= kk:
        slopes = (pt / pp if pp > 0.0 else 0.0, 0.0)
    else:
        slopes = (0.0, kt / kk)
    if min(slopes) < 0.0:
        return None
    return StepPlane(mean[2] - slopes[0] * mean[0] - slopes[1] * mean[1], *slopes)
