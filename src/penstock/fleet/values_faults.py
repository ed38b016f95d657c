"""Faults of simulated replicas: spot instances that are taken back, failures, missing metrics."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spot:
    """Instances that their owner takes back: with a notice of ``notice_s``, ``reclaims_per_hour``
    times an hour of one replica in the mean. ``price_per_hour`` is of one accelerator, None for the
    price of the pool."""

    reclaims_per_hour: float
    notice_s: float
    price_per_hour: float | None = None


@dataclass(frozen=True, slots=True)
class Blackout:
    """Time for which the scaler gets no metrics."""

    from_s: float
    for_s: float


@dataclass(frozen=True, slots=True)
class FaultOptions:
    """Faults of a simulated run.

    A start fails with a chance of ``failed_start_share``, when it should end, and begins again. A
    replica that serves fails at once, ``failures_per_hour`` times an hour in the mean. At each of
    ``controller_restarts_s``, a scaler without history takes over.
    """

    failed_start_share: float = 0.0
    failures_per_hour: float = 0.0
    blackouts: tuple[Blackout, ...] = ()
    controller_restarts_s: tuple[float, ...] = ()


NO_FAULTS = FaultOptions()
