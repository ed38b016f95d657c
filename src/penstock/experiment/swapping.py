"""Figures of a run in which models take turns on devices."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from penstock.policy.multiplex.values import OVERWRITTEN
from penstock.sim.multiplex.record import BatchRecord, LoadRecord, MultiplexRun


def figures(run: MultiplexRun, duration_s: float,
            devices: Sequence[int] = (0,)) -> dict[str, Any]:
    """Return the outcomes of the requests, and the use of the devices' time up to ``duration_s``.

    ``received`` = ``served`` + ``lost`` (overwritten before they ran) + ``shed`` (turned away, with
    ``reasons``) + ``unfinished``. The SLA is attained by who was answered before the deadline:
    ``sla_served`` is their share of those served, as SINCERE counts, ``sla_received`` of all.
    Shares of time are of all devices; None where there is nothing to take a share of.
    """
    served = int(run.served.sum())
    in_sla = int(run.in_time.sum())
    reasons = {reason: int(np.count_nonzero(run.reason == place))
               for place, reason in enumerate(run.reasons)}
    lost = reasons.get(OVERWRITTEN, 0)
    shed = sum(reasons.values()) - lost
    received = len(run.arrival_s)
    latency_s = np.sort(run.latency_s[run.served])
    loads = [one for one in run.loads if one.begin_s < duration_s]
    return {
        "received": received, "served": served, "in_sla": in_sla, "lost": lost, "shed": shed,
        "unfinished": received - served - lost - shed,
        "sla_served": _share(in_sla, served), "sla_received": _share(in_sla, received),
        "goodput_per_s": in_sla / duration_s, "throughput_per_s": served / duration_s,
        "latency_mean_s": float(latency_s.mean()) if served else None,
        "latency_p50_s": _quantile(latency_s, 0.5), "latency_p95_s": _quantile(latency_s, 0.95),
        "loads": len(loads), "failed_loads": sum(one.failed for one in loads),
        "load_mean_s": _share(sum(one.seconds for one in loads), len(loads)),
        "batches": len(run.batches),
        "mean_batch": _share(sum(one.num_requests for one in run.batches), len(run.batches)),
        **device_time(run, duration_s, devices), "reasons": reasons,
    }


def device_time(run: MultiplexRun, duration_s: float,
                devices: Sequence[int] = (0,)) -> dict[str, float]:
    """Shares of these devices' time together up to ``duration_s``."""
    return together(device_times(run, duration_s, devices))


def together(times: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The means of several devices' shares."""
    return {name: sum(one[name] for one in times) / len(times) for name in times[0]}


def device_times(run: MultiplexRun, duration_s: float,
                 devices: Sequence[int]) -> list[dict[str, float]]:
    """Shares of each device's time up to ``duration_s``: a model is being loaded, at least one
    batch runs, neither. What overlaps counts for both."""
    loads, batches = _by_device(run.loads), _by_device(run.batches)
    found = []
    for one in devices:
        loading, computing = loads.get(one, []), batches.get(one, [])
        busy_s = _covered([*loading, *computing], duration_s)
        found.append({"loading_share": _covered(loading, duration_s) / duration_s,
                      "computing_share": _covered(computing, duration_s) / duration_s,
                      "idle_share": 1.0 - busy_s / duration_s})
    return found


def _by_device(records: Iterable[LoadRecord | BatchRecord]) -> dict[int, list[tuple[float, float]]]:
    found: dict[int, list[tuple[float, float]]] = {}
    for one in records:
        found.setdefault(one.device, []).append((one.begin_s, one.begin_s + one.seconds))
    return found


def _covered(spans: list[tuple[float, float]], until_s: float) -> float:
    """Length of the union of spans, cut at ``until_s``."""
    covered, reached = 0.0, 0.0
    for begin, end in sorted(spans):
        begin, end = max(begin, reached), min(end, until_s)
        if end > begin:
            covered += end - begin
            reached = end
    return covered


def _share(part: float, whole: int) -> float | None:
    return part / whole if whole else None


def _quantile(ordered: np.ndarray[Any, np.dtype[np.float64]], q: float) -> float | None:
    """By nearest rank."""
    if not len(ordered):
        return None
    return float(ordered[max(0, int(np.ceil(q * len(ordered))) - 1)])
