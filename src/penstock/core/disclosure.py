"""Figures about confidential requests that operators may see: padded counts and buckets.

Rounding hides single requests, not trends: see docs/howto/confidential-requests.md.
"""

from dataclasses import dataclass
from math import floor, inf, isnan

_STEPS = (1.0, 2.0, 5.0, 10.0)
_SHARE_STEPS = 20


@dataclass(frozen=True, slots=True)
class Disclosure:
    """Rounding of figures about confidential requests.

    ``least_count`` is the smallest bucket of a count above 0. ``allow_model_counts`` allows counts
    by model.
    """

    allow_model_counts: bool = False
    least_count: int = 16

    def count(self, number: float) -> int:
        """Round a count up to a bucket: 0, or ``least_count`` times a power of 2."""
        if number <= 0:
            return 0
        bucket = self.least_count
        while bucket < number:
            bucket *= 2
        return bucket


USUAL = Disclosure()


def at_most(amount: float | None) -> float | None:
    """Round seconds or money up to 1, 2 or 5 times a power of ten; None stays None."""
    if amount is None or isnan(amount):
        return None
    if amount <= 0 or amount == inf:
        return 0.0 if amount <= 0 else inf
    power = 1.0
    while power > amount:
        power /= 10.0
    while power * 10.0 <= amount:
        power *= 10.0
    # The small term absorbs rounding: 0.2 stays in the bucket of 0.2.
    return next(float(f"{step * power:.6g}") for step in _STEPS
                if amount <= step * power * (1 + 1e-9))


def share_at_least(share: float | None) -> float | None:
    """Round a share down to a multiple of 5 %; None stays None."""
    return None if share is None else floor(share * _SHARE_STEPS + 1e-9) / _SHARE_STEPS
