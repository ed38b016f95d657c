"""Step time under speculative decoding: a turn drafts, then verifies all drafts in one step.

With D decodes and k drafts each, a turn takes

    step of D (k + 1) tokens     weights, keys and values are read once; experts as they are touched
    + k passes of the draft      one after the other; the first has all D (k + 1) tokens
    + turn_s                     choice of the accepted tokens, on the host

What a step takes for each sequence, it takes for each verified token: measured runs with MTP fit
better so (median error of TPOT 13 %) than with once for each sequence (17 %).

Attention of a decode reads keys and values once for all k + 1 queries. Where one query is nearly
bound by multiplying already (latent attention), k + 1 queries take up to k + 1 times as long.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from penstock.core.draft_depth import DraftDepth
from penstock.core.step import StepFeatures, StepTime
from penstock.perf.step_time.calibration import BiasedStepTime, biased
from penstock.perf.step_time.protocol import Slopes, StepTimeModel
from penstock.perf.step_time.roofline import RooflineStepTime

TURN_S = 0.3e-3
"""Host time of a turn beyond that of a step: building the drafts' batch and rejection sampling.
An assumption; the measured rows of docs/reproduction.md bound it."""


@dataclass(frozen=True, slots=True)
class Draft:
    """Step time of one pass of a draft. ``passes`` is None where drafts cost nothing (n-gram)."""

    passes: StepTimeModel | None = None
    turn_s: float = TURN_S

    def seconds(self, depth: int, decode_seqs: int, context_tokens: int) -> float:
        """Return the seconds of drafting ``depth`` tokens for each decode."""
        if not depth or not decode_seqs:
            return 0.0
        if self.passes is None:
            return self.turn_s
        first_s = self.passes.seconds(0, 0.0, decode_seqs * (depth + 1), context_tokens)
        later_s = self.passes.seconds(0, 0.0, decode_seqs, context_tokens) if depth > 1 else 0.0
        return first_s + (depth - 1) * later_s + self.turn_s

    def prompt_seconds(self, prefill_tokens: int, attention_work: float) -> float:
        """Return the seconds in which the draft reads prompts, too."""
        if self.passes is None or not prefill_tokens:
            return 0.0
        return self.passes.seconds(prefill_tokens, attention_work, 0, 0)


@dataclass(frozen=True, slots=True)
class DepthStepTime:
    """Step time at one depth; features count sequences, not verified tokens.

    ``wider`` is the time of k + 1 queries over that of one query per context token.
    """

    target: StepTimeModel
    draft: Draft
    depth: int
    wider: float

    @property
    def slopes(self) -> Slopes | None:
        """Rates of target and draft together, None where one of them has none."""
        mine = self.target.slopes
        if mine is None:
            return None
        work_s, context_s, exact = mine.work_s, mine.context_s * self.wider, mine.exact
        if self.draft.passes is not None:
            theirs = self.draft.passes.slopes
            if theirs is None:
                return None
            work_s += theirs.work_s
            context_s += self.depth * theirs.context_s
            exact = exact and theirs.exact
        return Slopes(work_s, context_s, exact)

    def seconds(self, prefill_tokens: int, attention_work: float, decode_seqs: int,
                context_tokens: int) -> float:
        """Point estimate in seconds."""
        tokens = decode_seqs * (self.depth + 1)
        total_s = self.target.seconds(prefill_tokens, attention_work, tokens, context_tokens)
        slopes = self.target.slopes
        if slopes is not None and self.wider != 1.0:
            total_s += (self.wider - 1.0) * slopes.context_s * context_tokens
        return (total_s + self.draft.seconds(self.depth, decode_seqs, context_tokens)
                + self.draft.prompt_seconds(prefill_tokens, attention_work))

    def predict(self, features: StepFeatures) -> StepTime:
        """The estimate with the target's relative interval, and the draft as a part."""
        prefill, work, seqs, context = features
        found = self.target.predict(
            StepFeatures(prefill, work, seqs * (self.depth + 1), context))
        total_s = self.seconds(*features)
        ratio = total_s / found.total_s if found.total_s else 1.0
        draft_s = (self.draft.seconds(self.depth, seqs, context)
                   + self.draft.prompt_seconds(prefill, work))
        parts = {**found.parts, "draft": draft_s}
        return StepTime(total_s, found.low_s * ratio, found.high_s * ratio, parts,
                        f"{found.source}; {self.depth} drafted tokens", found.extrapolated,
                        found.unmeasured)


@dataclass(frozen=True, slots=True)
class SpeculativeStepTime:
    """Step time whose depth follows the number of decodes; ``by_depth`` has all of them."""

    by_depth: Mapping[int, DepthStepTime]
    depth: DraftDepth

    @property
    def slopes(self) -> Slopes | None:
        """The slopes. Where the depth follows the batch, the largest: a bound."""
        found = [model.slopes for model in self.by_depth.values()]
        known = [slopes for slopes in found if slopes is not None]
        if len(known) < len(found):
            return None
        return Slopes(max(one.work_s for one in known), max(one.context_s for one in known),
                      exact=all(one.exact for one in known))

    def seconds(self, prefill_tokens: int, attention_work: float, decode_seqs: int,
                context_tokens: int) -> float:
        """Point estimate in seconds."""
        return self.by_depth[self.depth.at(decode_seqs)].seconds(
            prefill_tokens, attention_work, decode_seqs, context_tokens)

    def predict(self, features: StepFeatures) -> StepTime:
        """The estimate at the depth of the step."""
        return self.by_depth[self.depth.at(features.decode_seqs)].predict(features)


def speculative(target: StepTimeModel, draft: Draft, depth: DraftDepth) -> SpeculativeStepTime:
    """Return the step time of a target with a draft."""
    return SpeculativeStepTime({k: DepthStepTime(target, draft, k, wider(target, k))
                                for k in depth.choices}, depth)


def at_depth(model: StepTimeModel, depth: int) -> StepTimeModel:
    """Return a speculative step time, also one times a factor, at one of its depths."""
    if isinstance(model, BiasedStepTime):
        return biased(at_depth(model.inner, depth), model.factor)
    assert isinstance(model, SpeculativeStepTime), "only speculative step times have depths"
    return model.by_depth[depth]


def wider(target: StepTimeModel, depth: int) -> float:
    """Return the time of attention of ``depth`` + 1 queries over that of one query, by the peaks of
    bandwidth and of multiplying; 1 for a model without an architecture."""
    while isinstance(target, BiasedStepTime):
        target = target.inner
    if not isinstance(target, RooflineStepTime):
        return 1.0
    read_s = target.work.context_bytes / target.peak.bandwidth
    multiply_s = target.work.decode_pair_flops / target.peak.flops_16bit
    least_s = max(read_s, multiply_s)
    return max(read_s, (depth + 1) * multiply_s) / least_s if least_s else 1.0
