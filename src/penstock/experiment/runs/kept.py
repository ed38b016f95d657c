"""Kept runs: their origin and key figures, one column each."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, get_args

HOUR_S = 3600.0
RUN_KEYS = frozenset({"overall", "classes", "window_s"})
_LATENCIES = ("ttft_s", "tpot_s", "e2e_s")


class KeptRun(NamedTuple):
    """Entry of a run or plan. Its folder has the files that the figures come from.

    ``kind`` is the command. ``digest`` is of the summary or plan as it was recorded.
    ``replaced_by`` is the run that took the folder later. ``duration_s`` and ``host`` are None for
    a folder that was added afterwards. ``replicas`` is a mean where a policy scaled them.
    """

    id: str
    kind: str
    status: str
    folder: str
    digest: str
    begun_s: float
    duration_s: float | None = None
    host: str | None = None
    version: str | None = None
    name: str | None = None
    fleet_file: str | None = None
    seed: int | None = None
    num_requests: int | None = None
    attainment: float | None = None
    goodput_requests_per_s: float | None = None
    ttft_p99_s: float | None = None
    tpot_p99_s: float | None = None
    e2e_p99_s: float | None = None
    replicas: float | None = None
    num_accelerators: int | None = None
    gpu_hours: float | None = None
    cost: float | None = None
    cost_per_hour: float | None = None
    energy_kwh: float | None = None
    replaced_by: str | None = None


def _kind_of(hint: Any) -> type:
    return next(kind for kind in (str, int, float) if kind in (get_args(hint) or (hint,)))


COLUMNS: Mapping[str, type] = MappingProxyType(
    {name: _kind_of(hint) for name, hint in KeptRun.__annotations__.items()})
"""Name of every column, with the type of its values."""


def run_figures(document: Mapping[str, Any]) -> dict[str, Any]:
    """Columns that a run's summary states; absent or malformed figures are None."""
    overall, scaling = _part(document, "overall"), _part(document, "scaling")
    latency, cost = _part(overall, "latency"), _part(overall, "cost")
    groups = _entries(_part(document, "fleet"), "replicas")
    num_accelerators = _accelerators(groups)
    window_s = _number(document, "window_s")
    pools = _entries(document, "multiplexing")
    if pools:
        num_accelerators = (num_accelerators or 0) + sum(_whole(pool, "num_devices") or 0
                                                         for pool in pools)
    gpu_hours = _number(scaling, "gpu_hours")
    if not scaling and num_accelerators is not None and window_s is not None:
        gpu_hours = num_accelerators * window_s / HOUR_S
    energy = _part(document, "energy") or scaling
    return {
        **_origin(document), "status": _status(overall.get("meets_slo")),
        "num_requests": _whole(overall, "received"),
        "attainment": _number(overall, "attainment"),
        "goodput_requests_per_s": _number(overall, "goodput_requests_per_s"),
        **{f"{name.removesuffix('_s')}_p99_s": _number(_part(latency, name), "p99")
           for name in _LATENCIES},
        "replicas": _number(scaling, "mean_replicas") if scaling else _replicas(groups),
        "num_accelerators": None if scaling else num_accelerators, "gpu_hours": gpu_hours,
        "cost": _number(scaling, "cost") if scaling else _number(cost, "total"),
        "cost_per_hour": _number(cost, "per_hour"), "energy_kwh": _number(energy, "energy_kwh")}


def plan_figures(document: Mapping[str, Any]) -> dict[str, Any]:
    """Columns that a plan states."""
    groups = _entries(document, "replicas")
    return {**_origin(document), "status": _status(document.get("served_in_full")),
            "replicas": _replicas(groups), "num_accelerators": _accelerators(groups),
            "cost_per_hour": _number(document, "cost_per_hour")}


def _origin(document: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": _text(document, "name"), "version": _text(document, "version"),
            "seed": _whole(document, "seed")}


def _status(meets: object) -> str:
    """Whether every objective was met; ``done`` where none was stated."""
    return "done" if meets is None else "met" if meets else "missed"


def _replicas(groups: list[Mapping[str, Any]]) -> int | None:
    return sum(_whole(group, "count") or 0 for group in groups) if groups else None


def _accelerators(groups: list[Mapping[str, Any]]) -> int | None:
    total = 0
    for group in groups:
        each = _whole(group, "count") or 0
        for degree in ("tensor", "pipeline", "data"):
            each *= _whole(_part(group, "parallelism"), degree) or 1
        total += each
    return total if groups else None


def _part(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = document.get(key)
    return found if isinstance(found, Mapping) else {}


def _entries(document: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    found = document.get(key)
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


def _number(document: Mapping[str, Any], key: str) -> float | None:
    found = document.get(key)
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None


def _whole(document: Mapping[str, Any], key: str) -> int | None:
    found = document.get(key)
    # SQLite's integers have 64 bits.
    return found if isinstance(found, int) and not isinstance(found, bool) \
        and abs(found) < 2**63 else None


def _text(document: Mapping[str, Any], key: str) -> str | None:
    found = document.get(key)
    return found if isinstance(found, str) else None
