"""How long a step takes, in whole picoseconds, for whoever drives a scheduler by a model."""

from collections.abc import Callable, Mapping

from penstock.core.step import CONTEXT_PARTS, StepPlan
from penstock.core.units import to_ps
from penstock.perf.step_time.decode_times import DecodeTimes
from penstock.perf.step_time.protocol import StepTimeModel


class StepClock:
    """Step durations in whole picoseconds.

    The slopes are rounded to whole picoseconds per unit once, which makes the duration of the k-th
    step of a jump an exact linear function of k and the sum of k durations an exact closed form.
    With ``noise``, a draw of a factor per step, no two steps are alike and nothing is jumped.
    """

    __slots__ = ("_decodes", "_half_work_ps", "_model", "_noise", "affine", "context_ps")

    def __init__(self, model: StepTimeModel, noise: Callable[[], float] | None = None) -> None:
        self._model = model
        self._noise = noise
        slopes = model.slopes if noise is None else None
        self.affine = slopes is not None and slopes.exact
        self.context_ps = to_ps(slopes.context_s) if slopes else 0
        self._half_work_ps = to_ps(slopes.work_s / 2) if slopes else 0
        self._decodes = DecodeTimes(model)

    def duration_ps(self, plan: StepPlan) -> int:
        """How long a step takes."""
        prefill, work, seqs, context_tokens = plan.numbers
        if not self.affine:
            factor = self._noise() if self._noise is not None else 1.0
            return max(1, to_ps(factor * self._model.seconds(prefill, work, seqs, context_tokens)))
        return self.base_ps(prefill, work, seqs) + context_tokens * self.context_ps

    def base_ps(self, prefill_tokens: int, attention_work: float, decode_seqs: int) -> int:
        """How long a step takes that reads no context (affine models only)."""
        if not prefill_tokens:
            return max(1, to_ps(self._decodes.seconds(decode_seqs, 0)))
        dense_ps = max(1, to_ps(self._model.seconds(prefill_tokens, 0.0, decode_seqs, 0)))
        return dense_ps + int(2.0 * attention_work) * self._half_work_ps

    def growth_ps(self, plan: StepPlan) -> int:
        """By how much the next copy of the step takes longer (affine models only)."""
        _, _, decode_seqs, _ = plan.numbers
        return decode_seqs * self.context_ps + self.chunk_growth_ps(plan)

    def chunk_growth_ps(self, plan: StepPlan) -> int:
        """The part of ``growth_ps`` that is of prompts."""
        growth_ps = 0
        for chunk in plan.chunks:
            growth_ps += 2 * chunk.tokens * chunk.tokens * self._half_work_ps
        return growth_ps


class DraftedClock(StepClock):
    """Step durations under speculative decoding: the clock of each depth's model."""

    __slots__ = ("_by_depth", "_parts_ps")

    def __init__(self, by_depth: Mapping[int, StepTimeModel],
                 noise: Callable[[], float] | None = None) -> None:
        deepest = max(by_depth)
        super().__init__(by_depth[deepest], noise)
        self._by_depth = {depth: StepClock(model, noise) for depth, model in by_depth.items()}
        self._parts_ps: dict[int, int] = {}
        for depth, model in by_depth.items():
            slopes = model.slopes
            self._parts_ps[depth] = to_ps(slopes.context_s / CONTEXT_PARTS) if slopes else 0
            self.affine = self.affine and self._by_depth[depth].affine

    def duration_ps(self, plan: StepPlan) -> int:
        """How long a step takes."""
        assert plan.drafted is not None
        depth, context_parts, _ = plan.drafted
        clock = self._by_depth[depth]
        if not self.affine:
            return clock.duration_ps(plan)
        prefill, work, seqs, _ = plan.numbers
        return clock.base_ps(prefill, work, seqs) + context_parts * self._parts_ps[depth]

    def growth_ps(self, plan: StepPlan) -> int:
        """By how much the next copy of the step takes longer (affine models only)."""
        assert plan.drafted is not None
        depth, _, growth_parts = plan.drafted
        return (growth_parts * self._parts_ps[depth]
                + self._by_depth[depth].chunk_growth_ps(plan))
