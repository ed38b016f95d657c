"""Candidates, assignments and solutions of the sample bundles."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from zlib import crc32

from penstock.published.inferno.candidates import Candidates, find_candidates
from penstock.published.inferno.change import apply_allocations, scale_load
from penstock.published.inferno.greedy import TieKey
from penstock.published.inferno.records import (
    COST,
    ROUNDED,
    WAIT_MS,
    Field,
    Record,
    equal,
    items,
    near,
)
from penstock.published.inferno.samples import Samples
from penstock.published.inferno.solve import InfernoPlan, Settings, settings_of, solve
from penstock.published.inferno.values import (
    POLICIES,
    Allocation,
    OptimizerOptions,
    Policy,
    System,
)

# Other orders among equal candidates that are tried where the order by name gives another plan.
TIE_ORDERS = 300
TIED = "equal up to a tie: upstream took equal candidates in another order than by name"
NO_SAMPLE = "not compared: its sample bundle is not in the folder"

# Upstream's name of a field -> ours, its relative and its absolute tolerance.
NUMBERS = {"cost": ("cost_cents_per_hour", COST, ROUNDED), "value": ("value", COST, ROUNDED),
           "itl": ("itl_ms", 2e-3, 0.0), "ttft": ("ttft_ms", 2e-3, WAIT_MS),
           "itlAverage": ("itl_ms", 2e-3, 0.0), "ttftAverage": ("ttft_ms", 2e-3, WAIT_MS),
           "maxRPM": ("max_per_min", 2e-3, 0.0)}
EXACT = {"accelerator": "accelerator", "numReplicas": "num_replicas", "maxBatch": "max_batch"}


def candidate_records(path: Path, document: Any, samples: Samples) -> Iterator[Record]:
    """``golden_candidates.json``: a record per server, with every accelerator's candidate."""
    for sample_name, servers in items(document, str(path)):
        found = samples.system(sample_name)
        for server, published in servers.items():
            name = f"{sample_name} {server}"
            if found is None:
                yield _skipped(path.name, name)
                continue
            ours = samples.candidates(*found).by_server.get(server, {})
            fields = [equal("accelerators", sorted(published), sorted(ours))]
            for accelerator in sorted(set(published) & set(ours)):
                fields += _allocation(accelerator, published[accelerator], ours[accelerator])
            yield Record(path.name, name, tuple(fields))


def assignment_records(path: Path, document: Any, samples: Samples) -> Iterator[Record]:
    """``golden_assignments.json``: one run each, and what follows a change of load."""
    for name, published in items(document, str(path)):
        found = samples.system(name)
        if found is None:
            yield _skipped(path.name, name)
            continue
        sample, system = found
        options = _options(published["options"])
        if options.milp_solver:
            yield _milp_run(path.name, name, published, system, samples.candidates(*found))
        else:
            candidates = samples.candidates(sample, system)
            yield _run(path.name, name, published, system, settings_of(options), candidates)


def solution_records(samples: Samples, documents: Mapping[str, Any]) -> Iterator[Record]:
    """Upstream's published answers of the samples. Those of schema v2 come from an older analyser
    than the samples' other results, so they are not compared."""
    for relative, document in documents.items():
        schema, size = relative.split("/")[:2]
        found = samples.system(f"{schema.removeprefix('sample_')}_{size}")
        if found is None or schema != "sample_v1":
            yield Record(relative, "", (Field("allocations", len(document["allocations"]), 0,
                                              informative=True),),
                         NO_SAMPLE if found is None else "not compared: stale, made by an older "
                         "analyser than the samples' golden records")
            continue
        published = {"allocations_before": document["allocations"]}
        yield _run(relative, "", published, found[1], settings_of(found[1].options),
                   samples.candidates(*found))


def _options(published: Mapping[str, Any]) -> OptimizerOptions:
    policy: Policy = next((p for p in POLICIES if p == published["saturationPolicy"]), "None")
    return OptimizerOptions(published["unlimited"], published["heterogeneous"],
                            published["milpSolver"], published["delayedBestEffort"], policy)


def _run(file: str, name: str, published: Mapping[str, Any], system: System, settings: Settings,
         candidates: Candidates) -> Record:
    """The plan, and with a change of load the plan after it."""
    plan, fields, tied = _stage("before", published, system, settings, candidates)
    if "change" in published:
        # Scope (always all servers), factor on the rate, factor on tokens.
        _, rate, tokens = published["change"].split(":")
        changed = scale_load(apply_allocations(system, plan.allocations), float(rate),
                             float(tokens))
        _, after, also_tied = _stage("after", published, changed, settings,
                                     find_candidates(changed))
        fields, tied = fields + after, tied or also_tied
    return Record(file, name, fields, TIED if tied else "",
                  "after total cost" if "change" in published else "before total cost")


def _stage(when: str, published: Mapping[str, Any], system: System, settings: Settings,
           candidates: Candidates) -> tuple[InfernoPlan, tuple[Field, ...], bool]:
    """The plan by names; where it differs and candidates tie, the first order that agrees."""
    plan = solve(system, settings, candidates=candidates)
    fields = tuple(_plan(when, published, plan))
    if not all(field.agrees for field in fields) and _has_ties(candidates):
        for tie_key in _tie_orders(published[f"allocations_{when}"]):
            other = solve(system, settings, tie_key, candidates)
            found = tuple(_plan(when, published, other))
            if all(field.agrees for field in found):
                return other, found, True
    return plan, fields, False


def _has_ties(candidates: Candidates) -> bool:
    return any(len({each.value for each in found.values()}) < len(found)
               for found in candidates.by_server.values())


def _tie_orders(allocations: Mapping[str, Any]) -> Iterator[TieKey]:
    """Fixed shuffles, every other one with the published choice first."""
    chosen = {(server, allocation["accelerator"])
              for server, allocation in allocations.items() if allocation}
    for seed in range(TIE_ORDERS):
        def shuffled(server: str, accelerator: str, seed: int = seed) -> tuple[bool, int]:
            first = seed % 2 == 0 and (server, accelerator) in chosen
            return not first, crc32(f"{seed}:{server}:{accelerator}".encode())

        yield shuffled


def _plan(when: str, published: Mapping[str, Any], plan: InfernoPlan) -> Iterator[Field]:
    if f"totalCost_{when}" in published:
        yield near(f"{when} total cost", published[f"totalCost_{when}"], plan.total_cost, COST)
        yield equal(f"{when} error", published.get(f"error_{when}"), plan.upstream_error)
    ours = plan.allocations
    for server, theirs in published[f"allocations_{when}"].items():
        where = f"{when} {server}"
        mine = ours.get(server)
        yield equal(f"{where} served", theirs is not None, mine is not None)
        if theirs is not None and mine is not None:
            yield from _allocation(where, theirs, mine)
            if "saturated" in theirs:
                yield equal(f"{where}.saturated", theirs["saturated"],
                            mine.saturated(plan.system.servers[server].load))
    yield equal(f"{when} servers", sorted(published[f"allocations_{when}"]),
                sorted(plan.system.servers))


def _allocation(where: str, theirs: Mapping[str, Any], ours: Allocation) -> Iterable[Field]:
    for name, field in EXACT.items():
        if name in theirs:
            yield equal(f"{where}.{name}", theirs[name], getattr(ours, field))
    for name, (field, relative, absolute) in NUMBERS.items():
        if name in theirs:
            yield near(f"{where}.{name}", theirs[name], getattr(ours, field), relative, absolute)


def _milp_run(file: str, name: str, published: Mapping[str, Any], system: System,
              candidates: Candidates) -> Record:
    """A run of lp_solve, which gives each server one whole candidate, mixtures included.

    A mixture's counts are lost upstream: its server is given the candidate of the accelerator that
    is last in the files. lp_solve stops after 60 s with what it has, so an optimum may be cheaper;
    then, or when an equal optimum mixes otherwise, what can be checked is that every published
    allocation is our candidate, and for single assignments that ours costs no more.
    """
    mixed = published["options"]["heterogeneous"]
    plan = solve(system, Settings("milp-multi" if mixed else "milp-single"), candidates=candidates)
    total = published["totalCost_before"]
    order = list(system.accelerators)
    reported = {server: candidates.by_server[server][max(
        (part.accelerator for part in parts), key=order.index)]
        for server, parts in plan.parts.items()}
    cost = sum(allocation.cost_cents_per_hour for allocation in reported.values())
    fields = [equal("proven", plan.status, "optimal"), near("gap", 0.0, plan.gap or 0.0)]
    note = ""
    if abs(cost - total) <= COST * total:
        fields.append(near("before total cost", total, cost, COST))
    else:
        note = ("mixtures: published costs are not of the plan" if mixed else
                "published is what lp_solve had after 60 s; ours is the proven optimum")
        fields.append(Field("before total cost", total, cost, informative=True))
        if not mixed:
            fields.append(equal("ours costs no more", True, cost <= total))
    for server, theirs in published["allocations_before"].items():
        choice = theirs and candidates.by_server[server].get(theirs["accelerator"])
        fields.append(equal(f"before {server} is a candidate", True, bool(choice)))
        if choice:
            fields += _allocation(f"before {server}", theirs, choice)
            fields.append(Field(f"before {server} chosen", theirs["accelerator"],
                                reported[server].accelerator if server in reported else None,
                                informative=True))
    return Record(file, name, tuple(fields), note, "before total cost")


def _skipped(file: str, name: str) -> Record:
    return Record(file, name, (Field("record", 1, 0, informative=True),), NO_SAMPLE)
