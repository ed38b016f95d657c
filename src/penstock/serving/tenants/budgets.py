"""Money of a tenant: what it may spend in which time, what it spent, what is held for answers."""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from penstock.core.money import to_money, to_nanos
from penstock.fleet.values_gateway import Budget, Span

SECONDS_PER_DAY = 86_400


class Period(NamedTuple):
    """The time that a budget is for, seconds since 1970; no end where it is for good."""

    start_s: float
    end_s: float | None


class BudgetState(NamedTuple):
    """Money of a budget and how far its period is, 0 to 1 (0 where it has no end).

    ``reserved`` is held for answers under way, at the most that they can cost.
    """

    amount: float
    spent: float
    reserved: float
    period_elapsed_share: float
    period_start_s: float
    period_end_s: float | None


def day_of(at_s: float) -> int:
    """The UTC day, counted from 1970."""
    return int(at_s // SECONDS_PER_DAY)


def period_of(per: Span, at_s: float) -> Period:
    """The period that a moment belongs to, by the UTC calendar."""
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

    ``written`` is spent and in the ledger, ``unwritten`` spent and on its way there, ``reserved``
    held for answers of this gateway, ``elsewhere`` for answers of others on the same ledger.
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
        """Another budget holds from now on. What was spent in its period the ledger tells soon;
        until then it is what was spent in the one before."""
        self.turn(now_s)
        self.budget = budget
        self.period = self._period(now_s)

    def turn(self, now_s: float) -> None:
        """Begins the next period when the present one is over."""
        end_s = self.period.end_s
        if (end_s is not None and now_s >= end_s) or now_s < self.period.start_s:
            self.period = self._period(now_s)
            self.written = 0  # the ledger knows better, and tells soon

    def _period(self, now_s: float) -> Period:
        return period_of("month" if self.budget is None else self.budget.per, now_s)

    def lacks(self, nanos: int) -> str | None:
        """Why so much cannot be held: ``spent``, or ``reserved`` where answers under way may yet
        leave enough; None where it can."""
        if self.budget is None or nanos == 0:
            return None
        left = to_nanos(self.budget.amount) - self.spent
        if nanos > left:
            return "spent"
        return "reserved" if nanos > left - self.reserved - self.elsewhere else None

    def state(self, now_s: float) -> BudgetState | None:
        """The budget as others may plan with it, None where there is none."""
        if self.budget is None:
            return None
        start_s, end_s = self.period
        share = 0.0 if end_s is None else (now_s - start_s) / (end_s - start_s)
        return BudgetState(self.budget.amount, to_money(self.spent),
                           to_money(self.reserved + self.elsewhere), min(max(share, 0.0), 1.0),
                           start_s, end_s)
