"""A predicted quantity with its interval and its source."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Prediction:
    """``value`` is the point estimate. The true value lies within ``low`` and ``high`` in
    ``coverage`` of all cases (0.9 = nine of ten). ``extrapolated`` says where the input left the
    measured range, empty where it did not.
    """

    value: float
    low: float
    high: float
    coverage: float
    source: str
    extrapolated: tuple[str, ...] = ()
