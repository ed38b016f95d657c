"""Share of the allowed misses that is spent on purpose, learned from the requests that miss.

Forecasts are wrong by chance, and crowds come that nothing foretells. The share for errors by
chance is what crowds have left over lately.
"""

from math import exp

from penstock.policy.scale.outcomes import Misses

AIM = 0.4
"""Share of the allowed misses that are to happen in the long run. The rest is kept for chance."""

ADAPT_S = 24 * 3600.0
"""Time without any miss in which the share grows by e."""

_LEAST, _MOST = 0.05, 2.0


class Spending:
    """Share of the allowed misses that headroom and margin may use.

    The share grows while fewer requests miss than ``AIM`` of those that may, and falls while more
    do (integral control of its logarithm). More than 1 is possible: of the demand beyond the
    headroom most is served in time all the same, by replicas that have other demand less.
    """

    def __init__(self, first: float) -> None:
        self.value = first

    def learn(self, misses: Misses) -> None:
        """Adapt to the misses of a time. A time in which no request ended teaches nothing."""
        if misses.allowed > 0.0:
            step = misses.elapsed_s / ADAPT_S * (1.0 - misses.share / (AIM * misses.allowed))
            self.value = min(max(self.value * exp(step), _LEAST), _MOST)
