"""Serving models in turn on one device as a linear program over slots of time.

It relaxes every schedule: each row below holds for whatever a device can do, so the best value is
at least the number of requests that any policy answers in time. What is relaxed: the order within
a slot; whole batches and loads (parts of several schedules may be mixed); that a batch ends for all
at once. Per model and slot there are

    compute    share of the slot in which the model's batches have the device
    loading    share in which it is loaded; of a longer load the last of the least seconds
    resident   whether it is there when the slot ends
    loads, batches, served    how many so far; a batch that is partly over counts in parts

and per cohort how many are served in time. Loads, batches and requests are kept as sums so far:
rows over many slots are then short.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, inf

from penstock.plan.assign.highs import Program
from penstock.policy.multiplex.values import BatchTime, HostedModel
from support.multiplex_bound.cohorts import Cohort
from support.multiplex_bound.values import DeviceLimits

Terms = list[tuple[int, float]]


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model that may be served: its requests, the least seconds of a load, its largest batch."""

    model: HostedModel
    cohorts: Sequence[Cohort]
    load_s: float
    largest: int


@dataclass(frozen=True, slots=True)
class _Columns:
    """Columns of a model, one per slot. ``served`` counts in largest batches."""

    compute: Sequence[int]
    loading: Sequence[int]
    resident: Sequence[int]
    loads: Sequence[int]
    batches: Sequence[int]
    served: Sequence[int]


class SlotProgram:
    """The program; ``in_time`` has the column of each cohort with its weight in requests."""

    def __init__(self, num_slots: int, slot_s: float, limits: DeviceLimits,
                 models: Sequence[ServedModel], num_residents: int) -> None:
        self.program = Program()
        self.in_time: Terms = []
        self._num_slots = num_slots
        self._slot_s = slot_s
        columns = [self._model(one, limits.after) for one in models]
        for slot in range(num_slots):
            self._share(columns, slot, alone=num_residents == 1)
            self._hold(columns, models, slot, limits, num_residents)

    def _model(self, one: ServedModel, after: BatchTime) -> _Columns:
        num_requests = sum(cohort.num for cohort in one.cohorts)
        fixed_s = one.model.batch.fixed_s + after.fixed_s
        own = _Columns(self._columns(1.0), self._columns(1.0), self._columns(1.0),
                       self._columns(float(num_requests)), self._columns(float(num_requests)),
                       self._columns(num_requests / one.largest))
        each_s = (one.model.batch.per_request_s + after.per_request_s) * one.largest
        for slot in range(self._num_slots):
            for so_far in (own.loads, own.batches, own.served):
                self._at_least(_change(so_far, slot))
            self._at_least([(own.batches[slot], 1.0), (own.served[slot], -1.0)])
            self._at_least([(own.compute[slot], self._slot_s),
                            *_change(own.batches, slot, -fixed_s),
                            *_change(own.served, slot, -each_s)])
            there = [*_before(own.resident, slot), *_change(own.loads, slot)]
            self._at_least([(own.compute[slot], -1.0), *there])
            self._at_least([(own.resident[slot], -1.0), *there])
        self._loads(one, own)
        self._cohorts(one, own)
        return own

    def _loads(self, one: ServedModel, own: _Columns) -> None:
        """Loads that are over took their time, and none was loaded long before it was over."""
        spent = self._columns(self._num_slots * 1.0)
        lead = ceil(one.load_s / self._slot_s + 1e-9)
        for slot in range(self._num_slots):
            self.program.row(0.0, [*_change(spent, slot), (own.loading[slot], -1.0)], 0.0)
            self._at_least([(spent[slot], self._slot_s), (own.loads[slot], -one.load_s)])
            if slot + lead < self._num_slots:
                self._at_least([(spent[slot], -self._slot_s), (own.loads[slot + lead], one.load_s)])

    def _cohorts(self, one: ServedModel, own: _Columns) -> None:
        """Constrain served requests: they have arrived and are not late, their model is resident,
        and a batch begins in their time."""
        arrived: dict[int, Terms] = defaultdict(list)
        due: dict[int, Terms] = defaultdict(list)
        last = self._num_slots - 1
        for cohort in one.cohorts:
            part = cohort.num / one.largest
            column = self.program.column(0.0, part, integer=False)
            self.in_time.append((column, float(one.largest)))
            arrived[cohort.arrive].append((column, 1.0))
            due[min(cohort.done, last)].append((column, 1.0))
            before = cohort.arrive - 1
            self._at_least([(column, -1.0 / part), *_before(own.resident, cohort.arrive),
                            *_between(own.loads, before, min(cohort.ready, last))])
            self._at_least([(column, -1.0 / part),
                            *_between(own.batches, before, min(cohort.begun, last))])
        self._so_far(arrived, own.served, -1.0)
        self._so_far(due, own.served, 1.0)

    def _so_far(self, by_slot: dict[int, Terms], served: Sequence[int], sign: float) -> None:
        """Cohorts up to a slot are at least (sign -1) or at most (1) those served by then."""
        most = self.program.upper[served[0]]
        before: Terms = []
        for slot in range(self._num_slots):
            if slot in by_slot:
                total = self.program.column(0.0, most, integer=False)
                self.program.row(0.0, [(total, -1.0), *by_slot[slot], *before], 0.0)
                before = [(total, 1.0)]
            elif sign > 0.0:
                continue
            self._at_least([(served[slot], sign), *((total, -sign) for total, _ in before)])

    def _share(self, columns: Sequence[_Columns], slot: int, *, alone: bool) -> None:
        """One batch and one load at a time; not both where only one model has room."""
        compute = [(own.compute[slot], 1.0) for own in columns]
        loading = [(own.loading[slot], 1.0) for own in columns]
        for together in [[*compute, *loading]] if alone else [compute, loading]:
            self.program.row(-inf, together, 1.0)

    def _hold(self, columns: Sequence[_Columns], models: Sequence[ServedModel], slot: int,
              limits: DeviceLimits, num_residents: int) -> None:
        """Constrain residents and loads at the end of a slot, by number and by memory. A load that
        ends within its least time from then on is in progress."""
        number: Terms = []
        memory: Terms = []
        for one, own in zip(models, columns, strict=True):
            until = min(slot + floor(one.load_s / self._slot_s - 1e-9), self._num_slots - 1)
            held = [(own.resident[slot], 1.0)]
            if until > slot:
                held += _between(own.loads, slot, until)
            number += held
            size = one.model.size_bytes / max(1, limits.memory_bytes)
            memory += [(column, size * value) for column, value in held if size]
        self.program.row(-inf, number, float(num_residents))
        if num_residents > 1 and memory:
            self.program.row(-inf, memory, 1.0)

    def _columns(self, upper: float) -> list[int]:
        return [self.program.column(0.0, upper, integer=False) for _ in range(self._num_slots)]

    def _at_least(self, terms: Terms) -> None:
        self.program.row(0.0, terms, inf)


def _before(column: Sequence[int], slot: int) -> Terms:
    """Return the state at the end of the slot before; zero before the first slot."""
    return [(column[slot - 1], 1.0)] if slot else []


def _change(so_far: Sequence[int], slot: int, factor: float = 1.0) -> Terms:
    """Return the addition of a slot."""
    return [(so_far[slot], factor)] + ([(so_far[slot - 1], -factor)] if slot else [])


def _between(so_far: Sequence[int], after: int, until: int) -> Terms:
    """Return the additions of the slots after ``after`` (may be -1) up to another slot."""
    return [(so_far[until], 1.0)] + ([(so_far[after], -1.0)] if after >= 0 else [])
