"""Believed durations of loads and batches, corrected by observed ones."""

from collections.abc import Sequence
from math import exp, log
from typing import Protocol

from penstock.perf.step_time.protocol import StepTimeModel
from penstock.policy.multiplex.values import BatchTime

_LEARNING = 0.1
_HALF_LIFE_S = 1800.0  # long against what trying costs, short against a day of refusals
_ONE_SPELL_S = 60.0  # refusals further apart are not one spell of them
_FURTHEST = log(4.0)  # one load that hung must not make all others look as bad


class LoadBelief(Protocol):
    """How long a load is believed to take, given what is believed to be where."""

    def load_s(self, device: int, model: int) -> float:
        """A load of a model that would begin now."""
        ...

    def prefetch_s(self, model: int) -> float:
        """Reading a model into the host's memory; 0 where its load would be none the shorter."""
        ...

    def loaded(self, device: int, model: int) -> None:
        """A load is over: the model passed through the host's memory."""
        ...

    def prefetched(self, model: int) -> None:
        """The model was read into the host's memory."""
        ...


class LoadTable:
    """A fixed time per model, wherever it comes from. Nothing is gained by reading ahead."""

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
    """The line through what one request and ``max_batch`` of them take, all of these lengths.

    Begun together, n requests take a step for their prompts and one for every further token. With
    continuous batching that is also how long a request stays while n run, and n over it their
    throughput, so one line serves either way of batching.
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
    """A factor per model on what is believed, learnt from what was measured: a moving mean of the
    logarithm of measured over believed, which an outlier moves little."""

    def __init__(self, num_models: int) -> None:
        self._log = [0.0] * num_models
        self._factor = [1.0] * num_models
        self._doubted_s = [0.0] * num_models

    def factor(self, model: int) -> float:
        """By how much beliefs of a model are off."""
        return self._factor[model]

    def observe(self, model: int, believed_s: float, measured_s: float) -> None:
        """``believed_s`` without the factor. Durations that are not positive teach nothing."""
        if believed_s <= 0.0 or measured_s <= 0.0:
            return
        off = min(_FURTHEST, max(-_FURTHEST, log(measured_s / believed_s)))
        self._log[model] += _LEARNING * (off - self._log[model])
        self._factor[model] = exp(self._log[model])

    def doubt(self, model: int, now_s: float) -> None:
        """Requests are turned away because of a belief that nothing corrects, because nothing is
        tried. It halves every ``_HALF_LIFE_S`` of that, until something is."""
        passed_s = min(now_s - self._doubted_s[model], _ONE_SPELL_S)
        self._doubted_s[model] = now_s
        self._log[model] = max(-_FURTHEST, self._log[model] - log(2.0) * passed_s / _HALF_LIFE_S)
        self._factor[model] = exp(self._log[model])

    def scaled(self, model: int, batch: BatchTime) -> BatchTime:
        """A batch's time with the factor."""
        factor = self.factor(model)
        return BatchTime(batch.fixed_s * factor, batch.per_request_s * factor)
