"""Calibration of a fleet's replicas while they serve, and the scaler that feeds it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from penstock.core.errors import InputError
from penstock.fleet.capacity import step_tokens
from penstock.fleet.replica_factory import believed_step_time
from penstock.fleet.resolve import kv_tokens
from penstock.fleet.values import Fleet
from penstock.journal.scaling import Recorded, read_scaling
from penstock.perf.calibration.calibration import Calibration
from penstock.perf.calibration.step_time import parameters_of
from penstock.perf.calibration.values import NAMES, CalibrationSettings, Prior, ServedPoint
from penstock.perf.queueing.build import from_spec
from penstock.perf.queueing.parameters import IterationTimes, RequestSize, Variability
from penstock.policy.scale.protocol import Scaler, ScalerContext, Speed, StepSeconds
from penstock.policy.scale.served import ServedPeriod, ServedPeriods, spread_of_lengths
from penstock.policy.scale.values import (
    LearnedTimes,
    Observation,
    ScalingDecision,
    SeenDemand,
)


class Learning(NamedTuple):
    """How a calibration learns. The believed step times are off by a common factor and by one each,
    lognormal with these standard deviations. Of ``sparse`` periods, one is learned from once the
    points are full: a fit costs more than a decision."""

    common_sd: float
    each_sd: float
    settings: CalibrationSettings
    sparse: int = 5


_SPREADS = (0.5, 0.1)  # the chain's mean TTFT is far less certain than its ITL
WHILE_SCALING = Learning(0.7, 0.2, CalibrationSettings(_SPREADS, most_points=10))
FROM_RECORD = Learning(1.0, 0.5, CalibrationSettings(_SPREADS, most_points=16))


class GroupCalibration:
    """Calibration of one group, from the believed step times."""

    def __init__(self, fleet: Fleet, number: int, seed: int,
                 learning: Learning = WHILE_SCALING) -> None:
        group = fleet.replicas[number]
        schedule = fleet.schedule_of(group)
        believed = parameters_of(believed_step_time(group, fleet, seed), step_tokens(schedule))
        self.number = number
        self.model = group.model.name
        self._believed = believed
        self._max_batch = schedule.max_num_seqs
        self._kv_tokens = kv_tokens(fleet, group)
        self._periods = ServedPeriods()
        self._num_periods = 0
        self._speed = 1.0
        self._learning = learning
        self.calibration = Calibration(Prior(
            believed, learning.common_sd, (learning.each_sd,) * 3), settings=learning.settings)

    def begin(self) -> None:
        """Forget the period that has begun: the next observation is of another loop."""
        self._periods = ServedPeriods()

    def observe(self, seen: Observation, now_s: float) -> None:
        """Learn from what was seen of the group."""
        period = self._periods.add(seen.groups[self.number], now_s)
        if period is None or period.full:
            return
        self._num_periods += 1
        full = len(self.calibration.points) >= self._learning.settings.most_points
        if full and self._num_periods % self._learning.sparse:
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


def calibration_of_record(path: Path, fleet: Fleet, number: int) -> Calibration:
    """Return the calibration of a group after a record of scaling decisions.

    Raises InputError where the record is not of this fleet, or where no period of it has the
    counters of warm engines.
    """
    group = GroupCalibration(fleet, number, fleet.run.seed, FROM_RECORD)
    for line in read_scaling(path):
        if not isinstance(line, Recorded):
            group.begin()
            continue
        if len(line.seen.groups) != len(fleet.replicas):
            raise InputError(f"{path}: its decisions are on {len(line.seen.groups)} groups of "
                             f"replicas; the fleet has {len(fleet.replicas)}")
        group.observe(line.seen, line.now_s)
    if not group.calibration.points:
        raise InputError(f"{path}: no minute in which the same warm replicas of group {number} "
                         "served and the engines' counters are known; `scaling.calibrate: true` "
                         "makes `penstock serve` read them")
    return group.calibration


def calibrating(make: Callable[[ScalerContext], Scaler], context: ScalerContext, fleet: Fleet,
                seed: int) -> CalibratingScaler:
    """Return the scaler that ``make`` builds, with beliefs that follow what is learned."""
    groups = [GroupCalibration(fleet, number, seed) for number in range(len(fleet.replicas))]
    corrected = replace(context, speeds=speeds(groups), step_s=tuple(
        _corrected(step_s, group) for step_s, group in zip(context.step_s, groups, strict=True)))
    return CalibratingScaler(make(corrected), groups)


def _corrected(step_s: StepSeconds, group: GroupCalibration) -> StepSeconds:
    return lambda features: step_s(features) / group.speed()
