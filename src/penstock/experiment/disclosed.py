"""A run without its secrets: confidential requests appear only as padded counts and buckets."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from penstock.core.disclosure import Disclosure, at_most, share_at_least
from penstock.experiment.energy import fixed_energy
from penstock.experiment.pools import (
    pool_busy_s,
    pool_figures,
    reduced_figures,
    secret_devices,
)
from penstock.experiment.scaled import scaling_summary, usage_of
from penstock.fleet.judge import confidential_rows, cost_per_hour, counted
from penstock.fleet.values import Fleet
from penstock.metrics.request_file import StoredRequests
from penstock.metrics.reuse_summary import PrefixReuse
from penstock.metrics.run_summary import (
    Confidential,
    Cost,
    Latencies,
    Outcome,
    PaddedOutcome,
    Percentiles,
    Refusal,
    RunSummary,
    Steps,
)
from penstock.metrics.series import RunSeries
from penstock.metrics.summary import Usage, summarise
from penstock.metrics.table import NAMES, STATUSES, Requests, RequestTable
from penstock.metrics.transfer_summary import Transfers
from penstock.sim.handover import Moved
from penstock.sim.simulation import SimulationResult


@dataclass(frozen=True, slots=True)
class Redacted:
    """Results of a run without secrets: figures, requests, replicas over time."""

    summary: RunSummary
    requests: Requests
    series: RunSeries


def redacted_share(fleet: Fleet, service_class: str, share: float | None) -> float | None:
    """A class's attainment, rounded down where any of its requests may be confidential."""
    if fleet.service_class(service_class).confidential or fleet.gateway.confidential_tenants:
        return share_at_least(share)
    return share


def redact(fleet: Fleet, result: SimulationResult, stored: StoredRequests | None = None
           ) -> Redacted:
    """The result without what must not leave a confidential run. ``stored`` are its requests where
    the result has none; none of them is confidential."""
    busy_s = np.concatenate((result.busy_s, pool_busy_s(result)))
    usage = Usage(busy_s, cost_per_hour(fleet), range(len(busy_s)))
    if result.scaling is not None:
        usage = usage_of(fleet, result, result.scaling)
    whole = replace(
        summarise(stored or result.table, fleet.service_classes, usage,
                  from_s=fleet.run.warmup_s or None),
        refusals=tuple(Refusal(reason=reason, num_requests=count)
                       for reason, count in sorted(result.reasons.items())),
        end_s=result.end_s, steps=Steps(
            num_steps=result.num_steps, prefix_hit_rate=result.prefix_hit_rate)
        if fleet.replicas else None, transfers=_transfers(result.moved),
        prefix_reuse=None if result.prefix_reuse is None
        else PrefixReuse(**result.prefix_reuse._asdict()))
    if whole.adapters is not None:
        whole = replace(whole, adapters=replace(whole.adapters, loads=result.adapter_loads))
    if result.scaling is not None:
        whole = replace(whole, scaling=scaling_summary(fleet, result, result.scaling))
    else:
        whole = replace(whole, energy=fixed_energy(fleet, result))
    if result.pools:
        whole = replace(whole, multiplexing=pool_figures(fleet, result, whole.window_s))
    hidden = confidential_rows(fleet, result.table)
    if not hidden.any():
        return Redacted(whole, stored or result.table, result.series)
    # A replica that served a confidential request would reveal when, and how much.
    seen = {*result.table.replica[hidden].tolist(), *secret_devices(result)}
    alone = [number for number in range(len(busy_s)) if number not in seen]
    usage = Usage(busy_s[alone], 0.0, alone)
    # They follow the load of all requests.
    whole = replace(whole, scaling=None, energy=None, transfers=None, prefix_reuse=None,
                    adapters=None)
    reduced, table = without_confidential(fleet, result.table, whole, usage)
    series = RunSeries([one for one in result.series.replicas if one.replica in alone])
    if fleet.replicas:
        reduced = replace(reduced, steps=Steps())
    if result.pools:
        reduced = replace(reduced, multiplexing=reduced_figures(result, whole.pools))
    return Redacted(reduced, table, series)


def _transfers(moved: Moved | None) -> Transfers | None:
    if moved is None:
        return None
    mean_s = moved.total_s / moved.num_transfers if moved.num_transfers else None
    return Transfers(num_transfers=moved.num_transfers, num_bytes=moved.num_bytes,
                     held_tokens=moved.held_tokens, mean_s=mean_s,
                     longest_s=moved.longest_s)


def without_confidential(fleet: Fleet, requests: RequestTable, whole: RunSummary,
                         usage: Usage) -> tuple[RunSummary, RequestTable]:
    """The summary of all these requests, and the requests, both without secrets.

    ``usage`` is that of the replicas that served no confidential request.
    """
    disclosure = fleet.disclosure
    hidden = confidential_rows(fleet, requests)
    table = _without_traces(requests.take(~hidden))
    found = summarise(counted(fleet, table), fleet.service_classes, usage)
    # Verdicts cover all requests: one word per class. Costs and busy shares are left out,
    # because they would reveal the number of confidential requests.
    return replace(
        whole, arrival_window_s=found.arrival_window_s, window_s=found.window_s,
        overall=replace(found.overall, meets_slo=whole.overall.meets_slo, busy=None, cost=Cost()),
        classes={name: replace(entry, meets_slo=whole.classes[name].meets_slo, busy=None,
                               cost=Cost()) for name, entry in found.classes.items()},
        replicas=found.replicas,
        refusals=tuple(replace(one, num_requests=disclosure.count(one.num_requests))
                       for one in whole.refusals or ()),
        end_s=at_most(whole.end_s),
        confidential=_padded(fleet, counted(fleet, requests.take(hidden)), disclosure)), table


def _without_traces(table: RequestTable) -> RequestTable:
    """The same rows with numbers of their own, and without names that none of them bears."""
    changes: dict[str, Any] = {"request_id": np.arange(len(table), dtype=np.int64), "tasks": None,
                               "adapters": None}
    for column, kind in NAMES.items():
        used, codes = np.unique(getattr(table, column), return_inverse=True)
        changes[kind] = tuple(getattr(table, kind)[index] for index in used)
        changes[column] = codes.reshape(-1).astype(np.int32)
    return replace(table, **changes)


def _padded(fleet: Fleet, secret: RequestTable, disclosure: Disclosure) -> Confidential:
    raw = summarise(secret, fleet.service_classes, Usage(np.zeros(0), 0.0)).classes
    counts = np.bincount(secret.model_index, minlength=len(secret.models)).tolist()
    models = {name: disclosure.count(number)
              for name, number in zip(secret.models, counts, strict=True) if number}
    return Confidential(
        least_count=disclosure.least_count, cost_per_hour=cost_per_hour(fleet),
        classes={name: _padded_class(entry, disclosure) for name, entry in raw.items()
                 if entry.received},
        models=models if disclosure.allow_model_counts else None)


def _padded_class(entry: Outcome, disclosure: Disclosure) -> PaddedOutcome:
    counts = {f"{name}_at_most": disclosure.count(getattr(entry, name))
              for name in ("received", *STATUSES, "prompt_tokens", "output_tokens")}
    return PaddedOutcome(
        **counts, attainment_at_least=share_at_least(entry.attainment),
        latency_at_most=Latencies(**{
            latency: Percentiles(**{name: at_most(value) for name, value in vars(found).items()})
            for latency, found in vars(entry.latency).items()}))
