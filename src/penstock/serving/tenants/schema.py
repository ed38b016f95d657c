"""The version of a ledger's tables, and their migration in place."""

from sqlalchemy import Connection, Engine, insert, inspect, select, text, update
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError
from sqlalchemy.schema import CreateColumn

from penstock.serving.tenants.tables import FACTS, METADATA

VERSION = 2
"""Raised with each change of the tables. The ledgers of version 1 do not state theirs."""

_NAME = "version"


class NewerLedgerError(Exception):
    """The ledger was made by a newer version of Penstock."""


def bring_up_to_date(engine: Engine) -> None:
    """Create missing tables and add missing columns. Gateways of an earlier version can go on with
    the ledger, since every added column has a default. Raises SQLAlchemyError, and NewerLedgerError
    before anything changes."""
    found = _version(engine)
    if found > VERSION:
        raise NewerLedgerError(f"this ledger has version {found}, and this Penstock knows versions "
                               f"up to {VERSION}; update Penstock")
    METADATA.create_all(engine)
    for table in METADATA.sorted_tables:
        present = _columns(engine, table.name)
        for column in table.columns:
            if column.name not in present:
                _add(engine, table.name, column.name,
                     str(CreateColumn(column).compile(dialect=engine.dialect)))
    if found < VERSION:
        _state_version(engine)


def _version(engine: Engine) -> int:
    if not inspect(engine).has_table(FACTS.name):
        return 1
    with engine.connect() as connection:
        return int(fact(connection, _NAME) or 1)


def fact(connection: Connection, name: str) -> str | None:
    """Return a fact about the ledger, None where it was never stated."""
    return connection.execute(select(FACTS.c.value).where(FACTS.c.name == name)).scalar()


def stated(engine: Engine, name: str, value: str) -> str:
    """Return a fact about the ledger. The first of several processes states the ``value``."""
    for _ in range(2):
        with engine.connect() as connection:
            found = fact(connection, name)
        if found is not None:
            return found
        try:
            with engine.begin() as connection:
                connection.execute(insert(FACTS), {"name": name, "value": value})
        except IntegrityError:
            continue  # another process was first
    return value


def _state_version(engine: Engine) -> None:
    stated(engine, _NAME, str(VERSION))
    with engine.begin() as connection:
        connection.execute(update(FACTS).where(FACTS.c.name == _NAME).values(value=str(VERSION)))


def _add(engine: Engine, table: str, column: str, definition: str) -> None:
    try:
        with engine.begin() as connection:
            connection.execute(text(f"ALTER TABLE {table} ADD COLUMN {definition}"))
    except (OperationalError, ProgrammingError):
        if column not in _columns(engine, table):  # else another process has added it
            raise


def _columns(engine: Engine, table: str) -> set[str]:
    return {column["name"] for column in inspect(engine).get_columns(table)}
