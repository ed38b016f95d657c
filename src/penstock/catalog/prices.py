"""Prices of catalog entries: each with its basis, date and source."""

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

from penstock.catalog.checks import Field, is_text, number, quote
from penstock.core.errors import InputError, nearest, one_of
from penstock.core.prices import YOURS, HourlyPrice

DATE = Field("a date such as 2025-06-01", lambda value: is_text(value) or isinstance(value, date))
PRICE = number(0, 100_000, "a price for one accelerator")
_TEXT = Field("text", is_text)
_FIELDS: Mapping[str, Field] = {"price_basis": _TEXT, "price_per_hour": PRICE, "price_date": DATE,
                                "source": _TEXT}
_REQUIRED = ("price_basis", "price_per_hour")


def listed_prices(where: str, items: Iterable[Any], source: str) -> tuple[HourlyPrice, ...]:
    """Return the checked prices of an entry's ``prices``; ``source`` is of those that state none.

    Raises InputError with place, value and expected value.
    """
    return tuple(_listed(f"{where}: prices[{i}]", item, source) for i, item in enumerate(items))


def _listed(where: str, item: Any, source: str) -> HourlyPrice:
    if not isinstance(item, dict):
        raise InputError(f"{where}: found {quote(item)}; expected a mapping of fields")
    for key, value in item.items():
        if key not in _FIELDS:
            raise InputError(f"{where}: unknown key {quote(key)}{nearest(str(key), _FIELDS)}")
        if not _FIELDS[key].accepts(value):
            raise InputError(f"{where}: {key}: found {quote(value)}; expected "
                             f"{_FIELDS[key].expected}")
    for key in _REQUIRED:
        if key not in item:
            raise InputError(f"{where}: {key} is missing; expected {_FIELDS[key].expected}")
    return HourlyPrice(float(item["price_per_hour"]), item["price_basis"],
                       str(item.get("price_date", "")), item.get("source", source))


def merged(first: Iterable[HourlyPrice], rest: Iterable[HourlyPrice]) -> tuple[HourlyPrice, ...]:
    """Return prices of which each basis has one: the earlier."""
    found: dict[str, HourlyPrice] = {}
    for price in (*first, *rest):
        found.setdefault(price.basis, price)
    return tuple(found.values())


def stated_price(values: Mapping[str, Any], sources: Mapping[str, str]) -> tuple[HourlyPrice, ...]:
    """Return the price that an entry states as ``price_per_hour``: the user's own, unless it names
    another basis."""
    if "price_per_hour" not in values:
        return ()
    return (HourlyPrice(float(values["price_per_hour"]), values.get("price_basis", YOURS),
                        str(values.get("price_date", "")), sources["price_per_hour"]),)


def known_basis(name: str, bases: Iterable[str]) -> str:
    """Return the basis of that name, or the only one that begins so; upper and lower case are
    alike. Raises InputError."""
    wanted, known = name.strip().lower(), tuple(dict.fromkeys(bases))
    exact = [basis for basis in known if basis.lower() == wanted]
    begun = exact or [basis for basis in known if wanted and basis.lower().startswith(wanted)]
    if len(begun) > 1:
        raise InputError(f"{quote(name)} begins several bases{one_of(begun)}")
    if not begun:
        raise InputError(f"unknown basis {quote(name)}{nearest(name, known)}")
    return begun[0]
