"""How long an answer will be, judged by the answers seen before."""

from bisect import bisect_left, insort
from collections import deque
from typing import ClassVar, Protocol


class LengthPredictor(Protocol):
    """Predicts output tokens per traffic key (a service class, an application)."""

    def quantile(self, key: str, q: float) -> float:
        """Output tokens that a share ``q`` of this key's requests stay below."""

    def mean(self, key: str) -> float:
        """Mean output tokens of this key's requests."""

    def observe(self, key: str, output_tokens: int) -> None:
        """Learn from a finished request."""


class HistoryLengths(LengthPredictor):
    """Quantiles of the latest finished outputs of each key.

    ``prior_tokens`` stands in until the first answers have ended; it counts as ``PRIOR_COUNT``
    observations. Answers that end early are seen first, so a young history reads short; the prior
    and the window both bound that bias.
    """

    WINDOW: ClassVar[int] = 512
    PRIOR_COUNT: ClassVar[int] = 8

    def __init__(self, prior_tokens: float = 256.0) -> None:
        self._prior_tokens = prior_tokens
        self._recent: dict[str, deque[float]] = {}
        self._sorted: dict[str, list[float]] = {}
        self._total: dict[str, float] = {}

    def observe(self, key: str, output_tokens: int) -> None:
        recent = self._recent.get(key)
        if recent is None:
            recent = self._recent[key] = deque([self._prior_tokens] * self.PRIOR_COUNT)
            self._sorted[key] = list(recent)
            self._total[key] = sum(recent)
        ranked = self._sorted[key]
        if len(recent) >= self.WINDOW:
            oldest = recent.popleft()
            del ranked[bisect_left(ranked, oldest)]
            self._total[key] -= oldest
        recent.append(float(output_tokens))
        insort(ranked, float(output_tokens))
        self._total[key] += output_tokens

    def quantile(self, key: str, q: float) -> float:
        ranked = self._sorted.get(key)
        if not ranked:
            return self._prior_tokens
        return ranked[min(len(ranked) - 1, int(q * len(ranked)))]

    def mean(self, key: str) -> float:
        recent = self._recent.get(key)
        return self._total[key] / len(recent) if recent else self._prior_tokens


class ScaledLengths(LengthPredictor):
    """A predictor that is wrong by a known factor, for experiments on robustness."""

    def __init__(self, inner: LengthPredictor, factor: float) -> None:
        self._inner = inner
        self._factor = factor

    def observe(self, key: str, output_tokens: int) -> None:
        self._inner.observe(key, output_tokens)

    def quantile(self, key: str, q: float) -> float:
        return self._factor * self._inner.quantile(key, q)

    def mean(self, key: str) -> float:
        return self._factor * self._inner.mean(key)
