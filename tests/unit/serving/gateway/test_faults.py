"""Whatever engines and clients do: each request ends once, with a reason; the gateway lives."""

import asyncio
import gzip
import re
import time
import tracemalloc
from itertools import cycle

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

import aiohttp
import aiohttp.web
import orjson

from penstock.serving.gateway.answers import DECISION_HEADER
from penstock.serving.gateway.limits import Limits
from penstock.serving.gateway.request_metrics import OUTCOMES
from support import misbehaving_engines as odd

JSON_TYPE = {"Content-Type": "application/json"}
ASK = {"prompt": "Tell me of rivers.", "max_tokens": 5}


async def ask(session, **more):
    async with session.post("/v1/completions", json={**ASK, **more}) as answer:
        return answer.status, await answer.text(), answer.headers.get(DECISION_HEADER)


async def outcomes(session):
    """How many requests ended how, as /metrics has it."""
    async with session.get("/metrics") as answer:
        text = await answer.text()
    found = dict.fromkeys(OUTCOMES, 0)
    for outcome, value in re.findall(r'penstock:requests_total\{.*outcome="(\w+)".*\} (\S+)', text):
        found[outcome] += int(float(value))
    return {outcome: num for outcome, num in found.items() if num}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("fault", odd.BEFORE_THE_FIRST_BYTE, ids=lambda one: one.__name__)
def test_before_the_first_byte_another_engine_answers(fault, stream) -> None:
    async def work(session, engines):
        answers = [await ask(session, stream=stream) for _ in range(4)]
        return answers, await outcomes(session), engines

    answers, ended, engines = odd.before([fault, odd.well], work)
    assert [status for status, _, _ in answers] == [200] * 4
    assert all("t4" in text and "error" not in text for _, text, _ in answers)
    assert ended == {"finished": 4}
    assert engines[1].num_served == 4
    assert not any(one.in_flight for one in engines)


@pytest.mark.parametrize("fault", odd.IN_THE_MIDDLE, ids=lambda one: one.__name__)
def test_after_it_the_client_hears_that_this_is_not_the_end(fault) -> None:
    async def work(session, engines):
        _, text, name = await ask(session, stream=True)
        async with session.get(f"/v1/penstock/decisions/{name}") as answer:
            decision = await answer.json()
        return text, decision, await outcomes(session), engines[0]

    text, decision, ended, engine = odd.before([fault], work)
    assert '"text":"t0"' in text
    assert '"error"' in text
    assert "[DONE]" not in text
    assert decision["outcome"]["outcome"] == "broken"
    assert decision["outcome"]["met_targets"] is False
    assert ended == {"broken": 1}
    assert (engine.num_served, engine.num_failed, len(engine.in_flight)) == (0, 1, 0)


@pytest.mark.parametrize("last", [b"", odd.TOKENS[3][:20], b"data: {not json\n\n"])
def test_what_came_together_with_the_break_is_passed_on_as_it_is_counted(last) -> None:
    async def breaks(request):
        response = await odd.begun(request)
        await response.write(odd.TOKENS[0])
        await asyncio.sleep(0.005)
        await response.write(odd.TOKENS[1] + odd.TOKENS[2] + last)
        return response

    async def work(session, engines):
        _, text, name = await ask(session, stream=True)
        async with session.get(f"/v1/penstock/decisions/{name}") as answer:
            return text, (await answer.json())["outcome"]

    text, outcome = odd.before([breaks], work)
    assert re.findall(r"t\d", text) == ["t0", "t1", "t2"]
    assert text.count('"error"') == 1
    assert (outcome["outcome"], outcome["output_tokens"]) == ("broken", 3)


def test_an_engine_that_does_not_hang_up_after_the_last_word_has_said_it() -> None:
    async def holds(request):
        response = await odd.begun(request)
        await response.write(odd.TOKENS[0] + odd.END)
        await asyncio.sleep(600)
        return response

    async def work(session, engines):
        _, text, _ = await ask(session, stream=True)
        return text, await outcomes(session), engines[0].num_failed

    text, ended, num_failed = odd.before([holds], work)
    assert text.endswith("data: [DONE]\n\n")
    assert (ended, num_failed) == ({"finished": 1}, 0)


@pytest.mark.parametrize(("fault", "status", "code"), [
    (odd.killed_at_once, 502, "engines_failed"), (odd.hangs, 502, "engines_failed"),
    (odd.garbage, 502, "engines_failed"), (odd.too_many, 429, "engines_busy"),
    (odd.internal, 502, "engines_failed")])
def test_with_no_other_engine_the_reason_is_told(fault, status, code) -> None:
    async def work(session, engines):
        async with session.post("/v1/completions", json=ASK) as answer:
            name = answer.headers[DECISION_HEADER]
            async with session.get(f"/v1/penstock/decisions/{name}") as decision:
                assert (await decision.json())["outcome"]["outcome"] == "failed"
            return (answer.status, (await answer.json())["error"]["code"],
                    answer.headers.get("Retry-After")), await outcomes(session)

    found, ended = odd.before([fault], work)
    assert found == (status, code, "7" if status == 429 else None)
    assert ended == {"failed": 1}


@pytest.mark.parametrize("stream", [True, False])
def test_an_engine_that_counts_nonsense_spoils_no_sums(stream) -> None:
    usage = {"prompt_tokens": True, "completion_tokens": 2**64 - 1}

    async def boasts(request):
        if not stream:
            return aiohttp.web.json_response({**odd.WHOLE, "usage": usage})
        response = await odd.begun(request)
        await response.write(odd.TOKENS[0] + odd.END.replace(
            b'{"prompt_tokens":3,"completion_tokens":5}', orjson.dumps(usage)))
        return response

    async def work(session, engines):
        for _ in range(2):
            assert (await ask(session, stream=stream))[0] == 200
        async with session.get("/v1/penstock/status") as answer:
            assert answer.status == 200
            return (await answer.json())["classes"][0]["output_tokens"]

    assert odd.before([boasts], work) == (2 if stream else 6), "ten bytes are three tokens"


@pytest.mark.parametrize("kind", ["gzip", "deflate"])
def test_a_body_that_cannot_be_unpacked_is_the_clients_fault(kind) -> None:
    async def work(session, engines):
        async with session.post("/v1/completions", data=b'{"prompt": "x"}',
                                headers={"Content-Encoding": kind, **JSON_TYPE},
                                compress=None) as answer:
            return answer.status, (await answer.json())["error"]["message"]

    notes: list[str] = []
    status, said = odd.before([odd.well], work, notes=notes)
    assert (status, notes) == (400, [])
    assert "cannot be decoded" in said


def test_clients_who_leave_leave_nothing_behind() -> None:
    async def work(session, engines):
        async def leave(number):
            async with session.post("/v1/completions", json={**ASK, "stream": True}) as answer:
                if number % 2:
                    await answer.content.readany()
                answer.close()

        tasks = [asyncio.create_task(leave(number)) for number in range(40)]
        await asyncio.sleep(0.02)
        for task in tasks[::3]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        while any(engine.in_flight for engine in engines):
            await asyncio.sleep(0.005)
        return sum(engine.num_failed for engine in engines), await outcomes(session)

    failed, ended = odd.before([odd.hangs_in_the_middle], work, limits=Limits())
    assert failed == 0, "an engine is not to blame for clients who leave"
    assert set(ended) == {"cancelled"}


def test_who_hangs_up_with_the_whole_answer_in_hand_has_not_left() -> None:
    async def work(session, engines):
        async with session.post("/v1/completions", json={**ASK, "stream": True}) as answer:
            text = b""
            while b"data: [DONE]" not in text:
                text += await answer.content.readany()
            answer.close()  # as OpenAI's own client does
        while not (ended := await outcomes(session)):
            pass
        name = answer.headers[DECISION_HEADER]
        async with session.get(f"/v1/penstock/decisions/{name}") as answer:
            decision = await answer.json()
        async with session.get("/v1/penstock/status") as answer:
            (of_class, *_) = (await answer.json())["classes"]
        return ended, decision, of_class, engines[0]

    ended, decision, of_class, engine = odd.before([odd.lingers], work, limits=Limits())
    assert ended == {"finished": 1}
    assert decision["outcome"]["outcome"] == "finished"
    assert decision["attempts"][0]["outcome"] == "answered 200"
    assert (of_class["num_judged"], of_class["outcomes"]) == (1, {"finished": 1})
    assert (engine.num_served, engine.num_failed, len(engine.in_flight)) == (1, 0, 0)


def test_a_storm_of_everything_at_once() -> None:
    faults = (*odd.BEFORE_THE_FIRST_BYTE, *odd.IN_THE_MIDDLE, odd.well, odd.well)

    async def work(session, engines):
        async def one(number):
            try:
                status, text, _ = await ask(session, stream=number % 3 > 0)
            except (aiohttp.ClientError, TimeoutError) as error:
                return type(error).__name__
            if status == 200:
                return "broken" if '"error"' in text else "finished"
            return "failed"

        heard = await asyncio.gather(*(one(number) for number in range(120)))
        while not any(engine.unavailable(time.monotonic()) is None for engine in engines):
            await asyncio.sleep(0.01)  # those that do well are seen to, sooner or later
        return heard, await outcomes(session)

    heard, ended = odd.before(faults, work)
    assert len(heard) == 120
    assert {name: heard.count(name) for name in set(heard)} == ended


@pytest.mark.parametrize(("head", "said"), [
    (b"GET / HT", b""), (b"", b""), (b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nX-A: ", b""),
    (b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
     b"Content-Length: 50\r\n\r\n{", b"408")])
def test_who_dribbles_is_cut_off(head, said) -> None:
    async def work(session, engines):
        host, port = str(session._base_url.host), session._base_url.port
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(head)
        heard = await reader.read(10_000)
        writer.close()
        return heard, (await ask(session))[0]

    heard, status = odd.before([odd.well], work, limits=Limits(head_s=0.2, body_s=0.2))
    assert said in heard
    assert status == 200


def test_a_body_beyond_the_limit_is_refused() -> None:
    async def work(session, engines):
        async with session.post("/v1/completions", data=b"x" * 2000,
                                headers=JSON_TYPE) as answer:
            return answer.status, (await answer.json())["error"]["type"], (await ask(session))[0]

    assert odd.before([odd.well], work, limits=Limits(max_body_bytes=1000)) == (
        413, "invalid_request_error", 200)


def test_a_packed_body_is_never_unpacked_far_beyond_the_limit() -> None:
    limit, bomb = 4 * 2**20, gzip.compress(bytes(64 * 2**20))

    async def work(session, engines):
        tracemalloc.start()
        try:
            async with session.post("/v1/completions", data=bomb,
                                    headers={"Content-Encoding": "gzip", **JSON_TYPE}) as answer:
                return answer.status, tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    status, peak_bytes = odd.before([odd.well], work, limits=Limits(max_body_bytes=limit))
    assert status == 413
    assert peak_bytes < 2 * limit


def test_a_clock_on_the_wall_that_jumps_changes_nothing(monkeypatch) -> None:
    real, jumps = time.time, cycle((0.0, 86_400.0, -86_400.0, 3e9, -1e9))
    monkeypatch.setattr(time, "time", lambda: real() + next(jumps))

    async def work(session, engines):
        answers = [await ask(session, stream=number % 2 > 0) for number in range(8)]
        async with session.get("/v1/penstock/status") as answer:
            return answers, await answer.json(), await outcomes(session)

    answers, status, ended = odd.before([odd.well, odd.internal], work)
    assert [code for code, _, _ in answers] == [200] * 8
    assert ended == {"finished": 8}
    chat = next(one for one in status["classes"] if one["name"] == "chat")
    assert 0.0 < chat["e2e_s"]["p99"] < 60.0
    assert all(0.0 <= one["seen_s_ago"] < 60.0 for one in status["engines"])
