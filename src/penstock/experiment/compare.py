"""Policies side by side on the very same requests."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, NamedTuple

from penstock.core.errors import InputError
from penstock.experiment.run import run_fleet
from penstock.experiment.summary import whole_summary
from penstock.experiment.workers import ALONE, Executor
from penstock.fleet.sources import fleet_workload
from penstock.fleet.values import Fleet
from penstock.metrics.run_summary import RunSummary
from penstock.metrics.seeds import paired_difference, seed_mean
from penstock.policy.schedule.options import SchedulerOptions
from penstock.workload.mixing import scale_rate
from penstock.workload.workload import Workload

POOL_FIGURES = ("loads", "load_mean_s", "batches", "mean_batch", "loading_share",
                "computing_share", "idle_share")


@dataclass(frozen=True, slots=True)
class Contender:
    """One policy with its settings and its runs, one per seed."""

    label: str
    options: SchedulerOptions | Mapping[str, Any]
    summaries: tuple[RunSummary, ...]

    def values(self, of: Callable[[RunSummary], float | None]) -> list[float | None]:
        """A number of the summary per seed, None where it is undefined."""
        return [of(summary) for summary in self.summaries]


Compared = dict[float | None, list[Contender]]
"""Contenders by rate, requests per second; None is the traffic's own rate."""

OnRun = Callable[[str, int], None]
"""Called after each run with the policy's label and the seed."""


def figures(found: Sequence[Contender]) -> list[dict[str, dict[str, Any]]]:
    """Per contender, by name: the mean over seeds, its 95 % interval, how many seeds have a value,
    and as ``difference`` the same of the paired differences to the first contender.

    Names are those of a sweep's columns, such as ``chat.ttft_s.p99``; shares of late tokens are
    ``chat.late_token_share.p99``, times of sessions as a whole ``sessions.time_s.p99``.
    """
    first = found[0].summaries[0]
    figures = _figures(list(first.classes))
    if first.overall.tasks is not None:
        figures |= {f"sessions.{name}": partial(_of_sessions, name) for name in SESSION_FIGURES}
    return [{name: {**asdict(seed_mean(contender.values(of))),
                    "difference": asdict(paired_difference(contender.values(of),
                                                           found[0].values(of)))}
             for name, of in figures.items()} for contender in found]


def _figures(classes: Sequence[str]) -> dict[str, Callable[[RunSummary], float | None]]:
    found: dict[str, Callable[[RunSummary], float | None]] = {
        "attainment": lambda summary: summary.overall.attainment,
        "goodput_requests_per_s": lambda summary: summary.overall.goodput_requests_per_s,
        "cost_per_met_request": lambda summary: summary.overall.cost.per_met_request}
    for name in classes:
        found[f"{name}.attainment"] = partial(_attainment, name)
        for q in ("p50", "p99"):
            for key in ("ttft_s", "tpot_s", "itl_p99_s", "e2e_s"):
                found[f"{name}.{key}.{q}"] = partial(_latency, name, key, q)
            found[f"{name}.late_token_share.{q}"] = partial(_late_tokens, name, q)
    return found


SESSION_FIGURES = ("attainment", "time_mean_s", "time_s.p50", "time_s.p99")


def _of_sessions(name: str, summary: RunSummary) -> float | None:
    tasks = summary.overall.tasks
    if tasks is None:
        return None
    key, _, percentile = name.partition(".")
    found = getattr(tasks, key)
    return found.at(percentile) if percentile else found  # type: ignore[no-any-return]


def _attainment(name: str, summary: RunSummary) -> float | None:
    return summary.classes[name].attainment


def _latency(name: str, key: str, percentile: str, summary: RunSummary) -> float | None:
    return summary.classes[name].latency.of(key).at(percentile)


def _late_tokens(name: str, percentile: str, summary: RunSummary) -> float | None:
    late = summary.classes[name].late_token_share
    return None if late is None else late.at(percentile)


class _Cell(NamedTuple):
    """One run: a fleet with its policy on the requests of a seed, at a rate."""

    label: str
    fleet: Fleet
    workload: Workload
    seed: int
    rate_per_s: float | None


def compare(fleet: Fleet, policies: Sequence[tuple[str, SchedulerOptions]], seeds: Sequence[int],
            rates: Sequence[float | None] = (None,), on_run: OnRun | None = None,
            where: Executor = ALONE) -> Compared:
    """Run every policy on every seed's traffic at every rate; all policies see the same requests.

    A rate replaces the traffic's own, where it is not None: the arrival times are scaled. Replica
    groups with a schedule of their own take the contender's like the others do.
    """
    fleets = {label: with_schedule(fleet, options) for label, options in policies}
    return _compared(fleets, dict(policies), _Runs(seeds, rates, on_run, where))


def compare_pools(fleets: Mapping[str, Fleet], seeds: Sequence[int],
                  rates: Sequence[float | None] = (None,), on_run: OnRun | None = None,
                  where: Executor = ALONE) -> Compared:
    """Run fleets with pools, alike but for their policies, each by its label, on every seed's
    traffic."""
    options = {label: _policies(fleet) for label, fleet in fleets.items()}
    return _compared(fleets, options, _Runs(seeds, rates, on_run, where))


class _Runs(NamedTuple):
    """Which runs there are of each policy, who hears of each, and where they are computed."""

    seeds: Sequence[int]
    rates: Sequence[float | None]
    on_run: OnRun | None
    where: Executor


def _compared(fleets: Mapping[str, Fleet],
              options: Mapping[str, SchedulerOptions | Mapping[str, Any]], runs: _Runs) -> Compared:
    found: dict[tuple[float | None, str], list[RunSummary]] = {}
    for label, seed, rate_per_s, summary in runs.where.results(_run, _cells(fleets, runs)):
        found.setdefault((rate_per_s, label), []).append(summary)
        if runs.on_run is not None:
            runs.on_run(label, seed)
    return {rate_per_s: [Contender(label, options[label], tuple(found[rate_per_s, label]))
                         for label in fleets] for rate_per_s in runs.rates}


def _cells(fleets: Mapping[str, Fleet], runs: _Runs) -> Iterator[_Cell]:
    """Yield the cells seed by seed, so that few workloads are held at a time."""
    first = next(iter(fleets.values()))
    for seed in runs.seeds:
        workload = fleet_workload(first, seed)
        for rate_per_s in runs.rates:
            for label, fleet in fleets.items():
                yield _Cell(label, fleet, workload, seed, rate_per_s)


def _run(cell: _Cell) -> tuple[str, int, float | None, RunSummary]:
    run = run_fleet(cell.fleet, at_rate(cell.workload, cell.rate_per_s), cell.seed)
    summary = whole_summary(run) if cell.fleet.multiplexing else run.summary
    return cell.label, cell.seed, cell.rate_per_s, summary


def at_rate(workload: Workload, rate_per_s: float | None) -> Workload:
    """The same requests at another rate, where one is given. Raises InputError."""
    if rate_per_s is None:
        return workload
    if workload.rate_per_s <= 0:
        raise InputError("compare: the traffic has no rate to scale (fewer than two arrivals, or "
                         "all at one instant)")
    return scale_rate(workload, rate_per_s / workload.rate_per_s)


def _policies(fleet: Fleet) -> dict[str, Any]:
    """The policy of the pools and, where the fleet has replicas, that of scheduling."""
    pools = {"policy": fleet.multiplexing[0].policy, **fleet.multiplexing[0].settings}
    return {"schedule": asdict(fleet.policies.schedule), "multiplexing": pools} if fleet.replicas \
        else pools


def pool_means(contender: Contender) -> list[dict[str, dict[str, Any]]]:
    """Yield each pool's name and the mean over seeds of its devices' figures."""
    return [{name: asdict(seed_mean(getattr(summary.pools[place], name)
                                    for summary in contender.summaries)) for name in POOL_FIGURES}
            for place in range(len(contender.summaries[0].pools))]


def with_schedule(fleet: Fleet, options: SchedulerOptions) -> Fleet:
    """The fleet with every replica under one scheduling policy."""
    if fleet.engine.max_num_seqs is not None:
        options = replace(options, max_num_seqs=fleet.engine.max_num_seqs)
    return replace(fleet, policies=replace(fleet.policies, schedule=options),
                   replicas=tuple(replace(group, schedule=None) for group in fleet.replicas))
