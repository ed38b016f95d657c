"""Sequential multiplexing policies, which differ only in the order of models."""

from collections.abc import Callable, Sequence

from penstock.policy.multiplex.device import Device
from penstock.policy.multiplex.drains import Drains, share
from penstock.policy.multiplex.evict import Keep, crowded, least_recent, leavers, victims
from penstock.policy.multiplex.queues import INFEASIBLE, ModelLocations, Queues
from penstock.policy.multiplex.values import (
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
"""Function that picks the next model of a device among those with waiting requests."""


def longest(device: Device, queues: Queues, models: Sequence[int], _now_s: float) -> int:
    """The longest queue; of equals the resident, then the first."""
    return min(models, key=lambda model: (-len(queues.line(model)),
                                          model not in device.residents, model))


def earliest_deadline(_device: Device, queues: Queues, models: Sequence[int],
                      _now_s: float) -> int:
    """Pick the model whose first request is due first."""
    return min(models, key=lambda model: (queues.line(model)[0].deadline_s, model))


def first_come(_device: Device, queues: Queues, models: Sequence[int], _now_s: float) -> int:
    """Pick the model whose first request arrived first."""
    return min(models, key=lambda model: (queues.line(model)[0].arrival_s, model))


class RoundRobin:
    """Cycles through the models. Each has a device for ``quantum_s`` from its load on, if others
    wait."""

    def __init__(self, quantum_s: float) -> None:
        self._quantum_s = quantum_s
        self._current: dict[int, tuple[int, float]] = {}

    def __call__(self, device: Device, queues: Queues, models: Sequence[int],
                 now_s: float) -> int:
        at, since_s = self._current.get(device.index, (-1, now_s))
        if at in models and now_s - since_s < self._quantum_s:
            return at
        following = [model for model in models if model > at]
        chosen = following[0] if following else models[0]
        self._current[device.index] = (chosen, now_s)
        return chosen


class Sequential:
    """Loads the next model by an order if necessary, and runs one batch of its earliest deadlines.

    With continuous batching, requests join any resident with room; if the next model is not
    resident, others drain until they can be dropped for it. With ``shed``, requests past their
    deadline are shed instead of answered late. A model that other devices hold is left to them
    unless more requests wait than one batch for each.
    """

    def __init__(self, models: Sequence[HostedModel], order: Order, keep: Keep = least_recent, *,
                 shed: bool = False) -> None:
        self._queues = Queues(models)
        self._order = order
        self._keep = keep
        self._shed = shed
        self._where = ModelLocations()
        self._came_for: dict[int, int] = {}  # by device, the loaded model that must run next
        self._drains = Drains()

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
        if device.computing is not None or (device.loading is not None
                                            and not device.continuous):
            return Wait()
        models = self._wanted(device, now_s)
        if device.continuous:
            self._drains.review(device, models)
        if not models:
            return Wait(self._queues.retry_s(now_s))
        model = self._next_model(device, models, now_s)
        if device.continuous:
            return (self._make_way(device, model, now_s)
                    or self._join(device, [model, *models], now_s)
                    or Wait(self._queues.retry_s(now_s)))
        return self._serve(device, model, now_s)

    def loaded(self, device: Device, model: int, now_s: float, *, failed: bool) -> None:
        self._came_for[device.index] = model
        self._queues.loaded(model, now_s, failed=failed)

    def prefetched(self, device: Device, model: int, now_s: float) -> None: ...

    def ended(self, device: Device, batch: Batch, now_s: float, *, failed: bool) -> None:
        self._queues.ended(batch, failed=failed)

    def cancel(self, request_id: int) -> bool:
        return self._queues.cancel(request_id)

    def _next_model(self, device: Device, models: Sequence[int], now_s: float) -> int:
        """Pick the next model: a loaded model runs before another one is loaded."""
        model = self._came_for.pop(device.index, -1)
        if model in models and model in device.residents:
            return model
        return self._order(device, self._queues, models, now_s)

    def _serve(self, device: Device, model: int, now_s: float) -> Action:
        if model in device.residents:
            num = min(device.room(model), self._queues.most(model))
            if num > 0:
                return Batch(model, self._queues.take(model, 0, num))
            other = crowded(device, model, now_s, self._keep)
            return Wait() if other is None else Drop((other,))
        evict = victims(device, model, now_s, self._keep, device.models[model].request_bytes)
        return Wait() if evict is None else Load(model, evict)

    def _make_way(self, device: Device, model: int, now_s: float) -> Load | None:
        """Load the next model, or drain residents for it."""
        target = self._drains.target(device)
        model = model if target is None else target
        if device.loading is not None or model in device.residents:
            return None
        spare = device.models[model].request_bytes
        evict = victims(device, model, now_s, self._keep, spare)
        if evict is not None:
            self._drains.end(device)
            return Load(model, evict)
        if target is None and (leaving := leavers(device, model, now_s, self._keep, spare)):
            self._drains.begin(device, model, leaving)
        return None

    def _join(self, device: Device, models: Sequence[int], now_s: float) -> Batch | Drop | None:
        for model in models:
            if model not in device.residents or model in self._drains.leaving(device):
                continue
            if (other := crowded(device, model, now_s, self._keep)) is not None:
                return Drop((other,))
            if self._drains.takes(device, model):
                num = min(device.room(model), self._queues.most(model), share(
                    device, model, len(self._queues.line(model)), self._where.devices,
                    self._drains.takes))
                if num > 0:
                    return Batch(model, self._queues.take(model, 0, num))
        return None

    def _wanted(self, device: Device, now_s: float) -> list[int]:
        """Return models with waiting requests, by number: residents, and models for which more
        requests wait than the other devices that hold them can start at once."""
        held, queues = self._where.counts(), self._queues
        return sorted(model for model in queues.waiting(now_s) if model in device.residents or (
            len(queues.line(model)) > (held.get(model, 0) - (device.loading == model))
            * queues.most(model)))

    def _late(self, now_s: float) -> Shed | None:
        if self._shed:
            for model in range(len(self._queues.models)):
                if num := self._queues.late(model, now_s):
                    return Shed(self._queues.take(model, 0, num), INFEASIBLE)
        return None
