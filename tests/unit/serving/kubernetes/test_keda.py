"""KEDA's external scaler over real gRPC."""

import asyncio
from contextlib import asynccontextmanager

import pytest

grpc = pytest.importorskip("grpc", reason="the extra 'kubernetes' is not installed")

from penstock.serving.kubernetes import keda  # noqa: E402
from penstock.serving.kubernetes.keda import METRIC, Asked, ExternalScaler, messages, serving  # noqa: E402


class Keda:
    """A client as KEDA has it."""

    def __init__(self, channel):
        self.channel = channel

    def ref(self, **metadata):
        return messages()["ScaledObjectRef"](name="s", namespace="ns", scalerMetadata=metadata)

    async def call(self, method, request, answer):
        call = self.channel.unary_unary(
            f"/externalscaler.ExternalScaler/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=messages()[answer].FromString)
        return await call(request)

    def watch(self, request):
        return self.channel.unary_stream(
            "/externalscaler.ExternalScaler/StreamIsActive",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=messages()["IsActiveResponse"].FromString)(request)

    async def number(self, **metadata):
        found = await self.call("GetMetrics", messages()["GetMetricsRequest"](
            scaledObjectRef=self.ref(**metadata), metricName=METRIC), "GetMetricsResponse")
        value, = found.metricValues
        assert value.metricName == METRIC
        assert value.metricValue == value.metricValueFloat
        return value.metricValue


@asynccontextmanager
async def connected(numbers):
    async with serving(ExternalScaler(numbers.get), "127.0.0.1", 0) as url, \
            grpc.aio.insecure_channel(url.removeprefix("grpc://")) as channel:
        yield Keda(channel)


def test_keda_gets_the_number_and_whether_any_replica_is_wanted():
    async def work():
        numbers = {Asked("ns", "chat", "1"): 7, Asked("ns", "chat", "0"): 0,
                   Asked("ns", "chat", "h100-fp8-1f"): 4}
        async with connected(numbers) as client:
            assert await client.number(fleet="chat", group="1") == 7
            assert await client.number(fleet="chat") == 0
            assert await client.number(fleet="chat", group="h100-fp8-1f") == 4
            for group, active in (("1", True), ("0", False)):
                found = await client.call("IsActive", client.ref(fleet="chat", group=group),
                                          "IsActiveResponse")
                assert found.result is active
            spec, = (await client.call("GetMetricSpec", client.ref(fleet="chat"),
                                       "GetMetricSpecResponse")).metricSpecs
            assert (spec.metricName, spec.targetSize, spec.targetSizeFloat) == (METRIC, 1, 1.0)
    asyncio.run(work())


@pytest.mark.parametrize(("metadata", "code", "part"), [
    ({"fleet": "chat", "group": "9"}, "UNAVAILABLE", "nothing is decided for the group 9"),
    ({"group": "1"}, "INVALID_ARGUMENT", "fleet is left out"),
    ({"fleet": "chat", "group": "o e"}, "INVALID_ARGUMENT", "expected the name of a group"),
])
def test_what_is_not_known_is_an_error_so_that_keda_keeps_what_there_is(metadata, code, part):
    async def work():
        async with connected({}) as client:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await client.number(**metadata)
            assert caught.value.code().name == code
            assert part in caught.value.details()
    asyncio.run(work())


def test_a_stream_tells_of_changes(monkeypatch):
    monkeypatch.setattr(keda, "LOOK_S", 0.01)

    async def work():
        group = Asked("ns", "chat", "0")
        numbers = {group: 0}
        async with connected(numbers) as client:
            stream = client.watch(client.ref(fleet="chat"))
            assert not (await stream.read()).result
            numbers[group] = 3
            assert (await stream.read()).result
            numbers[group] = 0
            assert not (await stream.read()).result
            stream.cancel()
    asyncio.run(work())


def test_the_bytes_are_those_of_the_published_form():
    """Field numbers of externalscaler.proto: encoded by hand."""
    kinds = messages()
    ref = kinds["ScaledObjectRef"](name="s", namespace="ns", scalerMetadata={"fleet": "c"})
    assert ref.SerializeToString() == (b"\x0a\x01s" b"\x12\x02ns"
                                       b"\x1a\x0a" b"\x0a\x05fleet" b"\x12\x01c")
    value = kinds["MetricValue"](metricName="m", metricValue=3, metricValueFloat=3.0)
    assert value.SerializeToString() == (b"\x0a\x01m" b"\x10\x03"
                                         b"\x19\x00\x00\x00\x00\x00\x00\x08\x40")
