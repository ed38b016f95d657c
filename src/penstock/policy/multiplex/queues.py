"""Waiting requests by model in order of deadline, and models that cannot be loaded now."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Mapping, Sequence
from math import inf

from penstock.policy.multiplex.device import Device
from penstock.policy.multiplex.values import Batch, HostedModel, Queued, Shed

OUT_OF_MEMORY = "its batch of one ran out of memory on the device"
NOT_LOADED = "its model could not be loaded"
INFEASIBLE = "too late: its answer could no longer be there before its deadline"

MOST_FAILURES = 3
RETRY_S = 5.0


def _due(request: Queued) -> tuple[float, int]:
    return request.deadline_s, request.request_id


class Queues:
    """A queue per model in order of deadline, and the effects of failed loads and batches.

    A model whose load fails is tried again after a pause that doubles. After ``MOST_FAILURES``
    consecutive failures all requests that wait for it are shed, and later arrivals cause a new try.
    A batch that runs out of memory returns to the queue, and batches of its model are limited to
    half its size from then on.
    """

    def __init__(self, models: Sequence[HostedModel]) -> None:
        self.models = models
        self._lines: list[list[Queued]] = [[] for _ in models]
        self._model_of: dict[int, Queued] = {}
        self._most = [model.max_batch for model in models]
        self._failures = [0] * len(models)
        self._retry_s = [0.0] * len(models)
        self._failed: set[int] = set()
        self._given_up: list[Shed] = []
        self._active: dict[int, None] = {}
        self._long: set[int] = set()  # at least the models for which more wait than one batch takes

    def __len__(self) -> int:
        return len(self._model_of) + sum(len(shed.requests) for shed in self._given_up)

    def waiting(self, now_s: float) -> list[int]:
        """Return the models with waiting requests that may be tried."""
        if not self._failed:
            return list(self._active)
        return [model for model in self._active if self._retry_s[model] <= now_s]

    def any_waits(self, models: Iterable[int]) -> bool:
        """Whether requests wait for one of these models."""
        return not self._active.keys().isdisjoint(models)

    def absent(self, held: Mapping[int, int], now_s: float) -> list[int]:
        """Return models that may be tried and for which more requests wait than the devices that
        hold them can start at once. ``held`` is the number of devices that hold each model."""
        found = list(self._active.keys() - held.keys())
        if self._long:
            self._long = {model for model in self._long
                          if len(self._lines[model]) > self._most[model]}
            found += [model for model in self._long if model in held
                      and len(self._lines[model]) > held[model] * self._most[model]]
        if self._failed:
            found = [model for model in found if self._retry_s[model] <= now_s]
        return found

    def may_be_had(self, model: int, now_s: float) -> bool:
        """Whether requests wait for a model that may be tried."""
        return model in self._active and self._retry_s[model] <= now_s

    def may_be_tried(self, model: int, now_s: float) -> bool:
        """Whether a model may be loaded: it is not in the pause after a failed load."""
        return self._retry_s[model] <= now_s

    def line(self, model: int) -> Sequence[Queued]:
        """Return the requests that wait for a model, the earliest deadline first."""
        return self._lines[model]

    def most(self, model: int) -> int:
        """Return the largest batch of a model that is not known to exceed memory."""
        return self._most[model]

    def retry_s(self, now_s: float) -> float:
        """Return when the next model with waiting requests may be tried again."""
        if not self._failed:
            return inf
        return min((self._retry_s[model] for model in self._failed
                    if model in self._active and self._retry_s[model] > now_s), default=inf)

    def add(self, request: Queued) -> None:
        """Add a waiting request."""
        line = self._lines[request.model]
        insort(line, request, key=_due)
        if len(line) > self._most[request.model]:
            self._long.add(request.model)
        self._active[request.model] = None
        self._model_of[request.request_id] = request

    def take(self, model: int, first: int, num: int) -> tuple[Queued, ...]:
        """Remove and return ``num`` waiting requests of a model from place ``first`` on."""
        line = self._lines[model]
        taken = tuple(line[first:first + num])
        del line[first:first + num]
        for request in taken:
            del self._model_of[request.request_id]
        if not line:
            self._active.pop(model, None)
        return taken

    def late(self, model: int, by_s: float) -> int:
        """Return how many requests of a queue would be late with an answer at that time."""
        line = self._lines[model]
        if not line or line[0].deadline_s > by_s:
            return 0
        return bisect_right(line, by_s, key=lambda request: request.deadline_s)

    def cancel(self, request_id: int) -> bool:
        """Remove a waiting request. Returns False where it does not wait."""
        request = self._model_of.pop(request_id, None)
        if request is None:
            return False
        line = self._lines[request.model]
        del line[bisect_left(line, _due(request), key=_due)]
        if not line:
            del self._active[request.model]
        return True

    @property
    def may_have_news(self) -> bool:
        """Whether requests must be shed or a model may be tried again, which is rare."""
        return bool(self._given_up or self._failed)

    def given_up(self) -> Shed | None:
        """Return and remove the requests to shed because their model cannot be loaded."""
        return self._given_up.pop() if self._given_up else None

    def loaded(self, model: int, now_s: float, *, failed: bool) -> None:
        """A load has ended."""
        if not failed:
            self._failures[model], self._retry_s[model] = 0, 0.0
            self._failed.discard(model)
            return
        self._failed.add(model)
        self._failures[model] += 1
        self._retry_s[model] = now_s + RETRY_S * 2.0 ** (self._failures[model] - 1)
        if self._failures[model] >= MOST_FAILURES:
            everyone = self.take(model, 0, len(self._lines[model]))
            self._failures[model] = 0
            if everyone:
                self._given_up.append(Shed(everyone, NOT_LOADED))

    def ended(self, batch: Batch, *, failed: bool) -> None:
        """A batch has ended; it ran out of memory if it failed."""
        if not failed:
            return
        num = len(batch.requests)
        if num == 1:
            self._given_up.append(Shed(batch.requests, OUT_OF_MEMORY))
            return
        self._most[batch.model] = max(1, min(self._most[batch.model], num // 2))
        for request in batch.requests:
            self.add(request)


class ModelLocations:
    """The devices that hold or load each model, among the devices that the policy was asked
    about."""

    def __init__(self) -> None:
        self._devices: dict[int, Device] = {}
        self._counts: dict[int, int] = {}
        self._held: dict[int, list[int]] = {}  # by device, as counted
        self._counted: dict[int, int] = {}  # changes of each device when that was

    def __len__(self) -> int:
        return len(self._devices)

    def see(self, device: Device) -> None:
        """Add a device that the policy was asked about."""
        if self._devices.get(device.index) is not device:
            self._devices[device.index] = device
            self._counted[device.index] = -1

    @property
    def devices(self) -> list[Device]:
        """Return the known devices."""
        return list(self._devices.values())

    def counts(self) -> dict[int, int]:
        """Return how many devices hold or load each model, without models on no device. Callers
        must not change the result."""
        for index, device in self._devices.items():
            if device.num_changes != self._counted[index]:
                self._count(device)
        return self._counts

    def _count(self, device: Device) -> None:
        counts = self._counts
        for model in self._held.get(device.index, ()):
            if counts[model] == 1:
                del counts[model]
            else:
                counts[model] -= 1
        held = list(device.residents)
        if device.loading is not None:
            held.append(device.loading)
        for model in held:
            counts[model] = counts.get(model, 0) + 1
        self._held[device.index], self._counted[device.index] = held, device.num_changes
