"""Penstock's multiplexing policy: visit the model that answers most requests in time per second,
including its load; load and prefetch while computing; shed at once requests that are too late in
any case.
"""

from collections import Counter
from collections.abc import Sequence
from math import inf

from penstock.policy.multiplex.beliefs import LoadBelief
from penstock.policy.multiplex.device import Device
from penstock.policy.multiplex.evict import crowded, sparing, victims
from penstock.policy.multiplex.fairness import Floor
from penstock.policy.multiplex.infeasible import InfeasibleRequests
from penstock.policy.multiplex.joining import Joining, Moves
from penstock.policy.multiplex.options import USUAL, MultiplexOptions
from penstock.policy.multiplex.queues import ModelLocations, Queues
from penstock.policy.multiplex.values import (
    Action,
    Batch,
    Drop,
    HostedModel,
    Load,
    Prefetch,
    Queued,
    Wait,
)
from penstock.policy.multiplex.visits import Visit
from penstock.policy.multiplex.worth import Choice, Worth

_BUSY = Wait(arrivals=False)
_MOST_LOADS = 2  # of a model on a device at one instant
_TOLD_S = 0.25  # longest delay of shedding while nothing else happens


class ValueRate:
    """Serves ``models`` on any number of devices. ``loads`` are believed load times."""

    def __init__(self, models: Sequence[HostedModel], loads: LoadBelief,
                 options: MultiplexOptions = USUAL) -> None:
        self._models = models
        self._loads = loads
        self._options = options
        self._queues = Queues(models)
        self._where = ModelLocations()
        self._floor = Floor(models)
        self._worth = Worth(models, loads, self._queues, options)
        self._infeasible = InfeasibleRequests(len(models), self._queues, self._where, loads,
                                              self._worth)
        self._loading: dict[int, tuple[float, float]] = {}
        self._instant: dict[int, tuple[float, Counter[int]]] = {}
        """Per device, an instant and the loads by model that took no time then."""
        self._computing: dict[int, tuple[float, float]] = {}
        self._looked_ahead: set[int] = set()
        self._joining = Joining(models, self._queues, self._where, self._floor, self._worth,
                                Moves(self._next_absent, self._load, self._read_ahead))

    @property
    def num_waiting(self) -> int:
        return len(self._queues)

    def add(self, request: Queued, now_s: float) -> None:
        self._queues.add(request)
        self._worth.arrived(request, now_s)
        if self._queues.line(request.model)[0] is request:
            self._watch(request.model)

    def cancel(self, request_id: int) -> bool:
        return self._queues.cancel(request_id)

    def next(self, device: Device, now_s: float) -> Action:
        self._where.see(device)
        if device.computing is not None and device.index in self._looked_ahead:
            return _BUSY
        look_s = self._infeasible.next_s
        if look_s <= now_s or self._queues.may_have_news:
            gone = self._queues.given_up() or self._infeasible.find(device, now_s)
            if gone is not None:
                return gone
            look_s = self._infeasible.next_s
        if (device.loading is not None and not device.continuous
                and not self._queues.any_waits(device.residents)):
            # During a load, only residents can be served and infeasible requests shed.
            until_s = min(self._queues.retry_s(now_s), max(look_s, now_s + _TOLD_S))
            return Wait(until_s, device.computing is None and tuple(device.residents))
        if self._floor.any:
            self._floor.pass_time(self._queues.waiting(now_s), now_s, len(self._where))
        if device.continuous:
            return (self._joining.next(device, self._queues.waiting(now_s), now_s)
                    or self._wait(device, now_s))
        action = self._serve(device, now_s) if device.computing is None else None
        action = action or self._prepare(device, now_s)
        if action is not None:
            return action
        if device.computing is not None:
            self._looked_ahead.add(device.index)
        return self._wait(device, now_s)

    def _wait(self, device: Device, now_s: float) -> Wait:
        until_s = self._queues.retry_s(now_s) if self._queues.may_have_news else inf
        if device.loading is None and len(device.idle) == len(device.residents):
            # No event will come from here, but infeasible requests must still be shed in time.
            until_s = min(until_s, max(self._infeasible.next_s, now_s + _TOLD_S))
        return Wait(until_s, arrivals=device.computing is None)

    def _watch(self, model: int) -> None:
        if self._options.shed:
            self._infeasible.watch(model)

    def loaded(self, device: Device, model: int, now_s: float, *, failed: bool) -> None:
        self._looked_ahead.discard(device.index)
        since_s, believed_s = self._loading.pop(device.index)
        if since_s == now_s:
            self._loads_now(device, now_s)[model] += 1
        if not failed:
            self._loads.loaded(device.index, model)
            self._worth.load_took(device, model, believed_s, now_s - since_s, now_s)
        self._queues.loaded(model, now_s, failed=failed)

    def prefetched(self, device: Device, model: int, now_s: float) -> None:
        self._looked_ahead.discard(device.index)
        self._loads.prefetched(model)
        self._worth.refresh(model, now_s)

    def ended(self, device: Device, batch: Batch, now_s: float, *, failed: bool) -> None:
        self._looked_ahead.discard(device.index)
        since_s, _ = self._computing.pop(device.index, (now_s, now_s))
        self._queues.ended(batch, failed=failed)
        if device.continuous:
            self._joining.ended(device, batch, now_s)
        elif not failed:
            believed_s = self._models[batch.model].batch.seconds(len(batch.requests))
            self._worth.batch_took(batch.model, believed_s, now_s - since_s, now_s)
        else:
            self._worth.refresh(batch.model, now_s)
            if self._queues.line(batch.model):
                self._watch(batch.model)  # requests of the batch wait again

    # ---- idle devices

    def _serve(self, device: Device, now_s: float) -> Action | None:
        """Return a batch of a resident, or a load."""
        residents = [one for one in device.residents if self._queues.may_be_had(one, now_s)]
        choice, _ = self._choose(device, residents, now_s, loads=device.loading is None)
        if choice is None:
            return None
        model, visit, _ = choice
        if model not in device.residents:
            return self._load(device, model, now_s)
        if (other := crowded(device, model, now_s, self._worth.keep)) is not None:
            return Drop((other,))
        if device.room(model) < 1:
            return None
        believed_s = self._worth.batch(model).seconds(visit.num)
        self._computing[device.index] = (now_s, now_s + believed_s)
        self._floor.pay(model, believed_s)
        return Batch(model, self._queues.take(model, visit.first, visit.num))

    def _choose(self, device: Device, residents: Sequence[int], now_s: float, *,
                loads: bool) -> tuple[Choice | None, bool]:
        """Return the next visit, to a resident or, if ``loads``, to a model to load, and whether a
        floor claims the visit."""
        models = [*residents, *self._absent(device, now_s)] if loads else residents
        if (claimed := self._claimed(device, models, now_s)) is not None:
            return claimed, True
        return (self._worth.best(device, models, now_s, now_s)
                or self._late(device, models, now_s)), False

    def _claimed(self, device: Device, models: Sequence[int], now_s: float) -> Choice | None:
        """Return the best visit among models whose minimum share covers a visit of one batch."""
        if not self._floor.any:
            return None
        worth = self._worth
        claims = [model for model in models if self._floor.covers(model, (
            worth.start_s(device, model, now_s, now_s) - now_s
            + worth.batch(model).seconds(min(worth.most(device, model),
                                             len(self._queues.line(model))))))]
        return worth.best(device, claims, now_s, now_s) if claims else None

    def _late(self, device: Device, models: Sequence[int], now_s: float) -> Choice | None:
        """Return a batch of late requests, for a policy that sheds none, when no other batch is
        left."""
        if self._options.shed or not models:
            return None
        model = max(models, key=lambda one: (one in device.residents, len(self._queues.line(one)),
                                             -one))
        num = min(self._worth.most(device, model), len(self._queues.line(model)))
        start_s = self._worth.start_s(device, model, now_s, now_s)
        end_s = start_s + self._worth.batch(model).seconds(num)
        return Choice(model, Visit(end_s, 0, 0, num), 0.0)

    def _next_absent(self, device: Device, now_s: float) -> tuple[Choice | None, bool]:
        """Return the model to load next under continuous batching, and whether it is chosen by
        minimum share."""
        return self._choose(device, (), now_s, loads=True)

    def _absent(self, device: Device, now_s: float) -> list[int]:
        """Return models that a device does not hold and for which more requests wait than the
        devices that hold them can start at once."""
        absent = [model for model in self._queues.absent(self._where.counts(), now_s)
                  if model not in device.residents]
        if device.index not in self._instant:
            return absent
        loads = self._loads_now(device, now_s)
        return [model for model in absent if loads[model] < _MOST_LOADS]

    def _loads_now(self, device: Device, now_s: float) -> "Counter[int]":
        """Return how often each model was loaded at this instant, by loads that took no time.

        A model is worth less once it shares the device with others than its load promised, so two
        models could displace each other for ever before time passes.
        """
        instant_s, loads = self._instant.get(device.index, (-inf, None))
        if loads is None or instant_s != now_s:
            loads = Counter()
            self._instant[device.index] = (now_s, loads)
        return loads

    # ---- loads and prefetches during compute

    def _prepare(self, device: Device, now_s: float) -> Action | None:
        """Load the next model during compute if memory allows, or prefetch it."""
        if device.loading is not None:
            return None
        _, free_s = self._computing.get(device.index, (now_s, now_s))
        free_s = max(now_s, free_s)  # a batch may outlast its believed end
        choice = self._worth.best(device, self._absent(device, now_s), now_s, free_s)
        if choice is None:
            return None
        if device.computing is not None:
            spared = [one for one in device.idle if self._queues.may_be_had(one, now_s)
                      and self._worth.reaches(device, one, choice.worth, now_s, free_s)]
            if (load := self._load(device, choice.model, now_s, spared)) is not None:
                return load
        if (ahead := self._read_ahead(device, choice.model)) is not None:
            self._looked_ahead.add(device.index)
        return ahead

    def _load(self, device: Device, model: int, now_s: float,
              spared: Sequence[int] = ()) -> Load | None:
        evict = victims(device, model, now_s, sparing(spared, self._worth.keep),
                        device.models[model].request_bytes)
        if evict is None or any(one in spared for one in evict):
            return None
        believed_s = self._loads.load_s(device.index, model)
        self._loading[device.index] = (now_s, believed_s)
        self._floor.pay(model, believed_s)
        return Load(model, evict)

    def _read_ahead(self, device: Device, model: int) -> Prefetch | None:
        if (self._options.prefetch and device.prefetching is None
                and self._loads.prefetch_s(model) > 0.0):
            return Prefetch(model)
        return None
