"""How certain the verdict on a simulated run is, as far as step times are uncertain."""

from collections.abc import Callable
from dataclasses import replace

from penstock.experiment.run import Run, run_fleet
from penstock.fleet.values import Fleet
from penstock.metrics.run_summary import Certainty, ClassCertainty, RunSummary
from penstock.plan.bisection import edge
from penstock.plan.slower import probability_of, slower
from penstock.workload.workload import Workload

MOST_REQUESTS = 5_000
"""Longer runs are not repeated with other step times unless that is asked for."""

_STEPS = 3


def is_uncertain(fleet: Fleet) -> bool:
    """Whether step times of the fleet's replicas are those of stock engines, with known errors."""
    return not fleet.multiplexing and any(
        not isinstance(group.step_time, str) and (group.step_time or {}).get("kind") == "measured"
        for group in fleet.replicas)


def certainty_of(run: Run, workload: Workload) -> Certainty | None:
    """Return the probability that every class meets its objective, with intervals, from runs with
    slower and with faster steps. None where nothing is judged, or requests are confidential."""
    from penstock.plan.certainty import EDGE  # loads the planner, which few runs need

    meets = run.summary.overall.meets_slo
    if meets is None or run.summary.confidential is not None:
        return None

    def summary(sigmas: float) -> RunSummary:
        fleet = replace(run.fleet, replicas=slower(run.fleet.replicas, sigmas))
        return run_fleet(fleet, workload, run.seed).summary

    def holds(sigmas: float) -> bool:
        return summary(sigmas).overall.meets_slo is not False

    slow, fast = summary(EDGE), summary(-EDGE)
    reach = _reach(holds, EDGE, meets=meets, slow=slow.overall.meets_slo is not False,
                   fast=fast.overall.meets_slo is not False)
    return Certainty(meets_probability=probability_of(reach), classes={
        name: ClassCertainty(
            attainment=(slow.classes[name].attainment, fast.classes[name].attainment),
            ttft_p99_s=(fast.classes[name].latency.ttft_s.p99,
                        slow.classes[name].latency.ttft_s.p99),
            tpot_p99_s=(fast.classes[name].latency.tpot_s.p99,
                        slow.classes[name].latency.tpot_s.p99))
        for name in run.summary.classes})


def _reach(holds: Callable[[float], bool], most: float, *, meets: bool, slow: bool,
           fast: bool) -> float:
    """The largest deviation at which objectives hold, from -most (at most) to most (at least)."""
    if slow:
        return most
    if not (meets or fast):
        return -most
    low, high = (0.0, most) if meets else (-most, 0.0)
    return edge(holds, low, high, _STEPS)
