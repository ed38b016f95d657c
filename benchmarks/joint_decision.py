"""Cost of one joint decision: 16 requests on 13 replicas at once, and one request alone.

    python benchmarks/joint_decision.py       # a few seconds
"""

import statistics
import time
from random import Random

from common import show

BATCH = 16
REPEATS = 200


def deciding_us(num_requests: int, num_replicas: int, *, targets: bool) -> dict[str, float]:
    """Processor time of a decision, microseconds; every repeat sees new snapshots."""
    from penstock.core.forecast import Forecast
    from penstock.core.money import per_million
    from penstock.core.request import Request
    from penstock.core.slo import ServiceClass, Slo
    from penstock.core.snapshot import ReplicaSnapshot
    from penstock.perf.evidence import Evidence
    from penstock.perf.step_time.linear import LinearStepTime
    from penstock.policy.route.context import RouterContext
    from penstock.policy.route.facts import Offer, ReplicaFacts
    from penstock.predict.latency import LatencyPrior
    from penstock.registry.make import make_router

    rng = Random(1)
    evidence = Evidence("made up", 0.0, 0.0)
    offers = [Offer(f"m{i}", per_million(0.06 * 2**i, 0.06 * 2**i), 2.0**i, 0.3 + 0.05 * i)
              for i in range(4)]
    facts = [ReplicaFacts(i, offers[i % 4], offers[i % 4].model, LatencyPrior(
        LinearStepTime(0.01 * (1 + i % 4), 3e-4, 0.0, 1e-4, 5e-8, evidence), 256))
        for i in range(num_replicas)]
    router = make_router("joint", {}, RouterContext(facts, rng.randrange))
    slo = Slo(1.0, 0.05, 10.0) if targets else Slo()
    chat = ServiceClass("chat", slo)

    def seen() -> list[ReplicaSnapshot]:
        return [ReplicaSnapshot(i, offers[i % 4].model, 0.0, rng.randrange(5), rng.randrange(60),
                                rng.randrange(2000), rng.randrange(40_000), 100_000, None, 1.0,
                                rng.uniform(0.0, 9000.0)) for i in range(num_replicas)]

    def request(number: int) -> Request:
        return Request(number, 0.0, rng.randrange(20, 2000), 1024, chat, forecasts={
            offer.model: Forecast(rng.uniform(50, 400), 600.0, rng.random(), 0.1)
            for offer in offers})

    taken: list[float] = []
    for repeat in range(REPEATS):
        snapshots = seen()
        batch = [request(BATCH * repeat + i) for i in range(num_requests)]
        start = time.thread_time()
        if num_requests == 1:
            router.route(batch[0], snapshots, 0.0)
        else:
            router.route_many(batch, [snapshots] * num_requests, 0.0)  # type: ignore[attr-defined]
        taken.append(1e6 * (time.thread_time() - start))
    return {"median": round(statistics.median(taken), 1),
            "p99": round(sorted(taken)[int(0.99 * REPEATS)], 1), "least": round(min(taken), 1)}


def main() -> None:
    """Print all."""
    import penstock.policy.route.joint.prospects as prospects

    result = {f"{num_requests} x {num_replicas}{', with targets' if targets else ''}":
              deciding_us(num_requests, num_replicas, targets=targets)
              for num_requests, num_replicas in ((BATCH, 13), (1, 13), (1, 50))
              for targets in (False, True)}
    show({"joint_native": not str(prospects.__file__).endswith(".py"), "us": result})


if __name__ == "__main__":
    main()
