"""Writes batches of records: requests in progress, charges, and their sums."""

from typing import Any

from sqlalchemy import Connection, Dialect, bindparam, delete, insert, select, update

from penstock.serving.tenants import repeats
from penstock.serving.tenants.budgets import day_of
from penstock.serving.tenants.prepared import Prepared
from penstock.serving.tenants.records import Batch, Settlement
from penstock.serving.tenants.rows import CHARGE_COLUMNS, advance, amounts, charge_row, open_row
from penstock.serving.tenants.tables import CHARGES, OPEN, SPEND

SUMS = ("num_requests", "prompt_tokens", "output_tokens", "charged_nanos", "num_disputed")
"""Columns of sums, in the order of ``amounts``."""

_KEYS = ("tenant", "day", "model")
_CLOSE = delete(OPEN).where(OPEN.c.decision_id == bindparam("name"))
_ADVANCE = update(OPEN).where(OPEN.c.decision_id == bindparam("name")).values(
    {column: bindparam(f"new_{column}") for column in
     ("model", "prompt_tokens", "output_tokens", "charged_nanos")})
_ADD = update(SPEND).where(*(SPEND.c[name] == bindparam(f"of_{name}") for name in _KEYS)).values(
    {name: SPEND.c[name] + bindparam(f"more_{name}") for name in SUMS})
_CHARGE = insert(CHARGES).values({name: bindparam(name) for name in CHARGE_COLUMNS})


class BatchWriter:
    """Writes batches in the transactions of its callers. The statements of every request are
    compiled once for the database's ``dialect``."""

    def __init__(self, dialect: Dialect) -> None:
        self._charge_request = Prepared(_CHARGE, CHARGE_COLUMNS, dialect)
        self._add_to_sums = Prepared(_ADD, (*(f"more_{name}" for name in SUMS),
                                            *(f"of_{name}" for name in _KEYS)), dialect)
        self._truth = bool if dialect.supports_native_boolean else int

    def write_new(self, connection: Connection, batch: Batch, gateway: str) -> None:
        """Write a batch of which nothing is written yet. Raises IntegrityError where a row
        exists."""
        settled = repeats.settle(connection, batch.settlements)
        if openings := [open_row(one, gateway) for one in batch.openings.values()]:
            connection.execute(insert(OPEN), openings)
        if batch.progresses:
            connection.execute(_ADVANCE, [advance(one) for one in batch.progresses.values()])
        if closing := [{"name": name} for name, one in settled.items() if one.opened]:
            connection.execute(_CLOSE, closing)
        delivered = [one for one in settled.values() if one.delivered]
        self._charge_request.run_many(connection, [self._row(one, gateway) for one in delivered])
        sums: dict[tuple[str, int, str], list[int]] = {}
        for one in delivered:
            key, more = (one.tenant, day_of(one.at_s), one.model), amounts(one)
            before = sums.get(key)
            sums[key] = more if before is None else [*map(int.__add__, before, more)]
        for key, more in sums.items():
            self._add(connection, key, more)

    def write_each(self, connection: Connection, batch: Batch, gateway: str) -> None:
        """Write a batch of which some rows exist, each record on its own."""
        for name, opening in batch.openings.items():
            known = connection.execute(select(OPEN.c.decision_id).where(OPEN.c.decision_id == name))
            if known.first() is None and _charge_of(connection, name) is None:
                connection.execute(insert(OPEN), open_row(opening, gateway))
        for progress in batch.progresses.values():
            connection.execute(_ADVANCE, advance(progress))
        for name, settlement in repeats.settle(connection, batch.settlements).items():
            connection.execute(_CLOSE, {"name": name})
            self.charge(connection, settlement, gateway, resolved=False)

    def charge(self, connection: Connection, one: Settlement, gateway: str, *,
               resolved: bool) -> None:
        """Charge a request unless it was charged. A settlement by its own gateway replaces a
        resolved charge."""
        before = _charge_of(connection, one.decision_id)
        counts, row = one.delivered, self._row(one, gateway, resolved=resolved)
        if before is None:
            if counts or resolved:
                self._charge_request.run(connection, row)
            if counts:
                self._add(connection, (one.tenant, day_of(one.at_s), one.model), amounts(one))
            return
        if resolved or not before.resolved:
            return
        connection.execute(update(CHARGES).where(CHARGES.c.decision_id == one.decision_id),
                           dict(zip(CHARGE_COLUMNS, row, strict=True)))
        if before.prompt_tokens or before.output_tokens or before.charged_nanos:
            self._add(connection, (before.tenant, before.day, before.model),
                      [-amount for amount in amounts(before)])
        if counts:
            self._add(connection, (one.tenant, day_of(one.at_s), one.model), amounts(one))

    def _row(self, one: Settlement, gateway: str, *, resolved: bool = False) -> tuple[Any, ...]:
        """Return a charge's row, with booleans as the database has them."""
        truth = self._truth
        return charge_row(one, gateway, truth(resolved), truth(one.disputed))

    def _add(self, connection: Connection, key: tuple[str, int, str], more: list[int]) -> None:
        done = self._add_to_sums.run(connection, (*more, *key))
        if done.rowcount == 0:
            connection.execute(insert(SPEND), dict(zip((*SUMS, *_KEYS), (*more, *key),
                                                       strict=True)))


def _charge_of(connection: Connection, name: str) -> Any:
    return connection.execute(select(CHARGES).where(CHARGES.c.decision_id == name)).first()
