"""The two analytic queues of one replica against the simulator: the chain of ``penstock queue`` and
the path of ``penstock plan`` on requests drawn from the same means.

    python benchmarks/queue_models.py             # about 2 minutes

Prints the errors of the p50 and p99 of TTFT and of the gaps between tokens, relative to the
simulation: Poisson arrivals, fixed and lognormal lengths, 3,000 requests each.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from common import REPOSITORY, show

LOADS = (0.3, 0.6, 0.9)
SHARES = (50.0, 99.0)


def errors(name: str, case: tuple[Any, ...], load: float, *, varied: bool) -> dict[str, Any]:
    """Errors of both queues for one kind of traffic at one share of the chain's capacity."""
    from test_queue_and_simulation import FLEET, SPREAD, gap_percentile, lengths

    from penstock.fleet.load import load_fleet
    from penstock.fleet.sources import fleet_workload
    from penstock.perf.evidence import Evidence
    from penstock.perf.queueing.analysis import analyze
    from penstock.perf.queueing.build import from_step_model
    from penstock.perf.queueing.parameters import RequestSize, Variability
    from penstock.perf.queueing.replicas import ClassTargets, EngineLimits, ReplicaQueue
    from penstock.perf.step_time.linear import LinearStepTime
    from penstock.sim.simulation import simulate
    from support.drawn_requests import drawn_mix

    prompt, output, budget, slots, token_s, work_s = case
    scv = float(np.expm1(SPREAD**2)) if varied else 0.0
    size, vary = RequestSize(prompt, output), Variability(1.0, scv, scv)
    model = LinearStepTime(0.01, token_s, work_s, token_s, 5e-8, Evidence("benchmark", 0.0, 0.0))
    batch = from_step_model(model, size, slots, max_step_tokens=budget, variability=vary)
    rate_per_s = load * float(batch.capacity_per_s[0])
    chain = analyze(batch, np.array([rate_per_s]), SHARES)
    path = ReplicaQueue(
        model, EngineLimits(budget, 2_000_000, slots, by_pace=False, by_deadline=False),
        drawn_mix(size, vary, np.random.default_rng(0)), (ClassTargets("chat"),))
    state = path.operation(rate_per_s)
    with TemporaryDirectory() as folder:
        file = Path(folder, "fleet.yaml")
        file.write_text(FLEET.format(
            prompt=lengths(prompt, varied), output=lengths(output, varied), rate=rate_per_s,
            num_requests=3000, token_s=token_s, work_s=work_s, budget=budget, slots=slots))
        fleet = load_fleet(file)
        table = simulate(fleet, fleet_workload(fleet, 1), journal_dir=Path(folder), seed=1).table
        journal = next(Path(folder).glob("journal-0*"))
        simulated = [*np.percentile(table.ttft_s, SHARES),
                     *(gap_percentile(journal, share) for share in SHARES)]
    found = {
        "chain": [*chain.ttft_percentiles_s[0], *chain.itl_percentiles_s[0]],
        "path": [*(path.ttft_quantile_s(0, share / 100.0, rate_per_s) for share in SHARES),
                 *(state.gap_quantile_s(share / 100.0) if state else np.inf for share in SHARES)]}
    keys = ("ttft_p50", "ttft_p99", "itl_p50", "itl_p99")
    return {"traffic": name, "lengths": "lognormal" if varied else "fixed", "load": load,
            **{queue: {key: round(float(value / truth - 1.0), 3)
                       for key, value, truth in zip(keys, values, simulated, strict=True)}
               for queue, values in found.items()}}


if __name__ == "__main__":
    sys.path += [str(REPOSITORY / "tests"), str(REPOSITORY / "tests" / "parity")]
    from test_queue_and_simulation import CHAT, CHUNKED

    kinds = {"chat": CHAT, "chunked": CHUNKED, "slots": (256, 256, 2048, 16, 3e-5, 0.0)}
    show({"queue_models": [errors(name, case, load, varied=varied) for name, case in kinds.items()
                           for varied in (False, True) for load in LOADS]})
