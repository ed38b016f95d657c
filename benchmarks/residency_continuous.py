"""What continuous batching adds over static batches when models share a GPU, on SINCERE's arrivals.

    python benchmarks/residency_continuous.py        # about 8 minutes on one core

SINCERE's three models on an H100 80GB, steps by the roofline, loads by SINCERE's fitted loading
model, arrivals of its 9 BestBatch runs with an SLA of 40 s, each alone (4 to 12 requests/s) and all
of a setting at once (about 66 requests/s). Prompts have 8 to 108 tokens, 58 in the mean. Answers
have 50 tokens, as SINCERE's had, or 5 to 95. Both ways of batching run at most 64 requests of a
model at once and hold the same memory: weights, and keys and values of 8,192 tokens per model. The
policy is Penstock's.
"""

import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from common import SHARED, show

from penstock.catalog.catalog import load_catalog
from penstock.core.request import Request
from penstock.core.slo import ServiceClass, Slo
from penstock.perf.memory import ONE_ACCELERATOR, kv_bytes_per_accelerator
from penstock.perf.step_time.protocol import StepTimeModel
from penstock.perf.step_time.roofline import roofline_step_time
from penstock.policy.multiplex.beliefs import batch_time
from penstock.policy.multiplex.build import MultiplexContext
from penstock.policy.multiplex.device import Device
from penstock.policy.multiplex.values import Batch, HostedModel, Queued
from penstock.policy.schedule.options import scheduler_options
from penstock.published.sincere.records import SincereRun, read_runs
from penstock.published.sincere.server import DEVICE_BYTES, Server
from penstock.registry.make import make_multiplexer
from penstock.sim.multiplex.continuous import EngineSpec, Residents
from penstock.sim.multiplex.driver import MultiplexSimulation
from penstock.sim.multiplex.machine import HostMachine, Took
from penstock.sim.multiplex.record import MultiplexRun

MODELS = ("granite-7b", "gemma-7b", "llama-3.1-8b")
KV_TOKENS, MAX_BATCH, SLA_S = 8192, 64, 40.0
WEIGHTS = {"fp32": 1.0, "bf16": 0.5}
PLACES = (("fp32", 1), ("fp32", 2), ("bf16", 1), ("bf16", 2), ("bf16", 3))


class Case(NamedTuple):
    """A setting to simulate: the runs each alone or ``together``, answers of 50 tokens or
    ``mixed``."""

    setting: str
    precision: str
    num_resident: int
    together: bool
    mixed: bool


class StaticSteps:
    """Loads of a host, and batches as the steps that they consist of: padded to the longest prompt,
    over with the longest answer."""

    def __init__(self, host: HostMachine, steps: Sequence[StepTimeModel],
                 requests: Sequence[Request], outputs: Sequence[int]) -> None:
        self.load, self.prefetch = host.load, host.prefetch
        self._steps, self._requests, self._outputs = steps, requests, outputs

    def batch(self, device: int, batch: Batch, now_s: float) -> Took:
        """A static batch that begins now."""
        step, num = self._steps[batch.model], len(batch.requests)
        ids = [request.request_id for request in batch.requests]
        prompt = max(self._requests[one].prompt_tokens for one in ids)
        seconds = step.seconds(num * prompt, num * prompt**2 / 2, 0, 0)
        for token in range(1, max(self._outputs[one] for one in ids)):
            seconds += step.seconds(0, 0.0, num, num * (prompt + token))
        return Took(seconds)


def together(runs: Sequence[SincereRun]) -> list[Queued]:
    """The requests of all runs, as if they had come in the same 20 minutes."""
    everyone = sorted((one for run in runs for one in run.requests),
                      key=lambda one: (one.arrival_s, one.request_id))
    return [one._replace(request_id=place) for place, one in enumerate(everyone)]


def simulated(case: Case, queued: Sequence[Queued], *, continuous: bool) -> MultiplexRun:
    """One run."""
    rng = np.random.default_rng(1)
    catalog, num = load_catalog(), len(queued)
    prompts = rng.integers(8, 109, num).tolist()
    outputs = rng.integers(5, 96, num).tolist() if case.mixed else [50] * num
    slo = ServiceClass("sla", Slo(e2e_s=SLA_S))
    requests = [Request(one.request_id, one.arrival_s, prompts[one.request_id], 100, slo)
                for one in queued]
    h100 = catalog.accelerator("h100-80gb")
    specs = [catalog.model(name) for name in MODELS]
    steps = [roofline_step_time(spec, h100, ONE_ACCELERATOR, case.precision, case.precision)
             for spec in specs]
    cache = [round(KV_TOKENS * kv_bytes_per_accelerator(spec, ONE_ACCELERATOR, case.precision))
             for spec in specs]
    server = Server.of(case.setting, case.num_resident, WEIGHTS[case.precision])
    models = [HostedModel(one.name, one.size_bytes + kv_bytes, batch_time(step, 58, 50, MAX_BATCH),
                          max_batch=MAX_BATCH)
              for one, step, kv_bytes in zip(server.models(), steps, cache, strict=True)]
    device = Device(0, DEVICE_BYTES, models, continuous=continuous,
                    max_residents=case.num_resident)
    machine = StaticSteps(server.machine(), steps, requests, outputs)
    residents = [Residents([EngineSpec(step, KV_TOKENS, scheduler_options("sarathi"))
                            for step in steps], requests, outputs)] if continuous else []
    policy = make_multiplexer("penstock", {}, MultiplexContext(models, server.loads()))
    return MultiplexSimulation(policy, [device], machine,
                               residents).run(queued)


def summary(case: Case, runs: Sequence[SincereRun]) -> dict[str, Any]:
    """Means over the runs, of both ways."""
    row: dict[str, Any] = case._asdict()
    traffic = [together(runs)] if case.together else [run.requests for run in runs]
    for way in ("static", "continuous"):
        found = [simulated(case, queued, continuous=way == "continuous") for queued in traffic]
        latency = [one.latency_s[one.served] for one in found]
        row[way] = {
            "in_time_pct": float(np.mean([100.0 * one.in_time.mean() for one in found])),
            "latency_mean_s": float(np.mean([column.mean() for column in latency])),
            "latency_p95_s": float(np.mean([np.quantile(column, 0.95) for column in latency])),
            "loads": float(np.mean([len(one.loads) for one in found]))}
    print(row, file=sys.stderr, flush=True)
    return row


if __name__ == "__main__":
    everything = [run for run in read_runs(SHARED / "sincere")
                  if run.strategy == "BestBatch" and run.sla_s == SLA_S]
    cases = [Case(setting, *place, False, False) for setting in ("noncc", "cc")
             for place in PLACES]
    cases += [Case("noncc", "bf16", num, True, mixed) for mixed in (False, True)
              for num in (1, 2, 3)]
    show({"rows": [summary(case, [run for run in everything if run.setting == case.setting])
                   for case in cases]})
