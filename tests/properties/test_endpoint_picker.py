"""Whatever gateways say, in whatever order, no engine keeps a request that has ended."""

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("grpc",
                    reason="the extra 'kubernetes' is not installed")

from penstock.core.snapshot import ReplicaSnapshot
from penstock.engines.client.metrics_text import EngineLoad
from penstock.fleet.replica_factory import dispatch_of
from penstock.serving.endpoint_picker.limits import PickerOptions
from support.fake_http_engines import DONE, token, usage
from support.picker_streams import (
    MODEL,
    SmallPool,
    address,
    body_of,
    head_mutation,
    request_body,
    request_head,
    response_body,
    response_head,
    trailers,
)

PIECES = [b"", b"{", b"}", token("a"), DONE, b'{"usage": {"completion_tokens": 3}}', b"\xff",
          b'data: {"choices": [{"delta": 7}]}\n\n', b"x" * 70_000]
BODIES = [{"model": MODEL, "prompt": "x"}, {"model": MODEL, "prompt": [1, 2], "stream": True},
          {"model": "other"}, {}, b"{", b""]
ONE_MESSAGE = st.one_of(
    st.builds(request_head, at_end=st.booleans(), subset=st.sampled_from(
        [None, [], [address(0)], [address(1), "x"], "", 3.0])),
    st.builds(request_body, st.sampled_from(BODIES), at_end=st.booleans()),
    st.builds(trailers, st.sampled_from(["request_trailers", "response_trailers"])),
    st.builds(response_head, st.sampled_from([200, 429, 500, 503]),
              st.sampled_from(["application/json", "text/event-stream"]),
              st.sampled_from([None, address(1), address(2), "10.9.9.9:1"]), at_end=st.booleans()),
    st.builds(response_body, st.sampled_from(PIECES), at_end=st.booleans()))


def counts(pool) -> list[object]:
    return [(one.in_flight, one.ledger.num_waiting, one.ledger.queued_prompt_tokens,
             one.ledger.held_tokens, one.ledger.pending_output_tokens) for one in pool.engines]


IDLE = [({}, 0, 0, 0, 0.0)] * 3


@given(st.lists(ONE_MESSAGE, max_size=12))
def test_any_messages_in_any_order_leave_no_request_behind(said) -> None:
    async def run():
        pool = SmallPool(options=PickerOptions(num_fallbacks=1, conformance=True))
        stream = pool.stream()
        for message in said:
            await stream.take(message)
            assert sum(pool.num_in_flight()) <= 1
        stream.close()
        stream.close()
        assert counts(pool) == IDLE
        assert pool.guard.load.body_bytes == 0
        assert pool.bugs == []

    asyncio.run(run())


@given(st.lists(st.integers(0, 400), max_size=6), st.booleans(), st.booleans())
def test_an_answer_passes_unchanged_however_it_is_cut(cuts, streamed, renamed) -> None:
    """Cut anywhere, the bytes that pass are the engine's, but for the model's name."""
    name = "theirs" if renamed else MODEL
    event = b'data: {"model":"%b","choices":[{"index":0,"text":"a b","finish_reason":null}]}\n\n'
    whole = b'{"model":"%b","choices":[{"text":"a b"}],"usage":{"prompt_tokens":1,' \
            b'"completion_tokens":2}}'
    template = event * 3 + DONE if streamed else whole
    names = (name.encode(),) * (3 if streamed else 1)
    answer, expected = template % names, template % ((MODEL.encode(),) * len(names))

    async def run():
        pool = SmallPool(served_as=name)
        stream, _ = await pool.asked({"model": MODEL, "prompt": "x", "stream": streamed})
        await stream.take(response_head(kind="text/event-stream" if streamed
                                        else "application/json"))
        replies = []
        places = [0, *sorted(min(cut, len(answer)) for cut in cuts), len(answer)]
        for start, end in pairwise(places):
            replies += await stream.take(response_body(answer[start:end], at_end=False))
        replies += await stream.take(response_body(b""))
        assert body_of(replies, "response_body") == expected
        assert replies[-1].response_body.response.body_mutation.streamed_response.end_of_stream
        assert counts(pool) == IDLE
        assert sum(one.num_served for one in pool.engines) == 1

    asyncio.run(run())


@given(st.lists(st.sampled_from([0, 1, 2]), max_size=4, unique=True))
def test_the_choice_and_its_fallbacks_are_of_the_subset(numbers) -> None:
    async def run():
        pool = SmallPool(options=PickerOptions(num_fallbacks=2))
        subset = [address(number) for number in numbers]
        _, replies = await pool.asked(subset=subset)
        if not subset:
            assert replies[0].immediate_response.status.code == 503
            return
        named = head_mutation(replies[0])["x-gateway-destination-endpoint"].split(",")
        assert sorted(named) == sorted(subset)

    asyncio.run(run())


ROUTES = ["least_loaded", "prefix_aware", "round_robin", "shortest_queue", "free_kv"]
STEPS = st.lists(st.one_of(
    st.tuples(st.just("ask"), st.integers(0, 3), st.integers(1, 40)),
    st.tuples(st.just("advance"), st.integers(0, 9), st.integers(1, 5)),
    st.tuples(st.just("end"), st.integers(0, 9)),
    st.tuples(st.just("observe"), st.integers(0, 3), st.integers(0, 6), st.integers(0, 6),
              st.sampled_from([0.0, 0.3, 0.9]))), max_size=25)


@given(st.sampled_from(ROUTES), STEPS)
def test_choices_are_those_of_the_router_in_simulation(route, steps) -> None:
    """A second router, made as for simulations, gets states that are counted anew each time."""
    def expected(router, pool, request) -> int:
        seen = []
        for engine in pool.engines:
            waiting = [one for one in engine.in_flight.values() if not one.output_tokens]
            answering = [one for one in engine.in_flight.values() if one.output_tokens]
            load = engine.load
            seen.append(ReplicaSnapshot(
                engine.facts.replica_id, MODEL, pool.now_s,
                max(len(waiting), load.num_waiting), max(len(answering), load.num_running),
                sum(one.prompt_tokens for one in waiting),
                max(sum(one.prompt_tokens + one.output_tokens for one in answering),
                    int(load.kv_used_share * 100_000)), 100_000,
                pending_output_tokens=sum(one.pending_output_tokens
                                          for one in engine.in_flight.values())))
        return router.route(request, seen, pool.now_s).replica_id

    async def run() -> None:
        policies = {"policies": {"schedule": "penstock", "route": route}}
        fleet = SmallPool(4, **policies).fleet
        pool = SmallPool(4, router=dispatch_of(fleet, lambda _: 0, lambda _: 0.0), **policies)
        router = dispatch_of(fleet, lambda _: 0, lambda _: 0.0)
        open_ones = []
        for what, *numbers in steps:
            if what == "ask":
                topic, kilobytes = numbers
                before = [dict(one.in_flight) for one in pool.engines]
                stream, _ = await pool.asked({"model": MODEL, "max_tokens": 8, "prompt":
                                              f"{topic}" * 4096 + "x" * 1024 * kilobytes})
                pick = stream.account.pick
                after = pick.engine.in_flight[pick.number]
                chosen = pick.engine.facts.replica_id
                pick.engine.end(pick.number)  # as it was before the choice
                assert [dict(one.in_flight) for one in pool.engines] == before
                assert chosen == expected(router, pool, pick.request)
                pick.engine.begin(pick.number, after)
                open_ones.append((pick, after))
            elif what == "observe":
                number, running, waiting, share = numbers
                pool.engines[number].observe(EngineLoad(running, waiting, share), pool.now_s)
            elif open_ones:
                pick, one = open_ones[numbers[0] % len(open_ones)]
                if what == "advance":
                    pick.engine.ledger.advance(one, one.output_tokens + numbers[1])
                else:
                    pick.engine.end(pick.number)
                    open_ones.remove((pick, one))

    asyncio.run(run())


def test_usage_is_read_from_the_last_event() -> None:
    async def run():
        pool = SmallPool()
        stream, _ = await pool.asked({"model": MODEL, "prompt": "x", "stream": True})
        await stream.take(response_head(kind="text/event-stream"))
        last = token("b", "stop", usage=usage(5, 9))
        await stream.take(response_body(token("a") + last + DONE))
        outcome = stream.account.pick.decision.outcome
        assert (outcome["prompt_tokens"], outcome["output_tokens"]) == (5, 9)

    asyncio.run(run())
