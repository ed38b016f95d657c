"""How long a step takes, in whole picoseconds, for whoever drives a scheduler by a model."""

from collections.abc import Callable

from penstock.core.step import StepPlan
from penstock.core.units import to_ps
from penstock.perf.step_time.protocol import StepTimeModel


class StepClock:
    """Step durations in whole picoseconds.

    The slopes are rounded to whole picoseconds per unit once, which makes the duration of the k-th
    step of a jump an exact linear function of k and the sum of k durations an exact closed form.
    With ``noise``, a draw of a factor per step, no two steps are alike and nothing is jumped.
    """

    __slots__ = ("_base", "_half_work_ps", "_model", "_noise", "affine", "context_ps")

    def __init__(self, model: StepTimeModel, noise: Callable[[], float] | None = None) -> None:
        self._model = model
        self._noise = noise
        slopes = model.slopes if noise is None else None
        self.affine = slopes is not None
        self.context_ps = to_ps(slopes.context_s) if slopes else 0
        self._half_work_ps = to_ps(slopes.work_s / 2) if slopes else 0
        self._base: dict[tuple[int, int], int] = {}

    def duration_ps(self, plan: StepPlan) -> int:
        """How long a step takes."""
        prefill, work, seqs, context_tokens = plan.features
        if not self.affine:
            factor = self._noise() if self._noise is not None else 1.0
            return max(1, to_ps(factor * self._model.seconds(prefill, work, seqs, context_tokens)))
        base_ps = self._base.get((prefill, seqs))
        if base_ps is None:
            base_ps = max(1, to_ps(self._model.seconds(prefill, 0.0, seqs, 0)))
            self._base[(prefill, seqs)] = base_ps
        return base_ps + int(2 * work) * self._half_work_ps + context_tokens * self.context_ps

    def growth_ps(self, plan: StepPlan) -> int:
        """By how much the next copy of the step takes longer (affine models only)."""
        growth_ps = plan.features.decode_seqs * self.context_ps
        for chunk in plan.chunks:
            growth_ps += 2 * chunk.tokens * chunk.tokens * self._half_work_ps
        return growth_ps
