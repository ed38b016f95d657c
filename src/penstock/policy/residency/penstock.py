"""Penstock's residency policy: go where a visit answers most requests in time per second, loads
counted; load and read ahead beside compute; turn away at once who is too late whatever is done.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf

from penstock.core.errors import InputError
from penstock.policy.residency.beliefs import Correction, LoadBelief
from penstock.policy.residency.device import Device
from penstock.policy.residency.evict import crowded, sparing, victims
from penstock.policy.residency.fairness import Floor
from penstock.policy.residency.joining import Choice, Joining, Judgement
from penstock.policy.residency.queues import HOPELESS, Checks, Queues, Whereabouts
from penstock.policy.residency.values import (
    Action,
    Batch,
    BatchTime,
    Drop,
    HostedModel,
    Load,
    Prefetch,
    Queued,
    Shed,
    Wait,
)
from penstock.policy.residency.visits import Pace, Visit, outlook, visits

_BUSY = Wait(arrivals=False)
_TOLD_S = 0.25  # how much later who is too late may be told so, while nothing else happens
_LOOK_S = 1.0  # until a line is looked at again whose model may be evicted, or tried again
_SOON_S = 1e-3  # rounding must not make it be looked at again at the same moment


@dataclass(frozen=True, slots=True)
class ResidencyOptions:
    """``max_batches``: how many batches of a visit are looked at. ``horizon_s``: for how long
    arrivals are expected to go on, in what a visit would bring. ``margin``: what batches are taken
    to last beyond belief, as a share, before a deadline. ``shed``: whether the hopeless are turned
    away. ``prefetch``: whether models are read ahead into the host's memory."""

    max_batches: int = 8
    horizon_s: float = 30.0
    margin: float = 0.05
    shed: bool = True
    prefetch: bool = True

    def __post_init__(self) -> None:
        if self.max_batches < 1 or self.horizon_s < 0.0 or self.margin < 0.0:
            raise InputError(f"max_batches {self.max_batches}, horizon_s {self.horizon_s:g}, "
                             f"margin {self.margin:g}: expected at least 1, 0 and 0")


class ValueRate:
    """Serves ``models`` on any number of devices. ``loads`` is what loads are believed to take."""

    def __init__(self, models: Sequence[HostedModel], loads: LoadBelief,
                 options: ResidencyOptions = ResidencyOptions()) -> None:
        self._models = models
        self._loads = loads
        self._options = options
        self._queues = Queues(models)
        self._where = Whereabouts()
        self._paces = [Pace() for _ in models]
        self._floor = Floor(models)
        self._batch_off = Correction(len(models))
        self._load_off = Correction(len(models))
        self._most_of = [(0, 1e-9, 0.0)] * len(models)
        self._carefuls = [self._careful(model) for model in range(len(models))]
        self._loading: dict[int, tuple[float, float]] = {}
        self._computing: dict[int, float] = {}
        self._looked_ahead: set[int] = set()
        self._checks = Checks(len(models))
        self._longest_s = [0.0] * len(models)
        self._joining = Joining(models, self._queues, self._where, self._floor, self._batch_off,
                                Judgement(self._careful, self._best_absent, self._best_resident,
                                          self._load, self._read_ahead, self._keep))

    @property
    def num_waiting(self) -> int:
        return len(self._queues)

    def add(self, request: Queued, now_s: float) -> None:
        self._queues.add(request)
        self._paces[request.model].arrived(request, now_s)
        self._refresh(request.model, now_s)
        if self._queues.line(request.model)[0] is request:
            self._check(request.model)

    def cancel(self, request_id: int) -> bool:
        return self._queues.cancel(request_id)

    def next(self, device: Device, now_s: float) -> Action:
        self._where.see(device)
        if device.computing is not None and device.index in self._looked_ahead:
            return _BUSY
        if self._queues.may_have_news or self._checks.next_s <= now_s:
            gone = self._queues.given_up() or self._hopeless(device, now_s)
            if gone is not None:
                return gone
        if (device.loading is not None and not device.continuous
                and not any(map(self._queues.line, device.residents))):
            # Beside a load only residents can be served, and the hopeless be told so.
            until_s = min(self._queues.retry_s(now_s), max(self._checks.next_s, now_s + _TOLD_S))
            return Wait(until_s, device.computing is None and tuple(device.residents))
        waiting = self._queues.waiting(now_s)
        self._floor.pass_time(waiting, now_s, len(self._where))
        if device.continuous:
            return self._joining.next(device, waiting, now_s) or self._wait(device, now_s)
        action = self._serve(device, waiting, now_s) if device.computing is None else None
        action = action or self._prepare(device, waiting, now_s)
        if action is not None:
            return action
        if device.computing is not None:
            self._looked_ahead.add(device.index)
        return self._wait(device, now_s)

    def _wait(self, device: Device, now_s: float) -> Wait:
        until_s = self._queues.retry_s(now_s) if self._queues.may_have_news else inf
        if device.loading is None and len(device.idle) == len(device.residents):
            # Nothing here will end; whoever cannot be served has to be told in time all the same.
            until_s = min(until_s, max(self._checks.next_s, now_s + _TOLD_S))
        return Wait(until_s, arrivals=device.computing is None)

    def loaded(self, device: Device, model: int, now_s: float, *, failed: bool) -> None:
        self._looked_ahead.discard(device.index)
        since_s, believed_s = self._loading.pop(device.index)
        if not failed:
            self._load_off.observe(model, believed_s, now_s - since_s)
            self._loads.loaded(device.index, model)
            # After a device's first load, which may take longer, all may be shorter.
            for one in (model,) if device.num_loads > 1 else range(len(self._models)):
                self._refresh(one, now_s)
        self._queues.loaded(model, now_s, failed=failed)

    def prefetched(self, device: Device, model: int, now_s: float) -> None:
        self._looked_ahead.discard(device.index)
        self._loads.prefetched(model)
        self._refresh(model, now_s)

    def ended(self, device: Device, batch: Batch, now_s: float, *, failed: bool) -> None:
        self._looked_ahead.discard(device.index)
        since_s = self._computing.pop(device.index, now_s)
        if device.continuous:
            self._joining.ended(device, batch, now_s)
        elif not failed:
            believed_s = self._models[batch.model].batch.seconds(len(batch.requests))
            self._batch_off.observe(batch.model, believed_s, now_s - since_s)
        self._queues.ended(batch, failed=failed)
        self._carefuls[batch.model] = self._careful(batch.model)
        self._refresh(batch.model, now_s)
        if failed and self._queues.line(batch.model):
            self._check(batch.model)  # those of the batch wait again

    # ---- what is worth most

    def _serve(self, device: Device, waiting: Sequence[int], now_s: float) -> Action | None:
        """What an idle device does: a batch of a resident, or a load."""
        models = [model for model in waiting if model in device.residents]
        if device.loading is None:
            models += self._absent(device, waiting)
        choice = (self._claimed(device, models, now_s) or self._best(device, models, now_s, now_s)
                  or self._late(device, models, now_s))
        if choice is None:
            return None
        model, visit, _ = choice
        if model not in device.residents:
            return self._load(device, model, now_s)
        if (other := crowded(device, model, now_s, self._keep)) is not None:
            return Drop((other,))
        if device.room(model) < 1:
            return None
        self._computing[device.index] = now_s
        self._floor.pay(model, self._batch(model).seconds(visit.num))
        return Batch(model, self._queues.take(model, visit.first, visit.num))

    def _prepare(self, device: Device, waiting: Sequence[int], now_s: float) -> Action | None:
        """What is done beside compute: the next model is loaded if memory allows, or read ahead."""
        if device.loading is not None:
            return None
        free_s = device.computing_until_s if device.computing is not None else now_s
        choice = self._best(device, self._absent(device, waiting), now_s, max(now_s, free_s))
        if choice is None:
            return None
        least = [model for model in waiting if model in device.residents
                 and (own := self._best(device, [model], now_s, max(now_s, free_s)))
                 and own.worth >= choice.worth]
        if device.computing is not None and (
                load := self._load(device, choice.model, now_s, spared=least)) is not None:
            return load
        if (ahead := self._read_ahead(device, choice.model)) is not None:
            self._looked_ahead.add(device.index)
        return ahead

    def _read_ahead(self, device: Device, model: int) -> Prefetch | None:
        if (self._options.prefetch and device.prefetching is None
                and self._loads.prefetch_s(model) > 0.0):
            return Prefetch(model)
        return None

    def _claimed(self, device: Device, models: Sequence[int], now_s: float) -> Choice | None:
        """The best visit among models whose floor pays for a visit of one batch."""
        if not self._floor.any:
            return None
        claims = [model for model in models if self._floor.covers(model, (
            self._start_s(device, model, now_s, now_s) - now_s
            + self._batch(model).seconds(min(self._most(device, model),
                                             len(self._queues.line(model))))))]
        return self._best(device, claims, now_s, now_s) if claims else None

    def _late(self, device: Device, models: Sequence[int], now_s: float) -> Choice | None:
        """Where nobody is shed, those whose deadline has passed are answered when no other is."""
        if self._options.shed or not models:
            return None
        model = max(models, key=lambda one: (one in device.residents, len(self._queues.line(one)),
                                             -one))
        num = min(self._most(device, model), len(self._queues.line(model)))
        start_s = self._start_s(device, model, now_s, now_s)
        return Choice(model, Visit(start_s + self._batch(model).seconds(num), 0, 0, num), 0.0)

    def _best(self, device: Device, models: Sequence[int], now_s: float,
              free_s: float) -> Choice | None:
        """Of these models, the one whose visit answers most in time per second from ``free_s``,
        when the device is free; loads may begin now."""
        bounds = sorted(self._bounds(device, models, free_s - now_s))
        best: Choice | None = None
        for bound, model in bounds:
            if best is not None and -bound <= best.worth:
                break
            start_s = self._start_s(device, model, now_s, free_s)
            most = self._most(device, model)
            ahead = outlook(self._queues.line(model), now_s, self._paces[model],
                            self._options.horizon_s, most * self._options.max_batches)
            for visit in visits(ahead, start_s, self._carefuls[model], most,
                                self._options.max_batches):
                worth = visit.rate(free_s)
                if best is None or worth > best.worth:
                    best = Choice(model, visit, worth)
        return best

    def _best_absent(self, device: Device, waiting: Sequence[int],
                     now_s: float) -> tuple[Choice | None, bool]:
        """Continuous batching: what to load next, and whether its floor claims it."""
        absent = self._absent(device, waiting)
        claimed = self._claimed(device, absent, now_s)
        return (claimed or self._best(device, absent, now_s, now_s)
                or self._late(device, absent, now_s)), claimed is not None

    def _best_resident(self, device: Device, model: int, now_s: float) -> float:
        """Continuous batching: answers in time per second of those who wait for a resident."""
        own = self._best(device, [model], now_s, now_s) if self._queues.line(model) else None
        return 0.0 if own is None else own.worth

    def _bounds(self, device: Device, models: Sequence[int],
                ahead_s: float) -> Iterator[tuple[float, int]]:
        """The negative of what no visit to each model can be worth more than: all who wait and are
        expected, at once. ``ahead_s`` of a load pass while the device computes something else."""
        residents = device.residents
        for model in models:
            num, batch_s, load_s = self._most_of[model]
            if model not in residents and load_s > ahead_s:
                batch_s += load_s - ahead_s
            yield -num / batch_s, model

    def _refresh(self, model: int, now_s: float) -> None:
        """What a visit to a model could bring at most and would take at least, until more arrive or
        loads become shorter."""
        num = len(self._queues.line(model)) + int(
            self._paces[model].rate_per_s(now_s) * self._options.horizon_s)
        self._most_of[model] = (num, max(self._carefuls[model].seconds(num), 1e-9),
                                self._loads.load_s(0, model) * self._load_off.factor(model))

    def _start_s(self, device: Device, model: int, now_s: float, free_s: float) -> float:
        if model in device.residents:
            return free_s
        return max(free_s, now_s + self._load_seconds(device, model))

    def _most(self, device: Device, model: int) -> int:
        now = (model in device.residents and device.computing is None
               and not device.continuous)
        room = device.room(model) if now else device.most_beside(model, ())
        return max(1, min(room, self._queues.most(model)))

    def _absent(self, device: Device, waiting: Sequence[int]) -> list[int]:
        """Models that a device does not hold and for which more wait than those that hold them take
        at once."""
        held, queues = self._where.counts(), self._queues
        return [model for model in waiting if model not in device.residents and (
            model not in held or len(queues.line(model)) > held[model] * queues.most(model))]

    # ---- loads, and who is too late

    def _load(self, device: Device, model: int, now_s: float,
              spared: Sequence[int] = ()) -> Load | None:
        evict = victims(device, model, now_s, sparing(spared, self._keep),
                        device.models[model].request_bytes)
        if evict is None or any(one in spared for one in evict):
            return None
        believed_s = self._loads.load_s(device.index, model)
        self._loading[device.index] = (now_s, believed_s)
        self._floor.pay(model, believed_s)
        return Load(model, evict)

    def _keep(self, device: Device, model: int, now_s: float) -> float:
        """Requests that would wait for a model to be loaded again, per byte that it holds."""
        return (self._paces[model].rate_per_s(now_s) * self._load_seconds(device, model)
                / (self._models[model].size_bytes + 1))

    def _hopeless(self, device: Device, now_s: float) -> Shed | None:
        """The first who are found to be too late, of the models that are due to be looked at."""
        while (model := self._checks.due(now_s)) is not None:
            if not self._queues.line(model):
                continue
            if not self._queues.may_be_tried(model, now_s):
                self._checks.at(model, now_s + _LOOK_S)
                continue
            held = model in self._where.counts()
            start_s = now_s + (0.0 if held else self._load_seconds(device, model))
            least_s = self._batch(model).seconds(1)
            if late := self._queues.late(model, start_s + least_s):
                self._checks.at(model, now_s)
                first = self._queues.line(model)[0]
                if first.deadline_s - first.arrival_s <= start_s - now_s + least_s:
                    self._doubt(model, now_s)
                return Shed(self._queues.take(model, 0, late), HOPELESS)
            ends_s = self._queues.line(model)[0].deadline_s - (start_s - now_s) - least_s
            # Who is held may be evicted at any time, which costs a load.
            self._checks.at(model, max(now_s + _SOON_S,
                                       min(ends_s, now_s + _LOOK_S) if held else ends_s))
        return None

    def _doubt(self, model: int, now_s: float) -> None:
        """Even whoever had just come was too late: perhaps beliefs are wrong."""
        self._load_off.doubt(model, now_s)
        self._batch_off.doubt(model, now_s)
        self._carefuls[model] = self._careful(model)
        self._refresh(model, now_s)

    def _check(self, model: int) -> None:
        """Look at a line before its head can be too late, were the model to be loaded."""
        if self._options.shed:
            load_s = self._longest_s[model] = max(self._longest_s[model],
                                                  self._loads.load_s(0, model))
            needed_s = load_s * self._load_off.factor(model) + self._batch(model).seconds(1)
            self._checks.at(model, self._queues.line(model)[0].deadline_s - needed_s)

    def _load_seconds(self, device: Device, model: int) -> float:
        return self._loads.load_s(device.index, model) * self._load_off.factor(model)

    def _batch(self, model: int) -> BatchTime:
        return self._batch_off.scaled(model, self._models[model].batch)

    def _careful(self, model: int) -> BatchTime:
        batch, margin = self._batch(model), 1.0 + self._options.margin
        return BatchTime(batch.fixed_s * margin, batch.per_request_s * margin)
