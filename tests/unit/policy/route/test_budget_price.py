from hypothesis import given
from hypothesis import strategies as st

from penstock.policy.route.budget_price import markup

SHARES = st.floats(0, 2, allow_nan=False)


def test_ten_percent_ahead_doubles_prices() -> None:
    assert abs(markup(0.6, 0.5) - 1.0) < 1e-12


@given(SHARES, SHARES)
def test_who_keeps_to_the_plan_pays_what_it_costs(spent: float, elapsed: float) -> None:
    found = markup(spent, elapsed)
    assert found >= 0.0
    assert (found == 0.0) == (spent <= elapsed)


@given(SHARES, SHARES, SHARES)
def test_spending_more_never_makes_money_cheaper(one: float, more: float, elapsed: float) -> None:
    low, high = sorted((one, more))
    assert markup(low, elapsed) <= markup(high, elapsed)
