"""Traffic of one model in the next interval."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from penstock.policy.scale.values import SeenDemand
from penstock.published.autoscalers.dynamo.predictors import Predictor
from penstock.published.autoscalers.lengths import Lengths


class Forecast(NamedTuple):
    """Expected requests per second, and their mean lengths."""

    per_s: float
    lengths: Lengths


class Traffic:
    """Forecasts the number of requests, their lengths and the share that prefix caches have, each
    by a predictor of its own."""

    def __init__(self, predictor: Callable[[], Predictor]) -> None:
        self._predictors = tuple(predictor() for _ in range(4))
        self._before: tuple[float, tuple[int, ...]] = (0.0, (0, 0, 0, 0))

    def next(self, demand: Sequence[SeenDemand], hit_share: float, now_s: float
             ) -> Forecast | None:
        """Add the interval that has just ended, and return the forecast of the next. None while
        nothing came. Arrivals count, since completions would hide an overload."""
        counts = (sum(one.num_arrived for one in demand), sum(one.prompt_tokens for one in demand),
                  sum(one.num_finished for one in demand),
                  sum(one.output_tokens for one in demand))
        (then_s, then), self._before = self._before, (now_s, counts)
        arrived, prompt, finished, output = (
            now - before for now, before in zip(counts, then, strict=True))
        for predictor, value in zip(self._predictors, (
                arrived, prompt / arrived if arrived else 0.0,
                output / finished if finished else 0.0, hit_share), strict=True):
            predictor.add(float(value))
        num, prompts, outputs, hits = (max(0.0, one.next()) for one in self._predictors)
        if num <= 0.0 or now_s <= then_s:
            return None
        return Forecast(num / (now_s - then_s), Lengths(prompts, outputs, min(1.0, hits)))
