"""Requests that cannot be answered in time in any order of work."""

from heapq import heappop, heappush
from math import inf

from penstock.policy.multiplex.beliefs import LoadBelief
from penstock.policy.multiplex.device import Device
from penstock.policy.multiplex.queues import INFEASIBLE, ModelLocations, Queues
from penstock.policy.multiplex.values import Shed
from penstock.policy.multiplex.worth import Worth

_LOOK_S = 1.0  # until a queue is checked again whose model may be evicted, or tried again
_SOON_S = 1e-3  # keeps rounding from repeating the check at the same moment


class Checks:
    """Times at which each model's queue is checked for requests that are too late."""

    def __init__(self, num_models: int) -> None:
        self._at_s = [inf] * num_models
        self._heap: list[tuple[float, int]] = []

    def at(self, model: int, at_s: float) -> None:
        """Schedule a check at that time, unless an earlier one is scheduled."""
        if at_s < self._at_s[model]:
            self._at_s[model] = at_s
            heappush(self._heap, (at_s, model))

    @property
    def next_s(self) -> float:
        """Return the time of the next check."""
        return self._heap[0][0] if self._heap else inf

    def due(self, now_s: float) -> int | None:
        """Return a model whose check is due, and remove the check."""
        while self._heap and self._heap[0][0] <= now_s:
            at_s, model = heappop(self._heap)
            if self._at_s[model] == at_s:
                self._at_s[model] = inf
                return model
        return None


class InfeasibleRequests:
    """Finds requests whose answer would miss its deadline even if their model were loaded at once.
    A queue is checked when its head may be too late, not continuously."""

    def __init__(self, num_models: int, queues: Queues, where: ModelLocations, loads: LoadBelief,
                 worth: Worth) -> None:
        self._queues = queues
        self._where = where
        self._loads = loads
        self._worth = worth
        self._checks = Checks(num_models)
        self._longest_s = [0.0] * num_models

    @property
    def next_s(self) -> float:
        """Return the time before which no request is found."""
        return self._checks.next_s

    def watch(self, model: int) -> None:
        """Schedule the check of a queue before its head can be too late, including a load of the
        model."""
        load_s = self._longest_s[model] = max(self._longest_s[model],
                                              self._loads.load_s(0, model))
        needed_s = self._worth.corrected(model, load_s) + self._worth.batch(model).seconds(1)
        self._checks.at(model, self._queues.line(model)[0].deadline_s - needed_s)

    def find(self, device: Device, now_s: float) -> Shed | None:
        """Return the first requests found too late, among the models whose check is due."""
        while (model := self._checks.due(now_s)) is not None:
            if not self._queues.line(model):
                continue
            if not self._queues.may_be_tried(model, now_s):
                self._checks.at(model, now_s + _LOOK_S)
                continue
            held = model in self._where.counts()
            start_s = now_s + (0.0 if held else self._worth.load_s(device, model))
            least_s = self._worth.batch(model).seconds(1)
            if late := self._queues.late(model, start_s + least_s):
                self._checks.at(model, now_s)
                first = self._queues.line(model)[0]
                if first.deadline_s - first.arrival_s <= start_s - now_s + least_s:
                    self._worth.doubt(model, now_s)
                return Shed(self._queues.take(model, 0, late), INFEASIBLE)
            ends_s = self._queues.line(model)[0].deadline_s - (start_s - now_s) - least_s
            # A resident may be evicted at any time, which costs a load.
            self._checks.at(model, max(now_s + _SOON_S,
                                       min(ends_s, now_s + _LOOK_S) if held else ends_s))
        return None
