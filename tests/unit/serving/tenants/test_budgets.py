from datetime import UTC, datetime

import pytest

from penstock.core.money import to_nanos
from penstock.fleet.values_gateway import Budget
from penstock.serving.tenants.budgets import Account, Period, day_of, period_of


def at(*parts):
    return datetime(*parts, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(("per", "now", "start", "end"), [
    ("day", (2026, 2, 28, 23, 59, 59), (2026, 2, 28), (2026, 3, 1)),
    ("day", (2024, 2, 28), (2024, 2, 28), (2024, 2, 29)),
    ("month", (2026, 12, 31, 23), (2026, 12, 1), (2027, 1, 1)),
    ("month", (2024, 2, 1), (2024, 2, 1), (2024, 3, 1)),
    ("month", (2026, 1, 31), (2026, 1, 1), (2026, 2, 1))])
def test_periods_go_by_the_calendar(per, now, start, end) -> None:
    assert period_of(per, at(*now)) == Period(at(*start), at(*end))


def test_a_total_has_no_end() -> None:
    assert period_of("total", at(2026, 1, 1)) == Period(0.0, None)
    assert Account(Budget(5, "total"), at(2026, 1, 1)).state(at(2027, 1, 1)).period_end_s is None


def test_days_are_counted_from_1970() -> None:
    assert (day_of(0), day_of(86_399.9), day_of(86_400)) == (0, 0, 1)
    assert day_of(at(2026, 11, 21, 18)) == 20_778


def test_money_that_is_held_cannot_be_held_twice() -> None:
    account = Account(Budget(1.0), at(2026, 5, 2))
    account.written, account.unwritten = to_nanos(0.2), to_nanos(0.1)
    assert account.lacks(to_nanos(0.7)) is None
    assert account.lacks(to_nanos(0.7) + 1) == "spent"
    account.reserved = to_nanos(0.3)
    account.elsewhere = to_nanos(0.1)
    assert account.lacks(to_nanos(0.3)) is None
    assert account.lacks(to_nanos(0.3) + 1) == "reserved"
    assert account.lacks(0) is None, "what costs nothing is never refused"
    assert Account(None, 0.0).lacks(10**18) is None


def test_a_new_period_begins_afresh() -> None:
    account = Account(Budget(1.0, "day"), at(2026, 5, 2, 12))
    account.written, account.reserved = to_nanos(1.0), to_nanos(0.25)
    state = account.state(at(2026, 5, 2, 18))
    assert state == (1.0, 1.0, 0.25, 0.75, at(2026, 5, 2), at(2026, 5, 3))
    account.roll_over(at(2026, 5, 2, 23))
    assert account.spent == to_nanos(1.0)
    account.roll_over(at(2026, 5, 3))
    assert (account.spent, account.reserved) == (0, to_nanos(0.25)), "answers go on past midnight"
    assert account.state(at(2026, 5, 3)).period_elapsed_share == 0


def test_a_clock_that_was_set_back_is_followed() -> None:
    account = Account(Budget(1.0, "day"), at(2026, 5, 2))
    account.roll_over(at(2026, 4, 30))
    assert account.period.start_s == at(2026, 4, 30)
    assert account.state(at(2026, 5, 9)).period_elapsed_share == 1.0


@pytest.mark.parametrize("per", ["day", "total"])
def test_another_budget_is_for_its_own_period(per) -> None:
    account = Account(Budget(1.0), at(2026, 5, 2))
    account.written = to_nanos(0.5)
    account.adopt(Budget(1.0, per), at(2026, 5, 9, 12))
    assert account.period == period_of(per, at(2026, 5, 9, 12))
    assert account.spent == to_nanos(0.5), "until the ledger tells"
    account.adopt(Budget(2.0, "day"), at(2026, 6, 1))
    assert account.spent == (0 if per == "day" else to_nanos(0.5))
