"""Statements that are compiled once for a database."""

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, CursorResult, Dialect
from sqlalchemy.sql import Executable


class Prepared:
    """A statement whose values come in the order of ``names``, those of its parameters; at least
    two.

    Executed as an object, a statement is looked up among the compiled ones each time, and each
    value is converted by its name. That takes longer than SQLite takes for the statement.
    """

    def __init__(self, statement: Executable, names: Sequence[str], dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect)  # type: ignore[attr-defined]
        self._sql: str = compiled.string
        self._read: Callable[[tuple[Any, ...]], Any]
        if not dialect.positional:
            self._read = lambda values: dict(zip(names, values, strict=True))
        elif list(compiled.positiontup) == list(names):
            self._read = tuple
        else:
            self._read = itemgetter(*map(list(names).index, compiled.positiontup))

    def run(self, connection: Connection, values: tuple[Any, ...]) -> CursorResult[Any]:
        """Execute the statement."""
        return connection.exec_driver_sql(self._sql, self._read(values))

    def run_many(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """Execute the statement for each row; nothing without rows."""
        if rows:
            connection.exec_driver_sql(self._sql, [*map(self._read, rows)])
