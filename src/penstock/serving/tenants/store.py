"""The ledger in a database: SQLite in WAL mode, or any database that SQLAlchemy supports."""

from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import (
    Connection,
    Engine,
    bindparam,
    create_engine,
    delete,
    event,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, NoSuchModuleError, SQLAlchemyError

from penstock.core.errors import InputError
from penstock.serving.tenants import repeats, slice_store
from penstock.serving.tenants.administration import key_of, key_row
from penstock.serving.tenants.batch_writer import SUMS, BatchWriter
from penstock.serving.tenants.claims import Claim, Earlier
from penstock.serving.tenants.keys import Key
from penstock.serving.tenants.records import Batch, Settlement
from penstock.serving.tenants.schema import NewerLedgerError, bring_up_to_date, stated
from penstock.serving.tenants.tables import CHARGES, GATEWAYS, KEYS, OPEN, SPEND

DEAD_AFTER_S = 60.0
"""A gateway without a sign of life for this long is taken to be dead."""

_BUSY_S, _TRIES = 2.0, 5
T = TypeVar("T")


class StoreError(Exception):
    """The database refused or failed. The message has no password."""


class Spent(NamedTuple):
    """Tokens that a model delivered to a tenant, their cost, and the number of requests whose
    engine's count of tokens was not believed."""

    tenant: str
    model: str
    num_requests: int
    prompt_tokens: int
    output_tokens: int
    charged_nanos: int
    num_disputed: int = 0


class Store:
    """Transactions of the ledger. A transaction that fails is rolled back and raises StoreError.

    ``file`` is the file of an SQLite database. SQLite keeps writing to a deleted file, and those
    writes would be lost, so the file is checked.
    """

    def __init__(self, engine: Engine, name: str, file: Path | None = None) -> None:
        self._engine = engine
        self.name = name
        self._file = file
        self._identity = _identity(file)
        self._writer = BatchWriter(engine.dialect)

    def close(self) -> None:
        """Close the database."""
        self._engine.dispose()

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        self._check_file()
        try:
            with self._engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise StoreError(_why(error)) from error

    def _check_file(self) -> None:
        if _identity(self._file) != self._identity:
            raise StoreError("its file was replaced or deleted; restart the gateway")

    def create(self) -> None:
        """Create missing tables and columns."""
        try:
            bring_up_to_date(self._engine)
        except NewerLedgerError as error:
            raise StoreError(str(error)) from error
        except SQLAlchemyError as error:
            raise StoreError(_why(error)) from error

    def digest_key(self) -> bytes:
        """Return the key of this ledger's digests, a secret that is made with the ledger."""
        try:
            return bytes.fromhex(stated(self._engine, "digest_key", token_hex(32)))
        except SQLAlchemyError as error:
            raise StoreError(_why(error)) from error

    def transact(self, work: Callable[[Connection], T]) -> T:
        """Return the result of ``work``, done in one transaction."""
        with self._transaction() as connection:
            return work(connection)

    # -- keys -----------------------------------------------------------------------------------

    def list_keys(self) -> list[Key]:
        """All keys, the oldest first."""
        with self._transaction() as connection:
            rows = connection.execute(select(KEYS).order_by(KEYS.c.created_s, KEYS.c.key_id))
            return [key_of(row) for row in rows.mappings()]

    def add_key(self, key: Key) -> None:
        """Add a key."""
        with self._transaction() as connection:
            connection.execute(insert(KEYS), key_row(key))

    def revoke_key(self, key_id: str, now_s: float) -> bool:
        """Revoke a key. Returns whether the key existed."""
        with self._transaction() as connection:
            known = connection.execute(select(KEYS.c.key_id).where(KEYS.c.key_id == key_id))
            if known.first() is None:
                return False
            connection.execute(update(KEYS).where(
                KEYS.c.key_id == key_id, KEYS.c.revoked_s.is_(None)).values(revoked_s=now_s))
            return True

    # -- requests -------------------------------------------------------------------------------

    def write(self, batch: Batch, gateway: str) -> None:
        """Write a batch, all or nothing. Rows that exist already are not written twice."""
        self._check_file()
        try:
            with self._engine.begin() as connection:
                self._writer.write_new(connection, batch, gateway)
        except IntegrityError:
            # Some rows exist: the confirmation of a commit was lost, or another gateway took this
            # one for dead and resolved its requests. Write one by one, then.
            with self._transaction() as connection:
                self._writer.write_each(connection, batch, gateway)
        except SQLAlchemyError as error:
            raise StoreError(_why(error)) from error

    def resolve(self, gateways: Iterable[str], now_s: float) -> int:
        """Charge open requests of dead gateways for their last recorded tokens. Returns their
        number."""
        found = 0
        for gateway in gateways:
            with self._transaction() as connection:
                rows = connection.execute(select(OPEN).where(OPEN.c.gateway == gateway)).all()
                for row in rows:
                    self._writer.charge(connection, Settlement(
                        row.decision_id, row.tenant, row.model, now_s, row.prompt_tokens,
                        row.output_tokens, row.charged_nanos), gateway, resolved=True)
                connection.execute(delete(OPEN).where(OPEN.c.gateway == gateway))
                repeats.resolve(connection, gateway)
                connection.execute(delete(GATEWAYS).where(GATEWAYS.c.gateway == gateway))
                slice_store.drop_slices(connection, gateway)
                found += len(rows)
        return found

    def dead(self, own: str, host: str, alive: Callable[[int, float], bool],
             now_s: float) -> list[str]:
        """Return dead gateways: those without a sign of life for a minute, and processes of this
        ``host`` that are not ``alive`` (given the process id and the seconds since the last sign).
        A gateway with open requests that is not listed is dead, too."""
        with self._transaction() as connection:
            known = {row.gateway: row for row in connection.execute(select(GATEWAYS))}
            holding = [*connection.execute(select(OPEN.c.gateway).distinct()).scalars(),
                       *repeats.gateways(connection)]
        return [name for name in {*known, *holding} - {own} if name not in known
                or now_s - known[name].seen_s > DEAD_AFTER_S
                or (known[name].host == host
                    and not alive(known[name].pid, now_s - known[name].seen_s))]

    def beat(self, gateway: str, host: str, pid: int, now_s: float) -> None:
        """Record that a gateway is alive."""
        with self._transaction() as connection:
            done = connection.execute(update(GATEWAYS).where(
                GATEWAYS.c.gateway == gateway).values(seen_s=now_s))
            if done.rowcount == 0:
                connection.execute(insert(GATEWAYS), {
                    "gateway": gateway, "host": host, "pid": pid, "seen_s": now_s})

    def leave(self, gateway: str) -> None:
        """Record that a gateway has stopped without open requests."""
        with self._transaction() as connection:
            connection.execute(delete(GATEWAYS).where(GATEWAYS.c.gateway == gateway))
            slice_store.drop_slices(connection, gateway)

    # -- idempotency keys -----------------------------------------------------------------------

    def claim(self, one: Claim, gateway: str, active: Container[str],
              now_s: float) -> Earlier | None:
        """Make a request the first with its key, or return the earlier one."""
        for _ in range(_TRIES):
            try:
                with self._transaction() as connection:
                    return repeats.claim(connection, one, gateway, active, now_s)
            except StoreError as error:
                if not isinstance(error.__cause__, IntegrityError):
                    raise
        raise StoreError("the idempotency key changes hands too often")

    def release(self, decision_id: str) -> None:
        """Free the key of a request that ended without a charge."""
        with self._transaction() as connection:
            repeats.release(connection, decision_id)

    # -- sums -----------------------------------------------------------------------------------

    def spent_since(self, day: int) -> dict[str, int]:
        """Return the nanos that each tenant has spent since a day, inclusive."""
        with self._transaction() as connection:
            rows = connection.execute(select(SPEND.c.tenant, func.sum(SPEND.c.charged_nanos))
                                      .where(SPEND.c.day >= day).group_by(SPEND.c.tenant))
            return {tenant: int(nanos) for tenant, nanos in rows}

    def reserved_elsewhere(self, gateway: str) -> dict[str, int]:
        """Return the nanos that other gateways reserve for answers in progress, by tenant."""
        with self._transaction() as connection:
            rows = connection.execute(select(OPEN.c.tenant, func.sum(OPEN.c.reserved_nanos))
                                      .where(OPEN.c.gateway != gateway).group_by(OPEN.c.tenant))
            return {tenant: int(nanos) for tenant, nanos in rows}

    def report(self, since_day: int, tenant: str | None = None) -> list[Spent]:
        """Return the spending of each tenant, or of one, by model, since a day, inclusive."""
        sums = [func.sum(SPEND.c[name]).label(name) for name in SUMS]
        query = select(SPEND.c.tenant, SPEND.c.model, *sums).where(SPEND.c.day >= since_day)
        if tenant is not None:
            query = query.where(SPEND.c.tenant == tenant)
        with self._transaction() as connection:
            rows = connection.execute(query.group_by(SPEND.c.tenant, SPEND.c.model)
                                      .order_by(SPEND.c.tenant, SPEND.c.model)).all()
        return [Spent(row.tenant, row.model, *(int(getattr(row, name)) for name in SUMS))
                for row in rows]

    def prune_keys(self, now_s: float) -> None:
        """Forget idempotency keys that are no longer remembered."""
        with self._transaction() as connection:
            repeats.prune(connection, now_s)

    def prune(self, before_day: int, most: int) -> bool:
        """Delete up to ``most`` single requests that ended before a day; sums stay. Returns whether
        there may be more."""
        old = select(CHARGES.c.decision_id).where(CHARGES.c.day < before_day).limit(most)
        with self._transaction() as connection:
            names = connection.execute(old).scalars().all()
            if names:
                connection.execute(_FORGET, [{"name": name} for name in names])
        return len(names) == most


_FORGET = delete(CHARGES).where(CHARGES.c.decision_id == bindparam("name"))


# -- opening ------------------------------------------------------------------------------------


def open_store(url: str) -> Store:
    """Open the ledger at an SQLAlchemy URL and create its tables. Raises InputError."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        # An unreadable URL may contain a password, so it is not quoted.
        raise InputError("--ledger: expected an SQLAlchemy URL such as sqlite:///ledger.db or "
                         "postgresql+psycopg://user@host/database") from None
    name = parsed.set(query={}).render_as_string(hide_password=True)
    try:
        engine = create_engine(parsed, hide_parameters=True)
    except NoSuchModuleError:
        raise InputError(f"--ledger {name}: SQLAlchemy knows no database of this kind") from None
    except ModuleNotFoundError as error:
        raise InputError(f"--ledger {name}: needs the package {error.name}") from None
    except (SQLAlchemyError, TypeError, ValueError) as error:
        raise InputError(f"--ledger {name}: {_why(error)}") from None
    file = None
    if parsed.get_backend_name() == "sqlite":
        if parsed.database in (None, "", ":memory:"):
            raise InputError(f"--ledger {name}: an in-memory database keeps nothing; expected a "
                             "file, such as sqlite:///ledger.db")
        event.listen(engine, "connect", _set_up_sqlite)
        with suppress(OSError):  # an error is reported below
            file = Path(parsed.database)
            file.touch(mode=0o600)  # readable by its owner only
    store = Store(engine, name, file)
    try:
        store.create()
    except StoreError as error:
        store.close()
        raise InputError(f"--ledger {name}: {error}") from None
    return store


def _identity(file: Path | None) -> tuple[int, int] | None:
    """Return the identity of a file, which differs from that of any file that replaces it; None
    without a file."""
    if file is None:
        return None
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _set_up_sqlite(connection: Any, _: object) -> None:
    cursor = connection.cursor()
    # NORMAL: commits survive any end of the process. A power failure may lose the last commits, but
    # never corrupts the file. Flushing the disk for every batch would delay answers.
    for setting in ("journal_mode=WAL", "synchronous=NORMAL", f"busy_timeout={_BUSY_S * 1000:.0f}"):
        cursor.execute(f"PRAGMA {setting}")
    cursor.close()


def _why(error: Exception) -> str:
    """Return a database error in one line, without statements, parameters or addresses."""
    cause = getattr(error, "orig", None) or error
    return " ".join(str(cause).split())[:200] or type(cause).__name__
