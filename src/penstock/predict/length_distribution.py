"""How long one answer will be, as a distribution that is conditioned on what has been streamed.

Standard library only: a gateway asks it per token, and a policy may.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from math import exp, inf, log
from typing import Self


class LengthDistribution:
    """Output tokens of an answer: weighted lengths seen before, and an exponential tail beyond.

    The tail says that an answer may be longer than any seen, as likely as one more like the
    longest: with n equal weights 1 / (n + 1), the chance that the next of exchangeable lengths
    exceeds all.
    ``tail_tokens`` is its mean excess over the longest.
    """

    __slots__ = ("_heads", "_values", "_weighted", "_weights", "tail_share", "tail_tokens")

    def __init__(self, values: Sequence[float], weights: Sequence[float], tail_share: float,
                 tail_tokens: float) -> None:
        """``values`` rise; ``weights``, one each, are scaled to sum to ``1 - tail_share``."""
        scale = (1.0 - tail_share) / sum(weights)
        self._values = tuple(values)
        self.tail_share, self.tail_tokens = tail_share, tail_tokens
        scaled = [weight * scale for weight in weights]
        # From each value on, itself included: the probability and the sum of p * tokens.
        tail_sum = tail_share * (self._values[-1] + tail_tokens)
        self._weights = _from_the_end(scaled, tail_share)
        self._weighted = _from_the_end([p * v for p, v in zip(scaled, values, strict=True)],
                                       tail_sum)
        self._heads = tuple(accumulate(scaled))

    @classmethod
    def of(cls, lengths: Iterable[tuple[float, float]]) -> Self:
        """From pairs of output tokens and weight, at least one with a weight above 0."""
        ranked = sorted((tokens, weight) for tokens, weight in lengths if weight > 0.0)
        total = sum(weight for _, weight in ranked)
        longest = ranked[-1][1] / total
        mean = sum(tokens * weight for tokens, weight in ranked) / total
        return cls([tokens for tokens, _ in ranked], [weight for _, weight in ranked],
                   longest / (1.0 + longest), max(0.25 * mean, 1.0))

    @property
    def mean_tokens(self) -> float:
        """Expected output tokens."""
        return self._weighted[0]

    def above(self, tokens: float) -> float:
        """The probability that the answer is longer than ``tokens``."""
        place = bisect_right(self._values, tokens)
        if place < len(self._values):
            return self._weights[place]
        return self.tail_share * exp((self._values[-1] - tokens) / self.tail_tokens)

    def quantile(self, q: float) -> float:
        """Output tokens that a share ``q`` of such answers do not exceed; ``inf`` for 1."""
        if q >= 1.0:
            return inf
        if q > 1.0 - self.tail_share:
            return self._values[-1] + self.tail_tokens * log(self.tail_share / (1.0 - q))
        place = min(bisect_right(self._heads, q * (1.0 - 1e-12)), len(self._values) - 1)
        return self._values[place]

    def remaining_mean(self, streamed_tokens: float) -> float:
        """Expected tokens still to come, given that the answer is longer than ``streamed_tokens``.

        Their sum with ``streamed_tokens`` never falls as tokens stream.
        """
        place = bisect_right(self._values, streamed_tokens)
        if place >= len(self._values):
            return self.tail_tokens  # an exponential tail has no memory
        return self._weighted[place] / self._weights[place] - streamed_tokens

    def remaining_quantile(self, streamed_tokens: float, q: float) -> float:
        """Tokens still to come that a share ``q`` of answers this long do not exceed."""
        left = self.above(streamed_tokens)
        if streamed_tokens >= self._values[-1]:
            return inf if q >= 1.0 else -self.tail_tokens * log(1.0 - q)
        return max(self.quantile(1.0 - left * (1.0 - q)) - streamed_tokens, 0.0)


def _from_the_end(items: Sequence[float], last: float) -> tuple[float, ...]:
    return tuple(accumulate(reversed(items), initial=last))[:0:-1]
