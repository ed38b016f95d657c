"""Niyama (arXiv 2503.22562; sarathi-serve branch niyama_asplos2026) recomputed."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from penstock.core.errors import InputError
from penstock.core.slo import Slo
from penstock.experiment.compare import with_schedule
from penstock.experiment.run import run_fleet
from penstock.fleet.sources import fleet_workload
from penstock.fleet.values import Fleet
from penstock.metrics.table import RequestTable
from penstock.perf.profiles.step_tables import read_steps
from penstock.perf.step_time.fitting import fit_step_time
from penstock.policy.schedule.chunking import DecodeLoad, GridChunks
from penstock.policy.schedule.options import SchedulerOptions, scheduler_options
from penstock.published.examples import example_fleet
from penstock.published.figures import Figure, Options, Reproduction
from penstock.registry.step_times import published_step_time
from penstock.workload.mixing import scale_rate
from penstock.workload.workload import Workload

# Chunk totals of the artefact's rule at prompt context 1,000 and 2,000 tokens per decode.
CHUNK_TABLE = {0: (256, 768, 1536, 2048, 2552), 32: (128, 512, 1536, 2048, 2552),
               128: (128, 256, 1280, 2048, 2552)}
SLACKS_S = (0.05, 0.1, 0.2, 0.3, 0.4)
# Requests per run, and ratios of the midpoints of the authors' rate grids (figure 7): those grids
# bracket their results on a GPU with locked clocks, so they are indicative.
TRACES = {"code": ("niyama-code.yaml", 80_000, 2.25, 1.41),
          "conv": ("niyama-conv.yaml", 80_000, 1.54, 1.23),
          "sharegpt": ("niyama-sharegpt.yaml", 40_000, 1.43, 1.11)}
RATIO_TOLERANCE = 0.35
VIOLATIONS = 0.01
RATE_STEP = 1.03
_MOST_OVER_START = 1000.0
# Held-out mean error of least squares on the steps of a vLLM CPU engine.
STEP_ERRORS = {"tiny4l256h": 0.076, "half24l896h": 0.046}


def reproduce_niyama(data: Path, options: Options) -> Reproduction:
    """The chunk table, the capacities of figure 7 and their ratios, and the step-time predictor.

    From ``data`` come the step files ``vllm_cpu_steps_*.csv`` and, where present, ShareGPT lengths
    ``sharegpt*.csv``; lengths of the other traces are the shipped quantile tables. Raises
    InputError when the folder holds no file of either kind.
    """
    steps = sorted(data.glob("vllm_cpu_steps_*.csv*"))
    sharegpt = next(iter(sorted(data.glob("sharegpt*.csv*"))), None)
    if not steps and sharegpt is None:
        raise InputError(f"{data}: holds no vllm_cpu_steps_*.csv and no sharegpt*.csv")
    figures = _chunk_table()
    for path in steps:
        options.on_progress(f"fitting {path.name}")
        figures += _predictor(path)
    rows: list[dict[str, Any]] = []
    of_trace = partial(_capacities, sharegpt, options.num_requests, options.seed)
    for trace, found in zip(TRACES, options.where.results(of_trace, TRACES), strict=True):
        options.on_progress(f"capacities on {trace}")
        figures += found.figures
        rows += found.rows
    return Reproduction("niyama", tuple(figures), {"capacity.csv": rows})


def _chunk_table() -> list[Figure]:
    chunks = GridChunks(published_step_time("niyama-a100-llama-3-8b"),
                        scheduler_options("niyama").safety_factor)
    figures: list[Figure] = []
    for decodes, totals in CHUNK_TABLE.items():
        for slack_s, total in zip(SLACKS_S, totals, strict=True):
            load = DecodeLoad(decodes, 2000 * decodes, slack_s, 1_000_000)
            figures.append(Figure(f"chunk total, {decodes} decodes, slack {slack_s * 1000:.0f} ms",
                                  total, chunks.total_tokens(load, 1000), "exact"))
    return figures


def _predictor(path: Path) -> list[Figure]:
    report = fit_step_time(read_steps(path))
    name = next((key for key in STEP_ERRORS if key in path.name), None)
    published = STEP_ERRORS[name] if name else None
    return [Figure(f"step-time fit, held-out error, {path.name}", published, report.blocked.mean,
                   "at_most", 0.0, f"form {report.form}")]


@dataclass(frozen=True, slots=True)
class _Baseline:
    """A scheduler of the artefact: its name there and ours."""

    name: str
    options: SchedulerOptions


BASELINES = (_Baseline("fcfs", scheduler_options("sarathi", chunk_tokens=256)),
             _Baseline("edf", scheduler_options("edf", chunk_tokens=256)),
             _Baseline("niyama", scheduler_options("niyama")))


class _Capacities(NamedTuple):
    """Figures of one trace, and a row for each policy."""

    figures: list[Figure]
    rows: list[dict[str, Any]]


def _capacities(sharegpt: Path | None, most_requests: int | None, seed: int, trace: str
                ) -> _Capacities:
    name, num_requests, over_fcfs, over_edf = TRACES[trace]
    num_requests = min(num_requests, most_requests or num_requests)
    overrides: dict[str, Any] = {"traffic[0].num_requests": num_requests}
    if trace == "sharegpt" and sharegpt is not None:
        overrides["traffic[0].trace"] = {"file": str(sharegpt.resolve()), "shuffle": True,
                                         "arrivals": {"name": "poisson", "gap_cap": 8}}
        overrides["traffic[0].arrivals"] = None  # a trace file has them under its own key
    fleet = example_fleet(name, overrides)
    workload = fleet_workload(fleet, seed)
    found: dict[str, float] = {}
    start = workload.rate_per_s
    for baseline in BASELINES:
        found[baseline.name] = start = figure7_capacity(
            _violations(with_schedule(fleet, _keeping(fleet, baseline.options)), workload, seed),
            start)
    fcfs, edf, niyama = (found[baseline.name] for baseline in BASELINES)
    shown = [Figure(f"{trace}: capacity of {key}, requests/s", None, value, "shown")
             for key, value in found.items()]
    figures = [*shown,
               Figure(f"{trace}: edf over fcfs, above 1", 1.0, edf / fcfs, "at_least"),
               Figure(f"{trace}: niyama over edf, above 1", 1.0, niyama / edf, "at_least"),
               Figure(f"{trace}: niyama over fcfs", over_fcfs, niyama / fcfs,
                      tolerance=RATIO_TOLERANCE, note="published: midpoints of rate grids"),
               Figure(f"{trace}: niyama over edf", over_edf, niyama / edf,
                      tolerance=RATIO_TOLERANCE, note="published: midpoints of rate grids")]
    return _Capacities(figures, [
        {"trace": trace, "policy": policy, "requests": num_requests, "capacity_per_s": rate}
        for policy, rate in found.items()])


def _keeping(fleet: Fleet, options: SchedulerOptions) -> SchedulerOptions:
    """The artefact's own prediction of output lengths differs per trace; the fleet has it."""
    tokens = fleet.policies.schedule.predicted_output_tokens
    return replace(options, predicted_output_tokens=tokens)


def _violations(fleet: Fleet, workload: Workload, seed: int) -> Callable[[float], float]:
    def violations(rate_per_s: float) -> float:
        scaled = scale_rate(workload, rate_per_s / workload.rate_per_s)
        return worst_violation(fleet, run_fleet(fleet, scaled, seed).result.table)

    return violations


def worst_violation(fleet: Fleet, table: RequestTable) -> float:
    """The largest share of any tier that misses its TTFT or its end-to-end time.

    As in the artefact's plots, pace between tokens is not judged.
    """
    worst = 0.0
    for service_class in fleet.service_classes:
        slo = service_class.slo
        rows = table.of_class(service_class.name).judged(
            {service_class.name: Slo(slo.ttft_s, None, slo.e2e_s)} | {
                other: Slo() for other in table.service_classes if other != service_class.name})
        if len(rows):
            worst = max(worst, 1.0 - float(rows.met_slo.mean()))
    return worst


def figure7_capacity(violations: Callable[[float], float], start_per_s: float) -> float:
    """The rate at which the worst tier violates 1 %, interpolated between the last rate that passes
    and the first that fails on a grid of 3 % steps. Raises InputError where no rate fails."""
    low = high = start_per_s
    low_share = high_share = violations(start_per_s)
    step = 1.3
    while high_share <= VIOLATIONS:
        if high > start_per_s * _MOST_OVER_START:
            raise InputError(f"--requests: so few requests meet every time limit at "
                             f"{high:,.0f} requests/s, too; expected more")
        low, low_share = high, high_share
        high = high * step
        high_share = violations(high)
    while low_share > VIOLATIONS and low > start_per_s / 1000:
        high, high_share = low, low_share
        low = low / step
        low_share = violations(low)
    while high / low > RATE_STEP:
        middle = float(np.sqrt(low * high))
        share = violations(middle)
        if share <= VIOLATIONS:
            low, low_share = middle, share
        else:
            high, high_share = middle, share
    return low + (high - low) * (VIOLATIONS - low_share) / (high_share - low_share)
