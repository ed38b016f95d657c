"""A request that is sent again with its idempotency key is answered once and charged once."""

import asyncio
import sqlite3

import orjson
import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")
pytest.importorskip("sqlalchemy", reason="the extra 'serve' is not installed")

import aiohttp

from penstock.serving.gateway.answers import DECISION_HEADER
from penstock.serving.tenants.answer_store import AnswerStore, KeptAnswer
from penstock.serving.tenants.idempotency import KEY_HEADER, REPLAYED_HEADER
from support import misbehaving_engines as odd
from support.gateway_with_keys import home

KEY = {KEY_HEADER: "order-66 of today"}


def charges(tmp_path):
    with sqlite3.connect(f"{tmp_path}/ledger.db") as connection:
        return [row[0] for row in connection.execute("select charged_nanos from penstock_charges")]


def through(tmp_path, work, handler=odd.well, **settings):
    async def run():
        async with odd.engine(handler) as url, home(tmp_path, urls=[url], **settings) as found:
            return await work(found)

    return asyncio.run(asyncio.wait_for(run(), 60))


def code(body):
    return orjson.loads(body)["error"]["code"]


async def ask(found, who="shop", headers=KEY, **body):
    return await found.ask(who, headers=headers, **{
        "prompt": "x", "max_tokens": 9, "stream": False, **body})


def test_the_same_request_gets_the_same_answer_and_is_charged_once(tmp_path) -> None:
    async def work(found):
        first, said = await ask(found)
        second, again = await ask(found)
        assert (first.status, second.status, again) == (200, 200, said)
        assert second.headers[DECISION_HEADER] == first.headers[DECISION_HEADER]
        assert second.content_type == first.content_type
        assert (first.headers.get(REPLAYED_HEADER), second.headers[REPLAYED_HEADER]) == (None,
                                                                                        "true")
        assert len(charges(tmp_path)) == 1
        other, _ = await ask(found, "bar")
        assert REPLAYED_HEADER not in other.headers, "each tenant has keys of its own"
        without = [await ask(found, headers=None) for _ in range(2)]
        assert not any(REPLAYED_HEADER in answer.headers for answer, _ in without)

    through(tmp_path, work)
    assert len(charges(tmp_path)) == 4


def test_another_body_or_path_with_the_same_key_is_an_error(tmp_path) -> None:
    async def work(found):
        await ask(found)
        seen = [await ask(found, prompt="y"),
                await found.ask("shop", "/v1/chat/completions", KEY, prompt="x", max_tokens=9,
                                stream=False)]
        return [(answer.status, code(body)) for answer, body in seen]

    assert through(tmp_path, work) == [(422, "idempotency_key_reused")] * 2
    assert len(charges(tmp_path)) == 1


def test_while_the_first_is_in_progress_others_are_told_to_wait(tmp_path) -> None:
    go = asyncio.Event()

    async def waits(request):
        await go.wait()
        return await odd.well(request)

    async def work(found):
        first = asyncio.create_task(ask(found))
        await asyncio.sleep(0.1)
        seen = []
        for _ in range(3):
            answer, body = await ask(found)
            seen.append((answer.status, code(body), answer.headers["Retry-After"]))
        go.set()
        assert (await first)[0].status == 200
        return seen

    assert through(tmp_path, work, waits) == [(409, "idempotency_in_progress", "1")] * 3
    assert len(charges(tmp_path)) == 1


def test_of_many_at_once_one_is_served(tmp_path) -> None:
    async def work(found):
        seen = await asyncio.gather(*(ask(found) for _ in range(20)))
        return sorted(answer.status for answer, _ in seen if REPLAYED_HEADER not in answer.headers)

    assert through(tmp_path, work)[0] == 200
    assert len(charges(tmp_path)) == 1


def test_a_stream_is_not_answered_twice(tmp_path) -> None:
    async def work(found):
        first, _ = await ask(found, stream=True)
        answer, body = await ask(found, stream=True)
        error = orjson.loads(body)["error"]
        assert (answer.status, error["code"]) == (409, "already_answered")
        assert error["details"] == {"decision_id": first.headers[DECISION_HEADER],
                                    "charged": charges(tmp_path)[0] / 1e9}
        assert first.headers[DECISION_HEADER] in error["message"]

    through(tmp_path, work)
    assert len(charges(tmp_path)) == 1


def test_after_a_restart_the_charge_is_known_and_the_answer_is_not(tmp_path) -> None:
    async def work(found):
        return (await ask(found))[0].status

    def again(tmp_path):
        async def run():
            async with odd.engine(odd.well) as url, home(tmp_path, urls=[url]) as found:
                return code((await ask(found))[1])

        return asyncio.run(asyncio.wait_for(run(), 60))

    assert through(tmp_path, work) == 200
    assert again(tmp_path) == "already_answered"
    assert len(charges(tmp_path)) == 1


@pytest.mark.parametrize("fault", [odd.internal, odd.killed_at_once, odd.too_many])
def test_a_request_that_failed_may_be_sent_again(tmp_path, fault) -> None:
    faults = [fault] * 3

    async def handler(request):
        return await (faults.pop() if faults else odd.well)(request)

    async def work(found):
        first, _ = await ask(found)
        while (answer := (await ask(found))[0]).status != 200:
            await asyncio.sleep(0.1)  # the engine is given up for a while
        return first.status, REPLAYED_HEADER in answer.headers

    status, replayed = through(tmp_path, work, handler)
    assert (status >= 429, replayed) == (True, False)
    assert len(charges(tmp_path)) == 1


def test_a_request_that_was_not_admitted_frees_its_key(tmp_path) -> None:
    async def work(found):
        refused = [(await ask(found, **body))[0].status
                   for body in ({"max_tokens": 10**6}, {"model": "nonsense"}, {"n": "3"})]
        return refused, (await ask(found))[0].status

    assert through(tmp_path, work, tenants=[{"name": "shop", "budget": {"amount": 0.001}},
                                            {"name": "bar"}]) == ([429, 404, 400], 200)


def test_a_client_that_leaves_before_the_first_token_may_come_again(tmp_path) -> None:
    waiting = [True]

    async def handler(request):
        if waiting.pop() if waiting else False:
            await asyncio.sleep(30)
        return await odd.well(request)

    async def work(found):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ask(found), 0.2)
        while (answer := (await ask(found))[0]).status == 409:
            await asyncio.sleep(0.02)
        return answer.status

    assert through(tmp_path, work, handler) == 200


def test_the_ledger_has_neither_keys_nor_bodies(tmp_path) -> None:
    async def work(found):
        await ask(found, prompt="canary-of-the-body")

    through(tmp_path, work)
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"order-66" not in kept
    assert b"canary" not in kept


@pytest.mark.parametrize("key", ["", "x" * 256, "caf\u00e9", "a\tb"])
def test_a_key_that_is_no_key(tmp_path, key) -> None:
    async def work(found):
        answer, body = await ask(found, headers={KEY_HEADER: key})
        return answer.status, orjson.loads(body)["error"]["param"]

    assert through(tmp_path, work) == (400, KEY_HEADER)


def test_without_a_ledger_a_key_holds_for_one_process() -> None:
    async def work(session, engines):
        seen = []
        for stream in (False, False, True):
            async with session.post("/v1/completions", headers=KEY, json={
                    "prompt": "x", "max_tokens": 9, "stream": stream}) as answer:
                seen.append((answer.status, answer.headers.get(REPLAYED_HEADER)))
        for _ in range(2):
            async with session.post("/v1/completions", headers={KEY_HEADER: "z"}, json={
                    "prompt": "x", "max_tokens": 9, "stream": True}) as answer:
                seen.append((answer.status, await answer.read() != b""))
        return seen

    assert odd.before([odd.well], work) == [(200, None), (200, "true"), (422, None), (200, True),
                                            (409, True)]


def test_a_failed_request_without_a_ledger_frees_its_key() -> None:
    async def work(session, engines):
        seen = []
        for _ in range(2):
            async with session.post("/v1/completions", headers=KEY, json={"prompt": "x"}) as answer:
                seen.append((await answer.json())["error"]["code"])
        async with session.post("/v1/completions", headers=KEY, json={"model": "?"}) as answer:
            seen.append((await answer.json())["error"]["code"])
        return seen

    assert odd.before([odd.internal], work)[0] == "engines_failed"


def test_two_gateways_on_one_ledger_agree(tmp_path) -> None:
    async def run():
        async with odd.engine(odd.well) as url, home(tmp_path, urls=[url]) as first:
            key = first.sessions["shop"].headers["Authorization"]
            async with home(tmp_path, urls=[url]) as second:
                second.sessions["same"] = aiohttp.ClientSession(second.url, headers={
                    "Authorization": key})
                seen = await asyncio.gather(*(ask(*where) for where in (
                    (first, "shop"), (second, "same")) for _ in range(5)))
                late = [await ask(*where) for where in ((first, "shop"), (second, "same"))]
                await second.sessions["same"].close()
                return [a.status for a, _ in seen], {a.status for a, _ in late}

    seen, late = asyncio.run(asyncio.wait_for(run(), 60))
    assert 200 in seen
    assert late == {200, 409}, "one replays, the other one knows"
    assert len(charges(tmp_path)) == 1


def test_kept_answers_are_bounded_in_bytes_and_time() -> None:
    now = [0.0]
    store = AnswerStore(lambda: now[0], most_bytes=10_000)
    for number in range(9):
        store.add(f"k{number}", KeptAnswer(f"d{number}", b"x" * 1976, "text/plain"))
    assert [number for number in range(9) if store.get(f"k{number}")] == [6, 7, 8]
    store.add("k8", KeptAnswer("d9", b"y", "text/plain"))
    assert store.get("k8").decision_id == "d9"
    store.add("big", KeptAnswer("d", b"x" * 9000, "text/plain"))
    assert store.get("big") is None
    now[0] = 86_401.0
    assert store.get("k8") is None
