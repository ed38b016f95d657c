"""Prices of a fleet's accelerators: the basis that counts, and warnings where prices mislead."""

from dataclasses import asdict, replace
from datetime import date
from typing import Any, NamedTuple

from penstock.catalog import Catalog
from penstock.core.errors import InputError, one_of
from penstock.core.hardware import Accelerator
from penstock.core.prices import (
    OLD_AFTER,
    OWNERSHIP,
    YOURS,
    HourlyPrice,
    Ownership,
    is_old,
    price_fields,
    price_on,
)
from penstock.fleet.document import FleetDocument
from penstock.fleet.document_accelerators import AcceleratorSection
from penstock.fleet.marked_yaml import Path
from penstock.fleet.problems import PlacedError
from penstock.fleet.values import AcceleratorPool, Fleet


class PoolPrice(NamedTuple):
    """Price that counts, the price beside a cost of ownership, and the terms of ownership."""

    counted: HourlyPrice
    listed: HourlyPrice | None
    ownership: Ownership | None


def resolve_basis(document: FleetDocument, catalog: Catalog) -> str | None:
    """Return the basis that the file chooses for all prices; None where it chooses none. Raises
    PlacedError."""
    if document.price_basis is None:
        return None
    if document.price_basis != OWNERSHIP:
        return _known(catalog, document.price_basis, ("price_basis",))
    if all(section.ownership is None for section in document.accelerators):
        raise PlacedError(("price_basis",), "no accelerator states ownership")
    return OWNERSHIP


def resolve_price(path: Path, section: AcceleratorSection, accelerator: Accelerator,
                  basis: str | None, catalog: Catalog) -> PoolPrice:
    """Return the price of one kind of accelerator: the file's own, else the catalog's on the
    accelerator's basis, else on the fleet's. Raises PlacedError where there is none.

    The cost of ownership counts where the basis is ``ownership``, and where no other price is
    known.
    """
    listed = _listed(path, section, accelerator, basis or catalog.price_basis, catalog)
    ownership = None if section.ownership is None else Ownership(**section.ownership.given())
    if ownership is not None and (basis == OWNERSHIP or listed is None):
        cost = HourlyPrice(ownership.per_hour(accelerator.power_w), OWNERSHIP)
        return PoolPrice(cost, listed, ownership)
    if listed is None:
        raise PlacedError(path, f"no list price of {section.name} is known; expected "
                                "price_per_hour, what you pay")
    return PoolPrice(listed, listed, ownership)


def _listed(path: Path, section: AcceleratorSection, accelerator: Accelerator, basis: str,
            catalog: Catalog) -> HourlyPrice | None:
    if section.price_per_hour is not None:
        return HourlyPrice(section.price_per_hour, section.price_basis or YOURS,
                           section.price_date or "")
    if section.price_date is not None:
        raise PlacedError((*path, "price_date"), "is of no price_per_hour; state one, or leave "
                                                 "both out")
    found = price_on(basis, accelerator.prices)
    if section.price_basis is not None:
        place = (*path, "price_basis")
        wanted = _known(catalog, section.price_basis, place)
        found = next((one for one in accelerator.prices if one.basis == wanted), None)
        if found is None:
            raise PlacedError(place, f"{section.name} has no price on {wanted!r}"
                                     f"{one_of(price.basis for price in accelerator.prices)}")
    return found and replace(found, source="")


def _known(catalog: Catalog, name: str, path: Path) -> str:
    try:
        return catalog.basis(name)
    except InputError as error:
        raise PlacedError(path, str(error)) from None


def price_section(pool: AcceleratorPool) -> dict[str, Any]:
    """Return a pool's prices as the file states them."""
    price = pool.listed
    if price is None and pool.ownership is None:
        price = HourlyPrice(pool.price_per_hour)
    own = None if pool.ownership is None else asdict(pool.ownership)
    return {**({} if price is None else price_fields(price)), "ownership": own}


def price_warnings(fleet: Fleet, today: date | None = None) -> list[str]:
    """Return a line where prices are of several bases and, with ``today``, one where some are older
    than 180 days."""
    pools = fleet.accelerators
    warnings = []
    if len({pool.price_basis for pool in pools}) > 1:
        bases = ", ".join(f"{pool.accelerator.name} {pool.price_basis}" for pool in pools)
        warnings.append(f"prices are of several bases: {bases}; choose price_basis, or state "
                        "price_per_hour")
    old = [f"{pool.accelerator.name} {pool.price_date}" for pool in pools
           if today is not None and is_old(pool.price_date, today)]
    if old:
        warnings.append(f"prices are older than {OLD_AFTER.days} days: {', '.join(old)}; state "
                        "price_per_hour, what you pay now")
    return warnings
