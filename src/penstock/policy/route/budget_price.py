"""The dual price of a budget: how much dearer money is for a tenant who spends ahead of time."""

STEP = 10.0
"""Markup per share of the budget that spending is ahead: 10 % ahead doubles every price."""


def markup(spent_share: float, elapsed_share: float, step: float = STEP) -> float:
    """The markup on prices of a tenant that has spent ``spent_share`` of its budget when
    ``elapsed_share`` of the period is over, both 0 to 1.

    Dual ascent on the constraint that spending keeps to an even plan: each instant adds ``step``
    times (rate of spending - planned rate) to the price, never below 0. Summed up, that is
    ``step`` times how far spending is ahead, which is what is returned; unlike a running sum it is
    right after a restart and for money that others spent. (OmniRouter, arXiv 2502.20576, uses such
    a price against a floor of quality.)
    """
    return max(0.0, step * (spent_share - elapsed_share))
