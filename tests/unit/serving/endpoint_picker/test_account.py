"""The load and the outcomes that an endpoint picker accounts, by what gateways tell."""

import asyncio

import orjson
import pytest

pytest.importorskip("grpc",
                    reason="the extra 'kubernetes' is not installed")

from penstock.policy.route.simple import LeastLoaded
from support.fake_http_engines import DONE, token, usage
from support.picker_streams import (
    MODEL,
    SmallPool,
    address,
    head_mutation,
    request_head,
    response_body,
    response_head,
)

LABELS = {"model_name": MODEL, "target_model_name": MODEL, "fairness_id": "default-flow",
          "priority": "0"}
WHOLE = {"choices": [{"text": "hi", "finish_reason": "stop"}],
         "usage": usage(7, 2) | {"prompt_tokens_details": {"cached_tokens": 4}}}


class Learning(LeastLoaded):
    """A router that keeps what it is told."""

    learns = True

    def __init__(self):
        self.departures = []

    def ended(self, departure):
        self.departures.append(departure)


def outcome(pool, stream):
    return pool.books.picker.chooser.find(stream.account.pick.decision.decision_id).outcome


def test_a_request_counts_from_the_choice_to_the_end_of_its_answer_once() -> None:
    async def run():
        router = Learning()
        pool = SmallPool(router=router)
        stream, _ = await pool.asked()
        assert sum(pool.num_in_flight()) == 1
        assert pool.metric("llm_d_epp_request_running", **LABELS) == 1
        await stream.take(response_head())
        pool.now_s += 2.0
        await stream.take(response_body(WHOLE))
        assert pool.num_in_flight() == [0, 0, 0]
        stream.close()
        stream.close()
        assert outcome(pool, stream)["outcome"] == "finished"
        assert (outcome(pool, stream)["prompt_tokens"],
                outcome(pool, stream)["output_tokens"]) == (7, 2)
        (departure,) = router.departures
        assert departure.finished
        assert departure.output_tokens == 2
        assert departure.e2e_s == 2.0
        assert sum(one.num_served for one in pool.engines) == 1
        for name, value in (("request_total", 1), ("request_running", 0),
                            ("request_input_tokens_sum", 7), ("request_output_tokens_sum", 2),
                            ("request_cached_tokens_sum", 4), ("request_duration_seconds_sum", 2),
                            ("request_ntpot_seconds_sum", 1), ("request_ttft_seconds_count", 0)):
            assert pool.metric(f"llm_d_epp_{name}", **LABELS) == value

    asyncio.run(run())


def test_tokens_of_a_stream_move_load_from_the_queue_to_the_cache() -> None:
    async def run():
        pool = SmallPool(count=1)
        stream, _ = await pool.asked({"model": MODEL, "prompt": [1] * 50, "stream": True})
        (engine,) = pool.engines
        assert engine.ledger.queued_prompt_tokens == 50
        await stream.take(response_head(kind="text/event-stream; charset=utf-8"))
        pool.now_s += 0.5
        await stream.take(response_body(token("a") + token("b"), at_end=False))
        assert (engine.ledger.queued_prompt_tokens, engine.ledger.held_tokens) == (0, 52)
        pool.now_s += 1.0
        last = orjson.dumps({"choices": [], "usage": usage(50, 3)})
        await stream.take(response_body(token("c", "length") + b"data: " + last + b"\n\n" + DONE))
        assert engine.ledger.held_tokens == 0
        assert outcome(pool, stream) == {
            "outcome": "finished", "e2e_s": 1.5, "ttft_s": 0.5, "met_targets": True,
            "prompt_tokens": 50, "output_tokens": 3}
        assert pool.metric("llm_d_epp_request_streaming_tpot_seconds_sum", **LABELS) == 0.5

    asyncio.run(run())


@pytest.mark.parametrize("moment", ["before the answer", "in the answer"])
def test_a_client_that_leaves_is_no_fault_of_the_engine(moment) -> None:
    async def run():
        router = Learning()
        pool = SmallPool(router=router)
        stream, _ = await pool.asked({"model": MODEL, "prompt": "x", "stream": True})
        if moment == "in the answer":
            await stream.take(response_head(kind="text/event-stream"))
            await stream.take(response_body(token("a"), at_end=False))
        stream.close()
        assert pool.num_in_flight() == [0, 0, 0]
        assert outcome(pool, stream)["outcome"] == "cancelled"
        assert [one.finished for one in router.departures] == [False]
        assert sum(one.num_failed for one in pool.engines) == 0
        assert pool.metric("penstock:endpoint_picker_cancelled_total") == 1
        assert await stream.take(response_body(b"late")) == []

    asyncio.run(run())


def test_a_client_that_leaves_before_the_choice_costs_nothing() -> None:
    async def run():
        pool = SmallPool()
        stream = pool.stream()
        await stream.take(request_head())
        stream.close()
        assert stream.account is None
        assert pool.num_in_flight() == [0, 0, 0]

    asyncio.run(run())


@pytest.mark.parametrize(("status", "expected", "num_failed", "num_served"), [
    (503, "failed", 1, 0), (502, "failed", 1, 0), (500, "failed", 1, 0),
    (429, "refused", 0, 0), (400, "refused", 0, 1)])
def test_an_engine_that_fails_after_the_choice_is_blamed(status, expected, num_failed,
                                                         num_served) -> None:
    async def run():
        pool = SmallPool(count=1)
        stream, _ = await pool.asked()
        await stream.take(response_head(status, "text/plain"))
        (reply,) = await stream.take(response_body(b"no healthy upstream"))
        passed = reply.response_body.response.body_mutation.streamed_response
        assert (passed.body, passed.end_of_stream) == (b"no healthy upstream", True)
        (engine,) = pool.engines
        assert (engine.num_failed, engine.num_served) == (num_failed, num_served)
        assert outcome(pool, stream)["outcome"] == expected
        assert pool.metric("llm_d_epp_request_error_total", **LABELS,
                           error_code=str(status)) == 1

    asyncio.run(run())


def test_an_engine_that_fails_again_and_again_is_avoided() -> None:
    async def run():
        pool = SmallPool(count=2)
        broken = pool.engines[0]
        for _ in range(40):
            stream, (head, _) = await pool.asked()
            bad = head_mutation(head)["x-gateway-destination-endpoint"] == address(0)
            await stream.take(response_head(503 if bad else 200, at_end=bad))
            if not bad:
                await stream.take(response_body(WHOLE))
        assert 0 < broken.num_failed < 20
        assert broken.unavailable(pool.now_s) is not None

    asyncio.run(run())


def test_load_moves_to_the_endpoint_that_has_served() -> None:
    async def run():
        router = Learning()
        pool = SmallPool(router=router)
        stream, (head, _) = await pool.asked()
        chosen = head_mutation(head)["x-gateway-destination-endpoint"]
        other = next(n for n in range(3) if address(n) != chosen)
        await stream.take(response_head(served=address(other)))
        assert pool.num_in_flight() == [int(n == other) for n in range(3)]
        await stream.take(response_body(WHOLE))
        assert pool.num_in_flight() == [0, 0, 0]
        assert [one.num_served for one in pool.engines] == [int(n == other) for n in range(3)]
        assert [one.replica_id for one in router.departures] == [other]

    asyncio.run(run())


@pytest.mark.parametrize("served", [None, "10.9.9.9:1", "the chosen one"])
def test_load_stays_where_the_served_endpoint_is_unknown_or_the_chosen_one(served) -> None:
    async def run():
        pool = SmallPool(count=1)
        stream, _ = await pool.asked()
        await stream.take(response_head(
            served=address(0) if served == "the chosen one" else served))
        assert pool.num_in_flight() == [1]
        await stream.take(response_body(WHOLE))
        assert pool.engines[0].num_served == 1

    asyncio.run(run())


def test_a_packed_answer_passes_unread() -> None:
    async def run():
        pool = SmallPool(served_as="meta/llama")
        stream, _ = await pool.asked({"model": MODEL, "prompt": "x"})
        (head,) = await stream.take(response_head(content_encoding="gzip"))
        assert not head.response_headers.response.header_mutation.remove_headers
        (reply,) = await stream.take(response_body(b"\x1f\x8b..."))
        assert reply.response_body.response.body_mutation.streamed_response.body == b"\x1f\x8b..."
        assert outcome(pool, stream)["output_tokens"] == 0

    asyncio.run(run())


def test_an_error_within_a_stream_is_a_failure() -> None:
    async def run():
        pool = SmallPool(count=1)
        stream, _ = await pool.asked({"model": MODEL, "prompt": "x", "stream": True})
        await stream.take(response_head(kind="text/event-stream"))
        await stream.take(response_body(token("a") + b'data: {"error": {"message": "oom"}}\n\n'))
        assert outcome(pool, stream)["outcome"] == "broken"
        assert pool.engines[0].num_failed == 1

    asyncio.run(run())


@pytest.mark.parametrize("body", [b"not json", b"[]", b'"x"', b'{"usage": {"completion_tokens": '
                                                              b'"many"}, "choices": 3}',
                                  b'{"usage": {"completion_tokens": -5}, "choices": []}'])
def test_an_answer_of_another_form_passes_and_counts_no_tokens(body) -> None:
    async def run():
        pool = SmallPool()
        stream, _ = await pool.asked()
        await stream.take(response_head())
        (reply,) = await stream.take(response_body(body))
        assert reply.response_body.response.body_mutation.streamed_response.body == body
        assert outcome(pool, stream)["output_tokens"] == 0
        assert pool.bugs == []

    asyncio.run(run())


def test_a_stream_that_is_no_event_stream_passes_byte_by_byte() -> None:
    async def run():
        pool = SmallPool()
        stream, _ = await pool.asked({"model": MODEL, "prompt": "x", "stream": True})
        await stream.take(response_head(kind="text/event-stream"))
        for byte in (b"data: {]\n\n", b"\xff\xfe", b"data: 7\n\n"):
            (reply,) = await stream.take(response_body(byte, at_end=False))
            assert reply.response_body.response.body_mutation.streamed_response.body == byte
        assert pool.bugs == []

    asyncio.run(run())


def test_flows_beyond_the_limit_share_one_series(monkeypatch) -> None:
    async def run():
        monkeypatch.setattr("penstock.serving.endpoint_picker.metrics.MOST_FLOWS", 2)
        pool = SmallPool()
        for name in ("a", "b", "c", "d"):
            stream, _ = await pool.asked(headers={"x-llm-d-inference-fairness-id": name})
            stream.close()
        totals = [pool.metric("llm_d_epp_request_total", **LABELS | {"fairness_id": name})
                  for name in ("a", "b", "c", "other")]
        assert totals == [1, 1, None, 2]

    asyncio.run(run())
