"""Prices of a plan as plain data, and in its tables."""

from dataclasses import replace

import pytest

from penstock.core.prices import OWNERSHIP, HourlyPrice, Ownership
from penstock.plan.prices import accelerator_rows, ownership_document
from penstock.report.model.plan import accelerators_table, opening
from support.plan_documents import DOCUMENT
from support.small_plans import cards, fleet

TERMS = Ownership(35_040.0, power_price_per_kwh=0.1)
L4 = HourlyPrice(0.8, "AWS", "2026-01")


def owned(terms=TERMS):
    found = fleet(accelerators=cards(a100_80gb=4, l4=None))
    a100, l4 = found.accelerators
    return replace(found, accelerators=(
        replace(a100, ownership=TERMS, price_basis=OWNERSHIP, price_per_hour=1.04),
        replace(l4, ownership=terms, listed=L4, price_basis="AWS")))


def test_every_accelerator_has_its_prices():
    a100, l4 = accelerator_rows(owned(None), {"l4": 2})
    assert (a100["price_basis"], a100["price_date"]) == (OWNERSHIP, "")
    assert a100["list_price_per_hour"] == 4.1
    assert a100["ownership_per_hour"] == pytest.approx(1.04)
    assert a100["energy_per_hour"] == pytest.approx(0.04)
    assert (l4["used"], l4["price_basis"], l4["price_date"]) == (2, "AWS", "2026-01")
    assert "ownership_per_hour" not in l4


def test_a_plan_has_its_cost_both_ways():
    assert ownership_document(fleet(), {"a100-80gb": 1}) == {}
    costs = ownership_document(owned(), {"a100-80gb": 2, "l4": 1})["ownership"]
    assert costs == {"list_cost_per_hour": pytest.approx(2 * 4.1 + 0.8),
                     "cost_per_hour": pytest.approx(3 * 1.0 + 2 * 0.04 + 0.0072),
                     "energy_cost_per_hour": pytest.approx(2 * 0.04 + 0.0072)}


def test_a_cost_that_is_not_known_for_all_in_use_is_left_open():
    costs = ownership_document(owned(None), {"a100-80gb": 2, "l4": 1})["ownership"]
    assert (costs["cost_per_hour"], costs["energy_cost_per_hour"]) == (None, None)
    assert ownership_document(owned(None), {"a100-80gb": 1})["ownership"]["cost_per_hour"] \
        == pytest.approx(1.04)


def test_tables_have_bases_and_ownership_only_where_the_plan_has_them():
    plain = accelerators_table(DOCUMENT)
    assert "price basis" not in [column.title for column in plain.columns]
    rows = accelerator_rows(owned(), {"l4": 2})
    document = {**DOCUMENT, "accelerators": rows, "warnings": ["prices are old"],
                **ownership_document(owned(), {"l4": 2})}
    found = accelerators_table(document)
    assert {"price basis", "list price", "as owned", "energy"} <= {
        column.title for column in found.columns}
    assert "prices are old." in found.notes
    assert {"At list prices", "As owned", "Energy"} <= {fact.label for fact
                                                        in opening(document).facts}
