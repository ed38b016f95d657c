"""Cost of one decision: plan and commit at 256 running sequences.

    python benchmarks/decisions.py            # a few seconds
"""

import statistics
import time
from typing import Any

from common import show

RUNNING = 256
STEPS = 3000


def decision_us(policy: str, prompts: bool) -> dict[str, float]:
    """Median and 99th percentile of plan + commit, with decodes alone or with prompts arriving."""
    from penstock.core.request import Request
    from penstock.core.slo import ServiceClass, Slo
    from penstock.core.step import StepResult
    from penstock.policy.kv.counting import CountingKv
    from penstock.policy.schedule.options import scheduler_options
    from penstock.registry.make import build_scheduler
    from penstock.registry.step_times import published_step_time

    classes = (ServiceClass("q1", Slo(6.0, 0.05)), ServiceClass("q2", Slo(e2e_s=600.0)),
               ServiceClass("q3", Slo(e2e_s=1800.0)))
    model = published_step_time("vidur-a100-llama-3-8b")
    options = scheduler_options(policy, **({"chunk_tokens": 512} if policy == "sarathi" else {}))
    scheduler = build_scheduler(options, model, CountingKv(200_000, 16))
    now, number = 0.0, 0

    def add() -> None:
        nonlocal number
        scheduler.add(Request(number, now, 300, 4000, classes[number % 3]), now)
        number += 1

    def step() -> tuple[float, Any]:
        nonlocal now
        start = time.perf_counter()
        plan = scheduler.plan(now)
        planned = time.perf_counter()
        assert plan is not None
        now += model.seconds(*plan.features)
        resumed = time.perf_counter()
        scheduler.commit(plan, StepResult(finished), now)
        return planned - start + time.perf_counter() - resumed, plan

    finished: tuple[int, ...] = ()
    while scheduler.num_running < RUNNING or scheduler.num_waiting:
        if number < RUNNING:
            add()
        step()
    taken = []
    oldest = 0
    for _ in range(STEPS):
        if prompts:  # one ends and one arrives each step, so that 256 keep running
            finished = (oldest,)
            oldest += 1
            add()
        seconds, _ = step()
        taken.append(seconds * 1e6)
    return {"median_us": statistics.median(taken),
            "p99_us": statistics.quantiles(taken, n=100)[98]}


if __name__ == "__main__":
    show({"running": RUNNING, "decision": {
        policy: {"decodes_only": decision_us(policy, prompts=False),
                 "one_in_one_out": decision_us(policy, prompts=True)}
        for policy in ("sarathi", "edf", "niyama", "penstock")}})
