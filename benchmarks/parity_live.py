"""The same trace through the simulator, and through gateway, emulated engines and load generator.

    python benchmarks/parity_live.py [--speed 0.2] [--requests 200] [--rate 4] [--route NAME]

Engines, gateway and load generator are processes of their own. Engine time runs at ``--speed``, so
that what the processes take for themselves is small beside a step. First, single requests on idle
engines show how much that is for TTFT and for e2e (the calibration); then the trace is run, and its
latencies are compared with the simulation's, as they are and less that overhead.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from common import show

from penstock.experiment.load.bench import Target, bench
from penstock.experiment.load.plan import fleet_plan
from penstock.experiment.load.template import RequestTemplate
from penstock.fleet.load import parse_fleet
from penstock.fleet.write import to_yaml
from penstock.sim.simulation import simulate
from penstock.workload.mixing import scale_rate
from penstock.workload.select import select

FLEET = """\
name: parity
accelerators: [{name: a100-80gb, count: 4}]
models: [{name: llama-3.1-8b}]
service_classes:
  - {name: interactive, priority: 1, slo: {ttft_s: 2, itl_s: 0.05}}
  - {name: batch, priority: 3, slo: {e2e_s: 300}}
traffic:
  - mix: {interactive: 0.7, batch: 0.3}
    lengths: azure-2023-conv
    rate_per_s: 4
    num_requests: 300
replicas: [{count: 2}]
policies: {schedule: penstock, route: round_robin}
run: {beliefs: exact}
"""
NUM_SINGLE, SINGLE_TOKENS = 12, 16
SHARES = (50, 90, 99)


@contextmanager
def penstock(folder: Path, *arguments: str) -> Iterator[list[str]]:
    """A command in a process of its own; the words of each line that it first prints."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-m", "penstock", *arguments, "--json"], cwd=folder,
                          env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            lines = [process.stdout.readline()]
            while lines[-1] != "}\n":
                lines.append(process.stdout.readline())
            yield json.loads("".join(lines))
        finally:
            process.terminate()


def latencies(table: Any) -> dict[str, Any]:
    return {"ttft_s": table.ttft_s, "tpot_s": table.tpot_s, "e2e_s": table.e2e_s}


def errors(live: Any, simulated: Any, overhead: dict[str, float]) -> dict[str, Any]:
    """Relative error of each figure of the live run, raw and less the overhead."""
    found: dict[str, Any] = {}
    for name, mine in latencies(live).items():
        theirs = latencies(simulated)[name]
        for share in (*SHARES, "mean"):
            values = [float(np.nanmean(one)) if share == "mean" else
                      float(np.nanpercentile(one, share, method="inverted_cdf"))
                      for one in (mine, theirs, mine - overhead.get(name, 0.0))]
            found[f"{name}.{share if share == 'mean' else f'p{share}'}"] = {
                "simulated_s": values[1], "live_s": values[0],
                "raw": values[0] / values[1] - 1, "calibrated": values[2] / values[1] - 1}
    return found


def slowed(table: Any, speed: float) -> Any:
    """A simulation's moments in real seconds."""
    names = ("arrival_s", "first_token_s", "last_token_s", "itl_mean_s", "itl_p99_s", "itl_max_s")
    return replace(table, **{name: getattr(table, name) / speed for name in names})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--speed", type=float, default=0.2)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--rate", type=float, default=4.0, help="per second of engine time")
    parser.add_argument("--route", default="round_robin")
    options = parser.parse_args()
    fleet = parse_fleet(FLEET, overrides={
        "traffic[0].num_requests": options.requests, "traffic[0].rate_per_s": options.rate,
        "policies.route": options.route})
    plan = fleet_plan(fleet)
    # Live, a client asks for just the tokens that it is to get; the simulation's shall, too.
    workload = replace(plan.workload, max_tokens=plan.workload.output_tokens)
    alone = select(workload, np.arange(len(workload)) < NUM_SINGLE)
    few = np.minimum(alone.output_tokens, SINGLE_TOKENS)
    alone = replace(alone, arrival_s=np.arange(NUM_SINGLE) * 60.0, output_tokens=few,
                    max_tokens=few)
    simulated = {name: slowed(simulate(fleet, rows).table, options.speed)
                 for name, rows in (("alone", alone), ("trace", workload))}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        (folder / "fleet.yaml").write_text(to_yaml(fleet))
        engines = stack.enter_context(penstock(
            folder, "emulate", "fleet.yaml", "--port", "0", "--speed", str(options.speed)))
        urls = json.dumps([one["url"] for one in engines["replicas"]])
        gateway = stack.enter_context(penstock(
            folder, "serve", "fleet.yaml", "--port", "0", "--set", f"replicas[0].endpoints={urls}"))
        target = Target(gateway["url"], RequestTemplate(model="llama-3.1-8b"))
        singles = replace(plan, workload=alone).at_concurrency(1, NUM_SINGLE, None)
        first = asyncio.run(bench(target, singles)).table
        before = latencies(simulated["alone"])
        overhead = {key: float(np.median(value - before[key]))
                    for key, value in latencies(first).items()}
        real = replace(plan, workload=scale_rate(workload, options.speed))
        run = asyncio.run(bench(target, real))
    compared = errors(run.table, simulated["trace"], overhead)
    judged = [entry for key, entry in compared.items() if not key.startswith("tpot_s")]
    show({"speed": options.speed, "requests": options.requests, "rate_per_s": options.rate,
          "route": options.route, "outcomes": run.summary.document()["outcomes"],
          "lateness_s": run.summary.document()["generator"]["lateness_s"], "overhead_s": overhead,
          "largest_error_of_ttft_and_e2e": {
              kind: max(abs(entry[kind]) for entry in judged) for kind in ("raw", "calibrated")},
          "figures": compared})


if __name__ == "__main__":
    main()
