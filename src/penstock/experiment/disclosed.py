"""A run without its secrets: confidential requests appear only as padded counts and buckets."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from penstock.core.disclosure import Disclosure, at_most, share_at_least
from penstock.experiment.pools import (
    pool_busy_s,
    pool_figures,
    reduced_figures,
    secret_devices,
)
from penstock.fleet.judge import confidential_rows, cost_per_hour, counted
from penstock.fleet.values import Fleet
from penstock.metrics.series import RunSeries
from penstock.metrics.summary import Usage, summarise
from penstock.metrics.table import NAMES, STATUSES, RequestTable
from penstock.sim.simulation import SimulationResult


@dataclass(frozen=True, slots=True)
class Redacted:
    """Results of a run without secrets: figures, requests, replicas over time."""

    figures: dict[str, Any]
    table: RequestTable
    series: RunSeries


def redacted_share(fleet: Fleet, service_class: str, share: float | None) -> float | None:
    """A class's attainment, rounded down where any of its requests may be confidential."""
    if fleet.service_class(service_class).confidential or fleet.gateway.confidential_tenants:
        return share_at_least(share)
    return share


def redact(fleet: Fleet, result: SimulationResult) -> Redacted:
    """The result without what must not leave a confidential run."""
    busy_s = np.concatenate((result.busy_s, pool_busy_s(result)))
    usage = Usage(busy_s, cost_per_hour(fleet), range(len(busy_s)))
    figures = {
        **summarise(counted(fleet, result.table), fleet.service_classes, usage),
        "refusals": [{"reason": reason, "num_requests": count}
                     for reason, count in sorted(result.reasons.items())]}
    of_replicas = {"num_steps": result.num_steps, "end_s": result.end_s,
                   "prefix_hit_rate": result.prefix_hit_rate}
    figures |= of_replicas if fleet.replicas else {"end_s": result.end_s}
    if result.pools:
        figures |= _pools(pool_figures(fleet, result, figures["window_s"]))
    hidden = confidential_rows(fleet, result.table)
    if not hidden.any():
        return Redacted(figures, result.table, result.series)
    # A replica that served a confidential request would reveal when, and how much.
    seen = {*result.table.replica[hidden].tolist(), *secret_devices(result)}
    alone = [number for number in range(len(busy_s)) if number not in seen]
    usage = Usage(busy_s[alone], 0.0, alone)
    reduced, table = without_confidential(fleet, result.table, figures, usage)
    series = RunSeries([one for one in result.series.replicas if one.replica in alone])
    if fleet.replicas:
        reduced |= {"num_steps": None, "prefix_hit_rate": None}
    if result.pools:
        reduced |= _pools(reduced_figures(result, figures["multiplexing"]))
    return Redacted(reduced, table, series)


def _pools(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures of pools; ``residency`` is their key of release 0.1."""
    return {"multiplexing": found, "residency": found}


def without_confidential(fleet: Fleet, requests: RequestTable, figures: Mapping[str, Any],
                         usage: Usage) -> tuple[dict[str, Any], RequestTable]:
    """``figures`` of all these requests, and the requests, both without secrets.

    ``usage`` is that of the replicas that served no confidential request.
    """
    disclosure = fleet.disclosure
    hidden = confidential_rows(fleet, requests)
    table = _without_traces(requests.take(~hidden))
    found = summarise(counted(fleet, table), fleet.service_classes, usage)
    pairs = [(found["overall"], figures["overall"])]
    pairs += [(entry, figures["classes"][name]) for name, entry in found["classes"].items()]
    for entry, whole in pairs:
        # Verdicts cover all requests: one word per class. Costs and busy shares are left out,
        # because they would reveal the number of confidential requests.
        entry |= {"meets_slo": whole["meets_slo"], "busy": None, "utilisation": None,
                  "cost": dict.fromkeys(entry["cost"])}
    found |= {
        "refusals": [{**one, "num_requests": disclosure.count(one["num_requests"])}
                     for one in figures["refusals"]],
        "end_s": at_most(figures["end_s"]),
        "confidential": _padded(fleet, counted(fleet, requests.take(hidden)), disclosure)}
    return {**figures, **found}, table


def _without_traces(table: RequestTable) -> RequestTable:
    """The same rows with numbers of their own, and without names that none of them bears."""
    changes: dict[str, Any] = {"request_id": np.arange(len(table), dtype=np.int64)}
    for column, kind in NAMES.items():
        used, codes = np.unique(getattr(table, column), return_inverse=True)
        changes[kind] = tuple(getattr(table, kind)[index] for index in used)
        changes[column] = codes.reshape(-1).astype(np.int32)
    return replace(table, **changes)


def _padded(fleet: Fleet, secret: RequestTable, disclosure: Disclosure) -> dict[str, Any]:
    raw = summarise(secret, fleet.service_classes, Usage(np.zeros(0), 0.0))["classes"]
    found: dict[str, Any] = {
        "least_count": disclosure.least_count, "cost_per_hour": cost_per_hour(fleet),
        "classes": {name: _padded_class(entry, disclosure) for name, entry in raw.items()
                    if entry["received"]}}
    if disclosure.allow_model_counts:
        counts = np.bincount(secret.model_index, minlength=len(secret.models)).tolist()
        found["models"] = {name: disclosure.count(number)
                           for name, number in zip(secret.models, counts, strict=True) if number}
    return found


def _padded_class(entry: Mapping[str, Any], disclosure: Disclosure) -> dict[str, Any]:
    names = ("received", *STATUSES, "prompt_tokens", "output_tokens")
    return {**{f"{name}_at_most": disclosure.count(entry[name]) for name in names},
            "attainment_at_least": share_at_least(entry["attainment"]),
            "latency_at_most": {
                latency: {percentile: at_most(value) for percentile, value in found.items()}
                for latency, found in entry["latency"].items()}}
