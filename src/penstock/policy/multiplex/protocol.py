"""The contract of a multiplexing policy."""

from typing import Protocol

from penstock.policy.multiplex.device import Device
from penstock.policy.multiplex.values import Action, Batch, Queued


class Multiplexer(Protocol):
    """Waiting requests by model, and the next action of each device.

    A driver reports arrivals and ends in order of time, and then calls ``next`` for every device
    with idle resources until it returns Wait. The driver owns the device, which already shows an
    action's effect when ``next`` is called again. Requests in a Batch or a Shed have left the
    queues.
    """

    def add(self, request: Queued, now_s: float) -> None:
        """A request has arrived."""
        ...

    def next(self, device: Device, now_s: float) -> Action:
        """Return the next action of the device."""
        ...

    def loaded(self, device: Device, model: int, now_s: float, *, failed: bool) -> None:
        """A load has ended, successfully or not."""
        ...

    def prefetched(self, device: Device, model: int, now_s: float) -> None:
        """A model was read into host memory."""
        ...

    def ended(self, device: Device, batch: Batch, now_s: float, *, failed: bool) -> None:
        """Requests of a batch have ended. Those of a failed batch (out of memory) return: the
        policy queues them again or sheds them."""
        ...

    def cancel(self, request_id: int) -> bool:
        """Remove a waiting request. Returns False where it does not wait."""
        ...

    @property
    def num_waiting(self) -> int:
        """Number of requests that have neither started nor been shed."""
        ...
