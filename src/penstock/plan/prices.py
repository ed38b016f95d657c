"""Prices of a plan as plain data: bases and dates, list prices, cost of ownership and of energy."""

from collections.abc import Mapping
from typing import Any

from penstock.core.prices import Ownership
from penstock.fleet.values import AcceleratorPool, Fleet


def accelerator_rows(fleet: Fleet, used: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return every accelerator of the fleet with the number in use and its prices."""
    return [{"accelerator": pool.accelerator.name, "count": pool.count,
             "used": used.get(pool.accelerator.name, 0), "price_per_hour": pool.price_per_hour,
             "price_basis": pool.price_basis, "price_date": pool.price_date,
             **_owned(pool, pool.ownership)} for pool in fleet.accelerators]


def _owned(pool: AcceleratorPool, terms: Ownership | None) -> dict[str, Any]:
    if terms is None:
        return {}
    power_w = pool.accelerator.power_w
    return {"list_price_per_hour": pool.listed and pool.listed.per_hour,
            "ownership_per_hour": terms.per_hour(power_w),
            "energy_per_hour": terms.energy_per_hour(power_w)}


def ownership_document(fleet: Fleet, used: Mapping[str, int]) -> dict[str, Any]:
    """Return the plan's cost per hour at list prices, as owned, and of energy; empty where no
    accelerator states its ownership. A cost that is not known for all in use is None."""
    pools = [(pool, used.get(pool.accelerator.name, 0)) for pool in fleet.accelerators]
    if all(pool.ownership is None for pool, _ in pools):
        return {}
    held = [(pool, count) for pool, count in pools if count]
    owned = [(pool.accelerator.power_w, pool.ownership, count) for pool, count in held
             if pool.ownership is not None]
    listed = [pool.listed.per_hour * count for pool, count in held if pool.listed is not None]
    return {"ownership": {
        "list_cost_per_hour": sum(listed) if len(listed) == len(held) else None,
        "cost_per_hour": sum(count * terms.per_hour(power_w) for power_w, terms, count in owned)
        if len(owned) == len(held) else None,
        "energy_cost_per_hour": sum(count * terms.energy_per_hour(power_w)
                                    for power_w, terms, count in owned)
        if len(owned) == len(held) else None}}
