"""The contract of a multiplexing policy."""

from typing import Protocol

from penstock.policy.multiplex.device import Device
from penstock.policy.multiplex.values import Action, Batch, Queued


class Multiplexer(Protocol):
    """Requests that wait, by model, and what each device does next.

    A driver tells what arrives and what ends, in order of time, and then asks ``next`` for every
    device that has something idle, until it answers Wait. The device is the driver's: it already
    shows an action's effect when ``next`` is asked again. Whoever is in a Batch or a Shed has left
    the queues.
    """

    def add(self, request: Queued, now_s: float) -> None:
        """A request has arrived."""
        ...

    def next(self, device: Device, now_s: float) -> Action:
        """Return the next action of the device."""
        ...

    def loaded(self, device: Device, model: int, now_s: float, *, failed: bool) -> None:
        """A load is over, one way or the other."""
        ...

    def prefetched(self, device: Device, model: int, now_s: float) -> None:
        """A model has been read into the host's memory."""
        ...

    def ended(self, device: Device, batch: Batch, now_s: float, *, failed: bool) -> None:
        """Requests of a batch are over. Those of a failed one (out of memory) come back: the policy
        queues them again or sheds them."""
        ...

    def cancel(self, request_id: int) -> bool:
        """Take back a request that waits; False where none of that name does."""
        ...

    @property
    def num_waiting(self) -> int:
        """Requests that neither started nor were shed."""
        ...
