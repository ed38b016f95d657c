"""A whole fleet of emulated engines in one process."""

import asyncio
import socket

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

import aiohttp

from penstock.core.errors import InputError
from penstock.engines.emulated.cluster import EmulatorOptions, emulated_cluster
from penstock.fleet.load import parse_fleet
from penstock.journal.journal import read_journal
from penstock.journal.replay import replay, scheduler_of
from support.small_fleet import FLEET

TWO_KINDS = FLEET.replace("{name: a100-80gb, count: 4}", "{name: a100-80gb}, {name: l4}").replace(
    "replicas: [{count: 1}]", "replicas: [{accelerator: l4, count: 2, service_classes: [batch]},"
                              " {accelerator: a100-80gb}]")
ASK = {"prompt": "hello", "max_tokens": 20, "ignore_eos": True}


def served(work, fleet=TWO_KINDS, **options):
    async def run():
        given = EmulatorOptions(**{"speed": 1000.0, **options})
        async with emulated_cluster(parse_fleet(fleet), given) as cluster:
            return await work(cluster)

    return asyncio.run(run())


async def ask(one, **body) -> int:
    async with aiohttp.ClientSession() as session, session.post(
            f"{one.url}/v1/completions", json=ASK | body) as response:
        await response.read()
        return response.status


def test_every_replica_listens_where_it_says() -> None:
    async def work(cluster):
        return [(one.name, one.group.accelerator.name, await ask(one)) for one in cluster.replicas]

    assert served(work) == [("replica-0", "l4", 200), ("replica-1", "l4", 200),
                            ("replica-2", "a100-80gb", 200)]


def test_some_replicas_keep_their_numbers() -> None:
    async def work(cluster):
        return [(one.name, one.group.accelerator.name) for one in cluster.replicas]

    assert served(work, indexes=(2,)) == [("replica-2", "a100-80gb")]


def free_ports(num: int) -> int:
    """The first of ``num`` free ports in a row."""
    for first in range(20_000, 60_000, num):
        sockets = [socket.socket() for _ in range(num)]
        try:
            for place, one in enumerate(sockets):
                one.bind(("127.0.0.1", first + place))
        except OSError:
            continue
        finally:
            for one in sockets:
                one.close()
        return first
    raise AssertionError("no free ports")


def test_ports_follow_each_other() -> None:
    async def work(cluster):
        return [one.url for one in cluster.replicas]

    first = free_ports(3)
    assert served(work, port=first) == [f"http://127.0.0.1:{first + place}" for place in range(3)]


async def nothing(cluster) -> None:
    raise AssertionError("it should not listen")


def test_a_port_that_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=rf"cannot listen on 127.0.0.1 port {port}: "
                                             "Address already in use"):
            served(nothing, port=port, indexes=(0,))


@pytest.mark.parametrize(("fleet", "options", "message"), [
    (FLEET.replace("replicas: [{count: 1}]\n", ""), {}, "fleet small states no replicas"),
    (FLEET, {"indexes": (1,)}, "no replica 1: fleet small has 1, counted from 0"),
    (FLEET + "engine: {prefix_caching: true, kv_tiers: [{name: host, gib: 1, read_gb_per_s: 9}]}\n",
     {}, "engine.kv_tiers: an emulated engine has no tiers"),
    (TWO_KINDS, {"port": 65534}, "3 replicas from port 65534 on go beyond port 65535"),
])
def test_what_cannot_be_served(fleet, options, message) -> None:
    with pytest.raises(InputError, match=message):
        served(nothing, fleet, **options)


def test_a_request_without_a_class_gets_one_that_the_replica_serves(tmp_path) -> None:
    async def work(cluster):
        for one in cluster.replicas:
            await ask(one)

    served(work, journal_dir=tmp_path)
    assert [record["request"]["service_class"]["name"] for number in range(3)
            for record in read_journal(tmp_path / f"journal-{number}.jsonl")
            if record["kind"] == "add"] == ["batch", "batch", "chat"]


def test_a_session_reaches_the_scheduler_by_its_header(tmp_path) -> None:
    async def work(cluster):
        async with aiohttp.ClientSession() as session:
            for headers in ({}, {"X-Penstock-Session": "talk-1"}):
                async with session.post(f"{cluster.replicas[0].url}/v1/completions", json=ASK,
                                        headers=headers) as response:
                    assert response.status == 200
                    await response.read()

    served(work, FLEET, journal_dir=tmp_path)
    assert [record["request"].get("session") for record in read_journal(
        tmp_path / "journal-0.jsonl") if record["kind"] == "add"] == [None, "talk-1"]


def test_an_adapter_waits_for_a_place(tmp_path) -> None:
    fleet = FLEET.replace("replicas: [{count: 1}]", "replicas: [{lora: {max_loras: 1}}]").replace(
        "{name: llama-3-8b}", "{name: llama-3-8b, adapters: [{name: a}, {name: b, served_as: c}]}")

    async def info(session, url):
        async with session.get(f"{url}/metrics") as answer:
            line, = (line for line in (await answer.text()).splitlines()
                     if line.startswith("vllm:lora_requests_info{"))
        return line.partition(" ")[0]

    async def work(cluster):
        one = cluster.replicas[0]
        async with aiohttp.ClientSession() as session:
            for name in ("a", "c"):
                async with session.post(f"{one.url}/v1/load_lora_adapter", json={
                        "lora_name": name, "lora_path": f"hub/{name}"}) as answer:
                    assert answer.status == 200
            asked = [asyncio.create_task(ask(one, model=name, max_tokens=40))
                     for name in ("a", "c")]
            while one.engine.num_live < 2 or one.engine.scheduler.num_running < 1:
                await asyncio.sleep(0.001)
            seen = await info(session, one.url)
            assert await asyncio.gather(*asked) == [200, 200]
            assert 'running_lora_adapters="",waiting_lora_adapters=""' in await info(session,
                                                                                     one.url)
        return seen

    assert ('{max_lora="1",running_lora_adapters="a",waiting_lora_adapters="c"}'
            in served(work, fleet, journal_dir=tmp_path, speed=1.0))
    adds = [one["request"] for one in read_journal(tmp_path / "journal-0.jsonl")
            if one["kind"] == "add"]
    assert [one["adapter"] for one in adds] == ["a", "c"]


@pytest.mark.parametrize("noise", ["", "run: {step_time_noise: 0.3}\n",
                                   "run: {beliefs: exact}\n", "run: {beliefs: model}\n"])
def test_journals_replay(noise, tmp_path) -> None:
    async def work(cluster):
        one = cluster.replicas[0]
        await asyncio.gather(*(ask(one, prompt=[number] * 300) for number in range(8)))
        return one.engine.scheduler

    served(work, FLEET + noise, journal_dir=tmp_path)
    header, *records = read_journal(tmp_path / "journal-0.jsonl")
    from penstock.fleet.replica_factory import step_time

    report = replay(records, scheduler_of(header, step_time(parse_fleet(FLEET).replicas[0])))
    assert report.mismatch is None
    assert report.num_plans == sum(record["kind"] == "plan" for record in records) > 20


def test_an_engine_is_off_the_model_by_a_factor_that_the_seed_draws(tmp_path) -> None:
    def first_step_s(run: str, seed: int) -> float:
        async def work(cluster):
            await ask(cluster.replicas[0])

        served(work, FLEET + run, seed=seed, journal_dir=tmp_path)
        return next(record["duration_s"] for record in read_journal(tmp_path / "journal-0.jsonl")
                    if record["kind"] == "commit")

    exact, drawn, again, other = (
        first_step_s("", 1), *(first_step_s("run: {beliefs: model}\n", seed)
                               for seed in (1, 1, 2)))
    assert len({round(one, 9) for one in (exact, drawn, other)}) == 3
    assert drawn == pytest.approx(again)


def test_noise_comes_from_the_seed(tmp_path) -> None:
    def durations(folder: str, seed: int) -> list[float]:
        async def work(cluster):
            await ask(cluster.replicas[0])

        (tmp_path / folder).mkdir()
        served(work, FLEET + "run: {step_time_noise: 0.3}\n", seed=seed,
               journal_dir=tmp_path / folder)
        return [round(record["duration_s"], 9)
                for record in read_journal(tmp_path / folder / "journal-0.jsonl")
                if record["kind"] == "commit"]

    first, again, other = durations("a", 1), durations("b", 1), durations("c", 2)
    assert first == again
    assert first != other
    assert len(set(first)) == 20


def test_to_drain_is_to_wait_for_those_that_are_there() -> None:
    async def work(cluster):
        one = cluster.replicas[0]
        begun = asyncio.create_task(ask(one, max_tokens=3000))
        while not one.engine.num_live:
            await asyncio.sleep(0)
        draining = asyncio.create_task(cluster.drain(60.0))
        await asyncio.sleep(0)
        refused = await ask(one)
        await draining
        assert one.engine.num_live == 0
        return await begun, refused

    assert served(work, speed=100.0) == (200, 503)


def test_patience_ends_and_with_it_what_is_under_way() -> None:
    async def work(cluster):
        begun = asyncio.create_task(ask(cluster.replicas[0], max_tokens=8000))
        while not cluster.replicas[0].engine.num_live:
            await asyncio.sleep(0)
        await cluster.drain(0.0)
        return begun

    async def run():
        options = EmulatorOptions(speed=0.01)
        async with emulated_cluster(parse_fleet(FLEET), options) as cluster:
            begun = await work(cluster)
        return await begun

    assert asyncio.run(run()) == 503


def test_an_engine_that_fails_is_noticed() -> None:
    class Broken:
        def duration_ps(self, plan):
            raise ZeroDivisionError

    async def work(cluster):
        cluster.replicas[0].engine._step_clock = Broken()
        status = await ask(cluster.replicas[0])
        with pytest.raises(ZeroDivisionError):
            await cluster.watch()
        return status, await ask(cluster.replicas[1])

    assert served(work) == (503, 200)
