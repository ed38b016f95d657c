"""What visits to models are worth: answers in time per second, loads counted, as believed."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from penstock.policy.residency.beliefs import Correction, LoadBelief
from penstock.policy.residency.device import Device
from penstock.policy.residency.options import ResidencyOptions
from penstock.policy.residency.queues import Queues
from penstock.policy.residency.values import BatchTime, HostedModel, Queued
from penstock.policy.residency.visits import Pace, Visit, outlook, visits


class Choice(NamedTuple):
    """A model and the visit to it that is worth most."""

    model: int
    visit: Visit
    worth: float


class Worth:
    """Judges models by who waits in ``queues``, by the pace at which they are asked for, and by
    what loads and batches take: as believed, corrected by what they took.

    What bounds a visit's worth, and what batches take with a margin, is kept until something
    changes it: with many models nearly all are ruled out by their bound.
    """

    def __init__(self, models: Sequence[HostedModel], loads: LoadBelief, queues: Queues,
                 options: ResidencyOptions) -> None:
        self._models = models
        self._loads = loads
        self._queues = queues
        self._options = options
        self._paces = [Pace() for _ in models]
        self._batch_off = Correction(len(models))
        self._load_off = Correction(len(models))
        self._most_of = [(0, 1e-9, 0.0)] * len(models)
        self._carefuls = [self._with_margin(model) for model in range(len(models))]

    # ---- what is believed

    def batch(self, model: int) -> BatchTime:
        """What batches of a model take."""
        return self._batch_off.scaled(model, self._models[model].batch)

    def careful(self, model: int) -> BatchTime:
        """The same with a margin."""
        return self._carefuls[model]

    def load_s(self, device: Device, model: int) -> float:
        """What a load that begins now takes."""
        return self.corrected(model, self._loads.load_s(device.index, model))

    def corrected(self, model: int, load_s: float) -> float:
        """A load's seconds by what loads of that model took."""
        return load_s * self._load_off.factor(model)

    def keep(self, device: Device, model: int, now_s: float) -> float:
        """Requests that would wait for a model to be loaded again, per byte that it holds."""
        return (self._paces[model].rate_per_s(now_s) * self.load_s(device, model)
                / (self._models[model].size_bytes + 1))

    # ---- what is learnt

    def arrived(self, request: Queued, now_s: float) -> None:
        """One more waits."""
        self._paces[request.model].arrived(request, now_s)
        self.refresh(request.model, now_s)

    def load_took(self, device: Device, model: int, believed_s: float, seconds: float,
                  now_s: float) -> None:
        """A load is over, which was believed to take ``believed_s`` without any correction."""
        self._load_off.observe(model, believed_s, seconds)
        # After a device's first load, which may take longer, all may be shorter.
        for one in (model,) if device.num_loads > 1 else range(len(self._models)):
            self.refresh(one, now_s)

    def batch_took(self, model: int, believed_s: float, seconds: float, now_s: float) -> None:
        """A batch is over, or requests that had joined one. Nothing is learnt from 0 s."""
        self._batch_off.observe(model, believed_s, seconds)
        self._carefuls[model] = self._with_margin(model)
        self.refresh(model, now_s)

    def doubt(self, model: int, now_s: float) -> None:
        """Even whoever had just come was too late: perhaps beliefs are wrong."""
        self._load_off.doubt(model, now_s)
        self._batch_off.doubt(model, now_s)
        self._carefuls[model] = self._with_margin(model)
        self.refresh(model, now_s)

    def refresh(self, model: int, now_s: float) -> None:
        """What a visit to a model could bring at most and would take at least, until more arrive or
        loads become shorter."""
        num = len(self._queues.line(model)) + int(
            self._paces[model].rate_per_s(now_s) * self._options.horizon_s)
        self._most_of[model] = (num, max(self._carefuls[model].seconds(num), 1e-9),
                                self.corrected(model, self._loads.load_s(0, model)))

    def _with_margin(self, model: int) -> BatchTime:
        batch, margin = self.batch(model), 1.0 + self._options.margin
        return BatchTime(batch.fixed_s * margin, batch.per_request_s * margin)

    # ---- what is worth most

    def best(self, device: Device, models: Sequence[int], now_s: float,
             free_s: float) -> Choice | None:
        """Of these models, the one whose visit answers most in time per second from ``free_s``,
        when the device is free; loads may begin now."""
        bounds = sorted(self._bounds(device, models, free_s - now_s))
        best: Choice | None = None
        for bound, model in bounds:
            if best is not None and -bound <= best.worth:
                break
            start_s = self.start_s(device, model, now_s, free_s)
            most = self.most(device, model)
            ahead = outlook(self._queues.line(model), now_s, self._paces[model],
                            self._options.horizon_s, most * self._options.max_batches)
            for visit in visits(ahead, start_s, self._carefuls[model], most,
                                self._options.max_batches):
                worth = visit.rate(free_s)
                if best is None or worth > best.worth:
                    best = Choice(model, visit, worth)
        return best

    def resident(self, device: Device, model: int, now_s: float) -> float:
        """Answers in time per second of those who wait for a resident."""
        own = self.best(device, [model], now_s, now_s) if self._queues.line(model) else None
        return 0.0 if own is None else own.worth

    def start_s(self, device: Device, model: int, now_s: float, free_s: float) -> float:
        """When a model's first batch could begin on a device that is free at ``free_s``."""
        if model in device.residents:
            return free_s
        return max(free_s, now_s + self.load_s(device, model))

    def most(self, device: Device, model: int) -> int:
        """The largest batch that there is room for, now if the model is resident and idle."""
        now = (model in device.residents and device.computing is None
               and not device.continuous)
        room = device.room(model) if now else device.most_beside(model, ())
        return max(1, min(room, self._queues.most(model)))

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
