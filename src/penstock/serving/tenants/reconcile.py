"""Reconciliation: the ledger, the decision log and the metrics of gateways tell the same.

Every request is charged once, every token is counted once, and sums equal the charges.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Connection, case, func, select

from penstock.core.money import to_money
from penstock.serving.tenants.budgets import SECONDS_PER_DAY, day_of
from penstock.serving.tenants.ledger import KEPT_DAYS
from penstock.serving.tenants.liveness import own_identity
from penstock.serving.tenants.reconcile_log import LogJoin, read_log
from penstock.serving.tenants.reconcile_metrics import GatewayMetrics, compare_metrics
from penstock.serving.tenants.store import Store
from penstock.serving.tenants.tables import CHARGES, GATEWAYS, OPEN, REPEATS, SPEND

_SNAPSHOT = {"sqlite": "BEGIN", "postgresql": "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"}
_SUMS = ("num_requests", "prompt_tokens", "output_tokens", "charged_nanos", "num_disputed")


class Reconciliation(NamedTuple):
    """The numbers of joined charges and decisions, and each difference in one line."""

    num_charges: int
    num_decisions: int
    differences: list[str]


def reconcile(store: Store, now_s: float, decisions: Sequence[Path] = (),
              metrics: Sequence[str] = (),
              alive: Callable[[int, float], bool] | None = None) -> Reconciliation:
    """Compare a ledger with itself, with files of decisions and with texts of metrics.

    ``alive`` tells whether a process of this host lives. Raises InputError for a file that cannot
    be read, and StoreError.
    """
    mine = own_identity()
    dead = store.dead("", mine.place, alive or mine.alive, now_s)
    log = read_log(decisions)
    told = [GatewayMetrics.read(text) for text in metrics]

    def work(connection: Connection) -> Reconciliation:
        if (begin := _SNAPSHOT.get(connection.dialect.name)) is not None:
            connection.exec_driver_sql(begin)  # all queries see the same moment
        join = LogJoin(log, now_s - KEPT_DAYS * SECONDS_PER_DAY)
        num_charges = 0
        for row in connection.execute(select(CHARGES)):
            num_charges += 1
            join.add(row)
        found = [*_sums(connection, day_of(now_s)), *_open(connection, dead), *_wrong(connection),
                 *_keys(connection), *join.differences(),
                 *(line for one in told for line in compare_metrics(connection, one, log))]
        return Reconciliation(num_charges, len(log.lines), found)

    return store.transact(work)


def _sums(connection: Connection, today: int) -> Iterator[str]:
    """Differences between the sums of each tenant, day and model, and their charges."""
    first, names = today - KEPT_DAYS, ("tenant", "day", "model")
    charged = select(*(CHARGES.c[name] for name in names), func.count(),
                     *(func.sum(CHARGES.c[name]) for name in _SUMS[1:-1]),
                     func.sum(case((CHARGES.c.disputed, 1), else_=0))).where(
        CHARGES.c.day >= first, (CHARGES.c.prompt_tokens != 0) | (CHARGES.c.output_tokens != 0)
        | (CHARGES.c.charged_nanos != 0)).group_by(*(CHARGES.c[name] for name in names))
    summed = select(*(SPEND.c[name] for name in (*names, *_SUMS))).where(SPEND.c.day >= first)
    none = (0,) * len(_SUMS)
    charges = {tuple(row[:3]): tuple(map(int, row[3:])) for row in connection.execute(charged)}
    sums = {tuple(row[:3]): tuple(map(int, row[3:])) for row in connection.execute(summed)}
    for key in sorted({*charges, *sums}):
        for name, of_sum, of_charges in zip(_SUMS, sums.get(key, none), charges.get(key, none),
                                            strict=True):
            if of_sum != of_charges:
                tenant, day, model = key
                yield (f"sum of {tenant}, {_day(day)}, {model or 'no model'}: {name} is {of_sum}, "
                       f"and that of its charges is {of_charges}")


def _open(connection: Connection, dead: Sequence[str]) -> Iterator[str]:
    """Differences in requests that are in progress."""
    both = select(OPEN.c.decision_id).where(OPEN.c.decision_id.in_(select(CHARGES.c.decision_id)))
    for name in connection.execute(both.order_by(OPEN.c.decision_id)).scalars():
        yield f"decision {name}: is charged and still open"
    above = select(OPEN).where(OPEN.c.charged_nanos > OPEN.c.reserved_nanos)
    for row in connection.execute(above.order_by(OPEN.c.decision_id)):
        yield (f"decision {row.decision_id}: {to_money(row.charged_nanos):g} is recorded, above "
               f"{to_money(row.reserved_nanos):g} held")
    left = select(OPEN.c.gateway, func.count(), func.sum(OPEN.c.charged_nanos)).group_by(
        OPEN.c.gateway).order_by(OPEN.c.gateway)
    places = {row.gateway: f" ({row.host}, process {row.pid})"
              for row in connection.execute(select(GATEWAYS))}
    for gateway, number, nanos in connection.execute(left):
        if gateway in dead:
            yield (f"gateway {gateway}{places.get(gateway, '')}: is dead and has {number} open "
                   f"requests, {to_money(int(nanos)):g} so far; the next gateway charges them")


def _wrong(connection: Connection) -> Iterator[str]:
    """Charges that cannot be."""
    columns = (CHARGES.c.prompt_tokens, CHARGES.c.output_tokens, CHARGES.c.charged_nanos)
    negative = select(CHARGES).where((columns[0] < 0) | (columns[1] < 0) | (columns[2] < 0))
    for row in connection.execute(negative.order_by(CHARGES.c.decision_id)):
        yield f"decision {row.decision_id}: tokens or charge are below 0"
    free = select(CHARGES).where(columns[0] == 0, columns[1] == 0, columns[2] != 0)
    for row in connection.execute(free.order_by(CHARGES.c.decision_id)):
        yield f"decision {row.decision_id}: {to_money(row.charged_nanos):g} is charged for no token"


def _keys(connection: Connection) -> Iterator[str]:
    """Differences between idempotency keys and the charges of their requests."""
    rows = connection.execute(
        select(REPEATS.c.decision_id, REPEATS.c.charged_nanos,
               CHARGES.c.charged_nanos.label("real"))
        .join_from(REPEATS, CHARGES, REPEATS.c.decision_id == CHARGES.c.decision_id, isouter=True)
        .where(REPEATS.c.charged_nanos.is_not(None)).order_by(REPEATS.c.decision_id))
    for row in rows:
        if row.real != row.charged_nanos:
            real = "nothing" if row.real is None else f"{to_money(row.real):g}"
            yield (f"decision {row.decision_id}: its idempotency key tells a charge of "
                   f"{to_money(row.charged_nanos):g}, and {real} is charged")


def _day(day: Any) -> str:
    return datetime.fromtimestamp(int(day) * SECONDS_PER_DAY, UTC).strftime("%Y-%m-%d")
