"""Depth of drafting that pays at a load, and the load from which none does."""

from typing import NamedTuple

from penstock.perf.speculation.acceptance import Acceptance
from penstock.perf.speculation.step_time import DepthStepTime, Draft, wider
from penstock.perf.step_time.protocol import StepTimeModel

DEEPEST = 8
"""Drafted tokens up to which depths are compared: published acceptance ends there."""


class Gain(NamedTuple):
    """Speculative decoding of ``decode_seqs`` sequences with ``depth`` drafts each.

    A turn takes ``turn_s`` and gives ``tokens`` to each sequence, where a step without drafts takes
    ``step_s``. ``speedup`` is tokens per second over those without drafts.
    """

    decode_seqs: int
    depth: int
    tokens: float
    turn_s: float
    step_s: float

    @property
    def speedup(self) -> float:
        return self.tokens * self.step_s / self.turn_s

    @property
    def token_s(self) -> float:
        """Mean time of a token of one sequence."""
        return self.turn_s / self.tokens


def gain(target: StepTimeModel, draft: Draft, acceptance: Acceptance, depth: int,
         decode_seqs: int, context_tokens: int) -> Gain:
    """Return the gain of a depth. ``context_tokens`` is of one sequence."""
    context = decode_seqs * context_tokens
    step_s = target.seconds(0, 0.0, decode_seqs, context)
    if not depth:
        return Gain(decode_seqs, 0, 1.0, step_s, step_s)
    turn = DepthStepTime(target, draft, depth, wider(target, depth))
    return Gain(decode_seqs, depth, acceptance.tokens_per_turn(depth),
                turn.seconds(0, 0.0, decode_seqs, context), step_s)


def best_depth(target: StepTimeModel, draft: Draft, acceptance: Acceptance, decode_seqs: int,
               context_tokens: int, deepest: int = DEEPEST) -> Gain:
    """Return the gain of the depth with the most tokens per second, the shallowest of equals."""
    found = [gain(target, draft, acceptance, depth, decode_seqs, context_tokens)
             for depth in range(deepest + 1)]
    return max(found, key=lambda one: (one.speedup, -one.depth))


def best_by_batch(target: StepTimeModel, draft: Draft, acceptance: Acceptance, most_seqs: int,
                  context_tokens: int,
                  deepest: int = DEEPEST) -> tuple[tuple[int, int, int], ...]:
    """Return the best depths as rows (fewest sequences, most sequences, drafted tokens), vLLM's
    ``num_speculative_tokens_per_batch_size``."""
    rows: list[tuple[int, int, int]] = []
    for seqs in range(1, most_seqs + 1):
        depth = best_depth(target, draft, acceptance, seqs, context_tokens, deepest).depth
        if rows and rows[-1][2] == depth:
            rows[-1] = (rows[-1][0], seqs, depth)
        else:
            rows.append((seqs, seqs, depth))
    return tuple(rows)


def break_even(target: StepTimeModel, draft: Draft, acceptance: Acceptance, depth: int,
               most_seqs: int, context_tokens: int) -> int | None:
    """Return the fewest sequences at which a depth gives no more tokens per second than no drafts,
    None where it pays up to ``most_seqs``."""
    return next((seqs for seqs in range(1, most_seqs + 1)
                 if gain(target, draft, acceptance, depth, seqs,
                         context_tokens).speedup <= 1.0), None)
