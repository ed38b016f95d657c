"""The part of a run's summary about replicas that a policy scaled."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from penstock.metrics.record import Form


@dataclass(frozen=True, kw_only=True)
class ScaledGroup:
    """Replicas of one group that a scaler changed: numbers of those whose accelerators were held.
    GPU-hours count every accelerator from the order's start to the end of draining.
    ``cost_per_hour`` is the price of one replica, None in summaries of earlier versions.
    ``start_parts_s`` are the expected seconds of the parts of a start, None where the file states
    none. ``energy_kwh`` is None where the power of the accelerator is unknown, ``carbon_kg`` also
    where the carbon intensity is."""

    model: str
    accelerator: str
    min_replicas: int
    max_replicas: int
    mean_replicas: float
    peak_replicas: int
    gpu_hours: float
    cost: float
    cost_per_hour: Annotated[float | None, Form.OPTIONAL] = None
    start_parts_s: Annotated[Mapping[str, float] | None, Form.OPTIONAL] = None
    energy_kwh: Annotated[float | None, Form.OPTIONAL] = None
    carbon_kg: Annotated[float | None, Form.OPTIONAL] = None


@dataclass(frozen=True, kw_only=True)
class ScalingEvent:
    """Numbers of one group's replicas by state from a time on."""

    at_s: float
    group: int
    target: int
    waiting: int
    starting: int
    ready: int
    draining: int

    @property
    def held(self) -> int:
        """Number of replicas whose accelerators are held."""
        return self.starting + self.ready + self.draining


@dataclass(frozen=True, kw_only=True)
class ScalingView:
    """Observation behind a decision, as figures. None stands for what the metrics did not tell.

    ``arrivals_per_s`` counts since the decision before. ``num_held`` requests wait at the gateway;
    ``num_waiting`` and ``num_running`` are at the engines, without the ``num_unseen`` serving
    replicas whose gauges are missing. ``gauges_age_s`` is the age of the oldest gauges. By group,
    ``states`` has the number of replicas by state. ``state_ages_s`` has the longest time that a
    replica has been in each state.
    """

    arrivals_per_s: float | None
    num_held: int | None
    num_waiting: int
    num_running: int
    num_unseen: int
    gauges_age_s: float | None
    states: tuple[Mapping[str, int], ...]
    state_ages_s: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class ScalingAlternative:
    """Numbers of replicas that a policy set aside, and the share of requests in time that the
    policy predicted for them."""

    targets: tuple[int, ...]
    attainment: float | None = None


@dataclass(frozen=True, kw_only=True)
class ScalingChoice:
    """A decision that changed a target, with its cause."""

    at_s: float
    before: tuple[int, ...]
    targets: tuple[int, ...]
    reason: str
    terms: Mapping[str, float]
    attainment: float | None = None
    next_best: Annotated[ScalingAlternative | None, Form.OPTIONAL] = None
    seen: Annotated[ScalingView | None, Form.OPTIONAL] = None


@dataclass(frozen=True, kw_only=True)
class CalibratedTimes:
    """Step times of a group's replicas that were learned while they served, at the end of the run.

    By name in ms, ``values``, and the ends ``low`` and ``high`` of the interval of 95 %; those in
    ``unidentified`` are open by more than a factor of 2. ``speed`` is the rate of a replica over
    the believed rate. ``num_points`` observations are in use, after ``num_drifts`` changes of the
    engines.
    """

    group: int
    values: Mapping[str, float]
    low: Mapping[str, float]
    high: Mapping[str, float]
    unidentified: tuple[str, ...]
    speed: float
    num_points: int
    num_drifts: int


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """Outcome of a scaler: its groups, starts and stops, faults, changes and decisions.

    No policy meets the objectives of these requests with fewer than ``least_gpu_hours``; None where
    such a bound is not known. ``over_least`` is the ratio of GPU-hours to these hours.

    ``energy_kwh`` and ``carbon_kg`` are of all groups, None where one of them is unknown.
    ``power_coverage`` is the share of the GPU-hours whose power is known. ``num_deferred`` requests
    were held back, for ``deferred_mean_s`` on average; None where no class may be.
    """

    policy: str
    settings: Mapping[str, Any]
    mean_replicas: float
    peak_replicas: int
    gpu_hours: float
    cost: float
    starts: int
    stops: int
    groups: tuple[ScaledGroup, ...]
    changes: tuple[ScalingEvent, ...]
    decisions: tuple[ScalingChoice, ...]
    least_gpu_hours: Annotated[float | None, Form.OPTIONAL] = None
    over_least: Annotated[float | None, Form.OPTIONAL] = None
    failed_starts: Annotated[int, Form.OPTIONAL] = 0
    failures: Annotated[int, Form.OPTIONAL] = 0
    reclaims: Annotated[int, Form.OPTIONAL] = 0
    calibrated: Annotated[tuple[CalibratedTimes, ...], Form.OPTIONAL] = ()
    energy_kwh: Annotated[float | None, Form.OPTIONAL] = None
    carbon_kg: Annotated[float | None, Form.OPTIONAL] = None
    power_coverage: Annotated[float | None, Form.OPTIONAL] = None
    num_deferred: Annotated[int | None, Form.OPTIONAL] = None
    deferred_mean_s: Annotated[float | None, Form.OPTIONAL] = None
