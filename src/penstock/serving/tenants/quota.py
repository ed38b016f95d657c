"""The limits of one tenant: requests in flight, rates, money."""

from collections import Counter
from collections.abc import Callable, Mapping
from math import ceil, inf
from typing import NamedTuple

from penstock.core.disclosure import Disclosure, at_most
from penstock.core.money import to_money, to_nanos
from penstock.fleet.values_gateway import Tenant
from penstock.serving.errors import ServiceError
from penstock.serving.tenants.budgets import Account, BudgetState, Period
from penstock.serving.tenants.rates import Bucket


class Spending(NamedTuple):
    """Figures of one tenant: money charged and requests refused by reason since this gateway
    started, requests in flight, and nanos spent in the present period. Of a tenant that
    ``has_confidential`` requests, other tenants may see only the rounded figures of ``redact``."""

    tenant: str
    charged: float
    num_in_flight: int
    refused: Mapping[str, int]
    period: Period
    spent_nanos: int
    budget: BudgetState | None
    has_confidential: bool = False


def redact(one: Spending, disclosure: Disclosure) -> Spending:
    """Return the figures rounded up."""
    budget = one.budget
    if budget is not None:
        budget = budget._replace(spent=_most(budget.spent), reserved=_most(budget.reserved))
    return one._replace(
        charged=_most(one.charged), num_in_flight=disclosure.count(one.num_in_flight),
        refused={reason: disclosure.count(number) for reason, number in one.refused.items()},
        spent_nanos=to_nanos(_most(to_money(one.spent_nanos))), budget=budget)


def _most(money: float) -> float:
    return at_most(money) or 0.0


class TenantQuota:
    """Quota of one tenant: requests in flight, used rate limits, and spending.

    The checks raise ServiceError: status 429 with a reason as its code, and Retry-After where a
    retry may succeed. They reserve nothing; ``take`` does. ``on_take`` and ``on_give_back`` are
    called with the tokens, for limits that several gateways share.
    """

    __slots__ = ("_requests", "_tokens", "account", "charged", "has_confidential", "in_flight",
                 "on_give_back", "on_take", "refused", "tenant", "waits_until_s")

    def __init__(self, tenant: Tenant, now_s: float, wall_s: float) -> None:
        self.account = Account(tenant.budget, wall_s)
        self.in_flight = 0
        self.charged = 0
        self.has_confidential = False  # requests among those that it sent
        self.waits_until_s = float("-inf")  # after a rejection because all places were taken
        self.refused: Counter[str] = Counter()
        self.on_take: Callable[[int], None] = lambda _: None
        self.on_give_back: Callable[[int], None] = lambda _: None
        self._requests: Bucket | None = None
        self._tokens: Bucket | None = None
        self.adopt(tenant, now_s, wall_s)

    def adopt(self, tenant: Tenant, now_s: float, wall_s: float) -> None:
        """Replace the limits. Requests in flight and spending are kept."""
        self.tenant = tenant
        self.account.adopt(tenant.budget, wall_s)
        self._requests = _bucket(self._requests, tenant.requests_per_minute, now_s)
        self._tokens = _bucket(self._tokens, tenant.tokens_per_minute, now_s)

    # -- checks ---------------------------------------------------------------------------------

    def check_budget(self, nanos: int, wall_s: float) -> None:
        """Check that this amount can be reserved for an answer."""
        account = self.account
        lack = account.lacks(nanos)
        if lack is None:
            return
        budget, end_s = account.budget, account.period.end_s
        assert budget is not None, "only a budget can lack money"
        text = (f"the budget of tenant {self.tenant.name!r} is {budget.amount:g} "
                f"{'in total' if budget.per == 'total' else f'per {budget.per}'}; "
                f"{to_money(account.spent):g} is spent")
        if lack == "reserved":
            raise retry_later(f"{text} and {to_money(account.reserved + account.elsewhere):g} held "
                              f"for answers in progress; this one may cost {to_money(nanos):g}",
                              "budget_reserved", 1.0)
        raise retry_later(f"{text}; this answer may cost {to_money(nanos):g} (max_tokens lowers "
                          "that)", "budget_exhausted", None if end_s is None else end_s - wall_s)

    def check_places(self) -> None:
        """Check that the tenant may have one more request in flight."""
        most = self.tenant.max_in_flight
        if most is not None and self.in_flight >= most:
            raise retry_later(f"{self.in_flight} requests of tenant {self.tenant.name!r} are under "
                              "way, as many as it may have (max_in_flight)", "max_in_flight", 1.0)

    def check_requests(self, now_s: float) -> None:
        """Check the limit of requests per minute."""
        tenant = self.tenant
        if self._requests is not None and (wait_s := self._requests.wait_s(1, now_s)) > 0:
            raise retry_later(f"tenant {tenant.name!r} has reached its limit of "
                              f"{tenant.requests_per_minute} requests per minute",
                              "requests_per_minute", wait_s)

    def check_tokens(self, tokens: int, now_s: float) -> None:
        """Check the limit of tokens per minute."""
        tenant = self.tenant
        if self._tokens is None or (wait_s := self._tokens.wait_s(tokens, now_s)) == 0:
            return
        if wait_s == inf:
            raise ServiceError(400, f"the request may take {tokens} tokens, more than the "
                                    f"{tenant.tokens_per_minute} per minute of tenant "
                                    f"{tenant.name!r} (max_tokens lowers that)",
                               "over_tokens_per_minute")
        raise retry_later(f"tenant {tenant.name!r} has used its {tenant.tokens_per_minute} tokens "
                          "per minute that it may", "tokens_per_minute", wait_s)

    # -- reservations ---------------------------------------------------------------------------

    def take(self, nanos: int, tokens: int, now_s: float) -> None:
        """Reserve money and tokens for an admitted request."""
        self.in_flight += 1
        self.account.reserved += nanos
        if self._requests is not None:
            self._requests.take(1, now_s)
        if self._tokens is not None:
            self._tokens.take(tokens, now_s)
        self.on_take(tokens)

    def give_back(self, nanos: int, tokens: int, now_s: float) -> None:
        """Release reserved money and unused tokens of a request that has ended."""
        self.in_flight -= 1
        self.account.reserved -= nanos
        if self._tokens is not None:
            self._tokens.take(-tokens, now_s)
        self.on_give_back(tokens)


def _bucket(before: Bucket | None, per_minute: int | None, now_s: float) -> Bucket | None:
    if per_minute is None:
        return None
    if before is not None and before.per_minute == per_minute:
        return before
    return Bucket(per_minute, now_s)


def retry_later(message: str, code: str, after_s: float | None) -> ServiceError:
    """Return a status 429. ``after_s`` is the time to retry after, None where a retry is
    useless."""
    if after_s is None:
        return ServiceError(429, message, code)
    seconds = max(1, ceil(after_s))
    return ServiceError(429, f"{message}; try again in {seconds} s", code,
                        headers={"Retry-After": str(seconds)})
