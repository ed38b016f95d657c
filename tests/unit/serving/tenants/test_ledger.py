"""One thread writes what many requests leave: grouped, in order, and through faults."""

import asyncio
import sqlite3
import threading
import time
from dataclasses import replace

import pytest

pytest.importorskip("sqlalchemy", reason="the extra 'serve' is not installed")

from penstock.serving.tenants.ledger import Ledger, LedgerTimes
from penstock.serving.tenants.records import Opening, Settlement
from penstock.serving.tenants.store import StoreError, open_store

NOW_S = 1_000_000.0
QUICK = LedgerTimes(gather_s=0.001, look_s=0.02, retry_s=0.005, commit_timeout_s=0.2)
PATIENT = replace(QUICK, commit_timeout_s=60.0)


def settlement(number, charged=5):
    return Settlement(f"d{number}", "shop", "m", NOW_S, 1, 2, charged)


class Faulty:
    """A store that fails as long as it is told to, and counts its transactions."""

    def __init__(self, store):
        self._store = store
        self.fault = None
        self.batches = []
        self.gate = threading.Event()
        self.gate.set()

    def __getattr__(self, name):
        return getattr(self._store, name)

    def write(self, batch, gateway):
        self.gate.wait(10)
        if self.fault is not None:
            raise self.fault
        self.batches.append(len(batch.settlements))
        self._store.write(batch, gateway)


async def heals(ledger):
    """Returns when all is written and there is no trouble any more."""
    while not await ledger.written() or ledger.trouble:
        await asyncio.sleep(0.001)


def through(tmp_path, work, times=PATIENT):
    """What ``work`` makes of a running ledger and its store; then the sums."""
    async def run():
        store = Faulty(open_store(f"sqlite:///{tmp_path}/ledger.db"))
        notes = []
        ledger = Ledger(store, times, lambda: NOW_S, notes.append)
        ledger.notes = notes
        await ledger.start()
        try:
            result = await asyncio.wait_for(work(ledger, store), 30)
        finally:
            store.gate.set()
            left = await ledger.stop()
        return result, left

    result, left = asyncio.run(run())
    with sqlite3.connect(f"{tmp_path}/ledger.db") as connection:
        (total,) = connection.execute("select sum(charged_nanos) from penstock_charges").fetchone()
    return result, left, total


def test_who_waits_goes_on_when_it_is_written(tmp_path) -> None:
    async def work(ledger, store):
        ledger.put(settlement(1))
        assert await ledger.written()
        with sqlite3.connect(f"{tmp_path}/ledger.db") as other:
            return other.execute("select decision_id, charged_nanos from penstock_charges"
                                 ).fetchall()

    assert through(tmp_path, work)[0] == [("d1", 5)]


def test_many_share_a_transaction(tmp_path) -> None:
    async def work(ledger, store):
        async def one(number):
            ledger.put(settlement(number))
            return await ledger.written()

        assert all(await asyncio.gather(*(one(number) for number in range(500))))
        return store.batches

    batches, left, total = through(tmp_path, work)
    assert (sum(batches), left, total) == (500, 0, 2500)
    assert len(batches) < 50


def test_what_is_left_is_written_at_the_end(tmp_path) -> None:
    async def work(ledger, store):
        for number in range(100):
            ledger.put(settlement(number))

    assert through(tmp_path, work)[1:] == (0, 500)


@pytest.mark.parametrize("fault", [StoreError("database or disk is full"),
                                   RuntimeError("a driver's bug")])
def test_nothing_is_lost_while_the_database_fails(tmp_path, fault) -> None:
    async def work(ledger, store):
        store.fault = fault
        ledger.put(settlement(1))
        assert await ledger.written() is False, "an answer's end does not wait for ever"
        ledger.put(settlement(2))
        assert str(fault) in ledger.trouble
        store.fault = None
        await heals(ledger)
        assert ledger.notes == [f"ledger: spending cannot be written now: {ledger.notes[0][40:]}",
                                "ledger: spending is written again"]
        assert str(fault) in ledger.notes[0]
        ledger.put(settlement(3))

    assert through(tmp_path, work, QUICK)[1:] == (0, 15)


def test_a_database_that_hangs_is_trouble_too(tmp_path) -> None:
    async def work(ledger, store):
        store.gate.clear()
        ledger.put(settlement(1))
        assert ledger.trouble is None
        assert await ledger.written() is False
        while ledger.trouble is None:
            await asyncio.sleep(0.001)
        assert ledger.trouble == "the database does not answer"
        store.gate.set()
        await heals(ledger)

    assert through(tmp_path, work, QUICK)[1:] == (0, 5)


def test_a_charge_that_was_waited_for_in_vain_is_trouble_until_it_is_written(tmp_path) -> None:
    async def work(ledger, store):
        begun, going_on = threading.Event(), threading.Event()
        question = asyncio.create_task(ledger.ask(lambda _: begun.set() or going_on.wait(10)))
        while not begun.is_set():
            await asyncio.sleep(0.001)
        ledger.put(settlement(1))
        in_time, trouble = await ledger.written(), ledger.trouble
        going_on.set()
        await asyncio.gather(question, return_exceptions=True)
        await heals(ledger)
        return in_time, trouble

    (in_time, trouble), left, total = through(tmp_path, work, times=QUICK)
    assert (in_time, trouble) == (False, "the database does not answer")
    assert (left, total) == (0, 5)


def test_a_database_that_is_locked_is_waited_for(tmp_path) -> None:
    async def work(ledger, store):
        with sqlite3.connect(f"{tmp_path}/ledger.db") as other:
            other.execute("begin immediate")
            ledger.put(settlement(1))
            assert await ledger.written() is False
            other.rollback()
        await heals(ledger)

    assert through(tmp_path, work, QUICK)[1:] == (0, 5)


def test_what_cannot_be_written_at_the_end_is_told(tmp_path) -> None:
    async def work(ledger, store):
        store.fault = StoreError("gone")
        ledger.put(settlement(1))

    assert through(tmp_path, work)[1:] == (1, None)


def test_who_left_does_not_stop_others(tmp_path) -> None:
    async def work(ledger, store):
        store.gate.clear()
        ledger.put(settlement(1))
        leaving, staying = [asyncio.create_task(ledger.written()) for _ in range(2)]
        await asyncio.sleep(0)
        leaving.cancel()
        store.gate.set()
        return await staying

    assert through(tmp_path, work)[0] is True


def test_an_event_loop_that_was_busy_is_no_trouble_of_the_ledger(tmp_path) -> None:
    async def work(ledger, store):
        ledger.put(settlement(1))
        time.sleep(1.2)
        return ledger.trouble

    assert through(tmp_path, work, replace(QUICK, commit_timeout_s=1.0)) == (None, 0, 5)


def test_a_thread_that_is_gone_is_trouble(tmp_path) -> None:
    async def work(ledger, store):
        ledger.put(None)
        while ledger.trouble is None:
            await asyncio.sleep(0.001)
        return ledger.trouble

    assert through(tmp_path, work)[0] == "the writing thread has ended"


def test_looks_bring_keys_and_sums(tmp_path) -> None:
    async def work(ledger, store):
        seen = []
        ledger.on_totals = seen.append
        ledger.days = frozenset({0, 99})
        ledger.put(settlement(1))
        ledger.put(Opening("x", "bar", NOW_S, 70, "", 0, 0, 0))
        await ledger.written()
        while not seen or not seen[-1].spent_since.get(0):
            await asyncio.sleep(0.005)
        assert seen[-1].reserved_elsewhere == {}
        return seen[-1].spent_since

    assert through(tmp_path, work)[0] == {0: {"shop": 5}, 99: {}}


def test_a_look_that_fails_is_trouble_until_one_succeeds(tmp_path) -> None:
    async def work(ledger, store):
        def broken(*_):
            raise StoreError("no look")

        store.beat = broken
        while ledger.trouble != "no look":
            await asyncio.sleep(0.001)
        del store.beat
        while ledger.trouble:
            await asyncio.sleep(0.001)

    assert through(tmp_path, work)[1] == 0


def test_questions_are_answered_after_what_was_put(tmp_path) -> None:
    async def work(ledger, store):
        ledger.put(settlement(1))
        found = await ledger.ask(lambda store: store.spent_since(0))
        with pytest.raises(StoreError, match="why"):
            await ledger.ask(lambda _: (_ for _ in ()).throw(StoreError("why")))
        return found

    assert through(tmp_path, work)[0] == {"shop": 5}


def test_two_gateways_share_a_ledger(tmp_path) -> None:
    async def run():
        first, second = (Ledger(open_store(f"sqlite:///{tmp_path}/ledger.db"), PATIENT,
                                lambda: NOW_S) for _ in range(2))
        seen = []
        second.on_totals = seen.append
        await first.start()
        await second.start()
        second.days = frozenset({0})
        first.put(Opening("x", "shop", NOW_S, 70, "", 0, 0, 0))
        first.put(settlement(1))
        await first.written()
        while not (seen[-1].spent_since.get(0) and seen[-1].reserved_elsewhere):
            await asyncio.sleep(0.005)
        found = seen[-1].spent_since[0], seen[-1].reserved_elsewhere
        await first.stop()
        await second.stop()
        return found

    assert asyncio.run(asyncio.wait_for(run(), 30)) == ({"shop": 5}, {"shop": 70})
