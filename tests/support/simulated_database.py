"""A database for simulated gateways: the ledger's own statements on SQLite, with drawn faults.

A transaction takes drawn times before and after its statements. It can fail before the commit, or
lose its answer after it. The database can go away and come back.
"""

from contextlib import contextmanager

from sqlalchemy import bindparam, create_engine, delete, insert, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import StaticPool

from penstock.serving.tenants.administration import key_row
from penstock.serving.tenants.store import Store
from penstock.serving.tenants.tables import CHARGES, KEYS, METADATA, OPEN, SPEND

_ALL = {table.name: select(table) for table in METADATA.tables.values()}
_ONE = select(CHARGES.c.day).where(CHARGES.c.decision_id == bindparam("name"))
_USUAL_S = (0.0, 0.0, 0.0, 0.0005, 0.002, 0.005)


class Database:
    """The shared rows, which outlive every gateway. ``reset`` begins the next schedule."""

    def __init__(self):
        self._engine = create_engine("sqlite://", poolclass=StaticPool,
                                     connect_args={"check_same_thread": False})
        METADATA.create_all(self._engine)
        self.store = Store(self._engine, "simulated")  # without faults

    def reset(self, threads, random, note, keys):
        """Empty all tables, and add keys. ``note`` gets each fault by its kind."""
        with self._engine.begin() as connection:
            for table in METADATA.tables.values():
                connection.execute(delete(table))
            connection.execute(insert(KEYS), [key_row(key) for key in keys])
        self._threads, self._random, self._note = threads, random, note
        self.down = False
        self.slow_s = 0.0        # longest extra time of a transaction
        self.fails_share = 0.0   # of transactions that fail before the commit
        self.loses_share = 0.0   # of transactions whose answer is lost after the commit

    def connect(self):
        """A store for one gateway."""
        return Store(_FaultyEngine(self), "simulated")

    def rows(self, table):
        """All rows of a table."""
        with self._engine.connect() as connection:
            return connection.execute(_ALL[table.name]).all()

    def charges(self):
        """Charges of ended requests, by decision."""
        return {row.decision_id: row for row in self.rows(CHARGES)}

    def has_charge(self, decision_id):
        """Whether a charge is durable now."""
        with self._engine.connect() as connection:
            return connection.execute(_ONE, {"name": decision_id}).first() is not None

    def open_requests(self):
        """Requests that the ledger takes for being in progress."""
        return self.rows(OPEN)

    def sums(self):
        """Rows of sums by tenant, day and model."""
        return {(row.tenant, row.day, row.model): row for row in self.rows(SPEND)}

    @contextmanager
    def transaction(self):
        """One transaction of a simulated gateway's thread."""
        random = self._random
        self._pause()
        if self.down:
            self._threads.sleep(random.choice((0.0, 0.01, 0.5, 3.0)))
        if self.down:
            raise self._fault("the database is down")
        fails = random.random() < self.fails_share
        loses = random.random() < self.loses_share
        with self._engine.begin() as connection:
            yield connection
            if fails:
                raise self._fault("a commit fails")
        self._pause()
        if loses or self.down:
            raise self._fault("the answer to a commit is lost")

    def _pause(self):
        seconds = self._random.choice(_USUAL_S)
        if self.slow_s:
            seconds += self._random.random() * self.slow_s
        if seconds:
            self._threads.sleep(seconds)

    def _fault(self, kind):
        self._note(kind)
        return OperationalError("", {}, Exception(kind))


class _FaultyEngine:
    """As much of SQLAlchemy's Engine as the store uses."""

    def __init__(self, database):
        self.begin = self.connect = database.transaction
        self.dialect = database._engine.dialect

    def dispose(self):
        pass
