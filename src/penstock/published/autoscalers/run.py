"""llm-d's public episode of its SLO-aware loop, simulated with its law, with ours and with others.

Source: llm-d guides/workload-autoscaling/README.slo-aware.md and its BENCHMARK.md @d38c9f0.
"""

from pathlib import Path
from typing import Any, NamedTuple

from penstock.experiment.run import run_fleet
from penstock.experiment.summary import whole_summary
from penstock.fleet.sources import fleet_workload
from penstock.published.examples import example_fleet
from penstock.published.figures import Figure, Options, Reproduction

FLEET = "llm-d-slo.yaml"
PUBLISHED_ATTAINMENT, PUBLISHED_REPLICAS = 0.958, 5.93
OURS_ATTAINMENT = 0.995
OTHERS = ("hpa", "kpa", "keda", "ray", "llm-d-tokens", "aibrix-apa", "wva-percent", "wva-tokens",
          "block", "dynamo")


class _Cell(NamedTuple):
    """A scale policy, and changes to the example."""

    policy: str
    overrides: dict[str, Any]
    seed: int

    @property
    def name(self) -> str:
        return self.policy + "".join(f", {key}={value}" for key, value in self.overrides.items())


class _Outcome(NamedTuple):
    attainment: float
    mean_replicas: float
    changes: list[dict[str, Any]]


def reproduce_llm_d_slo(_data: Path | None, options: Options) -> Reproduction:
    """Simulate the episode with every policy. The settings of others are those of the example."""
    policies, counts = ("llm-d-slo", "penstock", *OTHERS), (6, 7, 8)
    cells = [*(_Cell(name, {}, options.seed) for name in policies),
             *(_Cell("static", {"replicas[0].count": count}, options.seed) for count in counts)]
    outcomes = []
    for cell, outcome in zip(cells, options.where.results(_run, cells), strict=True):
        options.on_progress(f"simulated {cell.name}")
        outcomes.append(outcome)
    found = dict(zip(policies, outcomes, strict=False))
    static = dict(zip(counts, outcomes[len(policies):], strict=True))
    theirs, ours = found["llm-d-slo"], found["penstock"]
    figures = (
        Figure("llm-d-slo: requests within both objectives", PUBLISHED_ATTAINMENT,
               theirs.attainment, "absolute", 0.04),
        Figure("llm-d-slo: mean replicas", PUBLISHED_REPLICAS, theirs.mean_replicas, "absolute",
               0.3),
        Figure("static 8: requests within both objectives", 1.0, static[8].attainment, "absolute",
               0.005),
        Figure("penstock: requests within both objectives", OURS_ATTAINMENT, ours.attainment,
               "at_least"),
        Figure("penstock: mean replicas", PUBLISHED_REPLICAS, ours.mean_replicas, "at_most"),
        *(Figure(f"static {count}: requests within both objectives", None, one.attainment, "shown")
          for count, one in static.items() if count < 8),
        *(figure for name in OTHERS for figure in (
            Figure(f"{name}: requests within both objectives", None, found[name].attainment,
                   "shown"),
            Figure(f"{name}: mean replicas", None, found[name].mean_replicas, "shown"))))
    rows = {f"{name}.csv": one.changes for name, one in found.items()}
    return Reproduction("llm-d-slo", figures, rows, remarks=(
        "The published loop takes latencies that a predictor forecasts; here its fallback, the "
        "measured ones.",))


def _run(cell: _Cell) -> _Outcome:
    fleet = example_fleet(FLEET, {"policies.scale": cell.policy, **cell.overrides})
    summary = whole_summary(run_fleet(fleet, fleet_workload(fleet), cell.seed))
    assert summary.scaling is not None, "the fleet scales"
    attainment = summary.classes["chat"].attainment
    assert attainment is not None, "every request counts"
    return _Outcome(attainment, summary.scaling.mean_replicas, [
        {"at_s": one.at_s, "target": one.target, "starting": one.starting, "ready": one.ready,
         "draining": one.draining} for one in summary.scaling.changes])
