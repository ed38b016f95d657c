"""The best placement on a node, proven: one mixed-integer program per level of the order.

A level that a quick placement already brings to a bound that is plain to see is not solved.
Enumerating groups and spreading layers over each choice is exact for one model as well, and as fast
on 8 devices; but its cases multiply with devices (two million pairings of 16) and with models,
which share memory device by device. The program serves both, and says how far off it may be when it
is stopped.
"""

import math
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from penstock.core.units import ceil_div
from penstock.plan.assign.highs import solve_program
from penstock.plan.place.objective import LEVELS, Level, objective
from penstock.plan.place.program import (
    PlaceProgram,
    build_program,
    decode,
    encode,
    level_terms,
)
from penstock.policy.place.arrange import arrange, by_group
from penstock.policy.place.layers import room, shortfall, spread
from penstock.policy.place.penstock import PenstockPlacer
from penstock.policy.place.values import (
    Device,
    Footprint,
    Infeasible,
    Placement,
    by_id,
    checked,
    gib,
)

# Part of a device's memory by which the solver's rounding may exceed it, held back when it did.
_MARGIN = 1e-6


@dataclass(frozen=True, slots=True)
class ExactPlan:
    """Placements in the order of the footprints, and each level with its bound."""

    placements: tuple[Placement, ...]
    levels: tuple[Level, ...]
    time_s: float

    @property
    def proven(self) -> bool:
        """Whether nothing better exists."""
        return all(level.proven for level in self.levels)


@dataclass(frozen=True, slots=True)
class ExactPlacer:
    """One replica on the devices of a node (or a few), the best there is; see ``place_exact``."""

    time_limit_s: float = 10.0

    def place(self, footprint: Footprint, devices: Sequence[Device]) -> Placement | Infeasible:
        found = place_exact([footprint], devices, time_limit_s=self.time_limit_s)
        return found if isinstance(found, Infeasible) else found.placements[0]


def exact_placer(settings: Mapping[str, Any]) -> ExactPlacer:
    """The placer with these settings."""
    return ExactPlacer(**settings)


def place_exact(footprints: Sequence[Footprint], devices: Sequence[Device], *,
                time_limit_s: float = 10.0) -> ExactPlan | Infeasible:
    """The best placement of all footprints together on these devices, or why there is none.

    A device may carry ranks of several models, memory permitting. When the time limit (shared by
    the levels) is reached, the best placement found is returned and its levels say what is proven.
    Raises InputError for values that mean nothing, and where a model has more groups of devices
    than an exact solution can look at.
    """
    began_s = time.perf_counter()
    for footprint in footprints:
        checked(footprint, devices)
    if not footprints:
        return ExactPlan((), (), 0.0)
    known = by_id(devices)
    search = _Search(footprints, known, began_s + time_limit_s)
    start = quick(footprints, devices)
    for across in (False, True) if len({d.node for d in devices}) > 1 else (False,):
        built = build_program(footprints, devices, across=across)
        usable = start if start and (across or not objective(start, known)[0]) else None
        found = search.run(built, usable)
        if found is not None:
            return replace(found, time_s=time.perf_counter() - began_s)
    return _reason(footprints, devices, search.out_of_time)


def quick(footprints: Sequence[Footprint], devices: Sequence[Device]) -> list[Placement] | None:
    """Placements one after another, the largest footprint first; None where one finds no room."""
    placer, left = PenstockPlacer(), by_id(devices)
    found: dict[int, Placement] = {}
    for index in sorted(range(len(footprints)), key=lambda i: (-footprints[i].total_bytes, i)):
        placement = placer.place(footprints[index], list(left.values()))
        if isinstance(placement, Infeasible):
            return None
        found[index] = placement
        left = _beside(left, [placement])
    return [found[index] for index in range(len(footprints))]


@dataclass(slots=True)
class _Search:
    """One search through the levels."""

    footprints: Sequence[Footprint]
    devices: Mapping[int, Device]
    deadline_s: float
    out_of_time: bool = False

    def run(self, built: PlaceProgram, best: list[Placement] | None) -> ExactPlan | None:
        """The best plan of the program, from a plan of it or from none; None if there is none."""
        levels: list[Level] = []
        for rank, name in enumerate(LEVELS):
            terms, constant = level_terms(built, name)
            plain = self._plain_bound(name)
            if best is None or objective(best, self.devices)[rank] > plain:
                best, bound = self._solve(built, name, terms, constant, best)
                if best is None:
                    return None
            else:
                bound = plain
            value = objective(best, self.devices)[rank]
            bound = min(value, max(bound, plain))
            if name == "stranded_bytes" and value - bound <= self._precision():
                bound = value
            levels.append(Level(name, value, bound))
            slack = 1e-7 if name == "largest_stage" else 0.5
            built.program.row(-np.inf, sorted(terms.items()), float(value) - constant + slack)
        return ExactPlan(tuple(best or ()), tuple(levels), 0.0)

    def _most_free(self) -> int:
        return max((device.free_bytes for device in self.devices.values()), default=1) or 1

    def _precision(self) -> int:
        """Bytes that count as none to the solver: of the largest device, a hundred-millionth."""
        return self._most_free() // 10**8

    def _solve(self, built: PlaceProgram, name: str, terms: Mapping[int, float], constant: float,
               best: list[Placement] | None) -> tuple[list[Placement] | None, Fraction]:
        """A plan at least as good at this level as ``best``, and a bound of the level."""
        scale = float(self._most_free() if name == "stranded_bytes" else 1)
        cost = np.zeros(built.program.num_columns)
        for column, value in terms.items():
            cost[column] = value / scale
        start = None if best is None else encode(built, best)
        bound: Fraction | None = None
        for margin in (0.0, _MARGIN):
            arrays = built.program.arrays()
            arrays.row_upper[built.memory_rows] -= margin
            answer = solve_program(arrays, cost, start=start if margin == 0.0 else None,
                                   time_limit_s=max(0.0, self.deadline_s - time.perf_counter()))
            self.out_of_time |= answer.status in ("feasible", "unknown")
            if bound is None:
                bound = self._whole(name, answer.bound * scale + constant)
            if answer.values is None:
                break
            found = settled(decode(built, answer.values), self.devices)
            if found is not None:
                if best is None or objective(found, self.devices) < objective(best, self.devices):
                    best = found
                break
        return best, bound if bound is not None else Fraction(0)

    def _whole(self, name: str, bound: float) -> Fraction:
        """The least value that a level can have at or above the solver's bound."""
        if not math.isfinite(bound):
            return Fraction(-1)
        if name == "largest_stage":
            unit = math.lcm(*(footprint.num_layers for footprint in self.footprints))
            return Fraction(math.ceil(bound * unit - 1e-4), unit)
        return Fraction(math.ceil(bound - 1e-6))

    def _plain_bound(self, name: str) -> Fraction:
        """Return a lower bound on this level of any placement, by counting."""
        devices = self.devices.values()
        if name == "largest_stage":
            return sum((Fraction(_least_largest(f, devices), f.num_layers)
                        for f in self.footprints), Fraction(0))
        if name == "link_splits":
            return Fraction(sum(f.pipeline * (_fewest_links(f.tensor, devices) - 1)
                                for f in self.footprints))
        if name == "stranded_bytes":
            most = max((f.num_devices for f in self.footprints), default=0)
            free = sorted(device.free_bytes for device in devices)
            placed = sum(footprint.total_bytes for footprint in self.footprints)
            return Fraction(max(0, sum(free[:most]) - placed))
        return Fraction(0)


def settled(placements: Sequence[Placement],
            devices: Mapping[int, Device]) -> list[Placement] | None:
    """The same groups with stages in line and layers as even as the memory that the others leave
    allows; None if they exceed it together."""
    found = list(placements)
    for index, placement in enumerate(found):
        left = _beside(devices, [*found[:index], *found[index + 1:]])
        better = arrange(placement.footprint, by_group(placement, left))
        if better is None:
            return None
        found[index] = better
    return found


def _beside(devices: Mapping[int, Device],
            placements: Sequence[Placement]) -> dict[int, Device]:
    """Devices as they are beside these placements."""
    left = dict(devices)
    for placement in placements:
        for device_id, taken in placement.bytes_by_device.items():
            left[device_id] = replace(left[device_id],
                                      used_bytes=left[device_id].used_bytes + taken)
    return left


def _least_largest(footprint: Footprint, devices: Collection[Device]) -> int:
    """Layers that the largest stage has at least, by the devices with most free memory."""
    free = sorted((device.free_bytes for device in devices), reverse=True)
    width = footprint.tensor
    blocks = free[width - 1:footprint.num_devices:width]
    layers = spread(footprint.num_layers, [room(footprint, each) for each in blocks])
    even = ceil_div(footprint.num_layers, footprint.pipeline)
    return max(layers) if layers and len(blocks) == footprint.pipeline else even


def _fewest_links(width: int, devices: Collection[Device]) -> int:
    """Link groups that a group of devices touches at least."""
    sizes = sorted(Counter(device.link for device in devices).values(), reverse=True)
    count = 0
    while width > 0 and count < len(sizes):
        width -= sizes[count]
        count += 1
    return count


def _reason(footprints: Sequence[Footprint], devices: Sequence[Device],
            out_of_time: bool) -> Infeasible:
    """Why there is no plan: of one model what is short, of several what would fit."""
    names = ", ".join(footprint.model for footprint in footprints)
    if out_of_time:
        return Infeasible(f"{names}: no placement was found in time; whether there is one is open")
    if len(footprints) == 1:
        return _alone(footprints[0], devices)
    for footprint in footprints:
        if quick([footprint], devices) is None:
            alone = place_exact([footprint], devices)
            if isinstance(alone, Infeasible):
                return alone
    needed = sum(footprint.total_bytes for footprint in footprints)
    free = sum(device.free_bytes for device in devices)
    text = f"{names} do not fit together: they need {gib(needed)}, {gib(free)} are free"
    for index in sorted(range(len(footprints)), key=lambda i: (footprints[i].total_bytes, i)):
        rest = [*footprints[:index], *footprints[index + 1:]]
        if quick(rest, devices) is not None:
            return Infeasible(f"{text}; without {footprints[index].model} the rest would fit",
                              short_bytes=max(0, needed - free))
    return Infeasible(f"{text}; leaving out one of them does not do",
                      short_bytes=max(0, needed - free))


def _alone(footprint: Footprint, devices: Sequence[Device]) -> Infeasible:
    found = shortfall(footprint, devices)
    if found.max_layers < footprint.num_layers:
        return found
    return Infeasible(f"{footprint.model} at tp {footprint.tensor} pp {footprint.pipeline}: no "
                      "choice of devices has room for what the first and last stage hold beside "
                      "layers", found.max_layers)
