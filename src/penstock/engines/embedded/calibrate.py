"""Fits a step-time model to the measured steps of the engine that it predicts."""

from collections import deque
from importlib import import_module
from typing import ClassVar

from penstock.core.step import StepFeatures
from penstock.perf.evidence import NO_LIMIT, Evidence
from penstock.perf.step_time.linear import LinearStepTime
from penstock.perf.step_time.protocol import StepTimeModel

GUESS = LinearStepTime(0.01, 5e-5, 0.0, 5e-5, 1e-8,
                       Evidence("a guess, until steps are measured", 1.0, 3.0, NO_LIMIT))
"""Assumed step time of an engine without measurements."""


class Calibrator:
    """Fits a linear model to the latest steps: whenever their number has doubled, and later every
    ``EVERY`` steps.

    Steps with prompts are rare where answers are long. So the latest steps of both kinds are kept
    separately, else the rate of prompt tokens would be forgotten while there are none.
    """

    KEEP: ClassVar[int] = 512  # of each kind
    FIRST: ClassVar[int] = 32
    EVERY: ClassVar[int] = 512

    def __init__(self) -> None:
        self._mixed: deque[tuple[float, ...]] = deque(maxlen=self.KEEP)
        self._decodes: deque[tuple[float, ...]] = deque(maxlen=self.KEEP)
        self._num_steps = 0
        self._next = self.FIRST
        # A fit takes milliseconds, but its imports most of a second, so they happen before
        # requests.
        for module in ("scipy.optimize", "penstock.perf.step_time.fitting",
                       "penstock.perf.step_time.steps"):
            import_module(module)

    def observe(self, features: StepFeatures, seconds: float) -> StepTimeModel | None:
        """Learn from one step. Returns a new model when a fit is due."""
        rows = self._mixed if features.prefill_tokens else self._decodes
        rows.append((*features, seconds))
        self._num_steps += 1
        if self._num_steps < self._next:
            return None
        self._next = self._num_steps + min(self._num_steps, self.EVERY)
        return self._fit() if self._mixed else None

    def _fit(self) -> StepTimeModel:
        import numpy as np

        from penstock.perf.step_time.fitting import fit_form
        from penstock.perf.step_time.steps import StepTable

        columns = np.array([*self._mixed, *self._decodes], dtype=np.float64).T
        prefill, work, seqs, context, seconds = columns
        table = StepTable(prefill, work, seqs, context, seconds, "the engine's own steps")
        return fit_form(table, "linear")
