"""Rates of one replica of each group of a model within the objectives, believed and observed."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from penstock.policy.scale.arrival_load import ArrivalLoads, ReadyLoad
from penstock.policy.scale.correction import RateCorrection, Served
from penstock.policy.scale.protocol import Load, ReplicaRate, ScalerContext, num_waiting
from penstock.policy.scale.share import LoadShare
from penstock.policy.scale.values import Observation, SeenDemand
from penstock.policy.scale.work import Work, effort

MEASURE_S = 60.0
"""Time between two computations of the replicas' rates."""

SHARE_S = 3600.0
"""Time over which the believed share of a replica's saturation that is in time is averaged."""

_SMOOTHING = 0.5  # weight of a new rate: lengths of a few thousand requests vary by chance
_LEAST_WAIT_S, _USUAL_TTFT_S = 0.5, 2.0


class _Done(NamedTuple):
    """Requests that ended since the start of the run, and the prompt and output tokens that engines
    have computed, None where a counter is missing."""

    num_finished: int
    tokens: tuple[int, int] | None


class ReplicaRates:
    """Requests per second that one replica of each group serves in time.

    The rate at which a replica's queue would grow without end is believed. The share of it that is
    in time is believed at first, and then learned from the loads of the ready replicas and the
    requests that miss (``share``). Replicas that are saturated at a lower load than believed
    (``correction``) put that load in the belief's place and what was seen at higher loads in doubt.
    Where the fleet calibrates, rates contain the learned speeds. ``measured_s`` is the time of the
    last computation.
    """

    def __init__(self, numbers: Sequence[int], context: ScalerContext) -> None:
        self._numbers = numbers
        self._context = context
        self.measured_s = -MEASURE_S
        self._num_measured = 0
        self._loads: Mapping[str, Load] = {}
        self._believed: list[float] = []  # at which queues would grow
        self._saturations: list[float] = []  # the same at the calibrated speeds
        self._shares: list[float] = []
        self._in_time: list[float] = []
        self._speed = 1.0  # mean of the calibrated speeds
        wait_s = _wait_s(context)
        self._correction = RateCorrection(wait_s)
        self._arrival_loads = ArrivalLoads(wait_s)
        self._learned: dict[str, LoadShare] = {}
        self._work = Work()
        self._done = 0.0
        self._seen_done = _Done(0, None)

    @property
    def known(self) -> bool:
        """Whether a replica of any group is believed to serve requests in time."""
        return max(self._in_time, default=0.0) > 0.0

    @property
    def factor(self) -> float:
        """Ratio of the observed over the believed rates of saturated replicas."""
        return self._correction.factor

    @property
    def share(self) -> float:
        """Share in time of the saturation of the best group, 0 before any is known."""
        return max((rate / whole for rate, whole in zip(
            self._in_time, self._saturations, strict=True) if whole > 0.0), default=0.0)

    @property
    def of_request(self) -> float:
        """Count of a request of the present mean lengths, as ``arrived`` counts."""
        return self._work.of_request

    def arrived(self, demand: Sequence[SeenDemand], now_s: float) -> float:
        """Return the arrivals so far that were not deferred, counted by their work."""
        self._work.add(demand, now_s)
        return self._work.own

    @property
    def per_s(self) -> list[float]:
        """Rates by group, empty before any request has ended."""
        return self._in_time

    def update(self, seen: Observation, demand: Sequence[SeenDemand], loads: Mapping[str, Load],
               now_s: float, *, measures: bool) -> None:
        """Follow the lengths of recent requests, where it ``measures``, and what the ready replicas
        serve in time."""
        if measures and now_s >= self.measured_s + MEASURE_S and loads != self._loads:
            self._measure(loads)
            self.measured_s, self._loads = now_s, loads
        if self._believed:
            self._saturations = self._at_speed()
            self._correct(seen, demand, now_s)
            self._learn(seen, demand, now_s)
            learned = {share: self._learned_share(share, now_s) for share in set(self._shares)}
            self._in_time = [whole * learned[share] for whole, share in zip(
                self._saturations, self._shares, strict=True)]

    def _measure(self, loads: Mapping[str, Load]) -> None:
        """Compute the rates for recent lengths.

        The rate at which a queue grows without end changes with the mean work of a request, so it
        is followed at once. The share of it that is in time depends on the longest few prompts,
        which vary by chance, so it is a mean over a long time.
        """
        new = [self._context.capacity[number](loads) for number in self._numbers]
        shares = [one.in_time_per_s / one.saturation_per_s if one.saturation_per_s > 0.0 else 0.0
                  for one in new]
        self._follow_work(new[0], loads)
        weight = max(MEASURE_S / SHARE_S, 1.0 / (self._num_measured + 1))
        self._shares = [old + weight * (share - old)
                        for old, share in zip(self._shares or shares, shares, strict=True)]
        # Costs of a request add up, so the means are of costs.
        self._believed = [
            1.0 / ((1.0 - _SMOOTHING) / old + _SMOOTHING / one.saturation_per_s)
            if old > 0.0 and one.saturation_per_s > 0.0 else one.saturation_per_s
            for old, one in zip(self._believed or [0.0] * len(new), new, strict=True)]
        self._num_measured += 1

    def _follow_work(self, new: ReplicaRate, loads: Mapping[str, Load]) -> None:
        """Follow the work that requests bring to a replica of the first group."""
        if new.saturation_per_s > 0.0:
            self._work.measured(effort(new, loads), _SMOOTHING)

    def _at_speed(self) -> list[float]:
        """Return the believed rates at the calibrated speeds. An error of the belief that the
        calibration finds is no longer one that the correction makes up for."""
        if not self._context.speeds:
            return self._believed
        speeds = [self._context.speeds[number]() for number in self._numbers]
        mean = sum(speeds) / len(speeds)
        self._correction.explained(mean / self._speed)
        self._speed = mean
        return [rate * speed for rate, speed in zip(self._believed, speeds, strict=True)]

    def _correct(self, seen: Observation, demand: Sequence[SeenDemand], now_s: float) -> None:
        """Compare what the ready replicas finish with their believed rates. A missing gauge counts
        as a replica without waiting requests."""
        ready = [(number, one) for number in self._numbers
                 for one in seen.groups[number].of("ready")]
        believed = dict(zip(self._numbers, self._saturations, strict=True))
        gauges = [one.gauges for _, one in ready if one.gauges is not None]
        weight = self._correction.add(now_s, Served(
            sum(one.num_finished for one in demand), self._count_done(seen, demand, now_s),
            len(ready),
            sum(one.num_running for one in gauges),
            # A queue at one replica alone says nothing about the others.
            len(ready) * min((one.num_waiting for one in gauges), default=0),
            self.of_request * sum(believed[number] for number, _ in ready), self.of_request),
            steady=self._work.is_steady(now_s))
        if weight:
            for learned in self._learned.values():
                learned.doubt(self._correction.factor, 1.0 - weight, self.of_request)

    def _count_done(self, seen: Observation, demand: Sequence[SeenDemand], now_s: float
                    ) -> float:
        """Return the work that was done so far: of the tokens that engines computed, and where
        their counters are missing, of the requests that ended."""
        totals = [seen.groups[number].totals for number in self._numbers]
        known = [one for one in totals if one is not None]
        tokens = None if len(known) < len(totals) else (
            sum(one.prompt_tokens for one in known), sum(one.output_tokens for one in known))
        now = _Done(sum(one.num_finished for one in demand), tokens)
        before, self._seen_done = self._seen_done, now
        work = None if tokens is None or before.tokens is None else self._work.done(
            tokens[0] - before.tokens[0], tokens[1] - before.tokens[1], now_s)
        self._done += self.of_request * (now.num_finished - before.num_finished) \
            if work is None else work
        return self._done

    def _learn(self, seen: Observation, demand: Sequence[SeenDemand], now_s: float) -> None:
        """Count requests that ended to the load at which they arrived."""
        waiting = num_waiting(seen, demand, self._numbers)
        capacity_per_s = sum(whole * seen.groups[number].num_ready for whole, number in zip(
            self._saturations, self._numbers, strict=True))
        for one in self._arrival_loads.add(ReadyLoad(
                self._work.total, self.of_request * waiting, self.of_request * capacity_per_s,
                sum(seen.groups[number].num_ready for number in self._numbers),
                self._work_of_arrival(now_s)),
                demand, now_s):
            name = one.service_class
            self._share_of(name).add(one)

    def _share_of(self, service_class: str) -> LoadShare:
        if service_class not in self._learned:
            slo = self._context.classes[service_class].slo
            self._learned[service_class] = LoadShare(slo.allowed_misses)
        return self._learned[service_class]

    def _work_of_arrival(self, now_s: float) -> float:
        return self._work.of_arrival(now_s) or self.of_request

    def _learned_share(self, believed: float, now_s: float) -> float:
        """Return the share in time of every class: as far as nothing is seen, the believed one, and
        no more than saturated replicas finish."""
        if believed <= 0.0:
            return 0.0
        believed = min(believed, self._correction.factor)
        work = self._work_of_arrival(now_s)
        return min((one.largest(believed, work, now_s) for one in self._learned.values()),
                   default=believed)


def _wait_s(context: ScalerContext) -> float:
    """Return the wait from which replicas are taken to be saturated: half of the tightest TTFT."""
    ttfts = [one.slo.ttft_s for one in context.classes.values() if one.slo.ttft_s is not None]
    return max(_LEAST_WAIT_S, 0.5 * min(ttfts, default=_USUAL_TTFT_S))
