"""Which endpoints a picker names, and which requests it sheds."""

import asyncio
from dataclasses import replace

import pytest

pytest.importorskip("grpc",
                    reason="the extra 'kubernetes' is not installed")

from penstock.core.errors import InputError
from penstock.engines.client.metrics_text import EngineLoad
from penstock.serving.endpoint_picker.addresses import address_of, ip_of
from penstock.serving.endpoint_picker.limits import PickerOptions
from penstock.serving.endpoint_picker.saturation import SaturationLimits, saturation
from support.picker_streams import (
    DESTINATION,
    SmallPool,
    address,
    head_mutation,
    request_head,
    response_head,
    set_headers,
)

REASON = "x-llm-d-request-dropped-reason"


def status_of(replies):
    return replies[0].immediate_response.status.code


async def chosen(pool, **more):
    _, (head, *_) = await pool.asked(**more)
    return head_mutation(head)[DESTINATION]


@pytest.mark.parametrize(("url", "expected"), [
    ("http://10.0.0.1:8000", "10.0.0.1:8000"), ("http://10.0.0.1", "10.0.0.1:80"),
    ("https://10.0.0.1", "10.0.0.1:443"), ("http://[fd00::1]:8000", "[fd00::1]:8000")])
def test_an_address_is_written_as_the_protocol_wants_it(url, expected) -> None:
    assert address_of(url) == expected
    assert ip_of(expected) == url.split("//")[1].rsplit(":8000")[0].strip("[]")


@pytest.mark.parametrize(("url", "said"), [
    ("http://engine:8000", "expected an IP address"), ("http://10.0.0.1:8000/a", "add a path")])
def test_an_endpoint_that_the_protocol_cannot_name_is_an_error(url, said) -> None:
    with pytest.raises(InputError, match=said):
        address_of(url)


def test_the_routing_policy_chooses() -> None:
    async def run():
        pool = SmallPool()
        pool.engines[0].observe(EngineLoad(9, 4, 0.5), pool.now_s)
        pool.engines[2].observe(EngineLoad(9, 4, 0.5), pool.now_s)
        assert await chosen(pool) == address(1)

    asyncio.run(run())


def test_concurrent_requests_spread_by_the_pickers_own_account() -> None:
    async def run():
        pool = SmallPool()
        for _ in range(9):
            await pool.asked()
        assert pool.num_in_flight() == [3, 3, 3]

    asyncio.run(run())


def test_fallbacks_follow_the_choice_the_least_busy_first_within_the_pool() -> None:
    async def run():
        pool = SmallPool(count=4, options=PickerOptions(num_fallbacks=2))
        for number, running in enumerate((5, 0, 9, 1)):
            pool.engines[number].observe(EngineLoad(running, 0, 0.0), pool.now_s)
        assert await chosen(pool) == f"{address(1)},{address(3)},{address(0)}"
        assert await chosen(pool, subset=[address(2), address(1)]) in (
            f"{address(1)},{address(2)}", f"{address(2)},{address(1)}")
        pool.engines[0].lost()
        assert address(0) not in await chosen(pool)

    asyncio.run(run())


def test_no_fallback_serves_another_model_or_class() -> None:
    async def run():
        pool = SmallPool(count=3, options=PickerOptions(num_fallbacks=5))
        pool.engines[1].facts = replace(pool.engines[1].facts, served_as="another name")
        pool.engines[2].facts = replace(pool.engines[2].facts,
                                        service_classes=frozenset({"batch"}))
        assert await chosen(pool, subset=[address(0), address(2)]) == address(0)

    asyncio.run(run())


# -- classes and priorities ---------------------------------------------------------------------


@pytest.mark.parametrize(("headers", "name", "priority"), [
    ({}, "chat", 0), ({"x-llm-d-inference-objective": "chat"}, "chat", 0),
    ({"x-llm-d-inference-objective": "batch"}, "batch", -2),
    ({"x-gateway-inference-objective": "batch"}, "batch", -2),
    ({"x-gateway-inference-objective": "batch", "x-llm-d-inference-objective": "chat"}, "chat", 0),
    ({"x-llm-d-inference-objective": "nobody-knows"}, "chat", 0),
    ({"x-penstock-class": "batch"}, "batch", -2),
    ({"x-penstock-class": "chat", "x-llm-d-inference-objective": "batch"}, "chat", 0)])
def test_an_objective_names_a_service_class(headers, name, priority) -> None:
    async def run():
        stream, _ = await SmallPool().asked(headers=headers)
        wish = stream.account.pick.wish
        assert (wish.ask.service_class.name, wish.priority) == (name, priority)

    asyncio.run(run())


@pytest.mark.parametrize(("headers", "ttft_s", "itl_s", "itl"), [
    ({}, 2.0, 0.05, "paced"), ({"x-llm-d-slo-ttft-ms": "150"}, 0.15, 0.05, "paced"),
    ({"x-slo-tpot-ms": "20.5"}, 2.0, 0.0205, "mean"),
    ({"x-llm-d-slo-ttft-ms": "3000", "x-slo-ttft-ms": "1"}, 3.0, 0.05, "paced")])
def test_slo_headers_replace_the_targets_of_the_class(headers, ttft_s, itl_s, itl) -> None:
    async def run():
        stream, _ = await SmallPool().asked(headers=headers)
        slo = stream.account.pick.request.service_class.slo
        assert (slo.ttft_s, slo.itl_s, slo.itl) == (ttft_s, pytest.approx(itl_s), itl)

    asyncio.run(run())


@pytest.mark.parametrize("value", ["soon", "0", "-1", "nan", "inf", "1e99"])
def test_an_slo_that_is_no_time_is_400(value) -> None:
    async def run():
        _, replies = await SmallPool().asked(headers={"x-llm-d-slo-ttft-ms": value})
        assert status_of(replies) == 400
        assert b"x-llm-d-slo-ttft-ms: expected milliseconds" in replies[0].immediate_response.body

    asyncio.run(run())


def test_a_saturated_pool_sheds_negative_priorities_alone() -> None:
    async def run():
        pool = SmallPool()
        batch = {"x-llm-d-inference-objective": "batch"}
        for engine in pool.engines:
            engine.observe(EngineLoad(9, 5, 0.1), pool.now_s)
        _, replies = await pool.asked(headers=batch)
        assert status_of(replies) == 429
        headers = set_headers(replies[0].immediate_response.headers)
        assert (headers[REASON], headers["retry-after"]) == ("rejected-saturated", "1")
        assert await chosen(pool)
        assert pool.num_in_flight() in ([1, 0, 0], [0, 1, 0], [0, 0, 1])
        pool.engines[1].observe(EngineLoad(9, 4, 0.1), pool.now_s)
        assert await chosen(pool, headers=batch)
        _, replies = await pool.asked(headers=batch, subset=[address(0)])
        assert status_of(replies) == 429  # the subset alone counts

    asyncio.run(run())


def test_saturation_is_the_worse_of_queue_and_cache_and_unknown_is_full() -> None:
    pool, limits = SmallPool(count=4), SaturationLimits()
    one, two, three, four = pool.engines
    one.observe(EngineLoad(1, 1, 0.4), pool.now_s)     # 0.5 by its cache
    two.observe(EngineLoad(1, 10, 0.0), pool.now_s)    # 2 by its queue
    three.lost()                                       # 1
    four.observe(EngineLoad(), pool.now_s - 3.0)       # 1: too old
    assert saturation(pool.engines, limits, pool.now_s) == pytest.approx(4.5 / 4)
    assert saturation([], limits, pool.now_s) == 1.0


# -- conformance --------------------------------------------------------------------------------


SELECT = "test-epp-endpoint-selection"


def test_a_selection_means_nothing_outside_of_conformance_tests() -> None:
    async def run():
        pool = SmallPool()
        pool.engines[1].observe(EngineLoad(50, 50, 1.0), pool.now_s)
        assert await chosen(pool, headers={SELECT: address(1)}) != address(1)

    asyncio.run(run())


def test_a_conformance_test_names_its_endpoints_in_turns() -> None:
    async def run():
        pool = SmallPool(options=PickerOptions(conformance=True))
        names = f"{address(2)},{address(0).partition(':')[0]}, 10.9.9.9"
        body = b"no JSON: the echo servers take anything"
        got = [await chosen(pool, body=body, headers={SELECT: names}) for _ in range(4)]
        assert got == [address(2), address(0)] * 2
        (head,) = await pool.stream().take(request_head({SELECT: address(1)}, at_end=True))
        assert head_mutation(head)[DESTINATION] == address(1)
        assert head_mutation(head)["x-echo-set-header"].endswith(address(1))

    asyncio.run(run())


def test_a_selection_of_none_of_the_pool_is_429() -> None:
    async def run():
        pool = SmallPool(options=PickerOptions(conformance=True))
        _, replies = await pool.asked(headers={SELECT: "256.256.256.256"})
        assert status_of(replies) == 429

    asyncio.run(run())


@pytest.mark.parametrize(("served", "expected"), [
    (address(1), address(1)), (None, "fail: the gateway does not tell")])
def test_the_served_endpoint_is_echoed(served, expected) -> None:
    async def run():
        pool = SmallPool(options=PickerOptions(conformance=True))
        stream, _ = await pool.asked(headers={SELECT: address(1)})
        (head,) = await stream.take(response_head(served=served))
        found = set_headers(head.response_headers.response.header_mutation)
        assert found["x-conformance-test-served-endpoint"] == expected
        assert found["x-conformance-test-selected-endpoint"] == address(1)

    asyncio.run(run())
