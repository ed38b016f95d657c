"""How far multiplexing policies are from the offline bound, on the arrivals of SINCERE's runs.

    python benchmarks/residency_bound.py                     # BestBatch's runs of both settings
    python benchmarks/residency_bound.py --setting cc --rate 4

One process, fp32 models unless a policy's name says otherwise, batches of at most 64, nothing drawn
by chance; half an hour, nearly all of it for the bounds. Each policy stands beside the bound of
what it may do: with one resident model, whether models may be read ahead (the least that a load
takes is that from the page cache) or not (the cache then has of a model at most what the one loaded
since left there); with two; and with three in half the bytes.
"""

import argparse
import sys
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from common import REPOSITORY, SHARED, show

from penstock.published.figures import Options
from penstock.published.sincere.records import SincereRun, read_runs
from penstock.published.sincere.server import AFTER, DEVICE_BYTES, Server
from penstock.published.sincere.what_if import (
    ARRIVALS_OF,
    MANY_RESIDENTS,
    Outcome,
    what_if,
)

sys.path.insert(0, str(REPOSITORY / "tests"))
from support.multiplex_bound.bound import in_time_bound
from support.multiplex_bound.values import Bound, BoundOptions, DeviceLimits

DATA = SHARED / "sincere"
SLOT_S = 4.0
ONE, AHEAD = "one resident", "one resident, read ahead"
VARIES = "times vary"  # what is drawn may be shorter than the bound takes it to be
BY_CELL = ("penstock", "penstock, prefetch", "penstock, two resident")


def least_loads_s(server: Server, *, ahead: bool) -> list[float]:
    """The least that a load takes when all of a model, or what the smallest other leaves, is in the
    page cache; what the cache holds when a run begins counts, too."""
    facts, models = server.facts, server.models()
    memory = facts.memory()
    found = []
    for model in models:
        left = memory.capacity_bytes - min(other.size_bytes for other in models
                                           if other.name != model.name)
        cached = max(left, memory.held(model.name, model.size_bytes).cached_bytes)
        cached = model.size_bytes if ahead else min(model.size_bytes, cached)
        found.append(facts.loading.seconds(model.size_bytes, cached, pinned_bytes=0, first=False))
    return found


def bounds_of(run: SincereRun) -> dict[str, Bound]:
    """A bound for each kind of device."""
    servers = {ONE: Server.of(run.setting), AHEAD: Server.of(run.setting),
               **{name: Server.of(run.setting, *many) for name, many in MANY_RESIDENTS.items()}}
    return {kind: in_time_bound(run.requests, server.models(),
                                least_loads_s(server, ahead=kind != ONE),
                                DeviceLimits(DEVICE_BYTES, server.num_resident, AFTER),
                                BoundOptions(SLOT_S))
            for kind, server in servers.items()}


def kind_of(policy: str) -> str:
    """The bound that a policy stands beside."""
    many = (name for name in MANY_RESIDENTS if policy.endswith(name))
    return next(many, AHEAD if policy.endswith("prefetch") else ONE)


def rows_of(run: SincereRun) -> list[dict[str, Any]]:
    """A row for each policy."""
    bounds = bounds_of(run)
    found = []
    for one in what_if([run], Options()):
        if one.policy.endswith(VARIES):
            continue
        bound_pct = 100.0 * bounds[kind_of(one.policy)].share
        # No policy may exceed it: the bound would be wrong.
        assert one.received_pct <= bound_pct + 1e-9, (run, one, bound_pct)
        found.append(row(run, one, bound_pct))
    seconds = sum(bound.seconds for bound in bounds.values())
    print(run.setting, run.pattern, run.rate, run.sla_s, f"{seconds:.0f} s",
          {kind: round(100 * bound.share, 1) for kind, bound in bounds.items()},
          all(bound.solved for bound in bounds.values()), file=sys.stderr, flush=True)
    return found


def row(run: SincereRun, one: Outcome, bound_pct: float) -> dict[str, Any]:
    return {"setting": run.setting, "cell": f"rate {run.rate:g}, SLA {run.sla_s:g} s",
            "policy": one.policy, "bound_pct": bound_pct, "in_time_pct": one.received_pct,
            "of_bound_pct": 100.0 * one.received_pct / bound_pct, "goodput_rps": one.goodput_rps,
            "loads": one.swaps}


def means(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {"runs": len(rows), **{
        key: round(fmean(one[key] for one in rows), 2 if key == "goodput_rps" else 1)
        for key in ("bound_pct", "in_time_pct", "of_bound_pct", "goodput_rps", "loads")},
        "least_of_bound_pct": round(min(one["of_bound_pct"] for one in rows), 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--setting", choices=("cc", "noncc"))
    parser.add_argument("--rate", type=float)
    options = parser.parse_args()
    rows = []
    for run in read_runs(DATA):
        if run.strategy == ARRIVALS_OF and options.setting in (None, run.setting) \
                and options.rate in (None, run.rate):
            rows += rows_of(run)
    result: dict[str, Any] = {"slot_s": SLOT_S, "policies": {}, "cells": {}}
    for setting in sorted({one["setting"] for one in rows}):
        own = [one for one in rows if one["setting"] == setting]
        for policy in dict.fromkeys(one["policy"] for one in own):
            mine = [one for one in own if one["policy"] == policy]
            result["policies"][f"{setting}, {policy}"] = means(mine)
            if policy in BY_CELL:
                for cell in dict.fromkeys(one["cell"] for one in mine):
                    result["cells"][f"{setting}, {cell}, {policy}"] = means(
                        [one for one in mine if one["cell"] == cell])
    show(result)


if __name__ == "__main__":
    main()
