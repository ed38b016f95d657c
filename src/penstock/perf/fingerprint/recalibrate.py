"""Estimates corrected by what one deployment is seen to take."""

from math import isfinite


class Recalibration:
    """observed = scale * estimated + offset, by least squares that forget.

    Before anything was seen the scale is 1 and the offset 0, each held there as by a few
    observations; an observation moves the line by at most what a ratio of ``MOST`` would. Errors
    count relative to the estimate, so that long answers do not outweigh short ones. Sessions of
    measurements differ by a quarter and more (MaverIQ's own tables), so this is worth its few
    numbers.
    """

    FORGETTING = 0.98
    MOST = 3.0
    HOLD_SCALE, HOLD_OFFSET = 2.0, 1.0

    __slots__ = ("_moments", "_typical_s", "num_observed", "offset_s", "scale")

    def __init__(self, typical_s: float) -> None:
        """``typical_s`` is an estimate of a usual answer, the unit in which offsets are held."""
        self.scale, self.offset_s = 1.0, 0.0
        self.num_observed = 0
        self._typical_s = typical_s
        self._moments = (0.0, 0.0, 0.0, 0.0, 0.0)

    def observe(self, estimated_s: float, observed_s: float) -> None:
        """One answer took ``observed_s`` where the uncorrected estimate said ``estimated_s``; what
        is no duration is passed over."""
        if not (isfinite(estimated_s) and isfinite(observed_s)) or min(estimated_s,
                                                                       observed_s) <= 0.0:
            return
        self.num_observed += 1
        ratio = min(self.MOST, max(1.0 / self.MOST, observed_s / estimated_s))
        inverse = self._typical_s / estimated_s  # the offset's feature, relative to the estimate
        fresh = (1.0, inverse, inverse * inverse, ratio, ratio * inverse)
        self._moments = tuple(  # type: ignore[assignment]
            self.FORGETTING * old + new for old, new in zip(self._moments, fresh, strict=True))
        num, sum_x, sum_xx, sum_y, sum_xy = self._moments
        # Ridge towards (1, 0): solve for (scale - 1, offset in typical units).
        a, b, c = num + self.HOLD_SCALE, sum_x, sum_xx + self.HOLD_OFFSET
        p, q = sum_y - num, sum_xy - sum_x
        determinant = a * c - b * b
        self.scale = 1.0 + (p * c - b * q) / determinant
        self.offset_s = self._typical_s * (a * q - b * p) / determinant

    def corrected_s(self, estimated_s: float) -> float:
        """The estimate as this deployment is known by now; never below a tenth of it."""
        return max(0.1 * estimated_s, self.scale * estimated_s + self.offset_s)
