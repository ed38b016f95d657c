"""Calibration of a fleet's replicas while they serve, and the scaler that feeds it."""

from collections.abc import Sequence
from dataclasses import replace

from penstock.fleet.capacity import step_tokens
from penstock.fleet.replica_factory import believed_step_time
from penstock.fleet.resolve import kv_tokens
from penstock.fleet.values import Fleet
from penstock.perf.calibration.calibration import Calibration
from penstock.perf.calibration.step_time import parameters_of
from penstock.perf.calibration.values import NAMES, CalibrationSettings, Prior, ServedPoint
from penstock.perf.queueing.build import from_spec
from penstock.perf.queueing.parameters import IterationTimes, RequestSize, Variability
from penstock.policy.scale.protocol import Scaler, Speed
from penstock.policy.scale.served import ServedPeriod, ServedPeriods, spread_of_lengths
from penstock.policy.scale.values import (
    LearnedTimes,
    Observation,
    ScalingDecision,
    SeenDemand,
)

COMMON_SD, EACH_SD = 0.7, 0.2
"""Spread of the believed step times around the true ones, as logarithms: of all together, and of
each parameter."""

SETTINGS = CalibrationSettings(spreads=(0.5, 0.1))
"""The chain's mean TTFT is far less certain than its ITL where requests differ."""


class GroupCalibration:
    """Calibration of one group, from the believed step times."""

    def __init__(self, fleet: Fleet, number: int, seed: int) -> None:
        group = fleet.replicas[number]
        schedule = fleet.schedule_of(group)
        believed = parameters_of(believed_step_time(group, fleet, seed), step_tokens(schedule))
        self.number = number
        self.model = group.model.name
        self._believed = believed
        self._max_batch = schedule.max_num_seqs
        self._kv_tokens = kv_tokens(fleet, group)
        self._periods = ServedPeriods()
        self._latest: ServedPoint | None = None
        self._speed = 1.0
        self.calibration = Calibration(
            Prior(believed, COMMON_SD, (EACH_SD, EACH_SD, EACH_SD)), settings=SETTINGS)

    def observe(self, seen: Observation, now_s: float) -> None:
        """Learn from what was seen of the group."""
        period = self._periods.add(seen.groups[self.number], now_s)
        if period is None or period.full:
            return
        point = self.point(period, [one for one in seen.demand or ()
                                    if one.model in ("", self.model)])
        self.calibration.observe(point)
        if self.calibration.points:
            self._speed = self._rate(point, self.calibration.known.times) / self._rate(
                point, self._believed)

    def point(self, period: ServedPeriod, demand: Sequence[SeenDemand]) -> ServedPoint:
        """Return a period as a point of the calibration."""
        prompt_scv, output_scv = spread_of_lengths(demand)
        return ServedPoint(
            period.rate_per_s, RequestSize(period.prompt_tokens, period.output_tokens),
            self._max_batch, 1e3 * period.ttft_s, 1e3 * period.itl_s, served_s=period.served_s,
            variability=Variability(1.0, prompt_scv, output_scv))

    def speed(self) -> float:
        """Return the rate of a replica over the believed one, 1 before a point is known."""
        return self._speed

    def learned(self) -> LearnedTimes | None:
        """Return what is known, None before a point."""
        known = self.calibration.known
        if not known.num_points:
            return None
        parameters = {name: (getattr(known.times, name), getattr(known.low, name),
                             getattr(known.high, name)) for name in NAMES}
        return LearnedTimes(self.number, parameters, known.unidentified, self._speed,
                            known.num_points, self.calibration.num_drifts)

    def _rate(self, point: ServedPoint, times: IterationTimes) -> float:
        """Return the rate of a full replica at the point's lengths."""
        queue = from_spec(point.queue(times), kv_tokens=self._kv_tokens,
                          variability=point.variability)
        return min(float(queue.rate_per_s[0].max()), float(queue.prompt_rate_per_s[0]))


class CalibratingScaler:
    """Lets calibrations learn from each observation before the scaler decides."""

    def __init__(self, scaler: Scaler, groups: Sequence[GroupCalibration]) -> None:
        self.period_s = scaler.period_s
        self.wakes = scaler.wakes
        self._scaler = scaler
        self._groups = groups

    def decide(self, seen: Observation, now_s: float) -> ScalingDecision:
        """Return the scaler's decision, with what was learned."""
        for group in self._groups:
            group.observe(seen, now_s)
        decision = self._scaler.decide(seen, now_s)
        learned = (group.learned() for group in self._groups)
        return replace(decision, learned=tuple(one for one in learned if one is not None))


def speeds(groups: Sequence[GroupCalibration]) -> tuple[Speed, ...]:
    """Return the functions by which a scaler corrects its beliefs."""
    return tuple(group.speed for group in groups)
