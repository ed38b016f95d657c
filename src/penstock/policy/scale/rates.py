"""Rates of one replica of each group of a model within the objectives, believed and observed."""

from collections.abc import Mapping, Sequence

from penstock.policy.scale.correction import RateCorrection, Served
from penstock.policy.scale.protocol import Load, ScalerContext
from penstock.policy.scale.values import Observation, SeenDemand

MEASURE_S = 60.0
"""Time between two computations of the replicas' rates."""

SHARE_S = 3600.0
"""Time over which the share of a replica's saturation that is in time is averaged."""

_SMOOTHING = 0.5  # weight of a new rate: lengths of a few thousand requests vary by chance
_LEAST_WAIT_S, _USUAL_TTFT_S = 0.5, 2.0


class ReplicaRates:
    """Requests per second that one replica of each group serves in time.

    ``factor`` is the correction by what saturated replicas finish, which ``per_s`` contains, as
    well as the speeds that a calibration tells. ``measured_s`` is the time of the last computation.
    """

    def __init__(self, numbers: Sequence[int], context: ScalerContext) -> None:
        self._numbers = numbers
        self._context = context
        self.measured_s = -MEASURE_S
        self._num_measured = 0
        self._loads: Mapping[str, Load] = {}
        self._saturations: list[float] = []
        self._shares: list[float] = []
        self._in_time: list[float] = []
        self._speeds = [1.0] * len(numbers)
        self._correction = RateCorrection(_wait_s(context))

    @property
    def factor(self) -> float:
        """Ratio of the observed over the believed rates."""
        return self._correction.factor

    @property
    def known(self) -> bool:
        """Whether a replica of any group is believed to serve requests in time."""
        return max(self._in_time, default=0.0) > 0.0

    @property
    def per_s(self) -> list[float]:
        """Rates by group, empty before any request has ended."""
        return [one * speed * self._correction.factor
                for one, speed in zip(self._in_time, self._speeds, strict=False)]

    def update(self, seen: Observation, demand: Sequence[SeenDemand], loads: Mapping[str, Load],
               now_s: float, *, measures: bool) -> None:
        """Follow the lengths of recent requests, where it ``measures``, and what the ready replicas
        finish."""
        if measures and now_s >= self.measured_s + MEASURE_S and loads != self._loads:
            self._measure(loads)
            self.measured_s, self._loads = now_s, loads
        self._calibrate()
        if self._in_time:
            self._correct(seen, demand, now_s)

    def _calibrate(self) -> None:
        """Follow the calibrated speeds. An error of the belief that the calibration finds is no
        longer one that the correction makes up for."""
        if not self._context.speeds:
            return
        before = sum(self._speeds)
        self._speeds = [self._context.speeds[number]() for number in self._numbers]
        self._correction.explained(sum(self._speeds) / before)

    def _measure(self, loads: Mapping[str, Load]) -> None:
        """Compute the rates for recent lengths.

        The rate at which a queue grows without end changes with the mean work of a request, so it
        is followed at once. The share of it that is in time depends on the longest few prompts,
        which vary by chance, so it is a mean over a long time.
        """
        new = [self._context.capacity[number](loads) for number in self._numbers]
        shares = [one.in_time_per_s / one.saturation_per_s if one.saturation_per_s > 0.0 else 0.0
                  for one in new]
        weight = max(MEASURE_S / SHARE_S, 1.0 / (self._num_measured + 1))
        self._shares = [old + weight * (share - old)
                        for old, share in zip(self._shares or shares, shares, strict=True)]
        # Costs of a request add up, so the means are of costs.
        self._saturations = [
            1.0 / ((1.0 - _SMOOTHING) / old + _SMOOTHING / one.saturation_per_s)
            if old > 0.0 and one.saturation_per_s > 0.0 else one.saturation_per_s
            for old, one in zip(self._saturations or [0.0] * len(new), new, strict=True)]
        self._in_time = [share * one
                         for share, one in zip(self._shares, self._saturations, strict=True)]
        self._num_measured += 1

    def _correct(self, seen: Observation, demand: Sequence[SeenDemand], now_s: float) -> None:
        """Compare what the ready replicas finish with their believed rates. A missing gauge counts
        as a replica without waiting requests."""
        ready = [(number, one) for number in self._numbers
                 for one in seen.groups[number].of("ready")]
        believed = {number: one * speed for number, one, speed in zip(
            self._numbers, self._saturations, self._speeds, strict=True)}
        gauges = [one.gauges for _, one in ready if one.gauges is not None]
        self._correction.add(now_s, Served(
            sum(one.num_finished for one in demand), len(ready),
            sum(one.num_running for one in gauges),
            # A queue at one replica alone says nothing about the others.
            len(ready) * min((one.num_waiting for one in gauges), default=0),
            sum(believed[number] for number, _ in ready)))


def _wait_s(context: ScalerContext) -> float:
    """Return the wait from which replicas are taken to be saturated: half of the tightest TTFT."""
    ttfts = [one.slo.ttft_s for one in context.classes.values() if one.slo.ttft_s is not None]
    return max(_LEAST_WAIT_S, 0.5 * min(ttfts, default=_USUAL_TTFT_S))
