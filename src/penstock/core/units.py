"""Units as used in names: ``_s``, ``_ms``, ``_tokens``, ``_bytes``, ``_per_hour``."""

from typing import Final

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
GB = 1_000_000_000
SECONDS_PER_HOUR = 3600.0

# The simulator's clock counts whole picoseconds. Sums of whole numbers are exact, so a jump over k
# steps lands on the very instant that k single steps reach, ties included.
PS_PER_S: Final = 1_000_000_000_000


def to_ps(seconds: float) -> int:
    """Seconds as whole picoseconds, rounded to the nearest."""
    return round(seconds * PS_PER_S)


def to_later_ps(seconds: float) -> int:
    """The first whole picosecond, to the nearest, that as seconds is not before ``seconds``: a wake
    must not come too early."""
    picoseconds = to_ps(seconds)
    while picoseconds / PS_PER_S < seconds:
        picoseconds += 1
    return picoseconds


def ceil_div(numerator: int, denominator: int) -> int:
    """Whole-number division, rounded up."""
    return -(-numerator // denominator)
