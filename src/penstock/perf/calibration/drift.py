"""Change test on prediction errors: a two-sided cumulative sum (Page, Biometrika 1954)."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

ALLOWED = 0.75
"""Error in standard deviations that is no sign of a change."""
LIMIT = 6.0
"""Sum at which a change is found."""
MOST = 4.0
"""Size beyond which an error counts no more, so one bad observation alone is never a change."""


@dataclass(frozen=True, slots=True)
class Cusum:
    """Errors since the sum above, and the sum below, what is allowed was last 0."""

    above: tuple[float, ...] = ()
    below: tuple[float, ...] = ()

    def add(self, error: float) -> "Cusum":
        """Return the errors after one more, in standard deviations."""
        size = min(max(error, -MOST), MOST)
        return Cusum(_risen((*self.above, size)), _risen((*self.below, -size)))

    @property
    def num_changed(self) -> int:
        """Number of the latest observations that come after a change, 0 where none is found."""
        return max(_since_change(errors) for errors in (self.above, self.below))


def num_changed(sums: Sequence[Cusum]) -> int:
    """Return the number of the latest observations after a change by any of several sums."""
    return max(each.num_changed for each in sums)


def _sum(errors: tuple[float, ...]) -> float:
    return sum(errors) - ALLOWED * len(errors)


def _risen(errors: tuple[float, ...]) -> tuple[float, ...]:
    return errors if _sum(errors) > 0.0 else ()


def _since_change(errors: tuple[float, ...]) -> int:
    """Return the number of latest errors whose mean differs most surely from 0, where the sum is
    above its limit: the errors before them only happened to be on the same side."""
    if _sum(errors) <= LIMIT:
        return 0
    return max(range(1, len(errors) + 1), key=lambda num: sum(errors[-num:]) / sqrt(num))
