"""Acceptance of drafts, learned from an engine's running counters."""

from collections.abc import Sequence

from penstock.perf.speculation.acceptance import Acceptance, from_counters

HALF_LIFE_DRAFTS = 20_000.0
"""Drafts after which a draft counts half: at 3 drafts a second and sequence, some minutes of 32
sequences."""

LEAST_DRAFTS = 100.0
"""Fewest drafts that tell anything: their intervals reach 0.1 to each side."""


class LearnedAcceptance:
    """Acceptance by position of one engine, of its latest drafts.

    The engine counts from its start. Each look adds the difference to the look before; earlier
    drafts count less the more have come since. A counter that has fallen is of an engine that was
    started anew, so all that it counts is new.
    """

    def __init__(self, half_life_drafts: float = HALF_LIFE_DRAFTS) -> None:
        self._half_life_drafts = half_life_drafts
        self._seen = 0.0
        self._seen_accepted: tuple[float, ...] = ()
        self._drafts = 0.0
        self._accepted: tuple[float, ...] = ()

    def see(self, num_drafts: float, accepted: Sequence[float]) -> None:
        """Learn from the counters of a look: all drafts so far, and how many of them were accepted
        up to each position."""
        before, before_accepted = self._seen, self._seen_accepted
        self._seen, self._seen_accepted = num_drafts, tuple(accepted)
        if num_drafts < before or len(accepted) != len(before_accepted):
            before, before_accepted = 0.0, (0.0,) * len(accepted)
        if len(accepted) != len(self._accepted):
            self._drafts, self._accepted = 0.0, (0.0,) * len(accepted)
        new = num_drafts - before
        if new <= 0.0:
            return
        kept = 0.5 ** (new / self._half_life_drafts)
        self._drafts = kept * self._drafts + new
        # An engine's counters may be read while a turn is being counted: no more than drafts.
        most, found = self._drafts, []
        for old, now, was in zip(self._accepted, accepted, before_accepted, strict=True):
            most = min(most, kept * old + max(0.0, now - was))
            found.append(most)
        self._accepted = tuple(found)

    def acceptance(self, source: str = "") -> Acceptance | None:
        """Return the acceptance with its 95 % intervals, None before ``LEAST_DRAFTS`` drafts."""
        if self._drafts < LEAST_DRAFTS or not self._accepted:
            return None
        return from_counters(self._drafts, self._accepted, source)
