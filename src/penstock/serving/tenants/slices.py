"""Slices of a tenant's limits, which gateways on one ledger hold for a short time: arithmetic.

The sum of the live slices of a limit never exceeds the limit. Money that is spent, and holds of
gateways whose slices have lapsed, count as slices that nobody can use.
"""

from collections.abc import Iterable
from math import floor
from typing import Literal, NamedTuple

from penstock.core.money import to_nanos
from penstock.fleet.values_gateway import Span, Tenant

LEASE_S = 10.0
"""A slice lapses this long after it was taken or renewed, by the database's clock. A gateway on an
overloaded machine may stall for some seconds, and must not lose the places of its requests."""

Resource = Literal["places", "requests", "tokens", "money"]
RATES: frozenset[Resource] = frozenset({"requests", "tokens"})
"""Resources that are used up and refill. The others are held and come back."""


class Limit(NamedTuple):
    """A limit of a tenant: a resource, its amount (of a rate: per minute; of money: nanos), and
    the span of a budget."""

    resource: Resource
    amount: int
    per: Span | None = None


def limits_of(tenant: Tenant) -> tuple[Limit, ...]:
    """Return the limits that gateways share."""
    budget = tenant.budget
    amounts: tuple[tuple[Resource, int | None, Span | None], ...] = (
        ("places", tenant.max_in_flight, None), ("requests", tenant.requests_per_minute, None),
        ("tokens", tenant.tokens_per_minute, None),
        ("money", None if budget is None else to_nanos(budget.amount),
         None if budget is None else budget.per))
    return tuple(Limit(name, amount, per) for name, amount, per in amounts if amount is not None)


class SliceClaim(NamedTuple):
    """A gateway's claim to a slice.

    The gateway uses no more than ``keep`` until it has the answer; ``keep`` is at most its present
    slice. ``in_use`` of that is held by requests in flight. ``used`` of a rate was used since the
    last confirmed claim, negative where requests used less than was taken for them. Requests wait
    for ``need`` more, the smallest of them for ``least``. ``blocked`` where they lack another
    resource, too: then they get none of this one, since two gateways that each hold what the other
    lacks would serve nobody.
    """

    tenant: str
    limit: Limit
    keep: int = 0
    in_use: int = 0
    used: int = 0
    need: int = 0
    least: int = 0
    blocked: bool = False


class Slice(NamedTuple):
    """A gateway's slice as the ledger knows it. ``wanted`` is what the gateway lacked."""

    gateway: str
    amount: int
    in_use: int
    wanted: int
    expires_s: float


class Level(NamedTuple):
    """The amount of a rate that no slice has, at a time of the database's clock."""

    amount: float
    at_s: float


class Grant(NamedTuple):
    """The answer to a claim: the slice's new amount, what the gateway still lacks, and the number
    of other gateways that hold or want a slice, with their spare and wanted amounts. ``short``
    where not even the smallest request can be admitted; ``wait_s`` is then the time until a rate
    has refilled enough."""

    amount: int
    lacks: int
    num_others: int
    spare: int
    wanted: int
    short: bool = False
    wait_s: float = 0.0


def hold(claim: SliceClaim, others: Iterable[Slice], committed: int) -> Grant:
    """Answer a claim to places or money. ``others`` are the live slices of other gateways, and
    ``committed`` is spent or held besides the slices."""
    others = list(others)
    available = claim.limit.amount - committed - sum(one.amount for one in others)
    return _grant(claim, available, others, 0.0)


def draw(claim: SliceClaim, own: int, others: Iterable[Slice], level: Level,
         now_s: float) -> tuple[Grant, Level]:
    """Answer a claim to a rate, and return the level after it. ``own`` is the gateway's present
    slice, ``others`` are the live slices of other gateways. Amounts of lapsed slices are in the
    level already.

    Level and slices together hold at most the amount of one minute.
    """
    others = list(others)
    most, elsewhere = claim.limit.amount, sum(one.amount for one in others)
    filled = level.amount + max(0.0, now_s - level.at_s) * most / 60.0
    filled = min(filled, float(most - elsewhere - own))
    free = min(filled + own - claim.used, float(most - elsewhere))
    short = claim.keep + claim.least - free
    grant = _grant(claim, floor(free + 1e-9), others, max(0.0, short) * 60.0 / max(most, 1))
    return grant, Level(free - grant.amount, max(now_s, level.at_s))


def _grant(claim: SliceClaim, available: int, others: list[Slice], wait_s: float) -> Grant:
    wanted = sum(one.wanted for one in others)
    amount = _share(claim, available, len(others), wanted)
    short = bool(claim.least) and available < claim.keep + claim.least
    return Grant(amount, max(0, claim.keep + claim.need - amount), len(others),
                 sum(max(0, one.amount - one.in_use) for one in others), wanted,
                 short, wait_s if short else 0.0)


def _share(claim: SliceClaim, available: int, num_others: int, wanted: int) -> int:
    """Return the size of the slice: all that is available for a gateway alone; among several what
    is needed and a fraction of the rest; no rest where others want some."""
    needed = claim.keep + (0 if claim.blocked else claim.need)
    if available < claim.keep + claim.least and not claim.blocked:
        # a part of what one request needs would help nobody
        return max(0, min(claim.keep, available))
    if available <= needed or not num_others:
        return max(0, available)
    return needed if wanted else needed + (available - needed) // (2 * (num_others + 1))
