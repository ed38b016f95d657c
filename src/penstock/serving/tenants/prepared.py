"""Statements that are compiled once for a database."""

from collections.abc import Sequence
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
        self._names = None if dialect.positional else tuple(names)
        self._in_order = itemgetter(*(list(names).index(name) for name in compiled.positiontup)) \
            if dialect.positional else None

    def run(self, connection: Connection, values: tuple[Any, ...]) -> CursorResult[Any]:
        """Execute the statement."""
        return connection.exec_driver_sql(self._sql, self._parameters(values))

    def run_many(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """Execute the statement for each row; nothing without rows."""
        if rows:
            connection.exec_driver_sql(self._sql, [self._parameters(row) for row in rows])

    def _parameters(self, values: tuple[Any, ...]) -> Any:
        """Return the values as the driver takes them: in order, or by name."""
        if self._in_order is not None:
            return self._in_order(values)
        assert self._names is not None, "a driver takes values in order or by name"
        return dict(zip(self._names, values, strict=True))
