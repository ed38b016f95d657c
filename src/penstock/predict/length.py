"""How long an answer will be, judged by the answers seen before."""

from typing import Final, Protocol


class LengthPredictor(Protocol):
    """Predicts output tokens per traffic key (a service class, an application)."""

    def quantile(self, key: str, q: float) -> float:
        """Output tokens that a share ``q`` of this key's requests stay below."""

    def mean(self, key: str) -> float:
        """Mean output tokens of this key's requests."""

    def observe(self, key: str, output_tokens: int) -> None:
        """Learn from a finished request."""


class _History:
    """The latest outputs of one key: in a ring, whose oldest is at ``place`` once it is full, in
    order of size, and their sum."""

    __slots__ = ("place", "ranked", "recent", "total")

    def __init__(self, prior: list[float]) -> None:
        self.recent = list(prior)
        self.place = 0
        self.ranked = list(prior)
        self.total: float = sum(prior)


def _num_below(ranked: list[float], tokens: float) -> int:
    """Return how many of ``ranked`` are smaller, as ``bisect_left`` does, which would box each
    number that native code compares here."""
    low, high = 0, len(ranked)
    while low < high:
        middle = (low + high) >> 1
        if ranked[middle] < tokens:
            low = middle + 1
        else:
            high = middle
    return low


class HistoryLengths(LengthPredictor):
    """Quantiles of the latest finished outputs of each key.

    ``prior_tokens`` stands in until the first answers have ended; it counts as ``PRIOR_COUNT``
    observations. Answers that end early are seen first, so a young history reads short; the prior
    and the window both bound that bias.
    """

    WINDOW: Final = 512
    PRIOR_COUNT: Final = 8

    def __init__(self, prior_tokens: float = 256.0) -> None:
        self._prior_tokens = prior_tokens
        self._of_key: dict[str, _History] = {}

    def observe(self, key: str, output_tokens: int) -> None:
        history = self._of_key.get(key)
        if history is None:
            prior = [self._prior_tokens] * self.PRIOR_COUNT
            history = self._of_key[key] = _History(prior)
        recent, ranked, place = history.recent, history.ranked, history.place
        tokens = float(output_tokens)
        if len(recent) < HistoryLengths.WINDOW:
            recent.append(tokens)
        else:
            oldest = recent[place]
            del ranked[_num_below(ranked, oldest)]
            history.total -= oldest
            recent[place] = tokens
            history.place = place + 1 if place + 1 < HistoryLengths.WINDOW else 0
        ranked.insert(_num_below(ranked, tokens), tokens)
        history.total += tokens

    def quantile(self, key: str, q: float) -> float:
        history = self._of_key.get(key)
        if history is None:
            return self._prior_tokens
        ranked = history.ranked
        num = len(ranked)
        place = int(q * float(num))  # a float, for native code multiplies no other by an int
        return ranked[place if place < num else num - 1]

    def mean(self, key: str) -> float:
        history = self._of_key.get(key)
        return self._prior_tokens if history is None else history.total / len(history.recent)


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
