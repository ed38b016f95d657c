"""Values of device queues: a waiting request, and a start."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from penstock.core.errors import InputError


@dataclass(frozen=True, slots=True)
class Shared:
    """A deployment whose accelerators others may use, too.

    Each of ``device_sets`` holds one replica, and a start occupies all devices of one set, the
    first listed if several are idle. ``expected_s`` is the approximate duration of a start (0 if
    unknown). Up to ``max_batch`` requests run together. They start together or, where the
    deployment ``joins``, each by itself as soon as possible.
    """

    device_sets: tuple[frozenset[int], ...]
    expected_s: float = 0.0
    max_batch: int = 1
    joins: bool = False


class Waiting(NamedTuple):
    """A request for the deployment with this index.

    Priority 0 is the most urgent. ``ahead`` puts the request at the head of the queue, the latest
    first. ``deadline_s`` is the time by which the answer is due.
    """

    request_id: int
    deployment: int
    arrival_s: float
    priority: int = 0
    deadline_s: float = inf
    ahead: bool = False


class Start(NamedTuple):
    """Requests of a deployment that start now, together, on its set with this index."""

    deployment: int
    set_index: int
    request_ids: tuple[int, ...]


def masks_of(deployments: Sequence[Shared]) -> list[tuple[int, ...]]:
    """Return the device sets as bit masks. Raises InputError for a deployment without devices."""
    for index, deployment in enumerate(deployments):
        if not deployment.device_sets or not all(deployment.device_sets):
            raise InputError(f"deployment {index}: has no devices to start on")
        if deployment.max_batch < 1:
            raise InputError(f"deployment {index}: max_batch is {deployment.max_batch}, expected "
                             "at least 1")
    return [tuple(mask_of(devices) for devices in deployment.device_sets)
            for deployment in deployments]


def mask_of(devices: Iterable[int]) -> int:
    """Return serial numbers as a bit mask."""
    return sum(1 << device for device in set(devices))
