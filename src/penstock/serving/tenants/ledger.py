"""Group commit: requests put records here, and one thread writes many of them per transaction."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, TypeVar
from uuid import uuid4

from penstock.serving.tenants.budgets import day_of
from penstock.serving.tenants.keys import Keyring
from penstock.serving.tenants.liveness import Identity, own_identity
from penstock.serving.tenants.records import Batch, Record
from penstock.serving.tenants.slice_store import Key as SliceKey
from penstock.serving.tenants.slice_store import claim_slices, extend_slices
from penstock.serving.tenants.slices import LEASE_S, Grant, SliceClaim
from penstock.serving.tenants.store import Store, StoreError

KEPT_DAYS = 40
"""How long single requests stay in the ledger; sums stay forever."""

_MOST_UNWRITTEN = 200_000
_MOST_PRUNED = 10_000  # per prune, to keep transactions short
_SHUTDOWN_S = 5.0
_AT_ONCE_S = 1.0
_EXTEND_S = 0.6
"""Slices of limits are extended after this long without a claim: an event loop that is busy must
not lose the places of its requests."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LedgerTotals:
    """Totals over all gateways from the database; nanos by tenant, spent since each day."""

    keyring: Keyring
    spent_since: Mapping[int, Mapping[str, int]]
    reserved_elsewhere: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class LedgerTimes:
    """Times of the ledger in seconds.

    Commits are at least ``gather_each_s`` apart for each open request, up to ``gather_s``. Totals
    are read every ``look_s``. A failed commit is first retried after ``retry_s``. The end of an
    answer waits for its charge up to ``commit_timeout_s``. Slices of limits lapse ``lease_s`` after
    they were renewed.
    """

    gather_each_s: float = 0.0002
    gather_s: float = 0.005
    look_s: float = 2.0
    retry_s: float = 0.05
    commit_timeout_s: float = 2.0
    lease_s: float = LEASE_S


class _Call:
    """Work for the thread, with the future of its caller."""

    def __init__(self, work: Callable[[Store], Any], done: "asyncio.Future[Any]") -> None:
        self.work = work
        self.done = done


class Ledger:
    """Writes records in a thread of its own, which alone uses the store. One event loop owns the
    ledger.

    ``put`` never waits and never fails. Records are kept in memory until they are written, even
    while the database fails. ``trouble`` says why they cannot be written now, and ``note`` is
    called when that begins and ends.
    """

    def __init__(self, store: Store, times: LedgerTimes | None = None,
                 wall_s: Callable[[], float] = time.time,
                 note: Callable[[str], None] = lambda _: None,
                 identity: Identity | None = None) -> None:
        self.gateway = uuid4().hex
        self._identity = own_identity() if identity is None else identity
        self.note = note
        self.on_written: Callable[[list[Record]], None] = lambda _: None
        self.on_totals: Callable[[LedgerTotals], None] = lambda _: None
        self.days: frozenset[int] = frozenset()  # days whose sums are read with the totals
        self.num_open = 0  # requests in progress, whose records may come soon
        self.digest_key = b""  # of idempotency keys, from the start on
        self._store = store
        self._times = LedgerTimes() if times is None else times
        self._wall_s = wall_s
        self._queue: SimpleQueue[Record | _Call | None] = SimpleQueue()
        self._num_put = self._num_written = 0
        self._num_overdue = 0  # records up to here were waited for in vain
        self._waiting: deque[tuple[int, float, asyncio.Future[bool]]] = deque()
        self._busy_since_s: float | None = None
        self._failure: str | None = None
        self._failed_after_s = 0.0  # how long the last attempt took
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        self._pruned_day = self._pruned_hour = -1
        self._has_slices = False  # to be extended where no claims come
        self._extended_s = float("-inf")
        self._attempt_s = 0.0

    # -- on the event loop ----------------------------------------------------------------------

    async def start(self) -> int:
        """Resolve requests of dead gateways, read the totals, and begin to write. Returns the
        number of resolved requests. Raises StoreError."""
        self._loop = asyncio.get_running_loop()
        resolved, totals, self.digest_key = await asyncio.to_thread(self._begin)
        self.on_totals(totals)
        self._thread.start()
        return resolved

    async def stop(self) -> int:
        """Write the remaining records and end the thread. Returns the number of records that could
        not be written."""
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join, 2 * _SHUTDOWN_S)
        await asyncio.sleep(0)  # deliver the thread's last confirmations
        self._store.close()
        return self._num_put - self._num_written

    def put(self, record: Record) -> None:
        """Queue a record to be written, in order."""
        self._num_put += 1
        self._queue.put(record)

    async def written(self) -> bool:
        """Wait until all queued records are written, up to ``commit_timeout_s``. Returns whether
        they are."""
        if self._num_written >= self._num_put:
            return True
        assert self._loop is not None
        done: asyncio.Future[bool] = self._loop.create_future()
        if not self._waiting:  # one timer suffices: callers wait in order
            self._loop.call_later(self._times.commit_timeout_s, self._give_up)
        self._waiting.append((self._num_put, time.monotonic(), done))
        return await done

    def _give_up(self) -> None:
        """Release callers that have waited for ``commit_timeout_s``."""
        latest_s = time.monotonic() - self._times.commit_timeout_s
        while self._waiting and self._waiting[0][1] <= latest_s:
            self._num_overdue, _, done = self._waiting.popleft()
            _give(done, False)
        if self._waiting and self._loop is not None:
            self._loop.call_later(self._waiting[0][1] - latest_s, self._give_up)

    @property
    def trouble(self) -> str | None:
        """Return why records cannot be written now, None while they can."""
        if self._failure is not None:
            return self._failure
        # measured in the thread, so that a busy event loop does not count
        since_s = self._busy_since_s
        if self._num_written < self._num_overdue or (
                since_s is not None and time.monotonic() - since_s > self._times.commit_timeout_s):
            return "the database does not answer"
        return None if self._thread.is_alive() else "the writing thread has ended"

    @property
    def refuses(self) -> bool:
        """Whether the database refuses records at once, rather than being slow or locked."""
        return self._failure is not None and self._failed_after_s < _AT_ONCE_S

    @property
    def lease_s(self) -> float:
        """Time after which slices of limits lapse that are not renewed."""
        return self._times.lease_s

    @property
    def full(self) -> bool:
        """Whether too many records wait, so that new requests should be rejected."""
        return self._num_put - self._num_written >= _MOST_UNWRITTEN

    async def ask(self, work: Callable[[Store], T]) -> T:
        """Return the result of ``work`` on the store, run in the thread after all earlier records.
        Raises StoreError."""
        assert self._loop is not None
        done: asyncio.Future[T] = self._loop.create_future()
        self._queue.put(_Call(work, done))
        try:
            async with asyncio.timeout(2 * self._times.commit_timeout_s):
                return await done
        except TimeoutError:
            raise StoreError("the database does not answer") from None

    def order(self, work: Callable[[Store], object]) -> None:
        """Do ``work`` on the store after all earlier calls, without a result or an error."""
        assert self._loop is not None
        done: asyncio.Future[object] = self._loop.create_future()
        done.add_done_callback(lambda found: found.cancelled() or found.exception())
        self._queue.put(_Call(work, done))

    def keep_slices(self, keep: bool) -> None:
        """Extend slices of limits while no claims come, or no more."""
        self._has_slices = keep

    async def claim(self, claims: Sequence[SliceClaim]) -> Mapping[SliceKey, Grant]:
        """Return the answers to claims to slices of limits. Raises an exception where the ledger
        cannot be reached."""
        def work(store: Store) -> Mapping[SliceKey, Grant]:
            self._extended_s = time.monotonic()
            return store.transact(lambda connection: claim_slices(
                connection, self.gateway, claims, self._wall_s(), self._times.lease_s))

        return await self.ask(work)

    def _confirm(self, records: list[Record]) -> None:
        self._num_written += len(records)
        while self._waiting and self._waiting[0][0] <= self._num_written:
            _give(self._waiting.popleft()[2], True)
        self.on_written(records)

    # -- in the thread --------------------------------------------------------------------------

    def _begin(self) -> tuple[int, LedgerTotals, bytes]:
        resolved = self._resolve()
        self._beat(self._wall_s())
        return resolved, self._totals(), self._store.digest_key()

    def _run(self) -> None:
        records: list[Record] = []
        retry_s, looked_s, committed_s = self._times.retry_s, time.monotonic(), 0.0
        ending_s: float | None = None
        while True:
            calls, ended = self._gather(records, committed_s, self._next_s(looked_s))
            if ended:
                ending_s = time.monotonic() + _SHUTDOWN_S
            if records:
                self._judge(self._attempt(self._write, records))
                if self._failure is None:
                    self._tell(self._confirm, records)
                    records, retry_s, committed_s = [], self._times.retry_s, time.monotonic()
                else:
                    time.sleep(retry_s)
                    retry_s = min(2 * retry_s, 1.0)
            for call in calls:
                self._answer(call)
            if ending_s is not None and (not records or time.monotonic() > ending_s):
                if not records:
                    self._attempt(self._store.leave, self.gateway)
                return
            if self._has_slices and time.monotonic() - self._extended_s >= _EXTEND_S:
                self._extended_s = time.monotonic()
                self._attempt(self._store.transact, lambda connection: extend_slices(
                    connection, self.gateway, self._wall_s(), self._times.lease_s))
            if time.monotonic() - looked_s >= self._times.look_s and ending_s is None:
                looked_s = time.monotonic()
                failure = self._attempt(self._look)
                if not records:
                    self._judge(failure)

    def _next_s(self, looked_s: float) -> float:
        """Return when the thread has something to do without a record or a call."""
        look_s = looked_s + self._times.look_s
        return min(look_s, self._extended_s + _EXTEND_S) if self._has_slices else look_s

    def _gather(self, records: list[Record], committed_s: float,
                next_s: float) -> tuple[list[_Call], bool]:
        """Append queued records to ``records``. Returns the queued calls, and whether the ledger
        stops."""
        calls: list[_Call] = []
        wait_s = 0.0 if records else max(0.0, next_s - time.monotonic())
        try:
            item = self._queue.get(timeout=wait_s) if wait_s else self._queue.get_nowait()
            # A record right after a commit waits for more records, but not where no request is
            # open.
            gather_s = min(self.num_open * self._times.gather_each_s, self._times.gather_s)
            if (wait_s := committed_s + gather_s - time.monotonic()) > 0:
                time.sleep(wait_s)
            while True:
                if item is None:
                    return calls, True
                if isinstance(item, _Call):
                    calls.append(item)
                else:
                    records.append(item)
                item = self._queue.get_nowait()
        except Empty:
            return calls, False

    def _write(self, records: list[Record]) -> None:
        batch = Batch()
        for record in records:
            batch.add(record)
        self._store.write(batch, self.gateway)

    def _look(self) -> None:
        now_s = self._wall_s()
        self._beat(now_s)
        self._resolve()
        self._tell(self.on_totals, self._totals())
        if (hour := int(now_s // 3600)) != self._pruned_hour:
            self._store.prune_keys(now_s)
            self._pruned_hour = hour
        today = day_of(now_s)
        if today != self._pruned_day and not self._store.prune(today - KEPT_DAYS, _MOST_PRUNED):
            self._pruned_day = today

    def _beat(self, now_s: float) -> None:
        self._store.beat(self.gateway, self._identity.place, self._identity.pid, now_s)

    def _resolve(self) -> int:
        now_s = self._wall_s()
        dead = self._store.dead(self.gateway, self._identity.place, self._identity.alive, now_s)
        return self._store.resolve(dead, now_s)

    def _totals(self) -> LedgerTotals:
        return LedgerTotals(Keyring(self._store.list_keys()),
                            {day: self._store.spent_since(day) for day in self.days},
                            self._store.reserved_elsewhere(self.gateway))

    def _attempt(self, work: Callable[..., None], *arguments: Any) -> str | None:
        """Run work and return why it failed, or None. The thread survives any exception of a
        driver."""
        begun_s = self._busy_since_s = time.monotonic()
        try:
            work(*arguments)
        except StoreError as error:
            return str(error)
        except Exception as error:
            return f"{type(error).__name__}: {error}"[:200]
        finally:
            self._busy_since_s = None
            self._attempt_s = time.monotonic() - begun_s
        return None

    def _judge(self, failure: str | None) -> None:
        """Record the outcome of an attempt and report when it changes."""
        if (failure is None) != (self._failure is None):
            self._tell(self.note, "ledger: spending is written again" if failure is None else
                       f"ledger: spending cannot be written now: {failure}")
        self._failure = failure
        self._failed_after_s = self._attempt_s

    def _answer(self, call: _Call) -> None:
        self._busy_since_s = time.monotonic()
        try:
            result = call.work(self._store)
        except Exception as error:
            self._tell(_fail, call.done, error)
        else:
            self._tell(_give, call.done, result)
        finally:
            self._busy_since_s = None

    def _tell(self, what: Callable[..., None], *arguments: Any) -> None:
        assert self._loop is not None
        with suppress(RuntimeError):  # the event loop is closed
            self._loop.call_soon_threadsafe(what, *arguments)


def _give(done: "asyncio.Future[Any]", result: object) -> None:
    if not done.done():
        done.set_result(result)


def _fail(done: "asyncio.Future[Any]", error: Exception) -> None:
    if not done.done():
        done.set_exception(error)
