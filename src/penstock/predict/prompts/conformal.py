"""A factor that makes a predicted quantile cover what it says it does."""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable
from math import ceil, exp, log
from typing import ClassVar


class ConformalFactor:
    """Factor on an expected quantile that keeps ``share`` of the values below the product.

    Split conformal prediction (Vovk, Gammerman and Shafer, 2005) on the logarithm of (value + 1)
    over (quantile + 1): the k-th smallest of n scores with ``k = ceil(share * (n + 1))``, over a
    window of the latest values. ``value`` is 1 while that k exceeds n.
    """

    WINDOW: ClassVar[int] = 1000

    def __init__(self, share: float) -> None:
        self.share = share
        self._recent: deque[float] = deque()
        self._ranked: list[float] = []

    def __len__(self) -> int:
        return len(self._recent)

    @property
    def scores(self) -> tuple[float, ...]:
        """The scores of the window, the oldest first."""
        return tuple(self._recent)

    @property
    def value(self) -> float:
        """The factor, of one more than the quantile."""
        place = ceil(self.share * (len(self._ranked) + 1) - 1e-9)
        return exp(self._ranked[place - 1]) if place <= len(self._ranked) else 1.0

    def corrected(self, quantile: float) -> float:
        """The quantile, so that it covers its share; 0 or more."""
        return max((quantile + 1.0) * self.value - 1.0, 0.0)

    def add(self, value: float, quantile: float) -> None:
        """Learn that ``value`` came where ``quantile`` was expected; both 0 or more."""
        self.extend([log((value + 1.0) / (quantile + 1.0))])

    def extend(self, scores: Iterable[float]) -> None:
        """Add scores as ``scores`` gives them."""
        for score in scores:
            if len(self._recent) >= self.WINDOW:
                del self._ranked[bisect_left(self._ranked, self._recent.popleft())]
            self._recent.append(score)
            insort(self._ranked, score)
