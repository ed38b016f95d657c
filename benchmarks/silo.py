"""One class per replica against one shared fleet, on the same number of GPUs.

    python benchmarks/silo.py                 # about 5 minutes on 2 cores
"""

from typing import Any

from common import TRACES, fleet_of, in_parallel, show

REQUESTS = 40_000
STEP_TIME = "vidur-a100-llama-3-8b"


def replica(classes: list[str] | None, policy: str, chunk_tokens: int) -> dict[str, Any]:
    """One entry of a fleet file's replicas."""
    schedule: dict[str, Any] = {"name": policy}
    if chunk_tokens:
        schedule["chunk_tokens"] = chunk_tokens
    entry: dict[str, Any] = {"accelerator": "a100-80gb", "count": 1, "step_time": STEP_TIME,
                             "schedule": schedule}
    if classes:
        entry["service_classes"] = classes
    return entry


def silos(policy: str, interactive_chunk: int) -> list[dict[str, Any]]:
    """Three replicas, one class each; batch silos take chunks of 2,048 tokens."""
    return [replica(["q1"], policy, interactive_chunk), replica(["q2"], policy, 2048),
            replica(["q3"], policy, 2048)]


FLEETS: dict[str, list[dict[str, Any]]] = {
    "shared, penstock": [{**replica(None, "penstock", 0), "count": 3}],
    "silos, sarathi, interactive chunk 256 (the paper's)": silos("sarathi", 256),
    "silos, sarathi, interactive chunk 512": silos("sarathi", 512),
    "silos, penstock in each": silos("penstock", 0),
}


def capacity(job: tuple[str, str]) -> dict[str, Any]:
    """Capacity of one fleet of three GPUs."""
    from penstock.experiment.capacity import find_capacity

    trace, label = job
    fleet = fleet_of(trace, {"traffic[0].num_requests": REQUESTS, "accelerators[0].count": 3,
                             "replicas": FLEETS[label], "policies.route": "least_loaded"})
    return {"trace": trace, "fleet": label,
            "capacity_per_s": find_capacity(fleet, [1], tolerance=0.02).rate_per_s}


if __name__ == "__main__":
    results = in_parallel(capacity, [(trace, label) for trace in TRACES for label in FLEETS])
    shared = {r["trace"]: r["capacity_per_s"] for r in results if r["fleet"].startswith("shared")}
    show({"silo": [{**r, "shared_over_this": shared[r["trace"]] / r["capacity_per_s"]}
                   for r in results]})
