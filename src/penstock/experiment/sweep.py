"""A grid over fleet settings: one simulated run per point and seed, one row of figures each."""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import product
from typing import Any

from penstock import __version__
from penstock.core.errors import InputError
from penstock.experiment.run import Run, run_fleet
from penstock.experiment.workers import ALONE, Executor
from penstock.fleet.sources import fleet_workload
from penstock.fleet.values import Fleet
from penstock.fleet.values_traffic import ClientFiles, TraceFile
from penstock.fleet.write import to_yaml
from penstock.plan.assign.solve import solve
from penstock.plan.replicas import find_replicas
from penstock.workload.workload import Workload

MAX_POINTS = 10_000


@dataclass(frozen=True, slots=True)
class Point:
    """One combination of settings, the fleet that it makes, its seed and what identifies all that.

    ``key`` changes with anything in the fleet, with the seed and with Penstock's version, so rows
    of equal key need not be computed twice.
    """

    settings: Mapping[str, Any]
    fleet: Fleet
    seed: int
    key: str


def grid(axes: Mapping[str, Sequence[Any]], load: Callable[[dict[str, Any]], Fleet],
         num_seeds: int) -> list[Point]:
    """Every combination of the axes' values, the last axis changing fastest, with every seed.

    ``load`` makes the fleet of a combination; seeds go up from that fleet's own. Raises InputError
    for a grid without or with too many points, and for the first combination that is no fleet.
    """
    size = num_seeds
    for name, values in axes.items():
        if not values:
            raise InputError(f"sweep: {name} has no values")
        size *= len(values)
    if size > MAX_POINTS:
        raise InputError(f"sweep: {size:,} runs; expected at most {MAX_POINTS:,}")
    points = []
    for values in product(*axes.values()):
        settings = dict(zip(axes, values, strict=True))
        try:
            fleet = load(settings)
        except InputError as error:
            raise InputError(f"{_named(settings)}: {error}" if settings else str(error)) from error
        text = to_yaml(fleet)
        points += [Point(settings, fleet, seed, _key(text, seed))
                   for seed in range(fleet.run.seed, fleet.run.seed + num_seeds)]
    return points


def _named(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in settings.items())


def _key(text: str, seed: int) -> str:
    return sha256(f"{__version__}\0{seed}\0{text}".encode()).hexdigest()[:16]


def sweep(points: Sequence[Point], done: Collection[str] = (),
          where: Executor = ALONE) -> Iterator[dict[str, Any]]:
    """The rows of all points whose key is not ``done``, in the points' order, as they come.

    A fleet without replicas is sized first. Points are computed ``where`` asked; the rows are the
    same in the same order, since a point holds all that its row depends on.
    """
    yield from where.results(_row, _with_files(
        point for point in points if point.key not in done))


_MOST_WORKLOADS = 8


def _with_files(points: Iterable[Point]) -> Iterator[tuple[Point, Workload | None]]:
    """Points with their requests where these come from files: those are read here, and seldom
    twice, and no other machine needs them."""
    known: deque[tuple[Any, Workload]] = deque(maxlen=_MOST_WORKLOADS)
    for point in points:
        fleet = point.fleet
        workload = None
        if any(isinstance(one.lengths, TraceFile | ClientFiles) for one in fleet.traffic):
            source = fleet.traffic, fleet.run, fleet.models, fleet.service_classes, point.seed
            workload = next((found for other, found in known if other == source), None)
            if workload is None:
                workload = fleet_workload(fleet, point.seed)
                known.append((source, workload))
        yield point, workload


def _row(cell: tuple[Point, Workload | None]) -> dict[str, Any]:
    """The point's settings, seed, figures and key."""
    point, workload = cell
    found = figures(run_point(point, workload))
    return {**point.settings, "seed": point.seed, **found, "key": point.key}


def run_point(point: Point, workload: Workload | None = None) -> Run:
    """The point's run, on its requests where they are drawn already. A fleet that states no
    replicas gets them as ``penstock run`` would: the fewest of the kinds that it states
    (``sizing``, ``variant``), else the cheapest of a plan. Raises InputError where no accelerator
    holds a model."""
    fleet = replace(point.fleet, run=replace(point.fleet.run, seed=point.seed))
    if workload is None:
        workload = fleet_workload(fleet, point.seed)
    return run_fleet(find_replicas(fleet, workload, solve).fleet, workload, point.seed)


def figures(run: Run) -> dict[str, Any]:
    """The figures of a row: overall, then by class. None where a figure is undefined."""
    overall = run.summary.overall
    row = {
        "num_replicas": sum(group.count for group in run.fleet.replicas),
        **({"num_devices": sum(pool.count for pool in run.fleet.multiplexing)}
           if run.fleet.multiplexing else {}),
        "meets_slo": overall.meets_slo, "attainment": overall.attainment,
        "goodput_requests_per_s": overall.goodput_requests_per_s,
        "output_tokens_per_s": overall.output_tokens_per_s,
        "busy": overall.busy, "utilisation": overall.busy,  # its former name
        "bound_share": None if overall.bound is None else overall.bound.bound_share,
        "cost_per_hour": overall.cost.per_hour,
        "cost_per_met_request": overall.cost.per_met_request,
    }
    for name, entry in run.summary.classes.items():
        row[f"{name}.attainment"] = entry.attainment
        for latency in ("ttft_s", "itl_p99_s", "e2e_s"):
            row[f"{name}.{latency}.p99"] = entry.latency.of(latency).p99
    return row
