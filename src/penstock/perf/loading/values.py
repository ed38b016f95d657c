"""Values of loading: where weights lie, how long a load takes, and what that rests on."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class LoadTime:
    """Seconds of one load, its 95 % interval, its parts, and whether its size was in range.

    ``parts`` has ``disk_s``, ``copy_s``, ``confidential_s``, ``fixed_s``, ``first_s`` and, taken
    off their sum, ``hidden_s``: what reading and copying at the same time saves.
    """

    total_s: float
    low_s: float
    high_s: float
    parts: Mapping[str, float] = field(default_factory=dict)
    source: str = ""
    extrapolated: bool = False


@dataclass(frozen=True, slots=True)
class LoadEvidence:
    """Source of a loading model's numbers, how far off it is, and the sizes it was seen at.

    ``mean_error`` and ``p95_error`` are of |predicted / measured - 1|; ``sd_s`` is the standard
    deviation of measured - predicted. Outside of the sizes, the interval is twice as wide.
    """

    source: str
    mean_error: float
    p95_error: float
    sd_s: float = 0.0
    smallest_bytes: float = 0.0
    largest_bytes: float = float("inf")

    def covers(self, size_bytes: float) -> bool:
        """Whether a model of this size lies within what was measured."""
        return self.smallest_bytes <= size_bytes <= self.largest_bytes


@dataclass(frozen=True, slots=True)
class ConfidentialTerms:
    """Terms that confidential computing adds to a load: seconds, and seconds per 10^9 bytes.

    The driver encrypts what goes to the device through a bounce buffer (``copy_s_per_gb``). The
    virtual machine's own disk goes through shared pages, too (``disk_s_per_gb``).
    """

    fixed_s: float = 0.0
    copy_s_per_gb: float = 0.0
    disk_s_per_gb: float = 0.0


@dataclass(frozen=True, slots=True)
class FirstLoad:
    """Seconds that the first load of a run takes beyond later ones: mean, and 95th percentile."""

    extra_s: float = 0.0
    extra_p95_s: float = 0.0


@dataclass(frozen=True, slots=True)
class LoadErrors:
    """Errors of predictions against measured loads: R^2 and seconds, and |ratio - 1|.

    ``bias_s`` is the mean of predicted - measured, ``sd_s`` the standard deviation of it.
    """

    r2: float
    mae_s: float
    bias_s: float
    sd_s: float
    mean: float
    p95: float
    num_loads: int
