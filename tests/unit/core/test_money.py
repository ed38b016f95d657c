from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from penstock.core.money import FREE, Price, in_millions, per_million, to_money, to_nanos

FIGURES = st.integers(0, 10**9).map(lambda millionths: millionths / 1e6)


def test_a_million_tokens_cost_what_the_list_says() -> None:
    price = per_million(0.15, 0.6)
    assert price == Price(1.5e-7, 6e-7)
    assert price.nanos(1_000_000, 0) == to_nanos(0.15)
    assert price.nanos(0, 1_000_000) == to_nanos(0.6)
    assert price.nanos(7, 3) == 7 * 150 + 3 * 600
    assert FREE.nanos(10**9, 10**9) == 0


@given(FIGURES, FIGURES, st.integers(0, 10**7), st.integers(0, 10**7))
def test_a_charge_is_exact_to_half_a_nano(first, second, prompt, output) -> None:
    exact = (Fraction(str(first)) * prompt + Fraction(str(second)) * output) * 1000
    assert abs(per_million(first, second).nanos(prompt, output) - exact) <= Fraction(1, 2)


@given(FIGURES)
def test_a_figure_comes_back(figure) -> None:
    assert in_millions(per_million(figure, 0.0).input_per_token) == figure


@given(st.integers(0, 10**15))
def test_nanos_come_back(nanos) -> None:
    assert to_nanos(to_money(nanos)) == nanos
