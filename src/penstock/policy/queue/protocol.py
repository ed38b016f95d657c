"""The contract of a queue for shared accelerators."""

from typing import Protocol

from penstock.policy.queue.values import Shared, Start, Waiting


class ExclusiveDeviceQueue(Protocol):
    """Waiting requests and occupied devices.

    A driver adds arrivals, calls ``next`` until it returns None, and reports when a start has
    ended. Devices of a start are occupied from ``next`` to ``ended``.
    """

    @property
    def num_waiting(self) -> int:
        """Number of requests that have not started."""
        ...

    def deploy(self, shared: Shared) -> int:
        """Add a deployment and return its index. Raises InputError for one without devices."""
        ...

    def add(self, request: Waiting) -> None:
        """A request has arrived. Requests come in order of arrival; equal ones start in the order
        in which they were added."""
        ...

    def next(self, now_s: float) -> Start | None:
        """Return the requests that start now, if any may."""
        ...

    def ended(self, start: Start) -> None:
        """A start has ended, and its devices are idle."""
        ...

    def cancel(self, request_id: int) -> bool:
        """Remove a waiting request. Returns False where it does not wait."""
        ...
