"""Observations of a calibration, its prior and its result."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, inf, isfinite, sqrt

from penstock.perf.queueing.batch import Array
from penstock.perf.queueing.parameters import (
    POISSON,
    IterationTimes,
    QueueSpec,
    RequestSize,
    Variability,
)

NAMES = ("alpha_ms", "beta_ms", "gamma_ms")
Triple = tuple[float, float, float]

SIGMAS = 1.96
"""Standard deviations to the ends of an interval of 95 %."""
LARGEST_SD = 0.35
"""Standard deviation of a logarithm up to which a parameter counts as identified: its interval of
95 % reaches a factor of 2 to either side."""


@dataclass(frozen=True, slots=True)
class ServedPoint:
    """Mean load and latencies of one replica over a period.

    ``ttft_ms`` includes the wait. ``served_s`` is how long the replica has served at the end of the
    period. ``variability`` is that of the requests.
    """

    rate_per_s: float
    size: RequestSize
    max_batch: int
    ttft_ms: float
    itl_ms: float
    max_queue: int = 0
    served_s: float = inf
    variability: Variability = POISSON

    @property
    def usable(self) -> bool:
        """Whether load and latencies are positive and finite."""
        return all(value > 0.0 and isfinite(value)
                   for value in (self.rate_per_s, self.ttft_ms, self.itl_ms))

    def queue(self, times: IterationTimes) -> QueueSpec:
        """Return the replica as a queue with these step times."""
        return QueueSpec(times, self.size, self.max_batch, self.max_queue)


LatencyModel = Callable[[Sequence[ServedPoint], Sequence[IterationTimes]], Array]
"""Function that returns mean TTFT and ITL in ms of every point with all times, shape
(times, points, 2)."""


@dataclass(frozen=True, slots=True)
class Prior:
    """Believed parameters, all positive, and how far they may be off.

    Their logarithms are off by a common part and by one part each, normal with these standard
    deviations. The defaults say little: a factor of 7 either way is usual.
    """

    times: IterationTimes
    common_sd: float = 2.0
    each_sd: Triple = (2.0, 2.0, 2.0)

    @property
    def state(self) -> Triple:
        """alpha, beta and gamma."""
        return self.times.alpha_ms, self.times.beta_ms, self.times.gamma_ms


@dataclass(frozen=True, slots=True)
class CalibrationSettings:
    """``spreads`` are standard deviations of ln TTFT and ln ITL around the model, at least.

    Points of replicas that have served for less than ``cold_s`` are left out. Of more than
    ``most_points`` the older one of the two most similar goes.
    """

    spreads: tuple[float, float] = (0.1, 0.05)
    cold_s: float = 60.0
    most_points: int = 32


@dataclass(frozen=True, slots=True)
class Calibrated:
    """Estimated parameters with their uncertainty.

    ``covariance`` is that of the logarithms. ``noise`` is the spread of the observations around
    the model over the assumed one, at least 1.
    """

    times: IterationTimes
    covariance: tuple[Triple, Triple, Triple]
    noise: float
    num_points: int

    @property
    def log_sd(self) -> Triple:
        """Standard deviations of the parameters' logarithms."""
        first, second, third = self.covariance
        return sqrt(first[0]), sqrt(second[1]), sqrt(third[2])

    @property
    def low(self) -> IterationTimes:
        """Lower ends of the parameters' intervals of 95 %, each by itself."""
        return self._at(-SIGMAS)

    @property
    def high(self) -> IterationTimes:
        """Upper ends of the parameters' intervals of 95 %, each by itself."""
        return self._at(SIGMAS)

    @property
    def unidentified(self) -> tuple[str, ...]:
        """Names of parameters that the observations leave open by more than a factor of 2.

        Their values come from the prior in part. Latencies at loads like the observed ones are
        right all the same, those at other loads may not be.
        """
        return tuple(name for name, sd in zip(NAMES, self.log_sd, strict=True) if sd > LARGEST_SD)

    def _at(self, sigmas: float) -> IterationTimes:
        alpha, beta, gamma = (exp(sigmas * sd) for sd in self.log_sd)
        return IterationTimes(self.times.alpha_ms * alpha, self.times.beta_ms * beta,
                              self.times.gamma_ms * gamma, self.times.max_step_tokens)
