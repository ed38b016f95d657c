"""Why variants are not candidates of a plan, as a whole or in brief."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from penstock.report.model.plan_view import Document, listed

# What plans say of variants that they do not consider, and in brief.
CARRIES_MORE = " carries more on the same accelerators"
_CARRIES_MORE = re.compile(r" carries more on the same (accelerators|cards)")  # cards: release 0.2
_KINDS = (
    (re.compile(rf"\S+{_CARRIES_MORE.pattern}"), CARRIES_MORE),
    (re.compile(r"a replica needs \d+ \S+; the fleet has \d+"),
     "needs more accelerators than there are"))


class NotConsidered(NamedTuple):
    """Variants that were left out for one reason."""

    demand: str
    reason: str
    variants: tuple[str, ...]


def not_considered(document: Document, *, brief: bool = False) -> list[NotConsidered]:
    """Variants by demand and reason, demands in order. In ``brief``, reasons that differ only in
    numbers and names count as one."""
    shared: dict[str, dict[str, dict[str, list[str]]]] = {}
    for item in listed(document, "not_considered"):
        reason = str(item.get("reason"))
        reasons = shared.setdefault(str(item.get("demand")), {}).setdefault(
            _kind_of(reason) if brief else reason, {})
        reasons.setdefault(reason, []).append(str(item.get("variant")))
    return [NotConsidered(demand, _in_brief(kind, [*reasons]),
                          tuple(variant for names in reasons.values() for variant in names))
            for demand, kinds in shared.items() for kind, reasons in kinds.items()]


def _kind_of(reason: str) -> str:
    """Return the key that reasons of one kind share."""
    for pattern, kind in _KINDS:
        if pattern.fullmatch(reason):
            return kind
    return reason.split(": ")[0]


def _in_brief(kind: str, reasons: Sequence[str]) -> str:
    """Several reasons of a kind as one. Who carries more is named: it may be less precise."""
    if len(reasons) == 1:
        return reasons[0]
    better = [_CARRIES_MORE.sub("", reason) for reason in reasons]
    return f"{', '.join(better[:-1])} or {better[-1]}{kind}" if kind == CARRIES_MORE else kind
