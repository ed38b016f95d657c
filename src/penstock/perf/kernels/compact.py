"""A composed step time as a few numbers, affine in attention, and how far it is from the whole.

The simulator jumps over equal steps when a model is affine in work and context. A fit of the form
that ``perf.fitting`` uses for measured steps gives such a model; its error against the composition
is measured on steps that it was not fitted to.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from penstock.core.step import StepFeatures
from penstock.perf.evidence import Evidence
from penstock.perf.kernels.compose import KernelStepTime
from penstock.perf.step_time.fitting import FitErrors, errors_of, fit_tabulated
from penstock.perf.step_time.steps import StepTable
from penstock.perf.step_time.tabulated import TabulatedStepTime

KINDS = ("prefill", "decode", "mixed")
Steps = Mapping[str, tuple[StepFeatures, ...]]

_PROMPTS = (16, 32, 64, 128, 200, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192,
            12_288, 16_384)
_PASTS = (1_000, 4_000, 12_000)
_BATCHES = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
_CONTEXTS = (128, 512, 1_000, 2_000, 4_000, 8_000, 16_000)
_MOST_CONTEXT = 1_000_000
_LONGEST_CHUNK = 2_048


@dataclass(frozen=True, slots=True)
class CompactFit:
    """A compact model and its relative errors against the composition on other steps, by kind."""

    model: TabulatedStepTime
    errors: FitErrors
    by_kind: Mapping[str, FitErrors]


def designed_steps(sizes: Iterable[int] = ()) -> Steps:
    """Steps to fit to: prompts fresh, batched and behind a cache; decodes; chunks beside decodes.

    ``sizes`` are token counts at which there shall be steps of every kind, where possible.
    """
    prompts = [StepFeatures(p, p * p / batch / 2.0, 0, 0)
               for p, batch in product(_PROMPTS, (1, 4, 16)) if p // batch >= 16]
    prompts += [_chunk(p, past) for p, past in product(_PROMPTS, _PASTS) if p <= _LONGEST_CHUNK]
    decodes = [StepFeatures(0, 0.0, d, d * c) for d, c in product(_BATCHES, _CONTEXTS)
               if d * c <= _MOST_CONTEXT]
    mixed = [_chunk(p, past, d, c)
             for p, past, d, c in product((128, 256, 512, 1_024, 2_048), (0, 1_000, 6_000),
                                          (1, 4, 16, 32, 64, 128, 256), (300, 1_000, 3_000))
             if d * c <= _MOST_CONTEXT / 2]
    for size in sizes:
        prompts.append(_chunk(size, 0))
        decodes += [StepFeatures(0, 0.0, size, size * c) for c in (300, 1_500, 6_000)
                    if size <= _BATCHES[-1] and size * c <= _MOST_CONTEXT]
        d = min(size // 2, 64)
        mixed += [_chunk(size - d, past, d, past or 1_000) for past in (0, 3_000) if d]
    return dict(zip(KINDS, (tuple(prompts), tuple(decodes), tuple(mixed)), strict=True))


def check_steps(per_kind: int = 150) -> Steps:
    """Other steps, spread evenly over the same ranges (in logarithms) without a random source."""
    prompts = [StepFeatures(p, p * (past + p / (2.0 * batch)), 0, 0)
               for p, past, batch in (_prompt(*share) for share in _spread(per_kind, 3))]
    decodes = [StepFeatures(0, 0.0, d, d * c)
               for d, c in (_decodes(*share) for share in _spread(per_kind, 2))]
    mixed = []
    for size, cached, seqs, length in _spread(per_kind, 4):
        p, past, _ = _prompt(0.5 * size, cached, 0.0)
        mixed.append(_chunk(p, past, *_decodes(seqs, length)))
    return dict(zip(KINDS, (tuple(prompts), tuple(decodes), tuple(mixed)), strict=True))


def compact(model: KernelStepTime) -> CompactFit:
    """Fit a curve by tokens, with the composition's own knots, and rates of the rest."""
    knots = [int(knot) for knot in model.body.knots
             if knot == int(knot) and 1 <= knot <= _PROMPTS[-1] + _BATCHES[-1]]
    designed = designed_steps(knots)
    fitted = fit_tabulated(table_of(model, designed),
                           np.array(sorted({1, *knots, _PROMPTS[-1]}), dtype=np.float64))
    steps = check_steps()
    errors = errors_of(fitted, table_of(model, steps))
    by_kind = {kind: errors_of(fitted, table_of(model, {kind: steps[kind]})) for kind in KINDS}
    evidence = Evidence(
        f"tabulated form of a step time {model.evidence.source}; {errors.mean:.1%} from it on the "
        f"mean of {errors.num_steps} other steps",
        # The two errors have nothing to do with each other.
        float(np.hypot(model.evidence.mean_error, errors.mean)),
        float(np.hypot(model.evidence.p95_error, errors.p95)), _largest(model, designed))
    return CompactFit(replace(fitted, evidence=evidence), errors, by_kind)


def table_of(model: KernelStepTime, steps: Steps) -> StepTable:
    """The composed seconds of steps, as if they had been measured."""
    chosen = [step for kind in steps.values() for step in kind]
    columns = np.array(chosen, dtype=np.float64).T
    seconds = np.array([model.seconds(*step) for step in chosen])
    return StepTable(columns[0], columns[1], columns[2], columns[3], seconds,
                     model.evidence.source)


def _largest(model: KernelStepTime, steps: Steps) -> StepFeatures:
    """The largest of every feature among the steps that lie inside the tables."""
    inside = [step for own in steps.values() for step in own if not any(model.left_tables(step))]
    return StepFeatures._make(max(values) for values in zip(StepFeatures(0, 0.0, 0, 0), *inside,
                                                            strict=True))


def _chunk(tokens: int, past: int, seqs: int = 0, context: int = 0) -> StepFeatures:
    return StepFeatures(tokens, tokens * (past + tokens / 2.0), seqs, seqs * context)


def _spread(count: int, dimensions: int) -> Iterator[tuple[float, ...]]:
    """Points of the unit cube by an additive recurrence (Roberts' R sequence)."""
    root = 2.0
    for _ in range(50):
        root = (1.0 + root) ** (1.0 / (dimensions + 1))
    for number in range(1, count + 1):
        yield tuple((0.5 + number * root ** -(axis + 1)) % 1.0 for axis in range(dimensions))


def _between(low: float, high: float, share: float) -> int:
    return int(low * (high / low) ** share + 0.5)


def _prompt(size: float, cached: float, spread: float) -> tuple[int, int, int]:
    """Prompt tokens, tokens before them (half of the chunks have some), number of prompts."""
    tokens = _between(16, 16_384, size)
    if cached > 0.5 and tokens <= _LONGEST_CHUNK:
        return tokens, _between(500, 12_000, 2.0 * cached - 1.0), 1
    return tokens, 0, max(1, min(_between(1, 16, spread), tokens // 16))


def _decodes(size: float, length: float) -> tuple[int, int]:
    seqs = _between(1, 512, size)
    return seqs, min(_between(128, 16_000, length), _MOST_CONTEXT // seqs)
