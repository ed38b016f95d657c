"""Batches of requests on real engines, and their outcomes as reported to the policy."""

import asyncio

from penstock.policy.multiplex.device import Device
from penstock.policy.multiplex.protocol import Multiplexer
from penstock.policy.multiplex.values import Batch
from penstock.serving.multiplex.actuator_pool import ActuatorPool
from penstock.serving.multiplex.pending import PendingRequests
from penstock.serving.multiplex.tickets import Running, Ticket


class Batches:
    """Starts the batches of a policy by serving ``pending`` requests."""

    def __init__(self, policy: Multiplexer, pending: PendingRequests, actuators: ActuatorPool,
                 loop: asyncio.AbstractEventLoop) -> None:
        self._policy = policy
        self._pending = pending
        self._actuators = actuators
        self._loop = loop

    def begin(self, device: Device, batch: Batch) -> None:
        """Start every request of a batch. Raises NotPossibleError."""
        device.begin_batch(batch)
        running = Running(device, batch, {one.request_id for one in batch.requests},
                          device.residents[batch.model])
        url = self._actuators.url(device.index, batch.model)
        for request in batch.requests:
            ticket = Ticket(request, device.index, batch.model, url, running)
            if not self._pending.call(ticket):  # its caller left while the policy decided
                self.over(ticket, failed=False)

    def over(self, ticket: Ticket, *, failed: bool) -> bool:
        """End a request. A failed request whose caller still waits returns to the policy. Returns
        True where a whole batch has failed; ``explain`` then reports to the policy once the cause
        is known. Raises ValueError for a ticket that was given back before."""
        running, request_id, now_s = ticket.running, ticket.request.request_id, self._loop.time()
        device = running.device
        if request_id not in running.left:
            raise ValueError("the ticket was given back before")
        running.left.discard(request_id)
        if failed:
            running.failed.add(request_id)
        if device.continuous:
            device.end_batch(ticket.model, 1, now_s)
            self._tell(device, Batch(ticket.model, (ticket.request,)), running.failed)
        elif not running.left:
            device.end_batch(ticket.model, len(running.batch.requests), now_s)
            if 1 < len(running.batch.requests) == len(running.failed):
                return True
            self._tell(device, running.batch, running.failed)
        return False

    def explain(self, running: Running, *, engine_died: bool) -> None:
        """Report why a whole batch failed: its engine died, or else the batch was too large for the
        device's memory."""
        self._tell(running.device, running.batch, running.failed, out_of_memory=not engine_died)

    def _tell(self, device: Device, batch: Batch, failed: set[int], *,
              out_of_memory: bool = False) -> None:
        """Report the end of a batch to the policy. Failed requests arrive anew, except those of a
        batch that was too large, which the policy keeps."""
        now_s = self._loop.time()
        self._policy.ended(device, batch, now_s, failed=out_of_memory)
        for request in batch.requests:
            waits = request.request_id in failed and request.request_id in self._pending
            if out_of_memory and not waits:
                self._policy.cancel(request.request_id)
            elif waits and not out_of_memory:
                self._policy.add(request, now_s)
