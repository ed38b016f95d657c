"""Engines come, go, are drained and left alone; requests wait; nothing under way is touched."""

import asyncio
import os
import signal

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

import aiohttp

from penstock.core.errors import InputError
from penstock.engines.client.metrics_text import EngineLoad
from penstock.engines.client.of_fleet import facts_of
from penstock.engines.client.outliers import FIRST_EJECTION_S
from penstock.engines.client.state import InFlight
from penstock.policy.route.simple import LeastLoaded
from penstock.serving.gateway.engines import Engines
from penstock.serving.gateway.limits import Limits
from penstock.serving.gateway.reload import Reload
from support import misbehaving_engines as odd

ASK = {"prompt": "x", "max_tokens": 5}
A, B, C = "http://a", "http://b", "http://c"


def engines_at(*urls):
    found = Engines(facts_of(odd.fleet_of(urls)))
    for engine in found:
        engine.observe(EngineLoad(), 0.0)
    return found


# -- the list of engines ------------------------------------------------------------------------

def test_what_is_known_of_those_that_stay_is_kept_and_who_goes_finishes_first() -> None:
    engines = engines_at(A, B)
    stays, goes = engines
    stays.begin(1, InFlight(10))
    goes.begin(2, InFlight(10))
    change = engines.adopt(facts_of(odd.fleet_of((C, A))))
    assert (change.added, change.removed) == ((C,), (B,))
    assert [engine.facts.url for engine in engines] == [C, A, B]
    assert engines[1] is stays
    assert stays.in_flight.keys() == {1}
    assert (stays.facts.replica_id, stays.unavailable(1.0)) == (1, None)
    assert goes.unavailable(1.0) == "is being drained"
    assert engines.leaving(goes)
    assert len({engine.facts.replica_id for engine in engines}) == 3
    engines.forget()
    assert len(engines) == 3
    goes.end(2)
    engines.forget()
    assert [engine.facts.url for engine in engines] == [C, A]


def test_an_engine_that_comes_back_while_it_leaves_is_a_new_one() -> None:
    engines = engines_at(A, B)
    engines[1].begin(2, InFlight(10))
    engines.adopt(facts_of(odd.fleet_of((A,))))
    change = engines.adopt(facts_of(odd.fleet_of((A, B))))
    assert change.added == (B,)
    assert [engine.draining for engine in engines] == [False, False, True]


def test_who_fails_more_than_its_peers_is_left_alone_and_tried_again() -> None:
    engines = engines_at(A, B, C)
    for number in range(30):
        for engine in engines:
            engine.succeeded(0.0, 0.1)
        if number % 2:
            engines[0].failed(0.0)
            engines[0].failed(0.0)
    [(url, why)] = engines.eject(0.0)
    assert url == A
    assert "fails" in why
    assert engines[0].unavailable(0.0) == why
    assert engines[0].last_resort(0.0)
    assert engines.eject(0.0) == []
    assert engines[0].unavailable(FIRST_EJECTION_S) is None
    assert engines[0].snapshot(FIRST_EJECTION_S).speed < 1.0
    assert engines[1].snapshot(0.0).speed == 1.0


def test_the_queues_of_before_an_engine_joined_are_not_held_against_the_others() -> None:
    def answered(engine, latency_s, asked_s):
        for _ in range(30):
            engine.succeeded(asked_s + latency_s, latency_s, asked_s)

    engines = engines_at(A)
    answered(engines[0], 6.0, 0.0)
    engines.adopt(facts_of(odd.fleet_of((A, B, C))))
    for engine in engines[1:]:
        engine.observe(EngineLoad(), 10.0)
    assert engines.eject(10.0) == []
    for engine in engines[1:]:
        answered(engine, 0.5, 11.0)
    answered(engines[0], 6.0, 9.0)
    assert engines.eject(20.0) == [], "its requests were sent before the others joined"
    answered(engines[0], 6.0, 11.0)
    assert [url for url, _ in engines.eject(20.0)] == [A]


# -- over HTTP ----------------------------------------------------------------------------------

async def status_of(session, **more):
    async with session.post("/v1/completions", json={**ASK, **more}) as answer:
        await answer.read()
        return answer.status


def test_a_drained_engine_finishes_what_it_has_and_gets_nothing_new() -> None:
    gate = asyncio.Event()

    async def gated(request):
        await gate.wait()
        return await odd.well(request)

    async def work(session, engines):
        async def drain(**what):
            async with session.post("/v1/penstock/engines/drain", json=what) as answer:
                return answer.status, await answer.json()

        held = asyncio.create_task(status_of(session))
        while not engines[0].in_flight:
            await asyncio.sleep(0.001)
        url = engines[0].facts.url
        told = await drain(url=url)
        assert await status_of(session) == 200
        gate.set()
        assert await held == 200
        served = [engine.num_served for engine in engines]
        back = await drain(url=f"{url}/", drain=False)
        wrong = [await drain(url="http://nobody"), await drain(drain=True), await drain(
            url=url, drain=1)]
        return url, told, back, served, wrong, engines[0].unavailable(0.0)

    url, told, back, served, wrong, now = odd.before([gated, odd.well], work, limits=Limits())
    assert told == (200, {"url": url, "draining": True, "num_in_flight": 1})
    assert back == (200, {"url": url, "draining": False, "num_in_flight": 0})
    assert served == [1, 1]
    assert [status for status, _ in wrong] == [404, 400, 400]
    assert now is None


def test_the_most_urgent_class_gets_the_next_place() -> None:
    gate, order = asyncio.Event(), []

    async def gated(request):
        order.append((await request.json())["prompt"])
        await gate.wait()
        return await odd.well(request)

    async def work(session, engines):
        async def one(prompt, name):
            async with session.post("/v1/completions", json={**ASK, "prompt": prompt},
                                    headers={"X-Penstock-Class": name}) as answer:
                return answer.status, answer.headers.get("Retry-After")

        tasks = []
        for prompt, name in (("first", "chat"), ("late", "batch"), ("urgent", "chat")):
            tasks.append(asyncio.create_task(one(prompt, name)))
            while len(order) < 1:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.02)
        async with session.get("/v1/penstock/status") as answer:
            seen = await answer.json()
        full = await one("more", "chat")
        gate.set()
        return seen, full, [status for status, _ in await asyncio.gather(*tasks)]

    seen, full, statuses = odd.before([gated], work, limits=Limits(max_in_flight=1, max_queue=2))
    assert (seen["num_in_flight"], seen["num_waiting"]) == (1, 2)
    assert full == (429, "1")
    assert statuses == [200, 200, 200]
    assert order == ["first", "urgent", "late"]


def test_the_status_tells_of_engines_classes_and_spending() -> None:
    async def work(session, engines):
        for _ in range(3):
            await status_of(session, stream=True)
        async with session.get("/v1/penstock/status") as answer:
            return await answer.json()

    seen = odd.before([odd.well], work)
    assert [(one["num_served"], one["kind"], one["unavailable"]) for one in seen["engines"]] == [
        (3, "openai", None)]
    chat = next(one for one in seen["classes"] if one["name"] == "chat")
    assert (chat["attainment"], chat["num_judged"], chat["output_tokens"]) == (1.0, 3, 15)
    assert sum(tick["num_ended"] for tick in seen["ticks"]) == 3
    assert [one["tenant"] for one in seen["tenants"]] == ["default"]


# -- a file that changes ------------------------------------------------------------------------

class File:
    """A fleet file of URLs, one a line; ``!`` in it makes no sense."""

    def __init__(self, path):
        self.path = path

    def write(self, text):
        self.path.write_text(text)

    def read(self):
        text = self.path.read_text()
        if "!" in text:
            raise InputError(f"{self.path.name}:1: no sense")
        return odd.fleet_of(text.split())

    def reload(self):
        return Reload(self.path, self.read, lambda _: LeastLoaded())


async def until(true):
    while not true():
        await asyncio.sleep(0.01)


def test_a_changed_file_changes_the_fleet_while_requests_go_on(tmp_path) -> None:
    gate, file, notes = asyncio.Event(), File(tmp_path / "fleet.yaml"), []

    async def gated(request):
        await gate.wait()
        return await odd.well(request)

    async def run():
        async with odd.engine(gated) as one, odd.engine(odd.well) as two:
            file.write(one)
            async with odd.gateway([one], limits=Limits(), notes=notes, reload=file.reload()) as (
                    url, engines), aiohttp.ClientSession(url) as session:
                held = asyncio.create_task(status_of(session))
                await until(lambda: engines[0].in_flight)
                file.write(two)
                await until(lambda: engines[0].facts.url == two and engines[0].healthy)
                assert [len(engine.in_flight) for engine in engines] == [0, 1]
                assert await status_of(session) == 200
                file.write("!")
                await until(lambda: len(notes) > 1)
                assert await status_of(session) == 200
                os.utime(file.path)
                gate.set()
                assert await held == 200
                await until(lambda: len(engines) == 1)
                file.write("")
                await until(lambda: len(notes) > 2)
                return one, two, engines[0].num_served

    one, two, served = asyncio.run(asyncio.wait_for(run(), 60))
    assert served == 2
    assert notes[0].endswith(f"was read again: {two} is new; {one} is being drained")
    assert "no sense; the gateway goes on with the fleet that it had" in notes[1]
    assert "the gateway goes on with the fleet that it had" in notes[2]


class Another(LeastLoaded):
    """A router that can be told from the first one."""

    def route(self, request, replicas, now_s):
        return super().route(request, replicas, now_s).replace(terms={"another": 1.0})


def test_the_router_stays_where_nothing_changed_that_it_goes_by(tmp_path) -> None:
    path, notes = tmp_path / "fleet.yaml", []

    async def run():
        async with odd.engine(odd.well) as one:
            changes = [{}, {"gateway.aliases": {"quick": {"deadline_s": 3}}},
                       {"models": [{"name": "llama-3-8b", "quality": 0.5}]}]
            path.write_text("0")
            reload = Reload(path, lambda: odd.fleet_of([one], **changes[int(path.read_text())]),
                            lambda _: Another())
            async with odd.gateway([one], notes=notes, reload=reload) as (
                    url, _), aiohttp.ClientSession(url) as session:
                found = []
                for number in range(3):
                    path.write_text(str(number) + number * " ")
                    await until(lambda number=number: len(notes) >= number)
                    async with session.post("/v1/completions", json=ASK) as answer:
                        name = answer.headers["X-Penstock-Decision"]
                    async with session.get(f"/v1/penstock/decisions/{name}") as answer:
                        found.append("another" in (await answer.json())["terms"])
                return found

    assert asyncio.run(asyncio.wait_for(run(), 60)) == [False, False, True]


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="signals of POSIX")
def test_a_hangup_reads_the_file_again(tmp_path) -> None:
    file, notes = File(tmp_path / "fleet.yaml"), []

    async def run():
        async with odd.engine(odd.well) as one:
            file.write(one)
            async with odd.gateway([one], notes=notes, reload=file.reload()):
                await asyncio.sleep(0)
                os.kill(os.getpid(), signal.SIGHUP)
                await until(lambda: notes)

    asyncio.run(asyncio.wait_for(run(), 60))
    assert notes == [f"{file.path} was read again: the same engines"]
