"""Penstock's multiplexing policy under continuous batching: which requests join which resident, and
which residents drain for which model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from penstock.core.value import made_again
from penstock.policy.multiplex.device import Device
from penstock.policy.multiplex.drains import Drains, share
from penstock.policy.multiplex.evict import crowded, leavers, sparing
from penstock.policy.multiplex.fairness import Floor
from penstock.policy.multiplex.queues import ModelLocations, Queues
from penstock.policy.multiplex.values import (
    Action,
    Batch,
    BatchTime,
    Drop,
    HostedModel,
    Load,
    Prefetch,
)
from penstock.policy.multiplex.visits import ExpectedDeadlines, first_batch
from penstock.policy.multiplex.worth import Choice, Worth

_MOST_LOOKED_AT = 8  # requests of a queue that are considered, as a multiple of those that may join


@dataclass(frozen=True, slots=True)
class Moves:
    """Actions of the policy other than batches. ``next_absent`` chooses among waiting models that
    are not resident, and says whether the choice is by minimum share. ``load`` loads a model
    without evicting protected residents, if others make room. ``read_ahead`` reads a model into
    host memory."""

    next_absent: Callable[[Device, float], tuple[Choice | None, bool]]
    load: Callable[[Device, int, float, Sequence[int]], Load | None]
    read_ahead: Callable[[Device, int], Prefetch | None]

    def __reduce__(self) -> tuple[Any, ...]:
        return made_again(self)


class Joining:
    """Requests join residents with room in order of deadline, as long as they are in time among all
    requests that then run. A model that would answer more requests per second than residents do
    makes them drain."""

    def __init__(self, models: Sequence[HostedModel], queues: Queues, where: ModelLocations,
                 floor: Floor, worth: Worth, moves: Moves) -> None:
        self._models = models
        self._queues = queues
        self._where = where
        self._floor = floor
        self._worth = worth
        self._moves = moves
        self._drains = Drains()
        self._joined: dict[int, tuple[float, float]] = {}
        self._looked: set[int] = set()  # devices where a request must end before the next check

    def next(self, device: Device, waiting: Sequence[int], now_s: float) -> Action | None:
        """Return the next action of a device while requests wait for these models."""
        self._drains.review(device, waiting)
        return self._join(device, waiting, now_s) or self._make_way(device, now_s)

    def ended(self, device: Device, batch: Batch, now_s: float) -> None:
        """Learn from the durations of joined requests that have ended."""
        self._looked.discard(device.index)
        joined = [self._joined.pop(request.request_id) for request in batch.requests]
        self._worth.batch_took(batch.model, sum(believed_s for _, believed_s in joined),
                               sum(now_s - since_s for since_s, _ in joined), now_s)

    # ---- joining residents

    def _join(self, device: Device, waiting: Sequence[int], now_s: float) -> Batch | Drop | None:
        """Return requests for a resident that accepts them, for the resident with the earliest
        deadline first."""
        leaving = self._drains.leaving(device)
        heads = sorted((self._queues.line(model)[0].deadline_s, model) for model in waiting
                       if model in device.residents and model not in leaving)
        for _, model in heads:
            if (other := crowded(device, model, now_s, self._worth.keep)) is not None:
                return Drop((other,))
            if not self._drains.takes(device, model):
                continue
            most = min(device.room(model), self._queues.most(model), share(
                device, model, len(self._queues.line(model)), self._where.devices,
                self._drains.takes))
            if most > 0 and (batch := self._those_in_time(device, model, most, now_s)):
                return batch
        return None

    def _those_in_time(self, device: Device, model: int, most: int, now_s: float) -> Batch | None:
        """Return at most ``most`` requests that would be in time among all requests that then run
        on the device. On an idle device, return those with the earliest deadline."""
        beside = self._among(device, model, self._worth.careful)
        line = self._queues.line(model)[:most * _MOST_LOOKED_AT]
        ahead = ExpectedDeadlines([request.deadline_s for request in line], [now_s] * len(line))
        first, num = first_batch(ahead, 0, now_s, beside, most)
        if num < 1:
            if any(one.num_running for one in device.residents.values()):
                return None
            first, num = 0, 1
        requests = self._queues.take(model, first, num)
        self._floor.pay(model, beside.per_request_s * num)
        believed_s = self._among(device, model, lambda one: self._models[one].batch).seconds(num)
        for request in requests:
            self._joined[request.request_id] = now_s, believed_s
        return Batch(model, requests)

    def _among(self, device: Device, model: int, time: Callable[[int], BatchTime]) -> BatchTime:
        """Return the duration of requests that join a resident, from the batch times of each model:
        running requests make every step longer, and the other residents' steps interleave."""
        own = time(model)
        between_s = sum(time(other).seconds(one.num_running)
                        for other, one in device.residents.items()
                        if other != model and one.num_running)
        return BatchTime(own.seconds(device.residents[model].num_running) + between_s,
                         own.per_request_s)

    # ---- the next model

    def _make_way(self, device: Device, now_s: float) -> Action | None:
        """Load the most valuable model, or drain residents for it."""
        if device.loading is not None:
            return None
        model = self._drains.target(device)
        if model is not None:
            return self._follow(device, model, now_s)
        if device.index in self._looked:
            return None
        choice, claimed = self._moves.next_absent(device, now_s)
        if choice is None:
            return None
        spared = [] if claimed else [one for one in device.residents
                                     if 0.0 < self._stay(device, one, now_s) >= choice.worth]
        return (self._moves.load(device, choice.model, now_s, spared)
                or self._empty(device, choice.model, spared, now_s))

    def _follow(self, device: Device, model: int, now_s: float) -> Action | None:
        """Load the model of a drain as soon as the residents are idle."""
        leaving = self._drains.leaving(device)
        others = [one for one in device.residents if one not in leaving]
        load = self._moves.load(device, model, now_s, others)
        if load is None:
            return self._moves.read_ahead(device, model)
        self._drains.end(device)
        return load

    def _stay(self, device: Device, model: int, now_s: float) -> float:
        """Return a resident's answers in time per second: of its waiting requests, or its running
        requests divided by their residence time (Little's law), which is the arrival rate if no
        request waits."""
        running = device.residents[model].num_running
        flow = running / self._worth.careful(model).seconds(running) if running else 0.0
        return max(flow, self._worth.resident(device, model, now_s))

    def _empty(self, device: Device, model: int, spared: Sequence[int],
               now_s: float) -> Action | None:
        """Drain residents so that a model can have their memory. If more valuable residents would
        have to drain, only read the model ahead."""
        leaving = leavers(device, model, now_s, sparing(spared, self._worth.keep),
                          device.models[model].request_bytes)
        if leaving is None or any(one in spared for one in leaving):
            if len(device.idle) < len(device.residents):
                self._looked.add(device.index)
        else:
            self._drains.begin(device, model, leaving)
        return self._moves.read_ahead(device, model)
