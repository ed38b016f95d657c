"""The status of several worker processes as that of one gateway."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from penstock.serving.gateway.tally import tally_document

Status = Mapping[str, Any]

_OF_A_WORKER = ("num_in_flight", "num_served", "num_failed", "num_disputed")
"""Figures of an engine that count a worker's own requests. All workers see the others."""


def merged_status(of_workers: Sequence[Status]) -> dict[str, Any]:
    """Return the document of /v1/penstock/status of workers that have told ``status`` and
    ``counts``. An engine is available if it is to one of them."""
    found = [one["status"] for one in of_workers]
    return {"workers": len(found), "engines": _merged(found, "engines", ("url", "model"), _engine),
            "num_in_flight": _sum(found, "num_in_flight"),
            "num_waiting": _sum(found, "num_waiting"),
            **tally_document([one["counts"] for one in of_workers]),
            "confidential": _confidential([one["confidential"] for one in found]),
            "tenants": _merged(found, "tenants", ("tenant",), _tenant),
            "overload": _overload([one["overload"] for one in found]),
            # Every worker follows the same events.
            **({"kv_events": found[0]["kv_events"]} if "kv_events" in found[0] else {})}


def _merged(found: Sequence[Status], what: str, key: Sequence[str],
            merge: Any) -> list[dict[str, Any]]:
    """Return the entries of a list of all workers, merged by ``key``."""
    groups: dict[tuple[Any, ...], list[Status]] = {}
    for one in found:
        for entry in one[what]:
            groups.setdefault(tuple(entry[name] for name in key), []).append(entry)
    return [merge(entries) for entries in groups.values()]


def _engine(seen: Sequence[Status]) -> dict[str, Any]:
    reasons = [one["unavailable"] for one in seen]
    doubts = [one["confidential"] for one in seen if one["confidential"] is not None]
    ages_s = [one["seen_s_ago"] for one in seen if one["seen_s_ago"] is not None]
    return {**seen[0], "unavailable": None if None in reasons else reasons[0],
            "draining": any(one["draining"] for one in seen),
            "seen_s_ago": min(ages_s, default=None),
            **{name: _sum(seen, name) for name in _OF_A_WORKER},
            **{name: max(one[name] for one in seen) for name in
               ("num_running", "num_waiting", "pending_output_tokens", "kv_used_share",
                "speed_share")},
            "confidential": next(iter(doubts), None)}


def _tenant(seen: Sequence[Status]) -> dict[str, Any]:
    return {**seen[0], "num_in_flight": _sum(seen, "num_in_flight"),
            "spent": max(one["spent"] for one in seen),  # each knows the ledger
            "refused": _counted(one["refused"] for one in seen)}


def _confidential(seen: Sequence[Status]) -> dict[str, Any]:
    def one_class(entries: Sequence[Status]) -> dict[str, Any]:
        shares = [one["attainment_at_least"] for one in entries
                  if one["attainment_at_least"] is not None]
        return {"name": entries[0]["name"],
                "outcomes_at_most": _counted(one["outcomes_at_most"] for one in entries),
                "attainment_at_least": min(shares, default=None)}

    models = [one["models"] for one in seen if "models" in one]
    return {**seen[0], "classes": _merged(seen, "classes", ("name",), one_class),
            **({"models": _counted(models)} if models else {})}


def _overload(seen: Sequence[Status]) -> dict[str, Any]:
    return {**seen[0], "pressures": {name: max(one["pressures"][name] for one in seen)
                                     for name in seen[0]["pressures"]},
            "num_shed": _counted(one["num_shed"] for one in seen)}


def _sum(found: Iterable[Status], name: str) -> Any:
    return sum(one[name] for one in found)


def _counted(found: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for one in found:
        total.update(one)
    return dict(total)
