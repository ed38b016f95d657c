"""Believed durations of loads and batches, corrected by observed ones."""

from collections.abc import Sequence
from math import exp, log
from typing import Protocol

from penstock.perf.step_time.protocol import StepTimeModel
from penstock.policy.multiplex.values import BatchTime

_LEARNING = 0.1
_HALF_LIFE_S = 1800.0  # long against the cost of a trial load, short against a day of shed requests
_ONE_SPELL_S = 60.0  # shed requests further apart do not count as one period
_FURTHEST = log(4.0)  # one load that hung must not make all others look as bad


class LoadBelief(Protocol):
    """Believed durations of loads, given the believed places of models."""

    def load_s(self, device: int, model: int) -> float:
        """Return the duration of a load that would begin now."""
        ...

    def prefetch_s(self, model: int) -> float:
        """Return the duration of reading a model into host memory, 0 where that would not shorten
        its load."""
        ...

    def loaded(self, device: int, model: int) -> None:
        """A load has ended: the model passed through host memory."""
        ...

    def prefetched(self, model: int) -> None:
        """The model was read into host memory."""
        ...


class LoadTable:
    """A fixed load time per model, independent of its place. Prefetching gains nothing."""

    def __init__(self, seconds: Sequence[float]) -> None:
        self._seconds = seconds

    def load_s(self, device: int, model: int) -> float:
        return self._seconds[model]

    def prefetch_s(self, model: int) -> float:
        return 0.0

    def loaded(self, device: int, model: int) -> None: ...

    def prefetched(self, model: int) -> None: ...


def batch_time(step_time: StepTimeModel, prompt_tokens: int, output_tokens: int,
               max_batch: int) -> BatchTime:
    """Return the linear batch time through the durations of one request and of ``max_batch``
    requests of these lengths.

    n requests that start together take one step for their prompts and one for every further token.
    With continuous batching, this is also the residence time of a request while n run, and n
    divided by it is their throughput. So one line serves both kinds of batching.
    """
    def seconds(num: int) -> float:
        prompts_s = step_time.seconds(num * prompt_tokens, num * prompt_tokens**2 / 2, 0, 0)
        context = num * (prompt_tokens + output_tokens // 2)
        return prompts_s + (output_tokens - 1) * step_time.seconds(0, 0.0, num, context)

    if max_batch < 2:
        return BatchTime(seconds(1), 0.0)
    per_request_s = (seconds(max_batch) - seconds(1)) / (max_batch - 1)
    return BatchTime(max(0.0, seconds(1) - per_request_s), per_request_s)


class Correction:
    """A correction factor per model for believed durations: a moving mean of log(measured /
    believed), with outliers limited."""

    def __init__(self, num_models: int) -> None:
        self._log = [0.0] * num_models
        self._factor = [1.0] * num_models
        self._doubted_s = [0.0] * num_models

    def factor(self, model: int) -> float:
        """Return the correction factor of a model."""
        return self._factor[model]

    def observe(self, model: int, believed_s: float, measured_s: float) -> None:
        """Learn from a measured duration; ``believed_s`` is without the factor. Durations that are
        not positive are ignored."""
        if believed_s <= 0.0 or measured_s <= 0.0:
            return
        off = min(_FURTHEST, max(-_FURTHEST, log(measured_s / believed_s)))
        self._log[model] += _LEARNING * (off - self._log[model])
        self._factor[model] = exp(self._log[model])

    def doubt(self, model: int, now_s: float) -> None:
        """Halve the factor for every ``_HALF_LIFE_S`` of shedding: a belief that sheds all requests
        is never corrected by a measurement, so it must decay until a load is tried."""
        passed_s = min(now_s - self._doubted_s[model], _ONE_SPELL_S)
        self._doubted_s[model] = now_s
        self._log[model] = max(-_FURTHEST, self._log[model] - log(2.0) * passed_s / _HALF_LIFE_S)
        self._factor[model] = exp(self._log[model])

    def scaled(self, model: int, batch: BatchTime) -> BatchTime:
        """Return a batch's time with the factor."""
        factor = self.factor(model)
        return BatchTime(batch.fixed_s * factor, batch.per_request_s * factor)
