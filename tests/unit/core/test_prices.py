"""Prices: which one counts, when one is old, and the cost of owning an accelerator."""

from datetime import date

import pytest

from penstock.core.prices import YOURS, HourlyPrice, Ownership, is_old, price_fields, price_on

AWS, LAMBDA = HourlyPrice(6.88, "AWS"), HourlyPrice(3.99, "Lambda", "2026-01")


def test_the_users_price_counts_on_every_basis() -> None:
    own = HourlyPrice(2.0)
    assert price_on("AWS", (LAMBDA, AWS, own)) is own
    assert price_on("AWS", (LAMBDA, AWS)) is AWS
    assert price_on("Azure", (LAMBDA, AWS)) is LAMBDA
    assert price_on("AWS", ()) is None


@pytest.mark.parametrize(("day", "today", "old"), [
    ("2026-01-01", date(2026, 6, 30), False), ("2026-01-01", date(2026, 7, 1), True),
    ("2026-01", date(2026, 6, 30), False), ("2026-01", date(2026, 7, 1), True),
    ("2026-01-01", date(2025, 1, 1), False), ("", date(2030, 1, 1), False),
    ("spring", date(2030, 1, 1), False)])
def test_a_price_is_old_after_180_days(day: str, today: date, old: bool) -> None:
    assert is_old(day, today) is old


def test_the_fields_of_a_price() -> None:
    assert price_fields(HourlyPrice(2.0, YOURS)) == {"price_per_hour": 2.0}
    assert price_fields(LAMBDA) == {"price_per_hour": 3.99, "price_basis": "Lambda",
                                    "price_date": "2026-01"}


def test_the_cost_of_ownership_is_depreciation_and_energy() -> None:
    terms = Ownership(35_040.0, years=4.0, use=0.5, power_price_per_kwh=0.1, pue=1.5)
    assert terms.energy_per_hour(1000.0) == pytest.approx(0.15)
    assert terms.per_hour(1000.0) == pytest.approx(2.0 + 0.15)
    assert Ownership(35_040.0).per_hour(1000.0) == pytest.approx(1.0)
