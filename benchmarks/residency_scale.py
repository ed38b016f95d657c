"""A day of many models on a few GPUs: how long the simulation takes, and what comes of it.

    python benchmarks/residency_scale.py                     # 200 models, 16 GPUs, a day
    python benchmarks/residency_scale.py --policy edf        # another policy
    python benchmarks/residency_scale.py --share 0.1         # a tenth of the day, cut out at noon
    python benchmarks/residency_scale.py --profile           # where the time goes

One process; times are of the processor, from the drawing of the requests to the last figure.
Models have the size of 1 to 32 billion parameters in bf16; popularity follows Zipf's law, the rate
a day's sine. Two nodes of 8 GPUs would have two page caches; here the 16 share one of 1 TiB.
"""

import argparse
import cProfile
import pstats
import time
from typing import Any

import numpy as np
from common import show

from penstock.core.units import GB, GIB
from penstock.experiment.swapping import figures
from penstock.perf.loading.host_loads import HostLoads
from penstock.perf.loading.host_memory import HostMemory
from penstock.perf.loading.model import LoadingModel
from penstock.perf.loading.values import LoadEvidence
from penstock.policy.multiplex.build import MultiplexContext
from penstock.policy.multiplex.device import Device
from penstock.policy.multiplex.values import BatchTime, HostedModel, Queued
from penstock.registry.make import make_multiplexer
from penstock.sim.multiplex.driver import MultiplexSimulation
from penstock.sim.multiplex.machine import BatchTruth, HostMachine, Variation
from penstock.sim.multiplex.record import MultiplexRun
from penstock.workload.arrivals import ArrivalProcess
from penstock.workload.patterns import mixed
from penstock.workload.profile import DAY_S, diurnal
from penstock.workload.streams import stream

BILLIONS = (1, 3, 7, 8, 13, 14, 24, 32)
LOADING = LoadingModel(6.0 * GB, 12.0 * GB, LoadEvidence("assumed", 0.0, 0.0), fixed_s=2.0,
                       overlap=0.5)


def models(num: int, rng: np.random.Generator) -> list[HostedModel]:
    """Larger ones compute longer and take more memory for each request."""
    found = []
    for place, billions in enumerate(rng.choice(BILLIONS, num).tolist()):
        batch = BatchTime(0.3 + 0.06 * billions, 0.004 * billions)
        found.append(HostedModel(f"model-{place}", 2 * billions * GB, batch,
                                 (20 + 10 * billions) * 2**20, 64))
    return found


def requests(num_models: int, rate_per_s: float, begin_s: float, end_s: float, sla_s: float,
             zipf: float, seed: int) -> list[Queued]:
    """A day's sine with its crest at 1.7 times the mean, cut to a part of the day."""
    arrivals = ArrivalProcess(profile=diurnal(1.7)).arrivals(
        stream(seed, "scale", "arrivals"), rate_per_s, duration_s=end_s)
    arrivals = arrivals[np.searchsorted(arrivals, begin_s):] - begin_s
    shares = np.arange(1, num_models + 1) ** -zipf
    rng = stream(seed, "scale", "model")
    asked = mixed(rng.permutation(shares), len(arrivals), rng)
    return [Queued(place, model, at_s, at_s + sla_s) for place, (at_s, model)
            in enumerate(zip(arrivals.tolist(), asked.tolist(), strict=True))]


def simulate(options: argparse.Namespace) -> tuple[MultiplexRun, float]:
    """The run, and for how long requests came."""
    hosted = models(options.models, stream(options.seed, "scale", "sizes"))
    half = options.share * DAY_S / 2
    begin_s, end_s = DAY_S / 2 - half, DAY_S / 2 + half
    queued = requests(options.models, options.rate, begin_s, end_s, options.sla, options.zipf,
                      options.seed)
    names, sizes = [one.name for one in hosted], [one.size_bytes for one in hosted]

    def loads() -> HostLoads:
        return HostLoads(names, sizes, LOADING, HostMemory(1024 * GIB))

    context = MultiplexContext(hosted, loads(), [10.0] * len(hosted), options.sla)
    policy = make_multiplexer(options.policy, {}, context)
    devices = [Device(index, 80 * GIB, hosted) for index in range(options.gpus)]
    machine = HostMachine(loads(), [BatchTruth(one.batch) for one in hosted], Variation(None))
    return MultiplexSimulation(policy, devices, machine).run(queued), end_s - begin_s


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Processor seconds and the run's figures."""
    begin = time.process_time()
    run, duration_s = simulate(options)
    found = figures(run, duration_s, range(options.gpus))
    taken_s = time.process_time() - begin
    return {"policy": options.policy, "models": options.models, "gpus": options.gpus,
            "hours": duration_s / 3600.0, "cpu_s": round(taken_s, 1),
            "requests_per_cpu_s": round(found["received"] / taken_s), **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", default="penstock")
    parser.add_argument("--models", type=int, default=200)
    parser.add_argument("--gpus", type=int, default=16)
    parser.add_argument("--rate", type=float, default=12.0, help="requests per second, mean")
    parser.add_argument("--sla", type=float, default=60.0)
    parser.add_argument("--zipf", type=float, default=0.9)
    parser.add_argument("--share", type=float, default=1.0, help="part of the day")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    if not options.profile:
        show(measured(options))
        return
    profiler = cProfile.Profile()
    print(profiler.runcall(measured, options))
    pstats.Stats(profiler).sort_stats("tottime").print_stats(30)


if __name__ == "__main__":
    main()
