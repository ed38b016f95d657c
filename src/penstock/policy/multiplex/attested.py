"""Confidential requests on multiplexed devices."""

from collections import deque
from collections.abc import Collection

from penstock.core.attestation import Confidentiality, attestation_violation, refusal
from penstock.policy.multiplex.device import Device
from penstock.policy.multiplex.protocol import Multiplexer
from penstock.policy.multiplex.values import Action, Batch, Queued, Shed


class OnlyAttested:
    """Wraps a policy so that its ``confidential`` requests (by id) run only on attested devices.

    Attestation is checked when a request arrives and when its batch begins, which may be minutes
    later. A request that may not run is shed with the reason and listed in ``refused``.
    """

    def __init__(self, policy: Multiplexer, devices: Confidentiality,
                 confidential: Collection[int]) -> None:
        self._policy = policy
        self._devices = devices
        self._confidential = confidential
        self._turned_away: deque[Shed] = deque()
        self._rest: dict[int, Batch] = {}  # by device, the requests of a batch that may still run
        self.refused: set[int] = set()

    @property
    def num_waiting(self) -> int:
        return (self._policy.num_waiting + sum(len(one.requests) for one in self._turned_away)
                + sum(len(one.requests) for one in self._rest.values()))

    def add(self, request: Queued, now_s: float) -> None:
        why = self._why(now_s)
        if why is None or request.request_id not in self._confidential:
            self._policy.add(request, now_s)
        else:
            self._turned_away.append(self._refuse((request,), why))

    def next(self, device: Device, now_s: float) -> Action:
        if device.index in self._rest:
            return self._rest.pop(device.index)
        if self._turned_away:
            return self._turned_away.popleft()
        action = self._policy.next(device, now_s)
        return self._allowed(device, action, now_s) if isinstance(action, Batch) else action

    def loaded(self, device: Device, model: int, now_s: float, *, failed: bool) -> None:
        self._policy.loaded(device, model, now_s, failed=failed)

    def prefetched(self, device: Device, model: int, now_s: float) -> None:
        self._policy.prefetched(device, model, now_s)

    def ended(self, device: Device, batch: Batch, now_s: float, *, failed: bool) -> None:
        self._policy.ended(device, batch, now_s, failed=failed)

    def cancel(self, request_id: int) -> bool:
        return self._policy.cancel(request_id)

    def _allowed(self, device: Device, batch: Batch, now_s: float) -> Batch | Shed:
        """Return the batch if all its requests may run. Otherwise shed those that may not first."""
        why = self._why(now_s)
        barred = tuple(one for one in batch.requests if one.request_id in self._confidential)
        if why is None or not barred:
            return batch
        rest = tuple(one for one in batch.requests if one.request_id not in self._confidential)
        if rest:
            self._rest[device.index] = Batch(batch.model, rest)
        # for the policy they have ended; with a static batch, all of it
        if device.continuous or not rest:
            self._policy.ended(device, Batch(batch.model, barred), now_s, failed=False)
        return self._refuse(barred, why)

    def _why(self, now_s: float) -> str | None:
        """Return why confidential requests may not run now, None if they may."""
        found = attestation_violation(self._devices, now_s)
        return None if found is None else refusal([found])

    def _refuse(self, requests: tuple[Queued, ...], why: str) -> Shed:
        self.refused.update(one.request_id for one in requests)
        return Shed(requests, why)
