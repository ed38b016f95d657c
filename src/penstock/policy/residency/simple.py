"""One model after another: which is next, is all that these policies differ in."""

from collections.abc import Callable, Sequence

from penstock.policy.residency.device import Device
from penstock.policy.residency.evict import Keep, least_recent, victims
from penstock.policy.residency.queues import HOPELESS, Queues, Whereabouts
from penstock.policy.residency.values import (
    Action,
    Batch,
    Drop,
    HostedModel,
    Load,
    Queued,
    Shed,
    Wait,
)

Order = Callable[[Device, Queues, Sequence[int], float], int]
"""Which of the models that somebody waits for is next on a device."""


def longest(device: Device, queues: Queues, models: Sequence[int], _now_s: float) -> int:
    """The longest queue; of equals the resident, then the first."""
    return min(models, key=lambda model: (-len(queues.line(model)),
                                          model not in device.residents, model))


def earliest_deadline(_device: Device, queues: Queues, models: Sequence[int],
                      _now_s: float) -> int:
    """Whose head is due first."""
    return min(models, key=lambda model: (queues.line(model)[0].deadline_s, model))


def first_come(_device: Device, queues: Queues, models: Sequence[int], _now_s: float) -> int:
    """Whose head came first."""
    return min(models, key=lambda model: (queues.line(model)[0].arrival_s, model))


class RoundRobin:
    """Models in a circle, each for ``quantum_s`` of a device from its load on, if others wait."""

    def __init__(self, quantum_s: float) -> None:
        self._quantum_s = quantum_s
        self._turn: dict[int, tuple[int, float]] = {}

    def __call__(self, device: Device, queues: Queues, models: Sequence[int],
                 now_s: float) -> int:
        at, since_s = self._turn.get(device.index, (-1, now_s))
        if at in models and now_s - since_s < self._quantum_s:
            return at
        following = [model for model in models if model > at]
        chosen = following[0] if following else models[0]
        self._turn[device.index] = (chosen, now_s)
        return chosen


class InTurn:
    """The next model by an order is loaded if need be and runs one batch of those due first.

    With ``shed``, who is past the deadline is turned away rather than answered late. A model that
    other devices hold is left to them unless more wait than a batch for each.
    """

    def __init__(self, models: Sequence[HostedModel], order: Order, keep: Keep = least_recent, *,
                 shed: bool = False) -> None:
        self._queues = Queues(models)
        self._order = order
        self._keep = keep
        self._shed = shed
        self._where = Whereabouts()
        self._came_for: dict[int, int] = {}  # what a device loaded runs before anything else

    @property
    def num_waiting(self) -> int:
        return len(self._queues)

    def add(self, request: Queued, now_s: float) -> None:
        self._queues.add(request)

    def next(self, device: Device, now_s: float) -> Action:
        self._where.see(device)
        gone = self._queues.given_up() or self._late(now_s)
        if gone is not None:
            return gone
        if device.computing is not None or device.loading is not None:
            return Wait()
        models = sorted(model for model in self._queues.waiting(now_s)
                        if self._wanted(device, model))
        if not models:
            return Wait(self._queues.retry_s(now_s))
        model = self._came_for.pop(device.index, -1)
        if model not in models or model not in device.residents:
            model = self._order(device, self._queues, models, now_s)
        return self._serve(device, model, now_s)

    def loaded(self, device: Device, model: int, now_s: float, *, failed: bool) -> None:
        self._came_for[device.index] = model
        self._queues.loaded(model, now_s, failed=failed)

    def prefetched(self, device: Device, model: int, now_s: float) -> None: ...

    def ended(self, device: Device, batch: Batch, now_s: float, *, failed: bool) -> None:
        self._queues.ended(batch, failed=failed)

    def cancel(self, request_id: int) -> bool:
        return self._queues.cancel(request_id)

    def _serve(self, device: Device, model: int, now_s: float) -> Action:
        if model in device.residents:
            num = min(device.room(model), self._queues.most(model))
            if num > 0:
                return Batch(model, self._queues.take(model, 0, num))
            others = [other for other in device.idle if other != model]
            return Drop((min(others, key=lambda one: self._keep(device, one, now_s)),)) \
                if others else Wait()
        evict = victims(device, model, now_s, self._keep, device.models[model].request_bytes)
        return Wait() if evict is None else Load(model, evict)

    def _wanted(self, device: Device, model: int) -> bool:
        if model in device.residents:
            return True
        others = self._where.elsewhere(device, model)
        return len(self._queues.line(model)) > others * self._queues.most(model)

    def _late(self, now_s: float) -> Shed | None:
        if self._shed:
            for model in range(len(self._queues.models)):
                if num := self._queues.late(model, now_s):
                    return Shed(self._queues.take(model, 0, num), HOPELESS)
        return None
