"""Units as used in names: ``_s``, ``_ms``, ``_tokens``, ``_bytes``, ``_per_hour``."""

from typing import Final

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
GB = 1_000_000_000
SECONDS_PER_HOUR = 3600.0

# The simulator's clock counts whole picoseconds. Sums of integers are exact, so a jump over k steps
# ends at exactly the same instant as k single steps, including ties.
PS_PER_S: Final = 1_000_000_000_000


def to_ps(seconds: float) -> int:
    """Return seconds as whole picoseconds, rounded to the nearest."""
    # ``round``, without the call that it is in native code.
    picoseconds = seconds * PS_PER_S
    whole = int(picoseconds)
    rest = picoseconds - float(whole)  # exact: numbers without room for a fraction have none
    if rest >= 0.5:
        return whole + (whole & 1 if rest == 0.5 else 1)
    if rest <= -0.5:
        return whole - (whole & 1 if rest == -0.5 else 1)
    return whole


def to_later_ps(seconds: float) -> int:
    """Return the first whole picosecond that is not before ``seconds`` when converted back: a timer
    must not fire early."""
    picoseconds = to_ps(seconds)
    while picoseconds / PS_PER_S < seconds:
        picoseconds += 1
    return picoseconds


def ceil_div(numerator: int, denominator: int) -> int:
    """Divide whole numbers, rounding up."""
    return -(-numerator // denominator)
