"""Choices by the forecasts for a request's content on each model.

All use ``Request.forecasts``. Where a published system has its own predictor (nearest neighbours,
clusters, a classifier), that predictor fills the forecasts.
"""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Sequence
from typing import ClassVar

from penstock.core.departure import Departure
from penstock.core.request import Request
from penstock.policy.route.facts import Offer
from penstock.policy.route.models.protocol import Forgetful, cost, quality, scaled

_USUAL_OUTPUT = 256.0


class BestQuality(Forgetful):
    """The model with the best expected answer; of equals the smaller (BEST-Route's rule)."""

    def choose(self, request: Request, offers: Sequence[Offer], now_s: float) -> str:
        best = max(range(len(offers)), key=lambda i: (quality(request, offers[i]), -i))
        return offers[best].model


class StrongShare(Forgetful):
    """The strong model for a given share of the requests, those with the largest expected gain.

    RouteLLM compares a win rate with a threshold that is calibrated to a share of calls. Here the
    score is the expected gain of the largest over the smallest model, and the threshold follows the
    scores of the last ``WINDOW`` requests. Of requests exactly on the threshold, as many are taken
    as the share requires.
    """

    WINDOW: ClassVar[int] = 1000

    def __init__(self, share: float, threshold: float | None = None) -> None:
        self._share = share
        self._threshold = threshold
        self._recent: deque[float] = deque()
        self._sorted: list[float] = []
        self._num_seen = 0
        self._num_strong = 0

    def choose(self, request: Request, offers: Sequence[Offer], now_s: float) -> str:
        weak, strong = offers[0], offers[-1]
        gain = quality(request, strong) - quality(request, weak)
        if self._threshold is not None:
            return strong.model if gain >= self._threshold else weak.model
        self._remember(gain)
        self._num_seen += 1
        if not self._gains_enough(gain):
            return weak.model
        self._num_strong += 1
        return strong.model

    def _gains_enough(self, gain: float) -> bool:
        below = int((1.0 - self._share) * len(self._sorted))
        if below >= len(self._sorted):
            return False
        if gain == self._sorted[below]:
            return self._num_strong < self._share * self._num_seen
        return gain > self._sorted[below]

    def _remember(self, gain: float) -> None:
        if len(self._recent) >= self.WINDOW:
            oldest = self._recent.popleft()
            del self._sorted[bisect_left(self._sorted, oldest)]
        self._recent.append(gain)
        insort(self._sorted, gain)


class WeightedRank(Forgetful):
    """Quality against cost, both scaled over the models (Avengers-Pro): the highest
    ``alpha`` * quality + (1 - ``alpha``) * (1 - cost)."""

    def __init__(self, alpha: float = 0.5) -> None:
        self._alpha = alpha

    def choose(self, request: Request, offers: Sequence[Offer], now_s: float) -> str:
        qualities = scaled([quality(request, offer) for offer in offers])
        costs = scaled([cost(request, offer, _USUAL_OUTPUT) for offer in offers])
        best = max(range(len(offers)), key=lambda i: (
            self._alpha * qualities[i] + (1.0 - self._alpha) * (1.0 - costs[i]), -i))
        return offers[best].model


class QualityFloorDual(Forgetful):
    """The least cost at a floor under the mean quality, by a running dual price (OmniRouter).

    Each request minimises cost - price of quality * expected quality. The price rises while the
    mean quality of the choices is below the floor. Costs are relative to the most expensive
    model's, so ``step`` has no unit.
    """

    def __init__(self, floor: float, step: float = 1.0) -> None:
        self._floor = floor
        self._step = step
        self._price = 0.0

    def choose(self, request: Request, offers: Sequence[Offer], now_s: float) -> str:
        costs = [cost(request, offer, _USUAL_OUTPUT) for offer in offers]
        dearest = max(costs) or 1.0
        qualities = [quality(request, offer) for offer in offers]
        best = min(range(len(offers)),
                   key=lambda i: (costs[i] / dearest - self._price * qualities[i], i))
        self._price = max(0.0, self._price + self._step * (self._floor - qualities[best]))
        return offers[best].model


class DualPool:
    """The largest model for prompts whose kind usually gets long answers, else the smallest.

    A moving mean of output / prompt tokens per bucket of prompt length decides; a ratio of at least
    1, or a prompt in the last bucket, goes to the largest.
    """

    BOUNDS: ClassVar[tuple[int, ...]] = (128, 512, 2048)
    GAIN: ClassVar[float] = 0.3

    def __init__(self) -> None:
        self._ratios = [0.0] * (len(self.BOUNDS) + 1)

    def choose(self, request: Request, offers: Sequence[Offer], now_s: float) -> str:
        bucket = self._bucket(request.prompt_tokens)
        large = bucket == len(self.BOUNDS) or self._ratios[bucket] >= 1.0
        return offers[-1].model if large else offers[0].model

    def ended(self, departure: Departure, model: str, prompt_tokens: int) -> None:
        if not departure.finished:
            return
        bucket = self._bucket(prompt_tokens)
        ratio = departure.output_tokens / max(1, prompt_tokens)
        self._ratios[bucket] += self.GAIN * (ratio - self._ratios[bucket])

    def _bucket(self, prompt_tokens: int) -> int:
        return bisect_left(self.BOUNDS, prompt_tokens)


class VirtualQueues:
    """The model whose virtual queue leaves the most time before the request's deadline (QLM).

    A queue holds seconds of work sent to a model and drains with time. A request adds its forecast
    tokens times the model's ``seconds_per_token``, which finished requests correct.
    """

    GAIN: ClassVar[float] = 0.1

    def __init__(self, seconds_per_token: float = 0.02) -> None:
        self._first_guess = seconds_per_token
        self._pace: dict[str, float] = {}
        self._backlog_s: dict[str, float] = {}
        self._seen_s = 0.0

    def choose(self, request: Request, offers: Sequence[Offer], now_s: float) -> str:
        elapsed_s = max(0.0, now_s - self._seen_s)
        self._seen_s = now_s
        for model in self._backlog_s:
            self._backlog_s[model] = max(0.0, self._backlog_s[model] - elapsed_s)
        works = [self._work_s(request, offer) for offer in offers]
        # The deadline is the same for all models, so the earliest finish has the most slack.
        best = min(range(len(offers)), key=lambda i: (
            self._backlog_s.get(offers[i].model, 0.0) + works[i], i))
        model = offers[best].model
        self._backlog_s[model] = self._backlog_s.get(model, 0.0) + works[best]
        return model

    def ended(self, departure: Departure, model: str, prompt_tokens: int) -> None:
        if departure.finished and departure.output_tokens > 0:
            seen = departure.e2e_s / departure.output_tokens
            known = self._pace.get(model, self._first_guess)
            self._pace[model] = known + self.GAIN * (seen - known)

    def _work_s(self, request: Request, offer: Offer) -> float:
        forecast = request.forecasts.get(offer.model)
        output = _USUAL_OUTPUT if forecast is None else forecast.output_tokens
        return min(output, float(request.max_tokens)) * self._pace.get(offer.model,
                                                                      self._first_guess)
