"""Optima of the integer program against those of the reference file."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from penstock.published.inferno.candidates import Candidates, demand_per_s
from penstock.published.inferno.plans import NO_SAMPLE
from penstock.published.inferno.records import COST, Field, Record, equal, items, near
from penstock.published.inferno.samples import Samples
from penstock.published.inferno.solve import Settings, solve
from penstock.published.inferno.values import System

# More devices than any plan uses: the reference's "unlimited".
ENDLESS = 10**8


def milp_records(path: Path, document: Any, samples: Samples) -> Iterator[Record]:
    """``golden_milp_reference.json``: cost, or that there is no solution."""
    for name, published in items(document, str(path)):
        found = samples.system(name)
        if found is None:
            fields: tuple[Field, ...] = (Field("cost", published["cost"], None, informative=True),)
            yield Record(path.name, name, fields, NO_SAMPLE)
            continue
        system = found[1]
        if name.endswith("unlimited"):
            system = replace(system, capacity=dict.fromkeys(system.capacity or {}, ENDLESS))
        yield Record(path.name, name, tuple(
            _fields(name, published, system, samples.candidates(*found))))


def _fields(name: str, published: Mapping[str, Any], system: System,
            candidates: Candidates) -> Iterator[Field]:
    mixed = "multi" in name
    plan = solve(system, Settings("milp-multi" if mixed else "milp-single"), candidates=candidates)
    yield equal("has a solution", published["cost"] is not None, plan.objective is not None)
    if published["cost"] is None or plan.objective is None:
        yield equal("status", "infeasible", plan.status)
        return
    yield near("cost", published["cost"], plan.objective, COST)
    yield near("our plan's cost", plan.objective, plan.total_cost, COST)
    yield near("gap", published.get("gap") or 0.0, plan.gap or 0.0, absolute=1e-9)
    solution = published.get("solution")
    if solution:
        yield near("cost of the published plan", published["cost"], _price(solution, system), COST)
        short = [server for server, counts in solution.items()
                 if not _covered(server, counts, system, candidates)]
        yield equal("servers that the published plan leaves short", [], short)
    # Several plans may cost the same.
    ours = {server: {part.accelerator: part.num_replicas for part in parts}
            for server, parts in sorted(plan.parts.items())}
    yield Field("solution", solution, ours, informative=True)


def _price(solution: Mapping[str, Mapping[str, int]], system: System) -> float:
    return sum(count * system.accelerators[accelerator].cost_cents_per_hour
               * system.profiles[system.servers[server].model, accelerator].acc_count
               for server, counts in solution.items() for accelerator, count in counts.items())


def _covered(server: str, counts: Mapping[str, int], system: System,
             candidates: Candidates) -> bool:
    served = sum(count * candidates.by_server[server][accelerator].max_per_min
                 for accelerator, count in counts.items())
    return served >= 60.0 * demand_per_s(system, system.servers[server]) * (1.0 - COST)
