"""How far Penstock's residency policy is from the offline bound, on the arrivals of SINCERE's runs.

    python benchmarks/residency_bound.py        # BestBatch's runs of both settings (15 minutes)
    python benchmarks/residency_bound.py 2      # two residents

One process, one resident fp32 model unless told otherwise, batches of 64, nothing drawn by chance.
With one resident there are two bounds. Models may be read ahead: the least that a load takes is that
from the page cache. Or they may not: the cache then has of a model at most what the one loaded since
left there.
"""

import sys
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from common import SHARED, show

from penstock.engine.sim.residency.driver import ResidencySimulation
from penstock.engine.sim.residency.machine import BatchTruth, HostMachine, Variation
from penstock.experiment.reproduce.sincere.records import SincereRun, read_runs
from penstock.experiment.reproduce.sincere.server import AFTER, DEVICE_BYTES, Server
from penstock.plan.residency.bound import in_time_bound
from penstock.plan.residency.values import BoundOptions, DeviceLimits
from penstock.policy.residency.build import PENSTOCK, ResidencySettings, residency
from penstock.policy.residency.device import Device
from penstock.policy.residency.penstock import ResidencyOptions

DATA = SHARED / "sincere"
SLOT_S = 4.0


def least_loads_s(server: Server, *, ahead: bool) -> list[float]:
    """The least that a load takes when all of a model, or what the smallest other leaves, is in the
    page cache; what the cache holds when a run begins counts, too."""
    facts = server.facts
    sizes = {name: model.size_bytes for name, model in facts.models.items()}
    memory = facts.memory()
    found = []
    for model in server.models():
        left = memory.capacity_bytes - min(size for name, size in sizes.items()
                                           if name != model.name)
        cached = max(left, memory.held(model.name, model.size_bytes).cached_bytes)
        cached = model.size_bytes if ahead else min(model.size_bytes, cached)
        found.append(facts.loading.seconds(model.size_bytes, cached, pinned_bytes=0, first=False))
    return found


def in_time_pct(run: SincereRun, server: Server, *, ahead: bool) -> float:
    """What the policy makes of a run."""
    models = server.models()
    batches = [BatchTruth(model.batch) for model in models]
    machine = HostMachine(server.loads(), batches, Variation(None), after=AFTER)
    policy = residency(PENSTOCK, models, server.loads(),
                       ResidencySettings(penstock=ResidencyOptions(prefetch=ahead)))
    device = Device(0, DEVICE_BYTES, models, max_residents=server.num_resident)
    found = ResidencySimulation(policy, [device], machine).run(run.requests)
    return 100.0 * float(found.in_time.mean())


def row_of(run: SincereRun, num_resident: int) -> dict[str, Any]:
    server = Server.of(run.setting, num_resident)
    row: dict[str, Any] = {"setting": run.setting, "pattern": run.pattern, "rate": run.rate,
                           "sla_s": run.sla_s}
    for ahead in (False, True) if num_resident == 1 else (True,):
        bound = in_time_bound(run.requests, server.models(), least_loads_s(server, ahead=ahead),
                              DeviceLimits(DEVICE_BYTES, num_resident, AFTER),
                              BoundOptions(SLOT_S))
        policy_pct = in_time_pct(run, server, ahead=ahead)
        # The policy may not exceed it: the bound would be wrong.
        assert policy_pct <= 100.0 * bound.share, (row, policy_pct, bound)
        row["read ahead" if ahead else "not read ahead"] = {
            "bound_pct": 100.0 * bound.share, "policy_pct": policy_pct,
            "of_bound_pct": policy_pct / bound.share, "bound_s": bound.seconds,
            "solved": bound.solved}
    return row


def summary(rows: Sequence[dict[str, Any]], kind: str) -> dict[str, Any]:
    own = [row[kind] for row in rows]
    return {"runs": len(own), **{key: round(fmean(one[key] for one in own), 1)
                                 for key in ("bound_pct", "policy_pct", "of_bound_pct", "bound_s")},
            "least_of_bound_pct": round(min(one["of_bound_pct"] for one in own), 1),
            "largest_gap": round(max(one["bound_pct"] - one["policy_pct"] for one in own), 1)}


def main(num_resident: int) -> None:
    rows = []
    for run in read_runs(DATA):
        if run.strategy == "BestBatch":
            rows.append(row_of(run, num_resident))
            print(rows[-1], file=sys.stderr, flush=True)
    result: dict[str, Any] = {}
    for kind in ("not read ahead", "read ahead"):
        for setting in ("cc", "noncc"):
            own = [row for row in rows if row["setting"] == setting and kind in row]
            if not own:
                continue
            cells = {f"rate {rate}, SLA {sla_s:g} s": [
                row for row in own if (row["rate"], row["sla_s"]) == (rate, sla_s)]
                for rate in (4, 8, 12) for sla_s in (40.0, 80.0)}
            result[f"{setting}, {kind}"] = {"all": summary(own, kind), **{
                name: summary(cell, kind) for name, cell in cells.items() if cell}}
    show({"residents": num_resident, "slot_s": SLOT_S, **result})


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
