"""The part of a run's summary about replicas that a policy scaled."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class ScaledGroup:
    """Replicas of one group that a scaler changed: numbers of those whose accelerators were held.
    GPU-hours count every accelerator from the order's start to the end of draining."""

    model: str
    accelerator: str
    min_replicas: int
    max_replicas: int
    mean_replicas: float
    peak_replicas: int
    gpu_hours: float
    cost: float


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
class ScalingChoice:
    """A decision that changed a target, with its cause."""

    at_s: float
    before: tuple[int, ...]
    targets: tuple[int, ...]
    reason: str
    terms: Mapping[str, float]
    attainment: float | None = None


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """Outcome of a scaler: its groups, starts and stops, changes and decisions."""

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
