"""The dual price of a budget: the markup on prices for a tenant that spends ahead of plan."""

STEP = 10.0
"""Markup per share of the budget by which spending is ahead: 10 % ahead doubles every price."""


def markup(spent_share: float, elapsed_share: float, step: float = STEP) -> float:
    """Return the markup on prices of a tenant that has spent ``spent_share`` of its budget when
    ``elapsed_share`` of the period is over, both 0 to 1.

    This is dual ascent on the constraint of an even spending rate: each instant adds ``step`` times
    (spending rate - planned rate) to the price, never below 0. The integral is ``step`` times the
    share by which spending is ahead, which is returned. Unlike a running sum, it is correct after a
    restart and includes money spent at other gateways. (OmniRouter, arXiv 2502.20576, uses such a
    price for a floor of quality.)
    """
    return max(0.0, step * (spent_share - elapsed_share))
