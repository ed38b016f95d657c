"""No engine can make a charge that is above the amount held for the request, whatever it counts and
however much it sends."""

import asyncio
import sqlite3

import orjson
import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")
pytest.importorskip("sqlalchemy", reason="the extra 'serve' is not installed")

from aiohttp import web

from penstock.serving.gateway.answers import DECISION_HEADER
from penstock.serving.gateway.ask_limits import with_slack
from penstock.serving.gateway.decision_log import DecisionLog
from support import misbehaving_engines as odd
from support.gateway_with_keys import home
from support.reconciled import differences

BUDGET = 0.01
TENANTS = [{"name": "shop", "budget": {"amount": BUDGET}}, {"name": "bar"}]
PROMPT, MAX_TOKENS = "How long is the coast of Norway?", 5
INPUT, OUTPUT = 1_000, 10_000  # nanos per token
MOST_PROMPT = 64 + 200  # bytes of the body, and the template
HELD = MOST_PROMPT * INPUT + MAX_TOKENS * OUTPUT
ABSURD = {
    "a billion": b"1000000000", "a float beyond all": b"1e300", "negative": b"-1", "NaN": b'"NaN"',
    "infinite": b'"Infinity"', "a word": b'"five"', "true": b"true", "false": b"false",
    "half": b"2.5", "a list": b"[5]", "an object": b'{"tokens":5}',
    "beyond 64 bits": b"18446744073709551615", "nothing": b"null"}


def usage(count):
    return b'{"prompt_tokens":%b,"completion_tokens":%b,"total_tokens":%b}' % (count, count, count)


def event(text=None, usage=None, reason=None):
    choices = [] if text is None else [{"index": 0, "text": text, "finish_reason": reason}]
    out = orjson.dumps({"id": "x", "choices": choices})
    return b"data: " + (out if usage is None else out[:-1] + b',"usage":' + usage + b"}") + b"\n\n"


def answering(count, text="t0t1t2t3t4"):
    """An engine that counts that, of an answer in one piece or of a stream of five events."""
    async def handler(request):
        if not (await request.json()).get("stream"):
            choices = orjson.dumps([{"index": 0, "text": text, "finish_reason": "stop"}])
            body = b'{"id":"x","choices":' + choices
            body += b"}" if count is None else b',"usage":' + usage(count) + b"}"
            return web.Response(body=body, content_type="application/json")
        response = await odd.begun(request)
        await response.write(b"".join(event(f"t{n}") for n in range(5)) + event("", None, "stop")
                             + (b"" if count is None else event(None, usage(count)))
                             + b"data: [DONE]\n\n")
        return response

    return handler


def sending(*chunks, forever=b"", closed=None):
    """An engine that sends a stream, and then the same bytes for ever."""
    async def handler(request):
        response = await odd.begun(request)
        try:
            for chunk in chunks:
                await response.write(chunk)
            while forever:
                await response.write(forever)
                await asyncio.sleep(0)
        except (ConnectionError, asyncio.CancelledError):
            if closed is not None:
                closed.append(True)
            raise
        return response

    return handler


def charges(tmp_path):
    with sqlite3.connect(f"{tmp_path}/ledger.db") as connection:
        return {row[0]: row[1:] for row in connection.execute(
            "select decision_id, prompt_tokens, output_tokens, charged_nanos, disputed "
            "from penstock_charges")}


def asked(tmp_path, handler, who="shop", **body):
    """The answer's status and bytes, the charge, the engine in the status document, the metrics and
    the number of disputed requests. Afterwards all books tell the same."""
    log = DecisionLog(tmp_path / "decisions.jsonl", print)

    async def run():
        async with odd.engine(handler) as url, home(tmp_path, TENANTS, urls=[url],
                                                    log=log) as found:
            answer, said = await found.ask(who, **{"prompt": PROMPT, "max_tokens": MAX_TOKENS,
                                                   "ignore_eos": None, **body})
            async with asyncio.timeout(10):
                while (await found.get(who, "/v1/penstock/spend"))[1]["tenants"][0][
                        "num_in_flight"]:
                    await asyncio.sleep(0.01)
            name = answer.headers[DECISION_HEADER]
            _, status = await found.get("admin", "/v1/penstock/status")
            _, metrics = await found.get("admin", "/metrics")
            _, spent = await found.get(who, "/v1/penstock/spend")
            assert spent["tenants"][0]["spent"] <= BUDGET
            return (answer.status, said, charges(tmp_path).get(name), status["engines"][0],
                    metrics, spent["tenants"][0]["num_disputed"])

    seen = asyncio.run(asyncio.wait_for(run(), 60))
    log.close()
    assert differences(f"sqlite:///{tmp_path}/ledger.db", [tmp_path / "decisions.jsonl"],
                       [seen[4].decode()]) == []
    return seen


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("count", ABSURD.values(), ids=ABSURD)
def test_an_absurd_count_is_disputed_and_the_relayed_text_is_charged(tmp_path, count,
                                                                    stream) -> None:
    status, _, charge, engine, metrics, num_disputed = asked(
        tmp_path, answering(count), stream=stream)
    assert status == 200
    prompt, output, nanos, disputed = charge
    assert output == (5 if stream else 3), "ten bytes are three tokens"
    assert prompt == len(PROMPT) // 4
    assert nanos == prompt * INPUT + output * OUTPUT <= HELD
    told = count != b"null"  # an engine that does not count says nothing false
    assert (disputed, engine["num_disputed"], num_disputed) == (told, told, told)
    assert (b"penstock:usage_disputed_total{" in metrics) is told


@pytest.mark.parametrize("stream", [True, False])
def test_an_engine_that_counts_nothing_is_charged_by_what_was_relayed(tmp_path, stream) -> None:
    _, _, charge, *_ = asked(tmp_path, answering(None), stream=stream)
    assert charge[1:] == (5 if stream else 3, 8 * INPUT + (5 if stream else 3) * OUTPUT, 0)


@pytest.mark.parametrize(("count", "text", "output", "disputed"), [
    (b"5", "t0t1t2t3t4", 5, 0), (b"6", "t0t1t2t3t4", 3, 1), (b"0", "t0t1t2t3t4", 3, 1),
    (b"3", "x" * 40_000, 5, 1)])
def test_a_count_beside_what_was_sent(tmp_path, count, text, output, disputed) -> None:
    _, _, charge, *_ = asked(tmp_path, answering(count, text), stream=False)
    assert charge[1::2] == (output, disputed)


def test_the_last_of_contradictory_counts_is_judged(tmp_path) -> None:
    engine = sending(event("a", usage(b"1000000000")), event("b", usage(b"-7")),
                     event("c", usage(b"3")), event("", usage(b"1e300"), "stop"),
                     event(None, b'{"prompt_tokens":9,"completion_tokens":3}'),
                     b"data: [DONE]\n\n", event("after the end", usage(b"1000000000")))
    _, said, charge, *_ = asked(tmp_path, engine)
    assert b"after the end" not in said
    assert charge == (9, 3, 9 * INPUT + 3 * OUTPUT, 0)


def test_fewer_tokens_than_events_are_disputed(tmp_path) -> None:
    events = [event(f"w{n} ") for n in range(60)]
    engine = sending(*events, event("", None, "stop"),
                     event(None, b'{"prompt_tokens":9,"completion_tokens":2}'), b"data: [DONE]\n\n")
    _, _, charge, *_ = asked(tmp_path, engine, max_tokens=100)
    assert charge == (9, 60, 9 * INPUT + 60 * OUTPUT, 1)


@pytest.mark.parametrize("together", [1, 500])
def test_a_stream_without_end_is_stopped_at_its_limit(tmp_path, together) -> None:
    closed = []
    engine = sending(forever=event("w ") * together, closed=closed)
    status, said, charge, *_ = asked(tmp_path, engine)
    *tokens, last, done, rest = said.split(b"\n\n")
    assert (status, done, rest) == (200, b"data: [DONE]", b"")
    assert len(tokens) == with_slack(MAX_TOKENS) == 21
    assert orjson.loads(last[6:]) == {"id": "x", "choices": [
        {"index": 0, "text": "", "logprobs": None, "finish_reason": "length"}]}
    assert charge == (8, MAX_TOKENS, 8 * INPUT + MAX_TOKENS * OUTPUT, 1)
    assert closed, "the engine's connection is closed"


def test_a_chat_of_several_answers_ends_each_that_goes_on(tmp_path) -> None:
    async def chatters(request):
        response = await odd.begun(request)
        await response.write(b'data: {"id":"y","choices":[{"index":1,"delta":{"content":"z"},'
                             b'"finish_reason":"stop"}]}\n\n')
        while True:
            await response.write(b"".join(
                b'data: {"id":"y","choices":[{"index":%d,"delta":{"content":"z"}}]}\n\n' % index
                for index in (0, 2)))

    async def healthy(_):
        return web.Response()

    async def run():
        app = web.Application()
        app.router.add_get("/health", healthy)
        app.router.add_post("/v1/chat/completions", chatters)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            async with home(tmp_path, TENANTS, urls=[url]) as found:
                body = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 2, "n": 3,
                        "stream": True, "stream_options": {"include_usage": True}}
                async with found.sessions["shop"].post("/v1/chat/completions", json=body) as answer:
                    return await answer.read()
        finally:
            await runner.cleanup()

    *_, last, counted, done, _ = asyncio.run(asyncio.wait_for(run(), 60)).split(b"\n\n")
    assert [(one["index"], one["delta"], one["finish_reason"])
            for one in orjson.loads(last[6:])["choices"]] == [(0, {}, "length"), (2, {}, "length")]
    assert orjson.loads(counted[6:])["usage"]["completion_tokens"] == 6
    assert done == b"data: [DONE]"


@pytest.mark.parametrize("forever", [b": still here\n\n" * 5000, event("") * 500,
                                     event("x" * 9999)])
def test_a_stream_of_no_tokens_or_of_long_ones_ends_as_well(tmp_path, forever) -> None:
    status, said, charge, *_ = asked(tmp_path, sending(event("a"), forever=forever))
    assert status == 200
    assert len(said) < 4 * 2**20
    assert charge is None or charge[2] <= HELD


def test_an_answer_of_300_mb_is_not_read(tmp_path) -> None:
    sent = []

    async def huge(request):
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        await response.write(b'{"choices":[{"text":"')
        for _ in range(300):
            await response.write(b"x" * 2**20)
            sent.append(1)
        return response

    status, said, charge, *_ = asked(tmp_path, huge, stream=False)
    assert (status, orjson.loads(said)["error"]["code"], charge) == (502, "engines_failed", None)
    assert len(sent) < 30, "at most a few MB are read in three attempts"


DEEP = b"[" * 400 + b"]" * 400  # orjson reads that, and does not write it


def test_an_answer_nested_too_deeply_is_a_fault_of_its_engine(tmp_path) -> None:
    async def deep(request):
        return web.Response(body=b'{"choices":[{"message":{"content":%b}}]}' % DEEP,
                            content_type="application/json")

    status, said, charge, *_ = asked(tmp_path, deep, stream=False)
    assert (status, orjson.loads(said)["error"]["code"], charge) == (502, "engines_failed", None)


def test_a_stream_of_deep_events_is_cut_in_good_order(tmp_path) -> None:
    engine = sending(forever=b'data: {"id":"x","choices":[{"index":0,"text":"w"}],"more":%b}\n\n'
                             % DEEP)
    status, said, *_ = asked(tmp_path, engine)
    *_, last, done, rest = said.split(b"\n\n")
    assert (status, done, rest) == (200, b"data: [DONE]", b"")
    assert orjson.loads(last[6:])["choices"][0]["finish_reason"] == "length"


def test_a_length_of_300_mb_is_refused_by_its_head(tmp_path) -> None:
    async def boasts(request):
        response = web.StreamResponse(headers={"Content-Type": "application/json",
                                               "Content-Length": str(300 * 2**20)})
        await response.prepare(request)
        await asyncio.sleep(30)
        return response

    assert asked(tmp_path, boasts, stream=False)[0] == 502
