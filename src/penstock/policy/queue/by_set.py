"""A queue per deployment: no request waits for devices that its deployment does not use."""

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from math import inf

from penstock.core.errors import InputError
from penstock.policy.queue.values import Shared, Start, Waiting, masks_of

_Entry = tuple[float, int, int, float]
"""Urgency, serial number, request, and when its patience begins."""


@dataclass(frozen=True, slots=True)
class Fairness:
    """Each priority class counts as having arrived ``aging_s`` after the more urgent one, so that
    every request goes first eventually. A request that has waited ``patience_s`` reserves devices
    for itself: short enough for a deployment over all devices to get them, long enough for others
    to use idle devices in the meantime."""

    aging_s: float = 30.0
    patience_s: float = 5.0


class DeviceSetQueue:
    """The most urgent request whose devices are idle starts, with as many of its deployment behind
    it as may start together.

    Urgency is the arrival time, later by ``aging_s`` per class. A deadline that can be met counts
    as an arrival early enough for patience to end while devices can still become idle in time. So
    the order of two requests never changes, and a request waits only for more urgent ones: a
    request that has waited ``patience_s`` holds the devices of one set, where no less urgent
    request starts. With infinite patience, small deployments could keep a large one waiting
    forever. A request with ``ahead`` is more urgent than all others; its patience begins at its
    arrival.

    Two deployments never run on the same device at once, since there is no estimate of their mutual
    slowdown.
    """

    def __init__(self, deployments: Sequence[Shared], fairness: Fairness = Fairness()) -> None:
        if not (fairness.aging_s >= 0.0 and fairness.patience_s >= 0.0):
            raise InputError(f"aging_s {fairness.aging_s}, patience_s {fairness.patience_s}: "
                             "expected both to be at least 0")
        self._deployments = list(deployments)
        self._masks = masks_of(deployments)
        self._fairness = fairness
        self._drain_s = self._drains_s()
        self._lines: list[list[_Entry]] = [[] for _ in deployments]
        self._busy = 0
        self._joined: dict[tuple[int, int], int] = {}  # running requests of joining deployments
        self._num_added = 0

    @property
    def num_waiting(self) -> int:
        return sum(len(line) for line in self._lines)

    def deploy(self, shared: Shared) -> int:
        self._masks += masks_of([shared])
        self._deployments.append(shared)
        self._drain_s = self._drains_s()
        self._lines.append([])
        return len(self._lines) - 1

    def add(self, request: Waiting) -> None:
        urgency_s, number = self._urgency_s(request), self._num_added
        entry = (-inf, -number, request.request_id, request.arrival_s) if request.ahead else \
            (urgency_s, number, request.request_id, urgency_s)
        heappush(self._lines[request.deployment], entry)
        self._num_added += 1

    def next(self, now_s: float) -> Start | None:
        held, kept = self._busy, 0
        heads = [(line[0], index) for index, line in enumerate(self._lines) if line]
        heads.sort()
        for (_, _, _, waits_from_s), deployment in heads:
            masks = self._masks[deployment]
            for index, mask in enumerate(masks):
                if not mask & held:
                    self._busy |= mask
                    return self._start(deployment, index)
            if self._deployments[deployment].joins:
                for index, mask in enumerate(masks):
                    if not mask & kept and self._may_join(deployment, index):
                        return self._start(deployment, index)
            if now_s - waits_from_s >= self._fairness.patience_s:
                nearest = _nearest(masks, held)
                held |= nearest
                kept |= nearest
        return None

    def ended(self, start: Start) -> None:
        place = (start.deployment, start.set_index)
        if (running := self._joined.get(place, 0)) > 1:
            self._joined[place] = running - 1
            return
        self._joined.pop(place, None)
        self._busy &= ~self._masks[start.deployment][start.set_index]

    def cancel(self, request_id: int) -> bool:
        for line in self._lines:
            for index, entry in enumerate(line):
                if entry[2] == request_id:
                    line[index] = line[-1]
                    line.pop()
                    heapify(line)
                    return True
        return False

    def _may_join(self, deployment: int, index: int) -> bool:
        running = self._joined.get((deployment, index), 0)
        return 0 < running < self._deployments[deployment].max_batch

    def _start(self, deployment: int, index: int) -> Start:
        """Take from a deployment's queue the requests that start now on its set with this index."""
        line, shared = self._lines[deployment], self._deployments[deployment]
        if shared.joins:
            self._joined[deployment, index] = self._joined.get((deployment, index), 0) + 1
            return Start(deployment, index, (heappop(line)[2],))
        size = min(len(line), shared.max_batch)
        return Start(deployment, index, tuple(heappop(line)[2] for _ in range(size)))

    def _drains_s(self) -> list[float]:
        """Return for each deployment the longest start that may be running on its devices."""
        return [_longest_beside(self._deployments, self._masks, index)
                for index in range(len(self._deployments))]

    def _urgency_s(self, request: Waiting) -> float:
        usual = request.arrival_s + request.priority * self._fairness.aging_s
        latest = request.deadline_s - self._deployments[request.deployment].expected_s
        if inf in (latest, self._fairness.patience_s) or latest < request.arrival_s:
            return usual
        return min(usual, latest - self._fairness.patience_s - self._drain_s[request.deployment])


def _nearest(masks: Sequence[int], held: int) -> int:
    """Return the set with the fewest occupied devices."""
    return min(masks, key=lambda mask: (mask & held).bit_count())


def _longest_beside(deployments: Sequence[Shared], masks: Sequence[tuple[int, ...]],
                    index: int) -> float:
    """Return the longest start that may be running on devices of a deployment."""
    return max(other.expected_s for other, theirs in zip(deployments, masks, strict=True)
               if any(own & their for own in masks[index] for their in theirs))
