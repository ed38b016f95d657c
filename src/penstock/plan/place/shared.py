"""Configurations and device sets for deployments that share a node, by simulation of their queues.

Each deployment gets one configuration and one or more sets of devices, each with a replica. Sets of
several deployments may overlap, and a device serves one start at a time. The objective includes the
time that requests wait for each other, not only the time of each alone: the event loop that judges
a proposal serves it against a forecast of arrivals. The search descends from several starts, one
deployment at a time. A proposal that could not be better even without queues is not simulated.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from penstock.core.errors import InputError
from penstock.plan.place.options import Forecast, PlacedReplicas, PlacementOption
from penstock.plan.place.outcome import outcome_of
from penstock.policy.place.values import Device

_FIRST_COMBINATIONS = 2000
_MOST_FOR_PAIRS = 8
_BEYOND = 1e6  # what each device-second beyond a limit costs


class NoRoomError(InputError):
    """Memory does not hold all deployments in any of the configurations that were tried."""


@dataclass(frozen=True, slots=True)
class Goal:
    """Least mean end-to-end time, plus the value in seconds of the device-seconds per request,
    among plans of at most ``max_device_s`` per request."""

    device_second_s: float = 0.0
    max_device_s: float = float("inf")

    def cost(self, e2e_s: float, device_s: float) -> float:
        """Return the minimized cost."""
        beyond = max(0.0, device_s - self.max_device_s)
        return e2e_s + self.device_second_s * device_s + (_BEYOND * beyond if beyond else 0.0)


@dataclass(frozen=True, slots=True)
class SharedPlan:
    """Seats in the order of the deployments, what requests of the forecast take on average from
    arrival to end and in device-seconds, and how many proposals were simulated."""

    seats: tuple[PlacedReplicas, ...]
    e2e_s: float
    device_s: float
    num_simulated: int


def plan_shared(deployments: Sequence[Sequence[PlacementOption]], devices: Sequence[Device],
                forecast: Forecast, goal: Goal, overhead_s: float = 0.0, *,
                max_simulated: int = 1000) -> SharedPlan:
    """The best seats found with so many simulations. ``devices`` are in the order of their links:
    sets are blocks of 1, 2, 4, ... that start at multiples of their size, so that neighbours stay
    together.

    Raises InputError for an empty forecast and a deployment without ways, and NoRoomError where no
    seats were found that fit all deployments in memory.
    """
    if not forecast.arrival_s:
        raise InputError("forecast: holds no arrivals to plan for")
    for place, ways in enumerate(deployments):
        if not ways:
            raise InputError(f"deployment {place}: no configuration to choose from")
    trial = Trial(forecast, len(deployments), overhead_s)
    search = _Search(deployments, devices, trial, goal, max_simulated)
    found = [search.start(size, spread=spread) for size in _sizes(len(devices))
             for spread in (True, False)]
    starts = [start for start in dict.fromkeys(found) if start is not None]
    for start in sorted(starts, key=lambda seats: goal.cost(*trial.means(seats))):
        search.descend(start)
    if search.best is None:
        raise NoRoomError(f"{len(deployments)} deployments: no configurations found that fit the "
                         f"memory of {len(devices)} devices together")
    e2e_s, device_s = trial.means(search.best)
    return SharedPlan(search.best, e2e_s, device_s, trial.num_simulated)


class Trial:
    """Serves the forecast with seats; the same seats are served once."""

    def __init__(self, forecast: Forecast, num_deployments: int, overhead_s: float) -> None:
        self._forecast, self._overhead_s = forecast, overhead_s
        counts = np.bincount(forecast.deployment, minlength=num_deployments)
        self._shares: list[float] = (counts / len(forecast.deployment)).tolist()
        self._known: dict[tuple[PlacedReplicas, ...], tuple[float, float]] = {}

    @property
    def num_simulated(self) -> int:
        """Different seats so far."""
        return len(self._known)

    def means(self, seats: tuple[PlacedReplicas, ...]) -> tuple[float, float]:
        """End-to-end seconds and device-seconds per request."""
        if seats not in self._known:
            found = outcome_of(seats, self._forecast, self._overhead_s)
            self._known[seats] = float(found.e2e_s.mean()), float(found.device_s.mean())
        return self._known[seats]

    def least(self, seats: Sequence[PlacedReplicas]) -> tuple[float, float]:
        """Return the lower bound of ``means``."""
        each = list(zip(self._shares, seats, strict=True))
        return (sum(share * seat.way.work_s for share, seat in each),
                sum(share * seat.way.least_device_s for share, seat in each))


class _Search:
    """The best seats so far and what they cost."""

    def __init__(self, deployments: Sequence[Sequence[PlacementOption]], devices: Sequence[Device],
                 trial: Trial, goal: Goal, max_simulated: int) -> None:
        self._goal, self._trial, self._max_simulated = goal, trial, max_simulated
        self._free = {device.device_id: device.free_bytes for device in devices}
        ids = [device.device_id for device in devices]
        self._options = [sorted(_seats(ways, ids), key=_thrift) for ways in deployments]
        self.best: tuple[PlacedReplicas, ...] | None = None
        self._best_cost = float("inf")

    def start(self, size: int, *, spread: bool) -> tuple[PlacedReplicas, ...] | None:
        """Everybody on sets of about this size, on as many as fit (``spread``) or on one; None
        where none of the first combinations fits in memory."""
        order = sorted(range(len(self._options)), key=lambda place: (
            -min(_held_bytes(seat) for seat in self._options[place]), place))
        ranked = [sorted(self._options[place], key=lambda seat: (
            abs(seat.way.num_devices - size), len(seat.device_sets) * (-1 if spread else 1),
            seat.way.device_s)) for place in order]
        chosen: list[PlacedReplicas] = []
        if not self._complete(ranked, chosen, [_FIRST_COMBINATIONS]):
            return None
        return tuple(chosen[order.index(place)] for place in range(len(order)))

    def descend(self, seats: tuple[PlacedReplicas, ...]) -> None:
        """Change one deployment at a time as long as that is better, then two at once."""
        cost, changed = self._goal.cost(*self._trial.means(seats)), True
        while changed:
            seats, cost, changed = self._improve(seats, cost, self._singles(len(seats)))
            if not changed and len(seats) <= _MOST_FOR_PAIRS:
                seats, cost, changed = self._improve(seats, cost, self._pairs(seats))
        if cost < self._best_cost:
            self.best, self._best_cost = seats, cost

    def _improve(self, seats: tuple[PlacedReplicas, ...], cost: float,
                 moves: Iterable[dict[int, PlacedReplicas]],
                 ) -> tuple[tuple[PlacedReplicas, ...], float, bool]:
        """Try the moves in order, and make each move that is better at once."""
        changed = False
        for move in moves:
            if self._trial.num_simulated >= self._max_simulated:
                break
            proposal = tuple(move.get(place, seat) for place, seat in enumerate(seats))
            if (proposal == seats or self._goal.cost(*self._trial.least(proposal)) >= cost
                    or not self._fits(proposal)):
                continue
            found = self._goal.cost(*self._trial.means(proposal))
            if found < cost:
                seats, cost, changed = proposal, found, True
        return seats, cost, changed

    def _singles(self, num: int) -> Iterator[dict[int, PlacedReplicas]]:
        for place in range(num):
            for option in self._options[place]:
                yield {place: option}

    def _pairs(self, seats: tuple[PlacedReplicas, ...]) -> Iterator[dict[int, PlacedReplicas]]:
        """Moves for which memory has room only if another deployment moves, too."""
        for one, other in permutations(range(len(seats)), 2):
            for first in self._options[one]:
                if not self._fits((*seats[:one], first, *seats[one + 1:])):
                    yield from ({one: first, other: second} for second in self._options[other])

    def _complete(self, ranked: Sequence[Sequence[PlacedReplicas]], chosen: list[PlacedReplicas],
                  left: list[int]) -> bool:
        """Depth first, those first that crowd others least; ``left`` counts how many more may be
        looked at."""
        if len(chosen) == len(ranked):
            return True
        options = ranked[len(chosen)]
        for seat in sorted(options, key=lambda seat: (options[0].way != seat.way,
                                                      _crowd(chosen, seat))):
            left[0] -= 1
            if left[0] < 0:
                return False
            chosen.append(seat)
            if self._fits(chosen) and self._complete(ranked, chosen, left):
                return True
            chosen.pop()
        return False

    def _fits(self, seats: Sequence[PlacedReplicas]) -> bool:
        left = dict(self._free)
        for seat in seats:
            for device in seat.devices:
                left[device] -= seat.way.device_bytes
                if left[device] < 0:
                    return False
        return True


def _crowd(chosen: Sequence[PlacedReplicas], seat: PlacedReplicas) -> int:
    own = seat.devices
    return sum(len(own & other.devices) for other in chosen)


def _seats(ways: Sequence[PlacementOption], ids: Sequence[int]) -> Iterator[PlacedReplicas]:
    """Every way on every block of sets: one set, two neighbours, four, up to all."""
    for way in ways:
        size = way.num_devices
        sets = [frozenset(ids[start:start + size])
                for start in range(0, len(ids) - size + 1, size)]
        for count in _sizes(len(sets)):
            for start in range(0, len(sets) - count + 1, count):
                yield PlacedReplicas(way, tuple(sets[start:start + count]))


def _thrift(seat: PlacedReplicas) -> tuple[float, int]:
    return seat.way.device_s, -len(seat.device_sets)


def _held_bytes(seat: PlacedReplicas) -> int:
    """Memory that a seat takes on all devices together."""
    return seat.way.device_bytes * seat.way.num_devices * len(seat.device_sets)


def _sizes(most: int) -> list[int]:
    return [1 << power for power in range(most.bit_length()) if 1 << power <= most]
