"""The contract of a queue before shared accelerators."""

from typing import Protocol

from penstock.policy.queue.values import Shared, Start, Waiting


class ExclusiveDeviceQueue(Protocol):
    """Requests that wait, and the devices that are taken.

    A driver adds what arrives, asks ``next`` until it answers None, and says when a start has
    ended. Devices of a start are taken from ``next`` to ``ended``.
    """

    @property
    def num_waiting(self) -> int:
        """Requests that have not started."""
        ...

    def deploy(self, shared: Shared) -> int:
        """Another deployment from now on; its index. Raises InputError for one without devices."""
        ...

    def add(self, request: Waiting) -> None:
        """A request has arrived. Requests come in order of arrival; equal ones start in the order
        in which they were added."""
        ...

    def next(self, now_s: float) -> Start | None:
        """Return the requests that start now, if any may."""
        ...

    def ended(self, start: Start) -> None:
        """A start is over, and its devices are idle."""
        ...

    def cancel(self, request_id: int) -> bool:
        """Take back a request that waits; False where none of that name does."""
        ...
