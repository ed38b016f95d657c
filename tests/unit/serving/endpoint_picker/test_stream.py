"""One stream of a gateway, by the endpoint picker protocol."""

import asyncio

import orjson
import pytest

pytest.importorskip("grpc",
                    reason="the extra 'kubernetes' is not installed")

from penstock.serving.endpoint_picker.external_processor import BODY_MODES
from penstock.serving.endpoint_picker.limits import PickerOptions
from penstock.serving.errors import ServiceError
from support.picker_streams import (
    DESTINATION,
    MODEL,
    SmallPool,
    address,
    body_of,
    head_mutation,
    request_body,
    request_head,
    response_body,
    response_head,
    set_headers,
    trailers,
)

ALL = [address(number) for number in range(3)]


def immediate(replies):
    """The only reply, which ends the request: status, error code, dropped reason."""
    (reply,) = replies
    found = reply.immediate_response
    return (found.status.code, orjson.loads(found.body)["error"]["code"],
            set_headers(found.headers).get("x-llm-d-request-dropped-reason"))


def test_the_head_is_answered_after_the_body_and_names_one_endpoint_twice() -> None:
    async def run():
        stream = SmallPool().stream()
        assert await stream.take(request_head()) == []
        body = orjson.dumps({"model": MODEL, "prompt": "x" * 100})
        assert await stream.take(request_body(body[:50], at_end=False)) == []
        head, piece = await stream.take(request_body(body[50:]))
        mutation = head_mutation(head)
        assert mutation[DESTINATION] in ALL
        assert mutation["content-length"] == str(len(body))
        assert mutation["x-request-id"].startswith("dec-")
        assert head.request_headers.response.clear_route_cache
        assert head.dynamic_metadata["envoy.lb"][DESTINATION] == mutation[DESTINATION]
        streamed = piece.request_body.response.body_mutation.streamed_response
        assert (streamed.body, streamed.end_of_stream) == (body, True)

    asyncio.run(run())


def test_a_request_id_of_the_client_stays() -> None:
    async def run():
        _, (head, _) = await SmallPool().asked(headers={"x-request-id": "mine"})
        assert "x-request-id" not in head_mutation(head)

    asyncio.run(run())


def test_a_long_body_goes_on_in_pieces_of_which_only_the_last_ends_it() -> None:
    async def run():
        body = orjson.dumps({"model": MODEL, "prompt": "x" * 150_000})
        _, (_, *replies) = await SmallPool().asked(body)
        streamed = [one.request_body.response.body_mutation.streamed_response for one in replies]
        assert [len(one.body) for one in streamed[:2]] == [62_000, 62_000]
        assert [one.end_of_stream for one in streamed] == [False, False, True]
        assert b"".join(one.body for one in streamed) == body

    asyncio.run(run())


def test_trailers_end_a_body_and_get_an_empty_reply() -> None:
    async def run():
        stream = SmallPool().stream()
        await stream.take(request_head())
        await stream.take(request_body({"model": MODEL, "prompt": "x"}, at_end=False))
        head, piece, last = await stream.take(trailers("request_trailers"))
        assert head_mutation(head)[DESTINATION] in ALL
        assert not piece.request_body.response.body_mutation.streamed_response.end_of_stream
        assert last.WhichOneof("response") == "request_trailers"
        assert not last.request_trailers.header_mutation.set_headers

    asyncio.run(run())


def test_a_request_without_a_body_gets_an_endpoint_at_once() -> None:
    async def run():
        pool = SmallPool()
        (head,) = await pool.stream().take(request_head(at_end=True, path="/v1/models"))
        assert head_mutation(head)[DESTINATION] in ALL
        assert "content-length" not in head_mutation(head)
        assert pool.num_in_flight() == [0, 0, 0]

    asyncio.run(run())


@pytest.mark.parametrize("subset", [ALL[1:2], ALL[1], f"{ALL[1]}, 10.9.9.9:1",
                                    ["10.9.9.9:1", ALL[1]]])
def test_the_choice_is_one_of_the_subset(subset) -> None:
    async def run():
        pool = SmallPool()
        for _ in range(4):
            _, (head, _) = await pool.asked(subset=subset)
            assert head_mutation(head)[DESTINATION] == ALL[1]
        (head,) = await pool.stream().take(request_head(at_end=True, subset=subset))
        assert head_mutation(head)[DESTINATION] == ALL[1]

    asyncio.run(run())


@pytest.mark.parametrize("subset", [[], "", ["10.0.0.1:9"], ["10.0.0.1"], 7.0, {"a": "b"}])
def test_a_subset_without_an_endpoint_of_the_pool_is_503(subset) -> None:
    async def run():
        pool = SmallPool()
        expected = (503, "no_engine", "rejected-no-endpoints")
        assert immediate((await pool.asked(subset=subset))[1]) == expected
        assert immediate(await pool.stream().take(
            request_head(at_end=True, subset=subset))) == expected
        assert pool.num_in_flight() == [0, 0, 0]

    asyncio.run(run())


def test_a_pool_that_was_never_seen_has_no_ready_endpoint() -> None:
    async def run():
        pool = SmallPool(seen=False)
        assert immediate((await pool.asked())[1]) == (503, "no_engine", "rejected-no-endpoints")

    asyncio.run(run())


@pytest.mark.parametrize(("body", "status", "code"), [
    (b"{", 400, "invalid_json"), (b"[1]", 400, "invalid_json"), (b"", 400, "invalid_json"),
    (b"{}", 400, "invalid_value"), (b'{"model": 1}', 400, "invalid_value"),
    (b'{"model": ""}', 400, "invalid_value"),
    (b'{"model": "other", "prompt": "x"}', 404, "model_not_found"),
    (b'{"model": "llama-3-8b", "max_tokens": 0}', 400, "invalid_value")])
def test_a_bad_body_is_one_clear_error(body, status, code) -> None:
    async def run():
        pool = SmallPool()
        stream, replies = await pool.asked(body)
        assert immediate(replies) == (status, code, None)
        assert stream.done
        assert await stream.take(request_body(b"more")) == []
        assert pool.bugs == []
        assert pool.num_in_flight() == [0, 0, 0]

    asyncio.run(run())


def test_a_body_beyond_the_limit_is_413_by_its_stated_length_or_its_own() -> None:
    async def run():
        pool = SmallPool(options=PickerOptions(max_body_bytes=100))
        assert immediate(await pool.stream().take(request_head({"content-length": "101"}))) == (
            413, "body", None)
        stream = pool.stream()
        assert await stream.take(request_head()) == []
        assert await stream.take(request_body(b"x" * 60, at_end=False)) == []
        assert immediate(await stream.take(request_body(b"x" * 60, at_end=False))) == (
            413, "body", None)
        assert pool.guard.load.body_bytes == 0
        assert pool.metric("llm_d_epp_request_error_total", model_name="", target_model_name="",
                           fairness_id="default-flow", priority="0", error_code="413") == 2

    asyncio.run(run())


def test_bodies_are_counted_in_memory_until_they_are_passed_on_or_the_stream_ends() -> None:
    async def run():
        pool = SmallPool()
        stream = pool.stream()
        await stream.take(request_head())
        await stream.take(request_body(b"x" * 60, at_end=False))
        assert pool.guard.load.body_bytes == 60
        stream.close()
        assert pool.guard.load.body_bytes == 0
        await pool.asked()
        assert pool.guard.load.body_bytes == 0

    asyncio.run(run())


def test_a_new_stream_can_be_refused() -> None:
    async def run():
        pool = SmallPool()
        pool.refusal = ServiceError(429, "too many", "overloaded", headers={"Retry-After": "1"})
        (reply,) = await pool.stream().take(request_head())
        assert immediate([reply]) == (429, "overloaded", "rejected-saturated")
        assert set_headers(reply.immediate_response.headers)["retry-after"] == "1"

    asyncio.run(run())


def test_another_body_mode_is_told_at_once() -> None:
    async def run():
        message = request_head()
        message.protocol_config.request_body_mode = 2
        stream = SmallPool().stream()
        (reply,) = await stream.take(message)
        assert reply.immediate_response.status.code == 500
        assert b"BUFFERED; an endpoint picker needs FULL_DUPLEX_STREAMED" in \
            reply.immediate_response.body

    asyncio.run(run())


def test_the_right_body_modes_are_taken() -> None:
    async def run():
        message = request_head()
        full = next(number for number, name in BODY_MODES.items()
                    if name == "FULL_DUPLEX_STREAMED")
        message.protocol_config.request_body_mode = full
        message.protocol_config.response_body_mode = full
        assert await SmallPool().stream().take(message) == []

    asyncio.run(run())


@pytest.mark.parametrize("message", [request_body(b"{}"), trailers("request_trailers"),
                                     response_head()])
def test_messages_out_of_order_end_the_stream(message) -> None:
    async def run():
        pool = SmallPool()
        assert immediate(await pool.stream().take(message)) == (500, "protocol", None)
        assert pool.bugs == []

    asyncio.run(run())


def test_a_bug_is_told_to_the_operator_and_not_to_the_client(monkeypatch) -> None:
    async def run():
        pool = SmallPool()
        monkeypatch.setattr(pool.books.picker.forecasts, "request", None)
        assert immediate((await pool.asked())[1]) == (500, "bug", None)
        assert "TypeError" in pool.bugs[0]

    asyncio.run(run())


def test_the_options_of_penstock_never_reach_an_engine() -> None:
    async def run():
        body = {"model": MODEL, "prompt": "x", "penstock": {"service_class": "batch"}}
        stream, (head, *rest) = await SmallPool().asked(body)
        passed = body_of(rest, "request_body")
        assert orjson.loads(passed) == {"model": MODEL, "prompt": "x"}
        assert head_mutation(head)["content-length"] == str(len(passed))
        assert stream.account.pick.wish.ask.service_class.name == "batch"

    asyncio.run(run())


@pytest.mark.parametrize("header", ["x-llm-d-model-name-rewrite", "x-gateway-model-name-rewrite"])
def test_a_rewritten_model_name_is_undone_in_the_answer(header) -> None:
    async def run():
        pool = SmallPool(served_as="meta/llama")
        stream, (_, *rest) = await pool.asked({"model": "mine", "prompt": "x"},
                                              headers={header: MODEL})
        assert orjson.loads(body_of(rest, "request_body"))["model"] == "meta/llama"
        (head,) = await stream.take(response_head(content_length="99"))
        assert head.response_headers.response.header_mutation.remove_headers == ["content-length"]
        answer = orjson.dumps({"model": "meta/llama", "choices": [{"text": "hi"}],
                               "usage": {"prompt_tokens": 3, "completion_tokens": 1}})
        assert await stream.take(response_body(answer[:20], at_end=False)) == []
        replies = await stream.take(response_body(answer[20:]))
        assert orjson.loads(body_of(replies, "response_body"))["model"] == "mine"

    asyncio.run(run())


def test_a_rewritten_model_name_is_undone_in_every_event() -> None:
    async def run():
        pool = SmallPool(served_as="meta/llama")
        stream, _ = await pool.asked({"model": MODEL, "prompt": "x", "stream": True})
        await stream.take(response_head(kind="text/event-stream"))
        event = (b'data: {"model":"meta/llama","choices":[{"index":0,"text":'
                 b'"say \\"model\\":\\"meta/llama\\"","finish_reason":null}]}\n\n')
        replies = await stream.take(response_body(event[:30], at_end=False))
        replies += await stream.take(response_body(event[30:] + event, at_end=False))
        replies += await stream.take(response_body(b"data: [DONE]\n\n"))
        expected = event.replace(b'"model":"meta/llama"', b'"model":"llama-3-8b"', 1)
        assert body_of(replies, "response_body") == expected * 2 + b"data: [DONE]\n\n"
        assert replies[-1].response_body.response.body_mutation.streamed_response.end_of_stream

    asyncio.run(run())


def test_response_trailers_get_an_empty_reply_and_end_the_request() -> None:
    async def run():
        pool = SmallPool()
        stream, _ = await pool.asked()
        await stream.take(response_head())
        await stream.take(response_body({"choices": []}, at_end=False))
        assert sum(pool.num_in_flight()) == 1
        (reply,) = await stream.take(trailers("response_trailers"))
        assert reply.WhichOneof("response") == "response_trailers"
        assert pool.num_in_flight() == [0, 0, 0]

    asyncio.run(run())


def test_the_answer_names_its_decision() -> None:
    async def run():
        pool = SmallPool()
        stream, _ = await pool.asked()
        (head,) = await stream.take(response_head(at_end=True))
        headers = set_headers(head.response_headers.response.header_mutation)
        assert pool.books.picker.chooser.find(headers["x-penstock-decision"]) is not None
        assert "x-conformance-test-served-endpoint" not in headers

    asyncio.run(run())


def test_who_leaves_the_choice_of_the_model_learns_which_it_was() -> None:
    async def run():
        pool = SmallPool(served_as="meta/llama")
        stream, (_, *rest) = await pool.asked({"model": "auto", "prompt": "x"})
        assert orjson.loads(body_of(rest, "request_body"))["model"] == "meta/llama"
        await stream.take(response_head())
        replies = await stream.take(response_body({"model": "meta/llama", "choices": []}))
        assert orjson.loads(body_of(replies, "response_body"))["model"] == "meta/llama"

    asyncio.run(run())
