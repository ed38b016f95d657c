"""Prices of a fleet: the basis that counts, ownership, and warnings."""

from datetime import date

import pytest

from penstock.core.errors import InputError
from penstock.fleet.load import parse_fleet
from penstock.fleet.prices import price_warnings
from penstock.fleet.values import Fleet
from penstock.fleet.write import to_yaml

REST = """
models: [{name: llama-3-8b}]
service_classes: [{name: chat, slo: {ttft_s: 1}}]
traffic: [{trace: azure-2023-code, rate_per_s: 2}]
"""
OWNED = "ownership: {purchase: 35040, years: 4, power_price_per_kwh: 0.1, pue: 1.5}"


def fleet(*accelerators: str, top: str = "") -> Fleet:
    listed = "".join(f"\n  - {{{text}}}" for text in accelerators)
    return parse_fleet(f"{top}\naccelerators:{listed}{REST}")


def prices(found: Fleet) -> list[tuple[float, str, str]]:
    return [(pool.price_per_hour, pool.price_basis, pool.price_date)
            for pool in found.accelerators]


def test_the_catalogs_basis_counts_unless_the_file_chooses_another() -> None:
    chips = "name: h100", "name: a6000", "name: l4, price_per_hour: 0.5"
    usual = fleet(*chips)
    assert prices(usual) == [(6.88, "AWS on-demand us-east-1", "2025-11"),
                             (1.09, "Lambda on-demand", "2026-01"), (0.5, "yours", "")]
    assert usual.price_basis is None
    there = fleet(*chips, top="price_basis: lambda")
    assert prices(there)[0] == (3.99, "Lambda on-demand", "2026-01")
    assert prices(there)[1:] == prices(usual)[1:]
    assert there.price_basis == "Lambda on-demand"


def test_one_accelerator_may_have_a_basis_and_a_date_of_its_own() -> None:
    found = fleet("name: h100, price_basis: azure",
                  "name: l4, price_per_hour: 0.5, price_basis: Acme, price_date: 2026-03-01")
    assert prices(found) == [(12.29, "Azure pay-as-you-go", "2025-06"), (0.5, "Acme", "2026-03-01")]


def test_ownership_counts_where_the_basis_says_so_or_nothing_else_is_known() -> None:
    chips = f"name: h100, {OWNED}", f"name: gb200, {OWNED}", "name: l4"
    (h100, gb200, l4), owned = fleet(*chips).accelerators, fleet(*chips, top="price_basis: "
                                                                             "ownership")
    assert (h100.price_per_hour, h100.price_basis) == (6.88, "AWS on-demand us-east-1")
    assert (gb200.price_per_hour, gb200.price_basis) == (pytest.approx(1.0 + 0.18), "ownership")
    assert owned.accelerators[0].price_per_hour == pytest.approx(1.0 + 0.105)
    assert owned.accelerators[0].listed == h100.listed
    assert owned.accelerators[2] == l4


@pytest.mark.parametrize("top", ["", "price_basis: lambda", "price_basis: ownership"])
def test_prices_survive_writing(top: str) -> None:
    found = fleet(f"name: h100, {OWNED}", f"name: gb200, {OWNED}", "name: l4",
                  "name: a100, price_per_hour: 2, price_date: 2026-03-01", top=top)
    assert parse_fleet(to_yaml(found), f"{found.name}.yaml") == found


def test_warnings_of_mixed_bases_and_of_old_prices() -> None:
    mixed = fleet("name: h100", "name: a6000", "name: l4, price_per_hour: 0.5")
    of_bases = ("prices are of several bases: h100-80gb AWS on-demand us-east-1, a6000 Lambda "
                "on-demand, l4 yours; choose price_basis, or state price_per_hour")
    assert price_warnings(mixed) == [of_bases]
    assert price_warnings(mixed, date(2026, 3, 1)) == [of_bases]
    assert price_warnings(mixed, date(2026, 6, 1)) == [
        of_bases, "prices are older than 180 days: h100-80gb 2025-11; state price_per_hour, what "
                  "you pay now"]
    own = fleet("name: h100, price_per_hour: 2", f"name: a6000, price_per_hour: 1, {OWNED}")
    assert price_warnings(own, date(2030, 1, 1)) == []


@pytest.mark.parametrize(("chip", "top", "problem"), [
    ("name: l4", "price_basis: lamda on-demand",
     "price_basis: unknown basis 'lamda on-demand'; did you mean 'Lambda on-demand'?"),
    ("name: l4", "price_basis: ownership", "price_basis: no accelerator states ownership"),
    ("name: l4, price_basis: lambda", "",
     "accelerators[0].price_basis: l4 has no price on 'Lambda on-demand'; expected one of: AWS"),
    ("name: l4, price_date: 2026-01", "", "accelerators[0].price_date: is of no price_per_hour"),
    ("name: l4, price_per_hour: 1, price_date: spring", "",
     "accelerators[0].price_date: expected a date such as 2026-01-31, or a month such as 2026-01"),
    ("name: l4, ownership: {years: 4}", "", "accelerators[0].ownership.purchase: missing"),
    ("name: l4, ownership: {purchase: 1, use: 0}", "",
     "accelerators[0].ownership.use: expected more than 0"),
    ("name: gb200", "", "accelerators[0]: no list price of gb200 is known; expected "
                        "price_per_hour, what you pay")])
def test_bad_prices_are_told(chip: str, top: str, problem: str) -> None:
    with pytest.raises(InputError) as caught:
        fleet(chip, top=top)
    assert problem in str(caught.value)
