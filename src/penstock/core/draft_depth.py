"""Depth of drafting by the number of sequences that decode."""

from collections.abc import Sequence
from typing import NamedTuple

from penstock.core.errors import InputError


class DraftDepth(NamedTuple):
    """Drafted tokens of a turn: ``tokens``, except where ``by_batch`` states another number.

    ``by_batch`` has rows (fewest sequences, most sequences, drafted tokens), as vLLM's
    ``num_speculative_tokens_per_batch_size``; 0 tokens switch drafting off.
    """

    tokens: int
    by_batch: tuple[tuple[int, int, int], ...] = ()

    def at(self, seqs: int) -> int:
        """Return the drafted tokens of a step with so many decodes."""
        for low, high, tokens in self.by_batch:
            if low <= seqs <= high:
                return tokens
        return self.tokens

    @property
    def choices(self) -> tuple[int, ...]:
        """All depths that a step may have."""
        return tuple(sorted({self.tokens, *(row[2] for row in self.by_batch)}))


def checked_depth(tokens: int, by_batch: Sequence[Sequence[int]]) -> DraftDepth:
    """Return the depth. Raises InputError for rows that are not in order, overlap, or draft more
    than ``tokens``."""
    before = 0
    for row in by_batch:
        if len(row) != 3:
            raise InputError(f"{list(row)}; expected [fewest sequences, most sequences, tokens]")
        low, high, k = row
        if not before < low <= high:
            raise InputError(f"{list(row)}; expected rows in order that do not overlap, from "
                             f"{before + 1} sequences on")
        if not 0 <= k <= tokens:
            raise InputError(f"{list(row)} drafts {k} tokens; expected 0 to {tokens}, the tokens "
                             "stated")
        before = high
    return DraftDepth(tokens, tuple((row[0], row[1], row[2]) for row in by_batch))
