"""Claims of several processes on the adapters of engines, played by several objects of one."""

import asyncio
import os
import signal
import subprocess
import sys

import pytest

from penstock.engines.client.state import EngineFacts, EngineState
from penstock.fleet.values_adapters import Adapter, LoraOptions
from penstock.serving.adapters.adapters import Adapters
from penstock.serving.adapters.claims import WorkerClaims
from penstock.serving.adapters.shelf import AdapterError

URL = "http://engine"


class Calls:
    """One engine that takes ``most`` adapters, refuses more, and keeps those in use from going."""

    def __init__(self, most=2):
        self.there, self.most, self.in_use, self.orders = {}, most, [], []

    async def load(self, engine, adapter):
        await asyncio.sleep(0.01)
        if adapter.served_name in self.there:
            return
        if len(self.there) == self.most:
            raise AdapterError("has no room")
        self.there[adapter.served_name] = adapter.path
        self.orders.append(("load", adapter.name))

    async def unload(self, engine, name):
        assert name not in self.in_use, "a request needs it"
        await asyncio.sleep(0.01)
        del self.there[name]
        self.orders.append(("unload", name))

    async def listed(self, engine):
        await asyncio.sleep(0.001)
        return dict(self.there)


def workers(folder, calls, num=2, names="abcd", paths=None):
    """The adapters of so many workers, each with its view of the engine."""
    offered = {name: Adapter(name, (paths or {}).get(name, f"/{name}")) for name in names}
    found = []
    for number in range(num):
        facts = EngineFacts(number, URL, "m", None, 1000, 1.0,
                            lora=LoraOptions(calls.most, calls.most))
        engine = EngineState(facts)
        notes = []
        found.append((Adapters([engine], calls, offered, lambda: 0.0, notes.append,
                               WorkerClaims(folder)), engine, offered, notes))
    return found


async def used(calls, one, name, for_s=0.005):
    adapters, engine, offered, _ = one
    async with adapters.held(engine, offered[name]):
        assert name in calls.there, "the engine would answer 404"
        calls.in_use.append(name)
        await asyncio.sleep(for_s)
        calls.in_use.remove(name)


def test_no_worker_unloads_what_another_ones_requests_use(tmp_path) -> None:
    async def run():
        calls = Calls(2)
        both = workers(tmp_path, calls, num=3)
        await asyncio.gather(*(used(calls, one, name, 0.002 * i)
                               for i, (one, name) in enumerate(zip(both * 20, "abcdbdacabdc" * 5,
                                                                   strict=True))))
        return calls, [note for one in both for note in one[3]]

    calls, notes = asyncio.run(asyncio.wait_for(run(), 60))
    assert notes == []
    assert len(calls.there) == 2
    assert ("unload", "a") in calls.orders


def test_a_busy_adapter_makes_way_once_its_requests_elsewhere_have_ended(tmp_path) -> None:
    async def run():
        calls = Calls(1)
        first, second = workers(tmp_path, calls)
        asking = [asyncio.create_task(used(calls, first, "a", 0.05)) for _ in range(3)]
        await asyncio.sleep(0.02)
        other = asyncio.create_task(used(calls, second, "b"))
        await asyncio.sleep(0.03)
        asking += [asyncio.create_task(used(calls, first, "a", 0.01)) for _ in range(3)]
        await asyncio.gather(other, *asking)
        return calls.orders

    assert asyncio.run(asyncio.wait_for(run(), 30)) == [
        ("load", "a"), ("unload", "a"), ("load", "b"), ("unload", "b"), ("load", "a")]


def test_an_adapter_that_stays_in_use_elsewhere_keeps_its_place(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("penstock.serving.adapters.adapters._LEAVE_S", 0.1)

    async def run():
        calls = Calls(1)
        first, second = workers(tmp_path, calls)
        adapters, engine, offered, _ = first
        async with adapters.held(engine, offered["a"]):
            with pytest.raises(AdapterError, match="its adapters are in use"):
                await used(calls, second, "b")
        return calls.orders

    assert asyncio.run(run()) == [("load", "a")]


def test_workers_follow_what_engines_list(tmp_path) -> None:
    async def run():
        calls = Calls(2)
        first, second = workers(tmp_path, calls)
        following = asyncio.create_task(second[0].follow())
        await used(calls, first, "a")
        while second[0].loaded(second[1]) != ["a"]:
            await asyncio.sleep(0.01)
        following.cancel()
        await used(calls, second, "a")
        return calls.orders

    assert asyncio.run(asyncio.wait_for(run(), 30)) == [("load", "a")]


def test_a_changed_path_is_loaded_once_by_all_workers(tmp_path) -> None:
    async def run():
        calls = Calls(2)
        both = workers(tmp_path, calls)
        for one in both:
            await used(calls, one, "a")
        for adapters, _, offered, _ in both:
            offered["a"] = Adapter("a", "/new")
            adapters.adopt(offered)
        for one in both:
            await used(calls, one, "a")
        return calls

    calls = asyncio.run(run())
    assert calls.orders == [("load", "a"), ("unload", "a"), ("load", "a")]
    assert calls.there == {"a": "/new"}


def test_the_claims_of_a_process_that_dies_are_given_back(tmp_path) -> None:
    program = ("import sys, time; from pathlib import Path;"
               "from penstock.serving.adapters.claims import WorkerClaims;"
               f"claims = WorkerClaims(Path(sys.argv[1])); claims.take({URL!r}, 'a');"
               "print('taken', flush=True); time.sleep(60)")
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "claims")],
                          stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"taken\n"
        mine = WorkerClaims(tmp_path / "claims")

        async def is_free():
            async with mine.cleared(URL, "a", 0.0) as found:
                return found

        assert not asyncio.run(is_free())
        os.kill(other.pid, signal.SIGKILL)
        other.wait(30)
        assert asyncio.run(is_free())
