"""The part of a run's summary on devices that models share."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class DeviceTimes:
    """Shares of a device's time."""

    loading_share: float | None
    computing_share: float | None
    idle_share: float | None


@dataclass(frozen=True, kw_only=True)
class PooledModel:
    """Requests and loads of one model of a pool."""

    model: str
    received: int
    met: int
    attainment: float | None
    attainment_low: float | None
    attainment_high: float | None
    finished: int
    rejected: int
    shed: int
    unfinished: int
    goodput_requests_per_s: float | None
    e2e_mean_s: float | None
    loads: int
    load_mean_s: float | None
    mean_batch: float | None


@dataclass(frozen=True, kw_only=True)
class Pool(DeviceTimes):
    """Devices that models share: their loads, batches and time. A pool that had confidential
    requests states neither models nor devices."""

    name: str
    accelerator: str
    num_devices: int
    policy: str
    settings: Mapping[str, Any]
    num_models: int
    batching: str = ""
    loads: int | None
    failed_loads: int | None
    load_mean_s: float | None
    batches: int | None
    mean_batch: float | None
    devices: tuple[DeviceTimes, ...]
    models: tuple[PooledModel, ...]
