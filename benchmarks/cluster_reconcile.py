"""CPU time and memory of the controller's steps for a Fleet of 1,000 groups with 10,000 pods.

    python benchmarks/cluster_reconcile.py
"""

import resource
import sys
import time

from penstock.fleet.load import parse_fleet
from penstock.serving.kubernetes import objects
from penstock.serving.kubernetes.index import Index
from penstock.serving.kubernetes.reconcile import Observed, group_states, reconcile
from penstock.serving.kubernetes.retire import Switch, retired

NUM_GROUPS, PODS_EACH = 1000, 10
MOST_S, MOST_MB = 2.0, 500.0
FLEET = """\
name: many
accelerators: [{name: h100-80gb, count: 100000}]
models: [{name: llama-3.1-8b}]
service_classes: [{name: chat}]
traffic: [{lengths: {prompt: {fixed: 300}, output: {fixed: 40}}, rate_per_s: 1}]
engine: {name: vllm}
replicas: [GROUPS]
"""


def metadata(name: str, labels: dict[str, str]) -> dict[str, object]:
    """Return the metadata of an object."""
    return {"name": name, "namespace": "ns", "uid": name, "labels": labels,
            "creationTimestamp": "2026-11-24T10:00:00Z"}


def deployment(number: int) -> dict[str, object]:
    """Return a group's Deployment."""
    return {"kind": "Deployment", "metadata": metadata(f"w{number}", {}), "spec": {
        "replicas": PODS_EACH, "selector": {"matchLabels": {"app": f"w{number}"}}}}


def pod(number: int, place: int) -> dict[str, object]:
    """Return a pod of a group."""
    return {"kind": "Pod", "spec": {"nodeName": "n"}, "status": {"conditions": [
        {"type": "Ready", "status": "True"}]},
            "metadata": metadata(f"w{number}-{place}", {"app": f"w{number}", "tier": "engine"})}


def main() -> int:
    """Print CPU time and memory."""
    groups = ", ".join(f"{{count: 2, kubernetes: {{adopt: {{name: w{number}}}}}}}"
                       for number in range(NUM_GROUPS))
    values = parse_fleet(FLEET.replace("GROUPS", groups))
    fleet = objects.fleet({"kind": "Fleet", "metadata": metadata("many", {})})
    begin_s = time.process_time()
    seen = Observed(Index(
        *(objects.workload(deployment(number)) for number in range(NUM_GROUPS)),
        *(objects.pod(pod(number, place)) for number in range(NUM_GROUPS)
          for place in range(PODS_EACH))))
    read_s = time.process_time() - begin_s
    states = group_states(fleet, values, seen)
    # Every second group grows, and every other one shrinks: the most work for a switch.
    switch = Switch(values, states, retired(fleet, values, states, seen.index), {
        number: PODS_EACH + (1 if number % 2 else -1) for number in range(NUM_GROUPS)})
    steps = [*reconcile(fleet, values, states, seen, switch.allowed()),
             *switch.steps(seen.index, {})]
    taken_s = time.process_time() - begin_s - read_s
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{NUM_GROUPS:,} groups, {NUM_GROUPS * PODS_EACH:,} pods: read in {read_s:.3f} s, "
          f"{len(steps):,} steps in {taken_s:.3f} s of CPU time; {peak_mb:.0f} MB")
    return 1 if taken_s > MOST_S or peak_mb > MOST_MB else 0


if __name__ == "__main__":
    sys.exit(main())
