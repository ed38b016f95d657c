"""Value of visits to models: believed answers in time per second, including loads."""

from collections.abc import Iterable, Sequence
from math import inf
from typing import NamedTuple

from penstock.policy.keep import reload_wait
from penstock.policy.multiplex.beliefs import Correction, LoadBelief
from penstock.policy.multiplex.device import Device
from penstock.policy.multiplex.options import MultiplexOptions
from penstock.policy.multiplex.queues import Queues
from penstock.policy.multiplex.values import BatchTime, HostedModel, Queued
from penstock.policy.multiplex.visits import Pace, Visit, expected_deadlines, visits

_ROUNDED = 1.0 + 1e-9  # a bound and the worth below it are not rounded alike


class Choice(NamedTuple):
    """A model and its most valuable visit."""

    model: int
    visit: Visit
    worth: float


class _Line:
    """Terms that bound the value of a visit to a model: waiting and expected requests, their rate,
    the durations of a batch and of a load."""

    __slots__ = ("fixed_s", "load_s", "most", "per_request_s", "rate_per_s", "waiting")

    def __init__(self) -> None:
        self.waiting = 0
        self.most = 0
        self.rate_per_s = 0.0
        self.fixed_s = 0.0
        self.per_request_s = 0.0
        self.load_s = 0.0

    def at_most(self, ahead_s: float, *, resident: bool) -> float:
        """Return an upper bound of answers per second of any visit, where ``ahead_s`` pass before
        it counts.

        n answers take at least a load and a batch of n. The last expected request arrives after (n
        - waiting) / rate, and at least a batch of one follows. The first bound grows with n, so the
        result is where the two bounds meet, or at all expected requests where the second bound
        grows with n, too.
        """
        load_s = 0.0 if resident or self.load_s < ahead_s else self.load_s - ahead_s
        num = float(self.most)
        least_s = 0.0
        if num > self.waiting:
            first_s = self.fixed_s + self.per_request_s - ahead_s
            gap_s = 1.0 / self.rate_per_s
            if first_s >= self.waiting * gap_s:
                least_s = (num - self.waiting) * gap_s + first_s
            elif gap_s > self.per_request_s:
                meet = (load_s + ahead_s + self.waiting * gap_s - self.per_request_s) / (
                    gap_s - self.per_request_s)
                num = min(num, max(float(self.waiting), meet))
        seconds = load_s + self.fixed_s + num * self.per_request_s
        if seconds < least_s:
            seconds = least_s
        return num / seconds if seconds > 1e-9 else num / 1e-9


class Worth:
    """Values models by their waiting requests in ``queues``, their arrival rates, and the believed
    durations of loads and batches, corrected by measured ones.

    What bounds a visit's worth, and what batches take, is kept until something changes it: with
    many models nearly all are ruled out by their bound.
    """

    def __init__(self, models: Sequence[HostedModel], loads: LoadBelief, queues: Queues,
                 options: MultiplexOptions) -> None:
        self._models = models
        self._loads = loads
        self._queues = queues
        self._options = options
        self._paces = [Pace() for _ in models]
        self._batch_off = Correction(len(models))
        self._load_off = Correction(len(models))
        self._batches = [model.batch for model in models]
        self._carefuls = [self._with_margin(model) for model in range(len(models))]
        self._lines = [_Line() for _ in models]
        self._absent_bounds = [(0.0, model) for model in range(len(models))]
        """Negative bounds on the value of a visit that begins with a load, each with its model."""
        self._soonest_s = inf  # no load and batch of one took less

    # ---- beliefs

    def batch(self, model: int) -> BatchTime:
        """Return the believed batch time of a model."""
        return self._batches[model]

    def careful(self, model: int) -> BatchTime:
        """Return the believed batch time with a margin."""
        return self._carefuls[model]

    def load_s(self, device: Device, model: int) -> float:
        """Return the believed duration of a load that begins now."""
        return self.corrected(model, self._loads.load_s(device.index, model))

    def corrected(self, model: int, load_s: float) -> float:
        """Return a load time corrected by measured loads of that model."""
        return load_s * self._load_off.factor(model)

    def keep(self, device: Device, model: int, now_s: float) -> float:
        """Return the requests that would wait for a reload of a model, per byte that it holds."""
        return reload_wait(self._paces[model].rate_per_s(now_s), self.load_s(device, model),
                           self._models[model].size_bytes + 1)

    # ---- learning

    def arrived(self, request: Queued, now_s: float) -> None:
        """Record an arrival."""
        self._paces[request.model].arrived(request, now_s)
        self.refresh(request.model, now_s)

    def load_took(self, device: Device, model: int, believed_s: float, seconds: float,
                  now_s: float) -> None:
        """Learn from a load that has ended; ``believed_s`` is without correction."""
        self._load_off.observe(model, believed_s, seconds)
        # A device's first load may take longer; later loads may all be shorter.
        for one in (model,) if device.num_loads > 1 else range(len(self._models)):
            self.refresh(one, now_s)

    def batch_took(self, model: int, believed_s: float, seconds: float, now_s: float) -> None:
        """Learn from a batch, or joined requests, that ended. 0 s is ignored."""
        self._batch_off.observe(model, believed_s, seconds)
        self._correct(model, now_s)

    def doubt(self, model: int, now_s: float) -> None:
        """Even a request that had just arrived was too late, so the belief may be wrong."""
        self._load_off.doubt(model, now_s)
        self._batch_off.doubt(model, now_s)
        self._correct(model, now_s)

    def refresh(self, model: int, now_s: float) -> None:
        """Return the terms that bound a model's value until more requests arrive or loads become
        shorter."""
        batch, line = self._carefuls[model], self._lines[model]
        line.rate_per_s = self._paces[model].rate_per_s(now_s)
        line.waiting = len(self._queues.line(model))
        line.most = line.waiting + int(line.rate_per_s * self._options.horizon_s)
        line.fixed_s, line.per_request_s = batch.fixed_s, batch.per_request_s
        line.load_s = self.corrected(model, self._loads.load_s(0, model))
        soonest_s = line.load_s + line.fixed_s + line.per_request_s
        if soonest_s < self._soonest_s:
            self._soonest_s = soonest_s
        self._absent_bounds[model] = -line.at_most(0.0, resident=False), model

    def _correct(self, model: int, now_s: float) -> None:
        """Update cached values after a change of a model's believed batch time."""
        self._batches[model] = self._batch_off.scaled(model, self._models[model].batch)
        self._carefuls[model] = self._with_margin(model)
        self.refresh(model, now_s)

    def _with_margin(self, model: int) -> BatchTime:
        batch, margin = self.batch(model), 1.0 + self._options.margin
        return BatchTime(batch.fixed_s * margin, batch.per_request_s * margin)

    # ---- the best visit

    def best(self, device: Device, models: Iterable[int], now_s: float,
             free_s: float) -> Choice | None:
        """Return the model whose visit answers most in time per second from ``free_s``, when the
        device is free; loads may begin now. A resident is judged from now on (``reaches`` judges
        residents from later on)."""
        absent = self._absent_bounds
        order = [(-self.at_most(device, model, 0.0), model) if model in device.residents
                 else absent[model] for model in models]
        if len(order) > 1:
            order.sort()
        first: Choice | None = None
        if free_s > now_s and order:
            first = self._visit(device, order[0][1], now_s, free_s)
            order = self._raised(order, device, free_s - now_s, first.worth if first else 0.0)
        best: Choice | None = None
        for bound, model in order:
            if best is not None and -bound <= best.worth:
                break
            choice = first if first is not None and first.model == model else self._visit(
                device, model, now_s, free_s)
            if choice is not None and (best is None or choice.worth > best.worth):
                best = choice
        return best

    def _raised(self, order: Sequence[tuple[float, int]], device: Device, ahead_s: float,
                least: float) -> list[tuple[float, int]]:
        """The order by bounds of which ``ahead_s`` of a load do not count, without the models that
        cannot be worth ``least``. Visits become shorter by ``ahead_s`` at most, and none is shorter
        than the soonest: that limits how far a bound can rise."""
        left_s = self._soonest_s - ahead_s
        rise = _ROUNDED * self._soonest_s / left_s if left_s > 0.0 else inf
        found = []
        for bound, model in order:
            if -bound * rise < least:
                break
            at_most = self.at_most(device, model, ahead_s)
            if at_most * _ROUNDED >= least:
                found.append((-at_most, model))
        found.sort()
        return found

    def at_most(self, device: Device, model: int, ahead_s: float) -> float:
        """Return an upper bound of answers per second of any visit, where ``ahead_s`` of a load
        overlap with other compute."""
        return self._lines[model].at_most(ahead_s, resident=model in device.residents)

    def _visit(self, device: Device, model: int, now_s: float, free_s: float) -> Choice | None:
        """Return the best visit to a model, None where no request would be in time."""
        start_s = self.start_s(device, model, now_s, free_s)
        most = self.most(device, model)
        ahead = expected_deadlines(self._queues.line(model), now_s, self._paces[model],
                                   self._options.horizon_s, most * self._options.max_batches)
        best: Visit | None = None
        best_worth = 0.0
        for visit in visits(ahead, start_s, self._carefuls[model], most,
                            self._options.max_batches):
            worth = visit.rate(free_s)
            if best is None or worth > best_worth:
                best, best_worth = visit, worth
        return None if best is None else Choice(model, best, best_worth)

    def reaches(self, device: Device, model: int, worth: float, now_s: float,
                free_s: float) -> bool:
        """Whether a visit to a resident has at least this value."""
        if self.at_most(device, model, free_s - now_s) * _ROUNDED < worth:
            return False
        own = self._visit(device, model, now_s, free_s)
        return own is not None and own.worth >= worth

    def resident(self, device: Device, model: int, now_s: float) -> float:
        """Return the answers in time per second of the requests that wait for a resident."""
        own = self.best(device, [model], now_s, now_s) if self._queues.line(model) else None
        return 0.0 if own is None else own.worth

    def start_s(self, device: Device, model: int, now_s: float, free_s: float) -> float:
        """Return when a model's first batch could begin on a device that is free at ``free_s``."""
        if model in device.residents:
            return free_s
        return max(free_s, now_s + self.load_s(device, model))

    def most(self, device: Device, model: int) -> int:
        """Return the largest batch with room on the device: as it is now, if the model is resident
        and idle."""
        now = (model in device.residents and device.computing is None
               and not device.continuous)
        room = device.room(model) if now else device.most_beside(model, ())
        return max(1, min(room, self._queues.most(model)))
