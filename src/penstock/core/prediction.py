"""A predicted quantity with its interval and its source."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Prediction:
    """``value`` is the point estimate; the truth lies within ``low`` and ``high`` in ``coverage``
    of the cases (0.9 = nine of ten). ``extrapolated`` says in words where the question left what
    was measured, empty where it did not.
    """

    value: float
    low: float
    high: float
    coverage: float
    source: str
    extrapolated: tuple[str, ...] = ()
