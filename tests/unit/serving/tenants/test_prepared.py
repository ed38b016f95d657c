"""Statements that are compiled once get their values as the database's driver takes them."""

import pytest

pytest.importorskip("sqlalchemy", reason="the extra 'serve' is not installed")

from sqlalchemy import Column, Integer, MetaData, String, Table, bindparam, create_engine, update
from sqlalchemy.dialects import postgresql, sqlite

from penstock.serving.tenants.prepared import Prepared

TABLE = Table("t", MetaData(), Column("name", String(9), primary_key=True), Column("n", Integer))
ADD = update(TABLE).where(TABLE.c.name == bindparam("of")).values(
    n=TABLE.c.n + bindparam("more"))


class Recorded:
    """As much of a connection as a statement uses."""

    def __init__(self):
        self.calls = []

    def exec_driver_sql(self, sql, parameters):
        self.calls.append((sql, parameters))


@pytest.mark.parametrize("names", [("more", "of"), ("of", "more")])
def test_values_stand_in_the_order_of_the_statement(names) -> None:
    values = {"of": "a", "more": 2}
    connection = Recorded()
    Prepared(ADD, names, sqlite.dialect()).run(connection, tuple(values[one] for one in names))
    assert connection.calls == [("UPDATE t SET n=(t.n + ?) WHERE t.name = ?", (2, "a"))]


def test_a_driver_that_takes_names_gets_them() -> None:
    connection = Recorded()
    statement = Prepared(ADD, ("of", "more"), postgresql.dialect(paramstyle="pyformat"))
    statement.run_many(connection, [("a", 2), ("b", 3)])
    ((sql, rows),) = connection.calls
    assert "%(more)s" in sql
    assert "%(of)s" in sql
    assert rows == [{"of": "a", "more": 2}, {"of": "b", "more": 3}]


def test_a_database_is_changed_once_for_each_row_and_not_without_rows() -> None:
    engine = create_engine("sqlite://")
    TABLE.create(engine)
    statement = Prepared(ADD, ("of", "more"), engine.dialect)
    with engine.begin() as connection:
        connection.execute(TABLE.insert(), [{"name": "a", "n": 1}, {"name": "b", "n": 1}])
        statement.run_many(connection, [])
        statement.run_many(connection, [("a", 2), ("a", 3), ("b", 4)])
        assert statement.run(connection, ("nobody", 1)).rowcount == 0
        assert connection.execute(TABLE.select()).all() == [("a", 6), ("b", 5)]
