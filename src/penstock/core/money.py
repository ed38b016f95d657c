"""Money: prices of tokens, and exact sums in whole numbers.

Amounts are in nanos, billionths of the fleet file's unit of money.
"""

from typing import NamedTuple

NANOS = 1_000_000_000
PICOS_PER_NANO = 1000
_PICOS = NANOS * PICOS_PER_NANO


def to_nanos(amount: float) -> int:
    """Return an amount of money in whole nanos, rounded to the nearest."""
    return round(amount * NANOS)


def to_money(nanos: int) -> float:
    """Return nanos as an amount of money."""
    return nanos / NANOS


class Price(NamedTuple):
    """Price of a model's tokens, money per token; whole picos (1e-12) of money are exact.

    A price list's figures per million tokens are exact to six decimals (``per_million``).
    """

    input_per_token: float = 0.0
    output_per_token: float = 0.0

    def nanos(self, prompt_tokens: int, output_tokens: int) -> int:
        """Return the cost of some tokens, rounded to the nearest nano, a half upwards."""
        picos = (round(self.input_per_token * _PICOS) * prompt_tokens
                 + round(self.output_per_token * _PICOS) * output_tokens)
        return (picos + PICOS_PER_NANO // 2) // PICOS_PER_NANO


FREE = Price()


def per_million(input_per_million: float, output_per_million: float) -> Price:
    """Return the price from figures per million tokens."""
    return Price(round(input_per_million * 1e6) / _PICOS, round(output_per_million * 1e6) / _PICOS)


def in_millions(per_token: float) -> float:
    """Return a price per token as a figure per million tokens; the inverse of ``per_million``."""
    return round(per_token * _PICOS) / 1e6
