"""Requests that a run sends: from a fleet file's traffic, or from a few options."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from penstock.core.errors import InputError, nearest
from penstock.core.slo import ServiceClass, Slo
from penstock.fleet.judge import cost_per_hour, counted
from penstock.fleet.sources import fleet_workload
from penstock.fleet.traffic import check_open
from penstock.fleet.values import Fleet
from penstock.fleet.write import resolved
from penstock.metrics.table import RequestTable
from penstock.registry.sources import read_trace
from penstock.workload.arrivals import ArrivalProcess, constant, gamma, poisson
from penstock.workload.column_map import AS_KNOWN, ColumnMap
from penstock.workload.conversations import Conversation
from penstock.workload.length_tables import length_table, length_table_names
from penstock.workload.lengths import (
    Fixed,
    LengthDistribution,
    LengthModel,
    Marginal,
    length_distribution,
    quantile_table,
)
from penstock.workload.mixing import generate, scale_rate
from penstock.workload.profile import ramp
from penstock.workload.sessions import Sessions
from penstock.workload.source import TrafficSource
from penstock.workload.workload import Workload

UNNAMED_CLASS = "default"
"""Name of the class in results where none was given."""

NUM_DRAWN = 4096
"""Requests that are made up for a closed loop, which begins again after the last of them."""
_DEFAULT_NUM = 100
_NO_TARGETS = Slo()


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """Requests with their times and objectives.

    ``concurrency`` keeps that many requests in flight and ignores the workload's own times; then
    ``num_requests`` and ``duration_s`` say when the load ends. ``stated`` is the part of
    summary.json about the origin of the plan. ``names_class`` is false where the user named no
    class: the class name is then ours and is not sent to the server. ``conversations`` are the
    prompts; without them, prompts are generated.
    """

    name: str
    workload: Workload
    classes: tuple[ServiceClass, ...]
    seed: int
    stated: Mapping[str, Any]
    fleet: Fleet | None = None
    concurrency: int | None = None
    num_requests: int | None = None
    duration_s: float | None = None
    names_class: bool = True
    conversations: tuple[Conversation, ...] = ()

    @property
    def cost_per_hour(self) -> float:
        """Cost of the fleet's replicas per hour, 0 where the replicas are unknown."""
        return cost_per_hour(self.fleet) if self.fleet is not None else 0.0

    def counted(self, table: RequestTable) -> RequestTable:
        """The requests that count: all but those of a fleet's warm-up."""
        return counted(self.fleet, table) if self.fleet is not None else table

    @property
    def fleet_document(self) -> dict[str, Any] | None:
        """The fleet with every default written out."""
        return resolved(self.fleet) if self.fleet is not None else None

    def at_rate(self, rate_per_s: float) -> "LoadPlan":
        """The same requests, compressed or stretched in time to a mean rate."""
        if self.workload.rate_per_s <= 0:
            raise InputError("the load has no rate to scale: fewer than two arrivals")
        return replace(
            self, workload=scale_rate(self.workload, rate_per_s / self.workload.rate_per_s),
            stated={**self.stated, "rate_per_s": rate_per_s})

    def asking(self, conversations: tuple[Conversation, ...], file: Path) -> "LoadPlan":
        """The same requests with the prompts of a file, in its order and again from its first."""
        tokens = np.array([one.num_tokens for one in conversations], dtype=np.int64)
        rows = np.arange(len(self.workload)) % len(conversations)
        stated = {key: value for key, value in self.stated.items() if key != "prompt_tokens"}
        return replace(
            self, conversations=conversations,
            workload=replace(self.workload, prompt_tokens=tokens[rows]),
            stated={**stated, "prompt_file": str(file), "num_prompts": len(conversations)})

    def at_concurrency(self, concurrency: int, num_requests: int | None,
                       duration_s: float | None) -> "LoadPlan":
        """The same requests in order, so many under way at a time, whatever they wait for. Without
        a bound as many as the workload has."""
        if num_requests is None and duration_s is None:
            num_requests = len(self.workload)
        return replace(
            self, workload=replace(self.workload, links=None, tasks=None),
            concurrency=concurrency, num_requests=num_requests, duration_s=duration_s,
            stated={**self.stated, "concurrency": concurrency, "num_requests": num_requests,
                    "duration_s": duration_s})


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """A load in words, as the command line has them.

    ``prompt`` and ``output`` are ``512`` or ``100-900`` tokens; ``lengths`` names a shipped table
    in their place. ``columns`` are other names in the file of ``trace``, whose next turns wait for
    answers with ``sessions``. ``arrivals`` is poisson,
    constant, gamma:CV or ramp:START:END:SECONDS.
    """

    rate_per_s: float | None = None
    num_requests: int | None = None
    duration_s: float | None = None
    prompt: str = "256"
    output: str = "64"
    lengths: str | None = None
    arrivals: str = "poisson"
    trace: Path | None = None
    slo: Slo = _NO_TARGETS
    class_name: str | None = None
    seed: int = 0
    columns: ColumnMap = AS_KNOWN
    sessions: bool = False


def fleet_plan(fleet: Fleet) -> LoadPlan:
    """The traffic of a fleet file. Raises InputError."""
    check_open(fleet.traffic, "a load from a fleet file", with_sessions=True)
    workload = fleet_workload(fleet)
    return LoadPlan(fleet.name, workload, fleet.service_classes, fleet.run.seed,
                    {"from": "fleet", "num_requests": len(workload),
                     "rate_per_s": workload.rate_per_s, **_sessions_in(workload)}, fleet)


def _sessions_in(workload: Workload) -> dict[str, Any]:
    """The number of sessions, where requests belong to any."""
    return {} if workload.tasks is None else {
        "sessions": len(np.unique(workload.tasks[workload.tasks >= 0]))}


def option_plan(options: LoadOptions, *, timed: bool = True) -> LoadPlan:
    """The load that options describe; without ``timed`` only its lengths matter. Raises
    InputError."""
    source, said = _source(options, timed=timed)
    workload = generate([source], options.seed)
    if not len(workload):
        raise InputError("no request falls into the duration; expected a longer one or a higher "
                         "rate")
    if options.trace is not None and not timed:
        workload = replace(workload, arrival_s=np.zeros(len(workload)))
    name = options.class_name or UNNAMED_CLASS
    workload = replace(workload, service_classes=(name,),
                       class_index=np.zeros(len(workload), dtype=np.int64))
    return LoadPlan("bench", workload, (ServiceClass(name, options.slo),), options.seed,
                    {"from": "options", **said, "num_requests": len(workload),
                     **_sessions_in(workload)},
                    names_class=options.class_name is not None)


def _source(options: LoadOptions, *, timed: bool) -> tuple[TrafficSource, dict[str, Any]]:
    num, duration_s = options.num_requests, options.duration_s
    if options.sessions and options.trace is None:
        raise InputError("--sessions: only the requests of a trace have sessions; give --trace")
    if options.sessions and not timed:
        raise InputError("--sessions and --concurrency exclude each other: next turns wait for "
                         "answers, not for a place")
    if not timed:
        num, duration_s = num or (_DEFAULT_NUM if duration_s is None else NUM_DRAWN), None
    if options.trace is not None:
        trace = read_trace(options.trace, mapping=options.columns)
        own_times = trace.arrival_s is not None
        if not own_times and options.rate_per_s is None and timed:
            raise InputError(f"--trace {options.trace}: has no arrival times; give --rate")
        process = None if own_times else _process(options.arrivals)
        rate = options.rate_per_s if own_times or timed else 1.0
        source = TrafficSource("bench", trace=trace, arrivals=process, rate_per_s=rate,
                               num_requests=num or (None if duration_s else len(trace)),
                               duration_s=duration_s,
                               sessions=Sessions() if options.sessions else None)
        return source, {"trace": str(options.trace), "rate_per_s": options.rate_per_s,
                        "duration_s": duration_s}
    if timed and num is None and duration_s is None:
        num = _DEFAULT_NUM
    rate_per_s = options.rate_per_s or 1.0
    source = TrafficSource(
        "bench", lengths=_lengths(options), arrivals=_process(options.arrivals),
        rate_per_s=rate_per_s, num_requests=num, duration_s=duration_s)
    said: dict[str, Any] = {"prompt_tokens": options.prompt, "output_tokens": options.output}
    if options.lengths is not None:
        said = {"lengths": options.lengths}
    if timed:
        said |= {"arrivals": options.arrivals, "rate_per_s": rate_per_s, "duration_s": duration_s}
    return source, said


def _lengths(options: LoadOptions) -> LengthModel:
    if options.lengths is not None:
        if options.lengths not in length_table_names():
            raise InputError(f"--lengths {options.lengths!r}: no such table"
                             f"{nearest(options.lengths, length_table_names())}")
        return length_table(options.lengths)
    return tokens_distribution(options.prompt, options.output)


def tokens_distribution(prompt: str, output: str) -> LengthDistribution:
    """Lengths from ``512`` or ``100-900``. Raises InputError."""
    return length_distribution(_marginal("--prompt-tokens", prompt),
                               _marginal("--output-tokens", output))


def _marginal(option: str, text: str) -> Marginal:
    expected = "expected tokens such as 512, or a range such as 100-900"
    parts = text.split("-")
    if len(parts) > 2 or not all(part.strip().isdecimal() for part in parts):
        raise InputError(f"{option} {text[:40]!r}: {expected}")
    low, high = int(parts[0]), int(parts[-1])
    if not 1 <= low <= high <= 10_000_000:
        raise InputError(f"{option} {text[:40]!r}: {expected}")
    return Fixed(low) if low == high else quantile_table((0.0, 1.0), (low, high))


_FORMS = {"poisson": 0, "constant": 0, "gamma": 1, "ramp": 3}


def _process(text: str) -> ArrivalProcess:
    name, *settings = text.split(":")
    expected = "expected poisson, constant, gamma:CV or ramp:START:END:SECONDS"
    if name not in _FORMS:
        raise InputError(f"--arrivals {text[:40]!r}: {expected}")
    try:
        numbers = [float(setting) for setting in settings]
    except ValueError:
        raise InputError(f"--arrivals {text[:40]!r}: {expected}") from None
    if len(numbers) != _FORMS[name]:
        raise InputError(f"--arrivals {text[:40]!r}: {expected}")
    if name == "gamma":
        return gamma(numbers[0])
    if name == "ramp":
        return ArrivalProcess(profile=ramp(*numbers))
    return poisson() if name == "poisson" else constant()


def numbers_of(option: str, text: str) -> Sequence[float]:
    """Positive numbers parted by commas, such as ``1,2,4``. Raises InputError."""
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(0 < one < float("inf") for one in found) or len(set(found)) < len(
            found):
        raise InputError(f"{option} {text[:60]!r}: expected positive numbers parted by commas, "
                         "each once, such as 1,2,4")
    return found
