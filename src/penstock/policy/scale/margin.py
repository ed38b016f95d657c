"""Margin between the forecast and the capacity, learned from the requests that miss.

The margin rises with each miss and falls while fewer miss than may, as adaptive conformal inference
adapts its level (Gibbs and Candes 2021, section 2).
"""

from math import exp, log

from penstock.policy.scale.outcomes import Misses

FORGET_S = 3 * 3600.0
"""Time constant with which a margin above the first one falls back to the first."""

_MOST_EXCESS = 0.3  # share of misses above the allowed ones


class Margin:
    """Ratio of the wanted capacity over the forecast demand, within ``least`` and ``most``."""

    def __init__(self, first: float, least: float, most: float, adapt_s: float) -> None:
        self.value = first
        self._first = first
        self._least = least
        self._most = most
        self._adapt_s = adapt_s

    def learn(self, misses: Misses, spent_share: float) -> None:
        """Adapt to the misses of a time, of which ``spent_share`` of the allowed ones are meant.

        An outage says that something is wrong, not how much is: its size counts up to a limit, and
        a high margin is forgotten.
        """
        step = min(misses.excess(spent_share), _MOST_EXCESS) * misses.elapsed_s / self._adapt_s
        if self.value > self._first:
            step -= log(self.value / self._first) * misses.elapsed_s / FORGET_S
        self.value = min(max(self.value * exp(step), self._least), self._most)
