"""The same fleet with Penstock's scheduler inside its stock engine."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from penstock.fleet.stock import INSIDE, STOCK
from penstock.fleet.values import Fleet
from penstock.policy.schedule.options import PRESETS


def with_ours_inside(fleet: Fleet) -> Fleet | None:
    """Return the fleet with Penstock's scheduler inside its engine, None where the engine's own
    scheduler is not what the fleet runs."""
    engine, policies = fleet.engine, fleet.policies
    if engine.name is None or policies.schedule.policy != STOCK:
        return None
    ours = PRESETS["penstock"]
    if engine.max_num_seqs is not None:
        ours = replace(ours, max_num_seqs=engine.max_num_seqs)
    return replace(fleet, engine=replace(engine, name=INSIDE + engine.name),
                   policies=replace(policies, schedule=ours))


def inside_document(document: Mapping[str, Any], other: Mapping[str, Any],
                    engine: str) -> dict[str, Any]:
    """Return what the plan with Penstock's scheduler inside ``engine`` needs, beside a plan's
    document."""
    from penstock.plan.document import compared  # loads the planner, which few runs need

    found = compared(document, other, ())
    del found["settings"]
    headrooms = [demand["headroom"] for demand in other["demands"]
                 if demand["headroom"] is not None]
    return {"engine": engine, **found, "headroom": min(headrooms, default=None)}


def inside_line(found: Mapping[str, Any]) -> str:
    """Return one line that says what the engine needs with Penstock's scheduler inside."""
    number = sum(row["after"] for row in found["replicas"])
    name = found["engine"].removeprefix(INSIDE)
    if not found["served_in_full"]:
        return f"With Penstock's scheduler inside {name}: not served in full either."
    saves = found["saves_per_hour"]
    less = f", ${saves:,.2f} an hour less" if saves > 0.0 else ""
    headroom = found["headroom"]
    room = "" if headroom is None else f", headroom {headroom:+.0%}".replace("%", " %")
    return (f"With Penstock's scheduler inside {name}: {number:,} "
            f"replica{'s' if number != 1 else ''} for ${found['cost_per_hour']:,.2f} an hour"
            f"{less}{room}.")
