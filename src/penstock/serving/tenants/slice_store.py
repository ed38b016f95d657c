"""Slices in the ledger's database: one transaction answers the claims of a gateway."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, delete, func, insert, select, text, update

from penstock.serving.tenants.budgets import day_of, period_of
from penstock.serving.tenants.slices import (
    RATES,
    Grant,
    Level,
    Resource,
    Slice,
    SliceClaim,
    draw,
    hold,
)
from penstock.serving.tenants.tables import OPEN, POOLS, SLICES, SPEND

Key = tuple[str, Resource]
"""A tenant and a resource."""

_CLOCKS = {
    "sqlite": "SELECT (julianday('now') - 2440587.5) * 86400.0",
    "postgresql": "SELECT extract(epoch FROM clock_timestamp())::double precision",
    "mysql": "SELECT UNIX_TIMESTAMP(SYSDATE(6))", "mariadb": "SELECT UNIX_TIMESTAMP(SYSDATE(6))"}

_THIS = (POOLS.c.tenant == bindparam("t"), POOLS.c.resource == bindparam("r"))
_OWN = (SLICES.c.tenant == bindparam("t"), SLICES.c.resource == bindparam("r"),
        SLICES.c.gateway == bindparam("g"))
# The first statement of the transaction: it locks the rows, in SQLite the database, so that what is
# read afterwards cannot change.
_LOCK = update(POOLS).where(*_THIS).values(at_s=POOLS.c.at_s)
_FILL = update(POOLS).where(*_THIS).values(level=bindparam("l"), at_s=bindparam("s"))
_RENEW = update(SLICES).where(*_OWN).values(
    {name: bindparam(f"new_{name}") for name in ("amount", "in_use", "wanted", "expires_s")})
_DROP = delete(SLICES).where(*_OWN)


def claim_slices(connection: Connection, gateway: str, claims: Sequence[SliceClaim],
                 wall_s: float, lease_s: float) -> dict[Key, Grant]:
    """Answer the claims of a gateway, whose slices lapse in ``lease_s``. ``wall_s`` is the time of
    day where the database is of a kind whose clock is not known here; the clocks of its gateways
    must agree to 0.1 s."""
    claims = sorted(claims, key=_key)  # one order of locks for all gateways
    names = [{"t": tenant, "r": resource} for tenant, resource in map(_key, claims)]
    connection.execute(_LOCK, names)
    now_s = _now_s(connection, wall_s)
    tenants = sorted({claim.tenant for claim in claims})
    levels = _levels(connection, tenants)
    slices: defaultdict[Key, list[Slice]] = defaultdict(list)
    for row in connection.execute(select(SLICES).where(SLICES.c.tenant.in_(tenants))):
        slices[row.tenant, row.resource].append(
            Slice(row.gateway, row.amount, row.in_use, row.wanted, row.expires_s))
    committed = _committed(connection, gateway, claims, slices, now_s)
    change = _Change(gateway, now_s, now_s + lease_s)
    grants = {}
    for tenant, some in groupby(claims, lambda claim: claim.tenant):
        asked = [_Asked(claim, slices[_key(claim)], levels.get(_key(claim)),
                        committed.get(tenant, 0)) for claim in some]
        found = [change.answer(one) for one in asked]
        if any(grant.short for grant, _ in found):
            asked = [one._replace(claim=one.claim._replace(blocked=not grant.short))
                     for one, (grant, _) in zip(asked, found, strict=True)]
            found = [change.answer(one) for one in asked]
        for one, (grant, level) in zip(asked, found, strict=True):
            change.add(one, grant, level)
            grants[_key(one.claim)] = grant
    change.write(connection)
    return grants


def extend_slices(connection: Connection, gateway: str, wall_s: float,
                  lease_s: float) -> None:
    """Renew the live slices of a gateway unchanged."""
    now_s = _now_s(connection, wall_s)
    connection.execute(update(SLICES).where(
        SLICES.c.gateway == gateway, SLICES.c.expires_s > now_s).values(
            expires_s=now_s + lease_s))


def drop_slices(connection: Connection, gateway: str) -> None:
    """Let the slices of a gateway lapse, because the gateway has ended."""
    connection.execute(update(SLICES).where(SLICES.c.gateway == gateway).values(expires_s=0.0))


class _Asked(NamedTuple):
    """A claim with what the database has about its limit."""

    claim: SliceClaim
    slices: Sequence[Slice]
    level: Level | None
    committed: int


class _Change:
    """Changes of one transaction, gathered to be written together."""

    def __init__(self, gateway: str, now_s: float, expires_s: float) -> None:
        self._gateway = gateway
        self._now_s = now_s
        self._expires_s = expires_s
        self._pools: list[dict[str, Any]] = []
        self._new_pools: list[dict[str, Any]] = []
        self._own: list[dict[str, Any]] = []
        self._new: list[dict[str, Any]] = []
        self._lapsed: list[dict[str, Any]] = []

    def answer(self, asked: _Asked) -> tuple[Grant, Level]:
        """Return the answer to a claim, and the level after it."""
        claim, slices, level, committed = asked
        live = [one for one in slices if one.expires_s > self._now_s]
        others = [one for one in live if one.gateway != self._gateway]
        own = sum(one.amount for one in live if one.gateway == self._gateway)
        if claim.limit.resource not in RATES:
            committed = committed if claim.limit.resource == "money" else 0
            return hold(claim, others, committed), Level(0.0, self._now_s)
        if level is None:
            level = Level(float(claim.limit.amount), self._now_s)
        lapsed = sum(one.amount for one in slices if one.expires_s <= self._now_s)
        return draw(claim, own, others, level._replace(amount=level.amount + lapsed), self._now_s)

    def add(self, asked: _Asked, grant: Grant, level: Level) -> None:
        """Add the changes of an answered claim."""
        claim, slices = asked.claim, asked.slices
        tenant, resource = _key(claim)
        name = {"t": tenant, "r": resource}
        if asked.level is None:
            self._new_pools.append({"tenant": tenant, "resource": resource, "level": level.amount,
                                    "at_s": level.at_s})
        elif resource in RATES:
            self._pools.append({**name, "l": level.amount, "s": level.at_s})
        self._lapsed += [{**name, "g": one.gateway} for one in slices
                         if one.expires_s <= self._now_s and one.gateway != self._gateway]
        values = {"amount": grant.amount, "in_use": claim.in_use, "wanted": grant.lacks,
                  "expires_s": self._expires_s}
        if any(one.gateway == self._gateway for one in slices):
            self._own.append({**name, "g": self._gateway, **{
                f"new_{column}": value for column, value in values.items()}})
        else:
            self._new.append({"tenant": tenant, "resource": resource, "gateway": self._gateway,
                              **values})

    def write(self, connection: Connection) -> None:
        """Write all changes."""
        for statement, rows in ((insert(POOLS), self._new_pools), (_FILL, self._pools),
                                (_DROP, self._lapsed), (_RENEW, self._own),
                                (insert(SLICES), self._new)):
            if rows:
                connection.execute(statement, rows)


def _now_s(connection: Connection, wall_s: float) -> float:
    clock = _CLOCKS.get(connection.dialect.name)
    return wall_s if clock is None else float(connection.scalar(text(clock)) or wall_s)


def _key(claim: SliceClaim) -> Key:
    return claim.tenant, claim.limit.resource


def _levels(connection: Connection, tenants: Sequence[str]) -> dict[Key, Level]:
    rows = connection.execute(select(POOLS).where(POOLS.c.tenant.in_(tenants)))
    return {(row.tenant, row.resource): Level(row.level, row.at_s) for row in rows}


def _committed(connection: Connection, gateway: str, claims: Sequence[SliceClaim],
               slices: Mapping[Key, Sequence[Slice]], now_s: float) -> dict[str, int]:
    """Return the nanos by tenant that are spent in the present period, or held for open requests of
    gateways without a live slice."""
    days = {claim.tenant: day_of(period_of(claim.limit.per, now_s).start_s)
            for claim in claims if claim.limit.per is not None}
    sums: defaultdict[str, int] = defaultdict(int)
    for day in set(days.values()):
        names = [tenant for tenant, first in days.items() if first == day]
        for tenant, nanos in connection.execute(
                select(SPEND.c.tenant, func.sum(SPEND.c.charged_nanos)).where(
                    SPEND.c.tenant.in_(names), SPEND.c.day >= day).group_by(SPEND.c.tenant)):
            sums[tenant] += int(nanos)
    if days:
        for tenant, other, nanos in connection.execute(
                select(OPEN.c.tenant, OPEN.c.gateway, func.sum(OPEN.c.reserved_nanos)).where(
                    OPEN.c.tenant.in_(list(days)), OPEN.c.gateway != gateway).group_by(
                        OPEN.c.tenant, OPEN.c.gateway)):
            if not any(one.gateway == other and one.expires_s > now_s
                       for one in slices.get((tenant, "money"), ())):
                sums[tenant] += int(nanos)
    return dict(sums)
