"""One model after another: which is next, is all that these policies differ in."""

from collections.abc import Callable, Sequence

from penstock.policy.multiplex.device import Device
from penstock.policy.multiplex.drains import Drains, share
from penstock.policy.multiplex.evict import Keep, crowded, least_recent, leavers, victims
from penstock.policy.multiplex.queues import HOPELESS, ModelLocations, Queues
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

    With continuous batching requests join any resident that has room; if the next model is not
    resident, others take no more requests until they can be dropped for it. With ``shed``, who is
    past the deadline is turned away rather than answered late. A model that other devices hold is
    left to them unless more wait than a batch for each.
    """

    def __init__(self, models: Sequence[HostedModel], order: Order, keep: Keep = least_recent, *,
                 shed: bool = False) -> None:
        self._queues = Queues(models)
        self._order = order
        self._keep = keep
        self._shed = shed
        self._where = ModelLocations()
        self._came_for: dict[int, int] = {}  # what a device loaded runs before anything else
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
        turn = self._turn(device, models, now_s)
        if device.continuous:
            return (self._make_way(device, turn, now_s)
                    or self._join(device, [turn, *models], now_s)
                    or Wait(self._queues.retry_s(now_s)))
        return self._serve(device, turn, now_s)

    def loaded(self, device: Device, model: int, now_s: float, *, failed: bool) -> None:
        self._came_for[device.index] = model
        self._queues.loaded(model, now_s, failed=failed)

    def prefetched(self, device: Device, model: int, now_s: float) -> None: ...

    def ended(self, device: Device, batch: Batch, now_s: float, *, failed: bool) -> None:
        self._queues.ended(batch, failed=failed)

    def cancel(self, request_id: int) -> bool:
        return self._queues.cancel(request_id)

    def _turn(self, device: Device, models: Sequence[int], now_s: float) -> int:
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

    def _make_way(self, device: Device, turn: int, now_s: float) -> Load | None:
        """Load the model whose turn it is, or let residents run out for it."""
        target = self._drains.target(device)
        model = turn if target is None else target
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
        """Models that somebody waits for, by number: residents, and those for which more wait than
        the other devices that hold them take at once."""
        held, queues = self._where.counts(), self._queues
        return sorted(model for model in queues.waiting(now_s) if model in device.residents or (
            len(queues.line(model)) > (held.get(model, 0) - (device.loading == model))
            * queues.most(model)))

    def _late(self, now_s: float) -> Shed | None:
        if self._shed:
            for model in range(len(self._queues.models)):
                if num := self._queues.late(model, now_s):
                    return Shed(self._queues.take(model, 0, num), HOPELESS)
        return None
