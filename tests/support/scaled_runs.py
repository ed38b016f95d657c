"""Made-up results of scalers, short and long."""

from dataclasses import replace

import numpy as np

from penstock.core.slo import ServiceClass, Slo
from penstock.metrics.scaling_summary import (
    ScaledGroup,
    Scaling,
    ScalingAlternative,
    ScalingChoice,
    ScalingEvent,
    ScalingView,
)
from penstock.metrics.summary import Usage, summarise
from penstock.metrics.table import RequestTable

DAY_S = 86_400.0
CHAT = ServiceClass("chat", Slo(ttft_s=1.0, percentile=99))

VIEW = ScalingView(arrivals_per_s=4.0, num_held=7, num_waiting=2, num_running=31, num_unseen=1,
                   gauges_age_s=0.4, states=({"ready": 2, "starting": 1}, {"ready": 1}),
                   state_ages_s={"ready": 600.0, "starting": 40.0})


def group(model="llama", **changes):
    return ScaledGroup(**{
        "model": model, "accelerator": "h100", "min_replicas": 1, "max_replicas": 8,
        "mean_replicas": 2.0, "peak_replicas": 4, "gpu_hours": 10.0, "cost": 20.0,
        "cost_per_hour": 2.0, **changes})


def event(at_s, number=0, target=1, **states):
    return ScalingEvent(**{"at_s": at_s, "group": number, "target": target, "waiting": 0,
                           "starting": 0, "ready": target, "draining": 0, **states})


def choice(at_s, before, targets, **changes):
    return ScalingChoice(**{"at_s": at_s, "before": before, "targets": targets,
                            "reason": "load rises", "terms": {"load": 2.5}, **changes})


def scaling(groups, changes, decisions):
    return Scaling(policy="penstock", settings={}, mean_replicas=2.0, peak_replicas=4,
                   gpu_hours=10.0, cost=20.0, starts=3, stops=2, groups=tuple(groups),
                   changes=tuple(changes), decisions=tuple(decisions))


def requests(arrival_s, late=()):
    """Requests of one class of 100 prompt and 50 output tokens; those at ``late`` miss."""
    arrival_s = np.asarray(arrival_s, dtype=np.float64)
    num = len(arrival_s)
    zero, count = np.zeros(num, np.int32), np.zeros(num, np.int64)
    ttft_s = np.full(num, 0.2)
    ttft_s[list(late)] = 5.0
    first = arrival_s + ttft_s
    return RequestTable(
        np.arange(num), zero, zero, zero, zero, arrival_s, count + 100, count + 50, arrival_s,
        first, first + 1.0, np.full(num, 0.02), np.full(num, 0.02), np.full(num, 0.02), count,
        zero, zero, np.zeros(num, np.int8), np.zeros(num, np.bool_), ("llama",), ("chat",),
        ("default",)).judged({"chat": CHAT.slo})


def summary_document(table, found):
    from penstock.metrics.record import document

    return {"name": "scaled", "version": "0.1.0", "seed": 1,
            **summarise(table, (CHAT,), Usage(np.array([9.0]), 8.0)).document(),
            "scaling": document(found)}


def short_run():
    """Three decisions of two groups within ten minutes."""
    decisions = [
        choice(60.0, (1, 1), (3, 1), seen=VIEW, attainment=0.995,
               next_best=ScalingAlternative(targets=(2, 1), attainment=0.93)),
        choice(200.0, (3, 1), (3, 2), reason="<b>&burst</b>"),
        choice(500.0, (3, 2), (1, 1), reason="fewer sufficed", terms={})]
    changes = [event(0.0), event(0.0, 1), event(60.0, target=3, ready=1, starting=2),
               event(90.0, target=3), event(200.0, 1, target=2, ready=1, starting=1),
               event(230.0, 1, target=2), event(500.0, target=1, ready=1, draining=2),
               event(500.0, 1, target=1, draining=1), event(510.0), event(512.0, 1)]
    return scaling([group(), group("qwen")], changes, decisions), \
        requests(np.arange(0.0, 600.0, 0.5), late=range(130, 160))


def fortnight(num_changes=60_000, num_decisions=6_000):
    """Two weeks of ceaseless change with a spike of one decision that must stay visible."""
    random = np.random.default_rng(3)
    times = np.sort(random.uniform(0.0, 14 * DAY_S, num_changes))
    targets = random.integers(2, 6, num_changes)
    targets[num_changes // 3] = 40
    changes = [event(0.0, target=2)] + [
        event(float(at_s), target=int(target), ready=int(target) - 1, starting=1)
        for at_s, target in zip(times, targets, strict=True)]
    every = num_changes // num_decisions
    decisions = [choice(one.at_s, (before.target,), (one.target,),
                        seen=replace(VIEW, states=VIEW.states[:1]))
                 for before, one in zip(changes[::every], changes[every::every], strict=False)]
    arrivals = np.sort(random.uniform(0.0, 14 * DAY_S, 400_000))
    return scaling([group()], changes, decisions), requests(arrivals, late=range(0, 400_000, 150))
