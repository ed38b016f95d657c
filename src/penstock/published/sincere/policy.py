"""SINCERE's strategies (Antonio-MI/sincere, commit 285e5b7; arXiv 2505.16501), as their code acts.

Requests gather per model until a threshold, a timer or a poll of the resident model hands all of
them over to a buffer; the threads that do so wait in one line for the only lock, and who holds it
swaps the model in if need be and runs the whole buffer as one batch. Handing over *replaces* what
the buffer still holds: those requests are never answered. ``overwrite=False`` appends instead.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf
from typing import Any, Literal, TypeAlias

from penstock.core.errors import InputError
from penstock.policy.multiplex.build import MultiplexContext
from penstock.policy.multiplex.device import Device
from penstock.policy.multiplex.protocol import Multiplexer
from penstock.policy.multiplex.values import OVERWRITTEN, Action, Batch, Load, Queued, Shed, Wait

OUT_OF_MEMORY = "the device ran out of memory in its batch"
NOT_LOADED = "its model could not be loaded"


@dataclass(frozen=True, slots=True)
class Strategy:
    """Thresholds that are ``fixed`` or selected by the rate of arrivals; whether waiting is bounded
    by a timer; whether the resident model is polled for partial batches."""

    threshold: Literal["fixed", "select"]
    timer: bool = False
    partial: bool = False


STRATEGIES: Mapping[str, Strategy] = {
    "sincere-best-batch": Strategy("fixed"),
    "sincere-best-batch-timer": Strategy("fixed", timer=True),
    "sincere-select-batch-timer": Strategy("select", timer=True),
    "sincere-best-batch-partial-timer": Strategy("fixed", timer=True, partial=True),
    "sincere-best-batch-partial": Strategy("fixed", partial=True),
    "sincere-select-batch": Strategy("select"),
}
"""The four that were published and two that stand in the code but were not run."""


@dataclass(frozen=True, slots=True)
class LoadRow:
    """A model's row of the table that timers look up: mean and standard deviation of loading and
    of unloading it, seconds."""

    load_s: float
    load_std_s: float
    unload_s: float
    unload_std_s: float


@dataclass(frozen=True, slots=True)
class SincereSettings:
    """Settings that the strategies share.

    ``best_batch`` and ``load_table`` have an entry per model. A timer leaves room for a load, an
    unload, ``deviations`` standard deviations of both, and ``completion_s`` of batch. Switches:
    ``overwrite`` (the published race), ``charge_resident`` (timers leave room for a load even if
    the model is resident), ``select_by`` (published: arrivals within what the timer leaves room
    for, in which the SLA cancels out; intended: arrivals within the SLA), ``max_batch``.
    """

    sla_s: float
    best_batch: Sequence[int]
    load_table: Sequence[LoadRow]
    deviations: float = 1.0
    overwrite: bool = True
    charge_resident: bool = True
    select_by: Literal["room", "sla"] = "room"
    max_batch: int | None = None
    completion_s: float = 8.0
    least_timer_s: float = 5.0
    poll_s: float = 0.2
    stay_s: float = 10.0
    sizes: tuple[int, ...] = (8, 16, 32, 64)
    num_gaps: int = 99


_Thread: TypeAlias = Iterator[tuple[float | None, int]]
"""Yields (wake_s, -1) to sleep or (None, model) to stand in line for the lock with a model."""


class _Model:
    """Waiting requests of one model."""

    __slots__ = ("arrivals", "incoming", "limit_s", "running", "timer_s")

    def __init__(self, num_gaps: int) -> None:
        self.incoming: list[Queued] = []
        self.running: list[Queued] = []
        self.timer_s: float | None = None
        self.limit_s: float | None = None
        self.arrivals: deque[float] = deque(maxlen=num_gaps + 1)


def sincere_settings(given: Mapping[str, Any], context: MultiplexContext) -> SincereSettings:
    """The settings of the strategies with what was given.

    Each model's largest batch is taken for its best one, its load without deviation for the table
    of loads, and nothing is overwritten unless that is asked for.
    """
    load_s = context.load_s or [context.loads.load_s(0, model)
                                for model in range(len(context.models))]
    return SincereSettings(**{
        "sla_s": context.sla_s, "overwrite": False,
        "best_batch": [model.max_batch for model in context.models],
        "load_table": [LoadRow(seconds, 0.0, 0.0, 0.0) for seconds in load_s], **given})


def _factory(strategy: Strategy) -> Callable[[Mapping[str, Any], MultiplexContext], Multiplexer]:
    return lambda given, context: Sincere(strategy, sincere_settings(given, context))


FACTORIES: Mapping[str, Callable[[Mapping[str, Any], MultiplexContext], Multiplexer]] = {
    name: _factory(strategy) for name, strategy in STRATEGIES.items()}


class Sincere:
    """One of ``STRATEGIES`` on one device that holds one model at a time."""

    def __init__(self, strategy: Strategy, settings: SincereSettings) -> None:
        if len(settings.best_batch) != len(settings.load_table):
            raise InputError(f"{len(settings.best_batch)} best batches, "
                             f"{len(settings.load_table)} rows of load times: expected one of each "
                             "per model")
        self._strategy = strategy
        self._settings = settings
        self._models = [_Model(settings.num_gaps) for _ in settings.best_batch]
        self._with_timer: list[int] = []
        self._line: deque[tuple[int, _Thread | None]] = deque()
        self._asleep: list[tuple[float, int, _Thread]] = []
        self._held: tuple[int, _Thread | None, list[Queued]] | None = None
        self._resident: int | None = None
        self._resident_since_s = inf
        self._lost: deque[Shed] = deque()
        self._now_s = 0.0
        self._num_slept = 0
        self._cut = False
        if strategy.timer:
            self._sleep(0.0, self._timer_thread())
        if strategy.partial:
            self._sleep(0.0, self._partial_thread())

    @property
    def num_waiting(self) -> int:
        """Requests that gather, stand in a buffer or hold the lock."""
        held = len(self._held[2]) if self._held else 0
        return (held + sum(len(shed.requests) for shed in self._lost)
                + sum(len(one.incoming) + len(one.running) for one in self._models))

    def add(self, request: Queued, now_s: float) -> None:
        self._advance(now_s)
        gathering = self._models[request.model]
        gathering.incoming.append(request)
        gathering.arrivals.append(now_s)
        if self._strategy.timer and gathering.timer_s is None:
            gathering.limit_s = self._limit_s(request.model)
            gathering.timer_s = now_s + gathering.limit_s
            if request.model not in self._with_timer:
                self._with_timer.append(request.model)
        if len(gathering.incoming) >= self._threshold(request.model):
            self._hand_over(request.model)
            self._line.append((request.model, None))

    def next(self, device: Device, now_s: float) -> Action:
        self._advance(now_s)
        if self._lost:
            return self._lost.popleft()
        if device.computing is not None or device.loading is not None:
            return Wait()
        if self._held is None:
            self._take_lock(device)
        if self._held is None:
            return Wait(self._asleep[0][0] if self._asleep and self._may_wake() else inf)
        model, _, requests = self._held
        if model not in device.residents:
            self._resident = None
            return Load(model, tuple(device.residents))
        return Batch(model, tuple(requests))

    def loaded(self, device: Device, model: int, now_s: float, *, failed: bool) -> None:
        self._advance(now_s)
        if failed:
            self._lose(self._held[2] if self._held is not None else (), NOT_LOADED)
        else:
            self._resident, self._resident_since_s = model, now_s

    def prefetched(self, device: Device, model: int, now_s: float) -> None: ...

    def ended(self, device: Device, batch: Batch, now_s: float, *, failed: bool) -> None:
        """A batch that ran out of memory is gone, as it was in SINCERE's runs."""
        self._advance(now_s)
        if failed:
            self._lose(batch.requests, OUT_OF_MEMORY)
            return
        self._release(reset=True)

    def cancel(self, request_id: int) -> bool:
        for one in self._models:
            for requests in (one.incoming, one.running):
                for index, request in enumerate(requests):
                    if request.request_id == request_id:
                        del requests[index]
                        return True
        return False

    # ---- the lock

    def _take_lock(self, device: Device) -> None:
        """The first in line whose buffer holds something gets it; an empty buffer lets go at once,
        and leaves its timer as it is. What neither ``max_batch`` nor the device has room for waits
        for the lock anew."""
        while self._line and self._held is None:
            model, thread = self._line.popleft()
            one = self._models[model]
            room = max(1, device.most_beside(model, ()))
            cap = min(room, self._settings.max_batch or room)
            taken, one.running = one.running[:cap], one.running[cap:]
            self._cut = bool(one.running)
            if taken:
                self._held = (model, thread, taken)
            else:
                self._resume(thread)

    def _release(self, *, reset: bool) -> None:
        if self._held is None:
            return
        model, thread, _ = self._held
        self._held = None
        if reset:
            self._models[model].timer_s = None
        if self._models[model].running and (self._cut or self._settings.max_batch is not None):
            self._line.append((model, None))
        self._resume(thread)

    def _lose(self, requests: Sequence[Queued], why: str) -> None:
        if requests:
            self._lost.append(Shed(tuple(requests), why))
        self._release(reset=True)

    def _hand_over(self, model: int) -> None:
        one = self._models[model]
        if self._settings.overwrite:
            if one.running:
                self._lost.append(Shed(tuple(one.running), OVERWRITTEN))
            one.running = one.incoming
        else:
            one.running += one.incoming
        one.incoming = []

    # ---- threads that poll

    def _timer_thread(self) -> _Thread:
        while True:
            now_s = self._now_s
            for model in tuple(self._with_timer):
                timer_s = self._models[model].timer_s
                if timer_s is not None and now_s >= timer_s:
                    self._hand_over(model)
                    yield None, model
            yield self._now_s + self._settings.poll_s, -1

    def _partial_thread(self) -> _Thread:
        while True:
            if self._partial_due():
                assert self._resident is not None
                one = self._models[self._resident]
                one.running += one.incoming
                one.incoming = []
                yield None, self._resident
            yield self._now_s + self._settings.poll_s, -1

    def _partial_due(self) -> bool:
        """The resident model has stayed long enough and more than a quarter of a batch gathered."""
        model = self._resident
        return (model is not None
                and self._now_s - self._resident_since_s > self._settings.stay_s
                and self._partly_full(model))

    def _partly_full(self, model: int) -> bool:
        return len(self._models[model].incoming) > self._threshold(model) / 4

    def _may_wake(self) -> bool:
        """Whether a thread that sleeps could find anything before the next arrival."""
        for model in self._with_timer:
            one = self._models[model]
            if one.timer_s is not None and (one.incoming or one.running):
                return True
        resident = self._resident
        return self._strategy.partial and resident is not None and self._partly_full(resident)

    def _sleep(self, wake_s: float, thread: _Thread) -> None:
        heappush(self._asleep, (wake_s, self._num_slept, thread))
        self._num_slept += 1

    def _resume(self, thread: _Thread | None) -> None:
        if thread is None:
            return
        wake_s, model = next(thread)
        if wake_s is None:
            self._line.append((model, thread))
        else:
            self._sleep(wake_s, thread)

    def _advance(self, now_s: float) -> None:
        """Let the threads run whose time has come, each at its own."""
        while self._asleep and self._asleep[0][0] <= now_s:
            self._now_s, _, thread = heappop(self._asleep)
            self._resume(thread)
        self._now_s = now_s

    # ---- thresholds and timers

    def _threshold(self, model: int) -> int:
        if self._strategy.threshold == "fixed":
            return self._settings.best_batch[model]
        one, sizes = self._models[model], self._settings.sizes
        if one.limit_s is None:
            return sizes[-1]
        room_s = self._settings.sla_s
        if self._settings.select_by == "room":
            room_s -= one.limit_s
        return nearest(sizes, int(_rate_per_s(one.arrivals) * room_s))

    def _limit_s(self, model: int) -> float:
        """How long the first request may gather others (the published ``adjust``)."""
        settings = self._settings
        own = settings.load_table[model]
        swap_s = own.load_s + settings.deviations * own.load_std_s
        if self._resident is not None:
            other = settings.load_table[self._resident]
            swap_s += other.unload_s + settings.deviations * other.unload_std_s
        if self._resident == model and not settings.charge_resident:
            swap_s = 0.0
        least = settings.least_timer_s
        room_s = max(least, settings.sla_s - (swap_s + settings.completion_s))
        return max(least, room_s / (1.0 + 0.001 * len(self._models[model].incoming)))


def nearest(sizes: Sequence[int], target: int) -> int:
    """The size nearest to a target, the smaller of two; ``sizes`` ascend."""
    place = bisect_left(sizes, target)
    around = sizes[max(0, place - 1):place + 1]
    return min(around, key=lambda size: (abs(size - target), size))


def _rate_per_s(arrivals: Sequence[float]) -> float:
    if len(arrivals) < 2 or arrivals[-1] <= arrivals[0]:
        return 0.0
    return (len(arrivals) - 1) / (arrivals[-1] - arrivals[0])
