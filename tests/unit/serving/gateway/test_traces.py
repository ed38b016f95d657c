"""What is told of a request to OpenTelemetry, and what engines hear of the client's trace."""

import asyncio
import sys
from contextlib import AsyncExitStack

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

import aiohttp

from penstock.core.errors import InputError
from penstock.serving.gateway.traces import NoTracing, OtelTracing, otlp_tracing
from support import misbehaving_engines as odd

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def exporter():
    pytest.importorskip("opentelemetry.sdk", reason="the extra 'otel' is not installed")
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    return InMemorySpanExporter()


@pytest.fixture
def tracing(exporter):
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return OtelTracing(provider.get_tracer("test"))


def asked(handlers, tracing, **headers):
    """Status of one streamed request through a gateway, and the headers that engines got."""
    heard = []

    def listening(handler):
        async def one(request):
            heard.append(dict(request.headers))
            return await handler(request)
        return one

    async def run():
        async with AsyncExitStack() as stack:
            urls = [await stack.enter_async_context(odd.engine(listening(one)))
                    for one in handlers]
            url, _ = await stack.enter_async_context(odd.gateway(urls, tracing=tracing))
            session = await stack.enter_async_context(aiohttp.ClientSession(url))
            async with session.post("/v1/completions", headers=headers, json={
                    "prompt": "x", "stream": True, "max_tokens": 5}) as answer:
                await answer.read()
                return answer.status

    return asyncio.run(run()), heard


def test_a_request_its_choices_and_its_attempts_are_spans_of_the_clients_trace(
        exporter, tracing) -> None:
    status, heard = asked([odd.internal, odd.well], tracing, traceparent=PARENT)
    assert status == 200
    spans = exporter.get_finished_spans()
    assert [span.name for span in spans] == ["choose", "attempt", "choose", "attempt", "request"]
    request = spans[-1]
    assert {format(span.context.trace_id, "032x") for span in spans} == {PARENT[3:35]}
    assert format(request.parent.span_id, "016x") == PARENT[36:52]
    assert {span.parent.span_id for span in spans[:-1]} == {request.context.span_id}
    failed, good = spans[1], spans[3]
    assert (failed.attributes["penstock.outcome"], good.attributes["penstock.outcome"]) == (
        "answered 500", "answered 200")
    assert (failed.status.is_ok, good.status.is_ok) == (False, True)
    assert "penstock.term.load" in spans[0].attributes
    assert request.attributes["penstock.outcome"] == "finished"
    assert request.attributes["gen_ai.usage.output_tokens"] == 5
    assert request.attributes["penstock.met_targets"] is True
    assert [one["traceparent"].split("-")[2] for one in heard] == [
        format(span.context.span_id, "016x") for span in (failed, good)]


def test_a_request_that_nobody_could_answer_is_an_error(exporter, tracing) -> None:
    status, _ = asked([odd.internal], tracing)
    assert status == 502
    *_, choice, request = exporter.get_finished_spans()
    assert choice.name == "choose"
    assert "server.address" not in choice.attributes
    assert not request.status.is_ok
    assert request.parent is None


def test_untraced_the_clients_context_goes_on_as_it_came() -> None:
    status, [heard] = asked([odd.well], NoTracing(), traceparent=PARENT, tracestate="a=b")
    assert status == 200
    assert (heard["traceparent"], heard["tracestate"]) == (PARENT, "a=b")
    _, [heard] = asked([odd.well], NoTracing(), tracestate="a=b")
    assert "traceparent" not in heard
    assert "tracestate" not in heard


def test_without_the_extra_the_command_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(InputError, match=r"pip install .\.\[otel\]"):
        otlp_tracing()
