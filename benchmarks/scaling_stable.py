"""Changes of a fleet under constant Poisson load for a day: there should be at most two.

    python benchmarks/scaling_stable.py

The loads are at 60 % and 95 % between those that three and four replicas, and four and five, are
believed to serve. A day has about two million requests; each load takes some minutes.
"""

import sys

from penstock.experiment.run import run_fleet
from penstock.fleet.load import parse_fleet
from penstock.fleet.sources import fleet_workload

FLEET = """\
name: steady
accelerators: [{{name: a100-80gb, count: 16}}]
models: [{{name: llama-3-8b}}]
service_classes: [{{name: chat, slo: {{ttft_s: 2, itl_s: 0.05, percentile: 99}}}}]
traffic:
  - {{lengths: {{prompt: {{fixed: 2000}}, output: {{fixed: 200}}}}, rate_per_s: {rate},
     duration_s: 86400}}
replicas: [{{count: {count}, min_replicas: 1, max_replicas: 16}}]
scaling: {{start_s: 120}}
policies: {{scale: penstock}}
"""
BELIEVED_PER_S, MARGIN, MOST_CHANGES = 6.74, 1.25, 2


def main() -> int:
    """Run both loads, and print changes, attainment and mean replicas."""
    worst = 0
    for size, count in ((3.6, 4), (3.95, 4), (4.6, 5), (4.95, 5)):
        rate = size * BELIEVED_PER_S / MARGIN
        fleet = parse_fleet(FLEET.format(rate=f"{rate:.2f}", count=count))
        summary = run_fleet(fleet, fleet_workload(fleet, 0), 0).summary
        scaling, attainment = summary.scaling, summary.overall.attainment
        assert scaling is not None, "the fleet scales"
        assert attainment is not None, "the class has objectives"
        changes = [f"{one.at_s:.0f} s: {one.before[0]} to {one.targets[0]} ({one.reason})"
                   for one in scaling.decisions]
        worst = max(worst, len(changes))
        print(f"{rate:.2f} requests/s: {len(changes)} changes, attainment {attainment:.2%}, "
              f"{scaling.mean_replicas:.2f} replicas; {'; '.join(changes)}", flush=True)
    return 1 if worst > MOST_CHANGES else 0


if __name__ == "__main__":
    sys.exit(main())
