"""What a client makes of servers that answer well, oddly, badly or not at all."""

import asyncio
from itertools import count

import orjson
import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")

from aiohttp import web

from penstock.core.errors import InputError
from penstock.engines.client.answer import Answer
from penstock.engines.client.client import (
    CHAT,
    ClientTimeouts,
    EngineClient,
    client_session,
    streamed,
)
from support.fake_http_engines import (
    DONE,
    HEAD,
    chunk,
    event,
    http_engine,
    nobody,
    raw_engine,
    streaming,
    token,
    usage,
    whole,
)

BODY = {"prompt": "Tell me.", "max_tokens": 4}
NO_MODELS = b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}"
PATIENT = ClientTimeouts()


def asked(server, patience=PATIENT, body=BODY, **how):
    """The answer of the server that the context manager ``server`` makes."""
    async def run():
        async with server as url, client_session() as session:
            return await EngineClient(session, url, patience).ask(streamed(body), **how)

    return asyncio.run(run())


def ended(answer):
    return answer.outcome, answer.text, answer.num_tokens


# -- answers that are well ---------------------------------------------------------------------


def test_tokens_usage_and_finish_reason_of_a_stream() -> None:
    answer = asked(http_engine(streaming(
        token("a"), token(" b"), token(" c", "length"),
        event({"choices": [], "usage": usage(3, 3)}), DONE)))
    assert ended(answer) == ("finished", "a b c", 3)
    assert (answer.finish_reason, answer.prompt_tokens, answer.output_tokens) == ("length", 3, 3)
    assert answer.streamed
    assert answer.sent_s <= answer.events[0].at_s <= answer.events[-1].at_s <= answer.ended_s
    assert answer.token_times_s().tolist() == [one.at_s for one in answer.events]


def test_a_chat_begins_with_its_first_word_not_with_its_role() -> None:
    def delta(**fields):
        return event({"choices": [{"index": 0, "delta": fields, "finish_reason": None}]})

    answer = asked(http_engine(streaming(
        delta(role="assistant", content=""), delta(reasoning_content="hm"), delta(content="yes"),
        delta(tool_calls=[{"index": 0, "function": {"name": "look", "arguments": "{}"}}]),
        event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}), DONE)), path=CHAT)
    assert [one.text for one in answer.events] == ["hm", "yes", "look{}"]
    assert answer.finished


@pytest.mark.parametrize("cut", [1, 2, 7, 1000])
def test_a_stream_may_be_cut_anywhere(cut: int) -> None:
    stream = b": ping\n\n" + token("a") + token("b", "stop").replace(b"\n", b"\r\n") + DONE
    parts = [stream[at:at + cut] for at in range(0, len(stream), cut)]
    assert ended(asked(http_engine(streaming(*parts)))) == ("finished", "ab", 2)


@pytest.mark.parametrize("tail", [
    [event({"choices": [], "usage": usage(9, 5)}), DONE],
    [event({"choices": [{"index": 0, "text": "", "finish_reason": "stop"}],
            "usage": usage(9, 5)}), DONE],
    [event({"choices": [{"index": 0, "text": "", "finish_reason": "stop",
                         "usage": usage(9, 5)}]}), DONE],
    [event({"choices": [], "x_groq": {"usage": usage(9, 5)}}), DONE],
    [event({"choices": [], "timings": {"prompt_n": 9, "predicted_n": 5}}), DONE],
    [event({"choices": [], "usage": {**usage(9, 5), "prompt_tokens_details": None}}), DONE],
])
def test_usage_is_found_wherever_servers_put_it(tail) -> None:
    answer = asked(http_engine(streaming(token("a"), token("b"), *tail)))
    assert (answer.prompt_tokens, answer.output_tokens, answer.num_tokens) == (9, 5, 5)
    times = answer.token_times_s()
    assert len(times) == 5, "tokens that the server counted are dealt to the events"
    assert (times[0], times[-1]) == (answer.events[0].at_s, answer.events[1].at_s)


@pytest.mark.parametrize("odd", [
    {"prompt_tokens": None, "completion_tokens": None}, {"prompt_tokens": "3"}, [1], "usage", None,
    {"prompt_tokens": -1, "completion_tokens": -1}, {"completion_tokens": True}])
def test_odd_usage_is_no_usage(odd) -> None:
    answer = asked(http_engine(streaming(token("a"), token("b", "stop", usage=odd), DONE)))
    assert ended(answer) == ("finished", "ab", 2)
    assert answer.output_tokens is None


def test_a_server_that_counts_nothing_does_not_undo_what_came() -> None:
    answer = asked(http_engine(streaming(token("a"), token("b", "stop", usage=usage(0, 0)), DONE)))
    assert ended(answer) == ("finished", "ab", 2)
    assert len(answer.token_times_s()) == 2


def test_a_running_usage_tells_how_many_tokens_an_event_has() -> None:
    answer = asked(http_engine(streaming(
        token("a b c", usage=usage(2, 3)), token(" d", "length", usage=usage(2, 4)), DONE)))
    first, second = (one.at_s for one in answer.events)
    assert answer.token_times_s().tolist() == [first] * 3 + [second]


@pytest.mark.parametrize("server", [
    lambda: http_engine(whole({"choices": [{"text": "a b", "finish_reason": "stop"}],
                               "usage": usage(2, 2)})),
    lambda: http_engine(whole({"choices": [{"message": {"role": "assistant", "content": "a b"},
                                            "finish_reason": "stop"}], "usage": usage(2, 2)})),
    lambda: http_engine(streaming(orjson.dumps({
        "choices": [{"text": "a b", "finish_reason": "stop"}], "usage": usage(2, 2)}),
        kind="text/plain")),
])
def test_an_answer_in_one_piece_becomes_a_stream_of_one_event(server) -> None:
    answer = asked(server())
    assert ended(answer) == ("finished", "a b", 2)
    assert not answer.streamed
    assert answer.token_times_s().tolist() == [answer.ended_s] * 2


@pytest.mark.parametrize("parts", [
    [token("a"), token("b", "stop")],
    [token("a"), token("b", "stop").rstrip()],
    [token("a"), token("b"), DONE],
    [token("a"), token("b", "stop"), DONE, b"data: what comes after is nobody's\n\n"],
])
def test_ends_that_are_good_enough(parts) -> None:
    assert ended(asked(http_engine(streaming(*parts)))) == ("finished", "ab", 2)


def test_an_end_that_hangs_is_still_the_end() -> None:
    parts = [HEAD, chunk(token("a", "stop") + DONE)]
    answer = asked(raw_engine(parts, stay_open=True), ClientTimeouts(total_s=60.0))
    assert ended(answer) == ("finished", "a", 1)


def test_tokens_without_text_come_with_the_end() -> None:
    answer = asked(http_engine(streaming(token("", "stop", usage=usage(4, 1)), DONE)))
    assert ended(answer) == ("finished", "", 1)
    assert answer.token_times_s().tolist() == [answer.ended_s]


# -- answers that are not ----------------------------------------------------------------------


@pytest.mark.parametrize(("status", "error", "outcome"), [
    (429, {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}, "refused"),
    (429, {"error": {"message": "pay", "code": "insufficient_quota"}}, "out_of_budget"),
    (429, {"error": {"message": "pay", "type": "budget_exceeded"}}, "out_of_budget"),
    (429, {"error": {"message": "spent", "code": "budget_exhausted"}}, "out_of_budget"),
    (402, {"error": "no money"}, "out_of_budget"),
    (503, {"detail": "full"}, "refused"),
    (400, {"error": {"message": "too long", "code": 400}}, "invalid"),
    (404, {"object": "error", "message": "no model"}, "invalid"),
    (302, {}, "invalid"),
    (500, {"error": {"message": "oh"}}, "failed"),
    (502, None, "failed"),
])
def test_statuses(status, error, outcome) -> None:
    answer = asked(http_engine(whole(error, status)))
    assert ended(answer) == (outcome, "", 0)
    assert answer.status == status
    assert answer.reason.startswith(f"status {status}")
    assert answer.ended_s >= answer.sent_s


def test_a_status_with_a_page_for_people() -> None:
    async def page(_):
        return web.Response(status=502, text="<h1>Bad\n gateway</h1>")

    assert asked(http_engine(page)).reason == "status 502: <h1>Bad gateway</h1>"


@pytest.mark.parametrize(("parts", "outcome", "num_tokens"), [
    ([token("a")], "broken", 1),
    ([], "broken", 0),
    ([b"data: {not json}\n\n"], "broken", 0),
    ([token("a"), b"data: [1, 2]\n\n"], "broken", 1),
    ([b"data: \xff\xfe\n\n"], "broken", 0),
    ([DONE], "broken", 0),
    ([token("", "stop"), DONE], "broken", 0),
    ([b"garbage" * 5000], "broken", 0),
    ([b"<html>it works</html>"], "broken", 0),
    ([token("a"), event({"error": {"message": "out of memory", "code": 500}}), DONE], "failed", 1),
    ([token("a"), event({"object": "error", "message": "oh", "code": 400})], "invalid", 1),
    ([token("a"), event({"error": {"message": "x", "code": "budget_exceeded"}})],
     "out_of_budget", 1),
    ([event({"error": "full"})], "failed", 0),
])
def test_streams_that_break(parts, outcome, num_tokens) -> None:
    answer = asked(http_engine(streaming(*parts)))
    assert (answer.outcome, answer.num_tokens) == (outcome, num_tokens)
    assert len(answer.token_times_s()) == num_tokens
    assert answer.reason
    assert "\n" not in answer.reason


@pytest.mark.parametrize("body", [b"[]", b"nothing", b"{}", b'{"choices": []}'])
def test_whole_answers_that_are_none(body) -> None:
    assert asked(http_engine(streaming(body, kind="application/json"))).outcome == "broken"


@pytest.mark.parametrize(("parts", "num_tokens"), [
    ([], 0), ([HEAD], 0), ([HEAD, chunk(token("a"))], 1), ([HEAD, b"zz\r\n"], 0),
    ([HEAD, chunk(token("a")), b"ff\r\ndata: {"], 1), ([b"\x00" * 100], 0),
    ([b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nContent-Type: application/json\r\n\r\n{"], 0),
    ([b"SSH-2.0-OpenSSH_9.2\r\n"], 0),
])
def test_connections_that_break(parts, num_tokens) -> None:
    answer = asked(raw_engine(parts))
    assert (answer.outcome, answer.num_tokens) == ("broken", num_tokens)


@pytest.mark.parametrize(("parts", "num_tokens"), [
    ([], 0), ([HEAD], 0), ([HEAD, chunk(b": ping\n\n")], 0), ([HEAD, chunk(token("a"))], 1)])
def test_servers_that_hang(parts, num_tokens) -> None:
    # Without a token any patience is too short; with one it must be long enough for that.
    patience = ClientTimeouts(total_s=2.0) if num_tokens else ClientTimeouts(first_token_s=0.05)
    answer = asked(raw_engine(parts, stay_open=True), patience)
    assert (answer.outcome, answer.num_tokens) == ("timed_out", num_tokens)


def test_silence_between_tokens_is_bounded() -> None:
    answer = asked(raw_engine([HEAD, chunk(token("a"))], stay_open=True),
                   ClientTimeouts(silence_s=2.0))
    assert (answer.outcome, answer.num_tokens) == ("timed_out", 1)


def test_nobody_listens() -> None:
    assert asked(nobody()).outcome == "unreachable"


def test_who_cancels_a_question_has_what_came_by_then() -> None:
    async def run():
        server = raw_engine([HEAD, chunk(token("a"))], stay_open=True)
        async with server as url, client_session() as session:
            answer = Answer(0.0)
            asking = asyncio.create_task(EngineClient(session, url).ask(BODY, into=answer))
            while not answer.events:
                await asyncio.sleep(0.001)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            return answer

    answer = asyncio.run(run())
    assert (answer.outcome, answer.text) == ("cut_off", "a")
    assert answer.ended_s >= answer.events[0].at_s >= answer.sent_s > 0


# -- what else is asked ------------------------------------------------------------------------


def test_key_headers_and_body_reach_the_server_and_the_clock_is_ours() -> None:
    seen = []

    async def look(request):
        seen.append((request.headers["Authorization"], request.headers["X-Penstock-Class"],
                     await request.json()))
        return await streaming(token("a", "stop"), DONE)(request)

    async def run():
        ticks = count()
        async with http_engine(look) as url, client_session() as session:
            client = EngineClient(session, url, api_key="sk-secret", clock=lambda: next(ticks))
            return await client.ask(streamed(BODY), headers={"X-Penstock-Class": "chat"})

    answer = asyncio.run(run())
    assert seen == [("Bearer sk-secret", "chat", {
        **BODY, "stream": True, "stream_options": {"include_usage": True}})]
    assert answer.sent_s == 0
    assert answer.events[0].at_s > 0
    assert "sk-secret" not in repr(answer)


def test_models_and_metrics() -> None:
    async def run():
        async with http_engine(whole({}), "tiny", "vllm:num_requests_running 1\n") as url, \
                client_session() as session:
            client = EngineClient(session, url)
            return await client.models(), await client.metrics()

    (card,), text = asyncio.run(run())
    assert (card.name, card.context_tokens) == ("tiny", None)
    assert text == b"vllm:num_requests_running 1\n"


@pytest.mark.parametrize("server", [
    nobody, lambda: raw_engine([]), lambda: raw_engine([NO_MODELS])])
def test_what_is_not_there(server) -> None:
    async def run():
        async with server() as url, client_session() as session:
            assert await EngineClient(session, url).metrics() is None
            return await EngineClient(session, url).models()

    with pytest.raises(InputError):
        asyncio.run(run())
