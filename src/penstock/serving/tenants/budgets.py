"""Money of a tenant: budget by period, spending, and amounts reserved for answers in progress."""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from penstock.core.money import to_money, to_nanos
from penstock.fleet.values_gateway import Budget, Span

SECONDS_PER_DAY = 86_400


class Period(NamedTuple):
    """The period of a budget in seconds since 1970, without an end for a total budget."""

    start_s: float
    end_s: float | None


class BudgetState(NamedTuple):
    """Money of a budget, and the elapsed share of its period, 0 to 1 (0 for a total budget).

    ``reserved`` is held for answers in progress, at the most that they can cost.
    """

    amount: float
    spent: float
    reserved: float
    period_elapsed_share: float
    period_start_s: float
    period_end_s: float | None


def day_of(at_s: float) -> int:
    """Return the UTC day, counted from 1970."""
    return int(at_s // SECONDS_PER_DAY)


def period_of(per: Span, at_s: float) -> Period:
    """Return the period of a moment, by the UTC calendar."""
    if per == "total":
        return Period(0.0, None)
    midnight = datetime.fromtimestamp(at_s, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if per == "day":
        return Period(midnight.timestamp(), (midnight + timedelta(days=1)).timestamp())
    first = midnight.replace(day=1)
    following = (first + timedelta(days=31)).replace(day=1)
    return Period(first.timestamp(), following.timestamp())


class Account:
    """A tenant's money in the present period, in nanos.

    ``written`` is spent and in the ledger, ``unwritten`` is spent and not yet in the ledger.
    ``reserved`` is held for answers of this gateway, ``elsewhere`` for answers of other gateways on
    the same ledger.
    """

    __slots__ = ("budget", "elsewhere", "period", "reserved", "unwritten", "written")

    def __init__(self, budget: Budget | None, now_s: float) -> None:
        self.budget = budget
        self.period = self._period(now_s)
        self.written = self.unwritten = self.reserved = self.elsewhere = 0

    @property
    def spent(self) -> int:
        """Nanos spent in this period."""
        return self.written + self.unwritten

    def adopt(self, budget: Budget | None, now_s: float) -> None:
        """Replace the budget. Until the ledger reports the spending of the new period, that of the
        old period is used."""
        self.roll_over(now_s)
        self.budget = budget
        self.period = self._period(now_s)

    def roll_over(self, now_s: float) -> None:
        """Begin the next period when the present one is over."""
        end_s = self.period.end_s
        if (end_s is not None and now_s >= end_s) or now_s < self.period.start_s:
            self.period = self._period(now_s)
            self.written = 0  # until the ledger reports the true sum

    def _period(self, now_s: float) -> Period:
        return period_of("month" if self.budget is None else self.budget.per, now_s)

    def lacks(self, nanos: int) -> str | None:
        """Return why this amount cannot be reserved: ``spent``, or ``reserved`` where answers in
        progress may still cost less; None where it can."""
        if self.budget is None or nanos == 0:
            return None
        left = to_nanos(self.budget.amount) - self.spent
        if nanos > left:
            return "spent"
        return "reserved" if nanos > left - self.reserved - self.elsewhere else None

    def state(self, now_s: float) -> BudgetState | None:
        """Return the budget's state for routers, None without a budget."""
        if self.budget is None:
            return None
        start_s, end_s = self.period
        share = 0.0 if end_s is None else (now_s - start_s) / (end_s - start_s)
        return BudgetState(self.budget.amount, to_money(self.spent),
                           to_money(self.reserved + self.elsewhere), min(max(share, 0.0), 1.0),
                           start_s, end_s)
