"""``penstock endpoint-picker`` over real gRPC on the loopback, before emulated engines.

No Envoy runs here: ``Gateway`` says what Envoy says, in the published messages, and carries the
bytes to the engine that the picker names, as Envoy does.
"""

import asyncio
import json
import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import orjson
import pytest

pytest.importorskip("grpc", reason="the extra 'kubernetes' is not installed")
pytest.importorskip("grpc",
                    reason="the extra 'kubernetes' is not installed")

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from penstock.engines.client.of_fleet import facts_of
from penstock.engines.emulated.cluster import EmulatorOptions, emulated_cluster
from penstock.fleet.load import parse_fleet
from penstock.fleet.replica_factory import dispatch_of
from penstock.serving.endpoint_picker import external_processor as ext_proc
from penstock.serving.endpoint_picker.limits import PickerOptions
from penstock.serving.endpoint_picker.running import Places, running_picker
from support.fake_http_engines import nobody
from support.penstock_process import process
from support.picker_streams import (
    DESTINATION,
    MODEL,
    body_of,
    head_mutation,
    request_body,
    request_head,
    response_body,
    response_head,
    set_headers,
)
from support.small_fleet import FLEET

FREE = Places(port=0, metrics_port=0)
QUICK = PickerOptions(drain_s=2.0)
PATIENCE_S = 60.0


class Stream:
    """One stream of a gateway."""

    def __init__(self, channel) -> None:
        self.call = ext_proc.client(channel)(timeout=PATIENCE_S)

    async def say(self, *messages) -> None:
        for message in messages:
            await self.call.write(message)

    async def hear(self):
        return await self.call.read()

    async def head(self) -> dict[str, str]:
        return head_mutation(await self.hear())

    async def hear_body(self, kind: str) -> bytes:
        """The replies up to the one that ends a body."""
        replies = []
        while True:
            replies.append(reply := await self.hear())
            assert reply is not grpc.aio.EOF, "the picker has closed the stream"
            if getattr(reply, kind).response.body_mutation.streamed_response.end_of_stream:
                return body_of(replies, kind)

    async def refusal(self) -> tuple[int, str | None]:
        """Status and dropped reason of the reply that ends the stream."""
        found = (await self.hear()).immediate_response
        assert orjson.loads(found.body)["error"]["message"]
        assert await self.hear() is grpc.aio.EOF
        assert await self.call.code() == grpc.StatusCode.OK  # else the gateway would answer 500
        return found.status.code, set_headers(found.headers).get("x-llm-d-request-dropped-reason")


class Gateway:
    """Asks the picker, and carries the bytes of whole requests."""

    def __init__(self, channel, http: aiohttp.ClientSession) -> None:
        self.channel = channel
        self._http = http

    def stream(self) -> Stream:
        return Stream(self.channel)

    async def ask(self, path: str = "/v1/completions", headers=None, subset=None, **body):
        """The answer's status and bytes, as a client gets them, and the endpoint."""
        stream = self.stream()
        await stream.say(request_head(headers, path=path, subset=subset),
                         request_body({"model": MODEL, **body}))
        endpoint = (await stream.head())[DESTINATION].partition(",")[0]
        content = await stream.hear_body("request_body")
        try:
            async with self._http.post(f"http://{endpoint}{path}", data=content,
                                       headers={"Content-Type": "application/json"}) as answer:
                status, kind = answer.status, answer.content_type
                await stream.say(response_head(status, kind))
                await stream.hear()
                got = await self._carried(stream, answer.content)
        except aiohttp.ClientConnectionError:  # Envoy answers in the place of a dead upstream
            status, got = 503, b"upstream connect error"
            await stream.say(response_head(status, "text/plain"), response_body(got))
            await stream.hear()
            assert await stream.hear_body("response_body") == got
        await stream.call.done_writing()
        assert await stream.hear() is grpc.aio.EOF
        return status, got, endpoint

    async def _carried(self, stream: Stream, content) -> bytes:
        async for chunk in content.iter_any():
            await stream.say(response_body(chunk, at_end=False))
        await stream.say(response_body(b""))
        return await stream.hear_body("response_body")

    async def is_serving(self, service: str) -> bool:
        found = await health_pb2_grpc.HealthStub(self.channel).Check(
            health_pb2.HealthCheckRequest(service=service), timeout=PATIENCE_S)
        return found.status == health_pb2.HealthCheckResponse.SERVING


def fleet_of(urls, **overrides):
    return parse_fleet(FLEET, overrides={
        "accelerators": [{"name": "a100-80gb", "count": 64}],
        "replicas": [{"count": len(urls), "endpoints": list(urls)}], **overrides})


@asynccontextmanager
async def picker(urls, options=QUICK, **overrides) -> AsyncIterator:
    """A picker that runs, its gateway, and a client of its HTTP side."""
    fleet = fleet_of(urls, **overrides)
    bugs = []
    async with running_picker(fleet, dispatch_of(fleet, lambda _: 0, lambda _: 0.0), FREE, options,
                              on_bug=bugs.append) as running, \
            grpc.aio.insecure_channel(running.address) as channel, \
            aiohttp.ClientSession() as http:
        gateway = Gateway(channel, http)
        gateway.running = running
        yield gateway
    assert bugs == []


@asynccontextmanager
async def emulated(count: int = 3) -> AsyncIterator[list[str]]:
    fleet = parse_fleet(FLEET, overrides={"replicas": [{"count": count}]})
    async with emulated_cluster(fleet, EmulatorOptions(speed=1000.0), lambda _: None) as cluster:
        yield [one.url for one in cluster.replicas]


def addresses(urls) -> list[str]:
    return [url.removeprefix("http://") for url in urls]


async def until(condition) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await condition():
            await asyncio.sleep(0.01)


async def metrics_of(gateway) -> dict[str, float]:
    async with gateway._http.get(f"{gateway.running.url}/metrics") as answer:
        text = await answer.text()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
            for line in text.splitlines() if not line.startswith("#")}


def test_requests_reach_the_engines_that_the_picker_names_and_their_usage_is_accounted() -> None:
    async def run():
        async with emulated() as urls, picker(urls) as gateway:
            answers = await asyncio.gather(*(
                gateway.ask(prompt="hello " * number, max_tokens=5, ignore_eos=True,
                            stream=number % 2 == 0,
                            **({"stream_options": {"include_usage": True}}
                               if number % 2 == 0 else {}))
                for number in range(1, 13)))
            assert {status for status, _, _ in answers} == {200}
            assert {endpoint for _, _, endpoint in answers} == set(addresses(urls))
            for _, got, _ in answers:
                assert b'"completion_tokens":5' in got.replace(b" ", b"")
            engines = gateway.running.engines
            assert [len(one.in_flight) for one in engines] == [0, 0, 0]
            assert sum(one.num_served for one in engines) == 12
            found = await metrics_of(gateway)
            labels = ('{fairness_id="default-flow",model_name="llama-3-8b",priority="0",'
                      'target_model_name="llama-3-8b"}')
            assert found[f"llm_d_epp_request_total{labels}"] == 12
            assert found[f"llm_d_epp_request_output_tokens_sum{labels}"] == 60
            assert found[f"llm_d_epp_request_running{labels}"] == 0
            assert found[f"llm_d_epp_request_streaming_tpot_seconds_count{labels}"] == 6
            assert found['llm_d_epp_ready_endpoints{name="small"}'] == 3
            assert found["llm_d_epp_scheduler_e2e_duration_seconds_count"] == 12
            assert found["penstock:endpoint_picker_streams"] == 0

    asyncio.run(run())


def test_a_body_of_100k_tokens_goes_through() -> None:
    async def run():
        async with emulated(1) as urls, picker(urls) as gateway:
            stream = gateway.stream()
            body = orjson.dumps({"model": MODEL, "prompt": "word " * 100_000})
            await stream.say(request_head())
            for start in range(0, len(body), 65_536):
                await stream.say(request_body(body[start:start + 65_536],
                                              at_end=start + 65_536 >= len(body)))
            assert (await stream.head())["content-length"] == str(len(body))
            assert await stream.hear_body("request_body") == body
            stream.call.cancel()

    asyncio.run(run())


def test_the_subset_and_the_errors_of_the_protocol() -> None:
    async def run():
        async with emulated() as urls, picker(urls) as gateway:
            one = addresses(urls)[1]
            for subset in ([one], one):
                _, _, endpoint = await gateway.ask(prompt="x", max_tokens=1, subset=subset)
                assert endpoint == one
            for head, body, expected in (
                    (request_head(subset=[]), {"model": MODEL}, (503, "rejected-no-endpoints")),
                    (request_head(subset=["10.9.9.9:1"]), {"model": MODEL},
                     (503, "rejected-no-endpoints")),
                    (request_head(), b"{", (400, None)), (request_head(), {}, (400, None)),
                    (request_head(), {"model": "unknown"}, (404, None))):
                stream = gateway.stream()
                await stream.say(head, request_body(body))
                assert await stream.refusal() == expected
            assert [len(engine.in_flight) for engine in gateway.running.engines] == [0, 0, 0]

    asyncio.run(run())


def test_a_get_needs_no_body() -> None:
    async def run():
        async with emulated(1) as urls, picker(urls) as gateway:
            stream = gateway.stream()
            await stream.say(request_head(at_end=True, path="/v1/models"))
            assert (await stream.head())[DESTINATION] == addresses(urls)[0]

    asyncio.run(run())


def test_a_client_that_leaves_frees_its_engine() -> None:
    async def run():
        async with emulated(1) as urls, picker(urls) as gateway:
            (engine,) = gateway.running.engines
            for messages in (0, 1):
                stream = gateway.stream()
                await stream.say(request_head(), request_body({"model": MODEL, "prompt": "x"}))
                await stream.head()
                assert len(engine.in_flight) == 1
                if messages:
                    await stream.say(response_head(kind="text/event-stream"),
                                     response_body(b"data: {", at_end=False))
                stream.call.cancel()

                async def is_free():
                    return not engine.in_flight

                await until(is_free)
            assert engine.num_failed == 0
            assert (await metrics_of(gateway))["penstock:endpoint_picker_cancelled_total"] == 2

    asyncio.run(run())


def test_an_engine_that_dies_after_the_choice_is_avoided_and_the_rest_serves() -> None:
    async def run():
        async with nobody() as dead, emulated(1) as urls, picker([dead, *urls]) as gateway:
            gone = gateway.running.engines[0]
            gone.observe(gateway.running.engines[1].load, asyncio.get_running_loop().time())
            answers = []
            while not answers or answers[-1][0] != 200:
                answers.append(await gateway.ask(prompt="x", max_tokens=1))
                assert len(answers) < 50
            assert gone.num_failed == sum(status == 503 for status, _, _ in answers)
            assert [len(one.in_flight) for one in gateway.running.engines] == [0, 0]

    asyncio.run(run())


def test_a_body_has_a_limit() -> None:
    async def run():
        options = PickerOptions(max_body_bytes=1000, drain_s=2.0)
        async with emulated(1) as urls, picker(urls, options) as gateway:
            stream = gateway.stream()
            await stream.say(request_head(), request_body(b"x" * 600, at_end=False),
                             request_body(b"x" * 600, at_end=False))
            assert await stream.refusal() == (413, None)

    asyncio.run(run())


def test_open_streams_have_a_limit() -> None:
    async def run():
        options = PickerOptions(max_streams=1, drain_s=2.0)
        async with emulated(1) as urls, picker(urls, options) as gateway:
            first = gateway.stream()
            await first.say(request_head(), request_body({"model": MODEL, "prompt": "x"}))
            await first.head()
            second = gateway.stream()
            await second.say(request_head())
            assert await second.refusal() == (429, "rejected-saturated")
            first.call.cancel()

    asyncio.run(run())


SERVICES = ("", "readiness", "envoy.service.ext_proc.v3.ExternalProcessor")


def test_readiness_waits_for_the_first_engine_and_liveness_does_not() -> None:
    async def run():
        async with nobody() as dead, picker([dead]) as gateway:
            assert await gateway.is_serving("liveness")
            assert [await gateway.is_serving(one) for one in SERVICES] == [False] * 3
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await gateway.is_serving("another")
            assert error.value.code() == grpc.StatusCode.NOT_FOUND
            async with gateway._http.get(f"{gateway.running.url}/ready") as answer:
                assert answer.status == 503
            async with gateway._http.get(f"{gateway.running.url}/health") as answer:
                assert answer.status == 200
            stream = gateway.stream()
            await stream.say(request_head(), request_body({"model": MODEL, "prompt": "x"}))
            assert await stream.refusal() == (503, "rejected-no-endpoints")
        async with emulated(1) as urls, picker(urls) as gateway:
            for service in SERVICES:
                await until(lambda service=service: gateway.is_serving(service))
            async with gateway._http.get(f"{gateway.running.url}/ready") as answer:
                assert answer.status == 200

    asyncio.run(run())


def test_draining_tells_gateways_first_and_lets_streams_end() -> None:
    async def run():
        async with emulated(1) as urls:
            fleet = fleet_of(urls)
            stopped, drained = asyncio.Event(), asyncio.Event()

            async def serve(ready):
                async with running_picker(fleet, dispatch_of(fleet, lambda _: 0, lambda _: 0.0),
                                          FREE, PickerOptions(drain_s=PATIENCE_S)) as running:
                    ready.set_result(running)
                    await stopped.wait()
                drained.set()

            ready = asyncio.get_running_loop().create_future()
            serving = asyncio.create_task(serve(ready))
            running = await ready
            async with grpc.aio.insecure_channel(running.address) as channel, \
                    aiohttp.ClientSession() as http:
                gateway = Gateway(channel, http)
                await until(lambda: gateway.is_serving("readiness"))
                stream = gateway.stream()
                await stream.say(request_head(), request_body({"model": MODEL, "prompt": "x"}))
                await stream.head()
                await stream.hear_body("request_body")
                stopped.set()

                async def is_told():
                    return not await gateway.is_serving("readiness")

                await until(is_told)
                assert await gateway.is_serving("liveness")
                assert not drained.is_set()
                await stream.say(response_head(), response_body({"choices": []}))
                assert (await stream.hear()).WhichOneof("response") == "response_headers"
                await stream.hear_body("response_body")
                await stream.call.done_writing()
                assert await stream.hear() is grpc.aio.EOF
                await serving

    asyncio.run(run())


def test_a_decision_is_explained_by_the_answers_header() -> None:
    async def run():
        async with emulated(2) as urls, picker(urls) as gateway:
            stream = gateway.stream()
            await stream.say(request_head(), request_body({"model": MODEL, "prompt": "x"}))
            await stream.head()
            await stream.hear_body("request_body")
            await stream.say(response_head(at_end=True))
            mutation = (await stream.hear()).response_headers.response.header_mutation
            decision_id = set_headers(mutation)["x-penstock-decision"]
            place = f"{gateway.running.url}/v1/penstock/decisions/"
            async with gateway._http.get(place + decision_id) as answer:
                found = await answer.json()
            assert found["outcome"]["outcome"] == "finished"
            assert {one["url"] for one in found["candidates"]} == set(urls)
            async with gateway._http.get(place + "dec-0") as answer:
                assert answer.status == 404

    asyncio.run(run())


def test_a_pool_that_changes_is_followed() -> None:
    async def run():
        async with emulated(2) as urls:
            fleet = fleet_of(urls)
            present = facts_of(fleet)[:1]
            async with running_picker(fleet, dispatch_of(fleet, lambda _: 0, lambda _: 0.0), FREE,
                                      QUICK, endpoints=lambda: list(present)) as running, \
                    grpc.aio.insecure_channel(running.address) as channel, \
                    aiohttp.ClientSession() as http:
                gateway = Gateway(channel, http)
                one, two = addresses(urls)
                assert (await gateway.ask(prompt="x", max_tokens=1))[2] == one
                present[:] = facts_of(fleet)[1:]

                async def is_new():
                    stream = gateway.stream()
                    await stream.say(request_head(at_end=True))
                    reply = await stream.hear()
                    stream.call.cancel()
                    return reply.WhichOneof("response") == "request_headers" and \
                        head_mutation(reply)[DESTINATION] == two

                await until(is_new)
                assert (await gateway.ask(prompt="x", max_tokens=1))[2] == two

    asyncio.run(run())


# -- the command ----------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("secure", [False, True])
def test_the_command_serves_until_it_is_told_to_stop(repository, folder, secure) -> None:
    async def ask(address):
        if secure:
            certificate = await asyncio.to_thread(served_certificate, address)
            channel = grpc.aio.secure_channel(
                address, grpc.ssl_channel_credentials(certificate.encode()),
                (("grpc.ssl_target_name_override", "localhost"),))
        else:
            channel = grpc.aio.insecure_channel(address)
        async with channel, aiohttp.ClientSession() as http:
            gateway = Gateway(channel, http)
            await until(lambda: gateway.is_serving("readiness"))
            return await gateway.ask(prompt="x", max_tokens=3, ignore_eos=True)

    with process(repository, folder, "emulate", "fleet.yaml", "--port", "0", "--speed", "1000"
                 ) as engine:
        url = engine.stdout.readline().split()[1]
        with process(repository, folder, "endpoint-picker", "fleet.yaml", "--port", "0",
                     "--metrics-port", "0", "--drain-s", "5",
                     *(["--tls-self-signed"] if secure else []),
                     "--set", f"replicas[0].endpoints={json.dumps([url])}") as picker_process:
            word, address, _ = picker_process.stdout.readline().split()
            assert word == "endpoint-picker"
            status, got, endpoint = asyncio.run(ask(address))
            assert (status, endpoint) == (200, url.removeprefix("http://"))
            assert orjson.loads(got)["usage"]["completion_tokens"] == 3
            picker_process.send_signal(signal.SIGTERM)
            out, err = picker_process.communicate(timeout=60)
            assert (picker_process.returncode, out, err) == (0, "", "")


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_changed_fleet_file_is_followed_and_a_broken_one_is_told_of(repository, folder) -> None:
    text = (folder / "fleet.yaml").read_text()

    def write(*urls):
        (folder / "pool.yaml").write_text(text.replace(
            "replicas: [{count: 1}]",
            f"replicas: [{{count: {len(urls)}, endpoints: {json.dumps(urls)}}}]"))

    with process(repository, folder, "emulate", "fleet.yaml", "--port", "0", "--speed", "1000",
                 "--set", "replicas=[{count: 2}]") as engines:
        one, two = (engines.stdout.readline().split()[1] for _ in range(2))
        write(one)
        with process(repository, folder, "endpoint-picker", "pool.yaml", "--port", "0",
                     "--metrics-port", "0", "--drain-s", "1") as serving:
            assert serving.stdout.readline().startswith("endpoint-picker ")
            write(one, two)
            assert serving.stderr.readline().strip().endswith(f"was read again: {two} is new")
            write(two)
            assert serving.stderr.readline().strip().endswith(f"{one} is being drained")
            for urls in ((), ("http://engine:8000",)):
                write(*urls)
                assert serving.stderr.readline().strip().endswith(
                    "the endpoint picker goes on with the fleet that it had")
            serving.send_signal(signal.SIGTERM)
            assert serving.wait(60) == 0


def served_certificate(address):
    import ssl
    host, port = address.split(":")
    return ssl.get_server_certificate((host, int(port)))


@pytest.mark.parametrize(("arguments", "said"), [
    ([], "replicas: none has endpoints"),
    (["--set", "replicas[0].endpoints=[http://engine:8000]"], "expected an IP address"),
    (["--set", "replicas[0].endpoints=[http://10.0.0.1:8000/v2]"], "cannot add a path"),
    (["--host", "0.0.0.0"], "--open"),
    (["--tls-cert", "cert.pem"], "expected --tls-cert and --tls-key together"),
    (["--tls-self-signed", "--tls-cert", "cert.pem"], "--tls-self-signed"),
    (["--pods", "--pool", "a/b"], "expected one of the two"),
    (["--pool", "a/b/c"], "expected NAMESPACE/NAME"),
    (["--pool", "a/b", "--namespace", "c"], "expected the namespace of --namespace"),
    (["--workers", "0"], "--workers"),
    (["--workers", "2", "--host", "0.0.0.0"], "--open"),
    (["--fallbacks", "-1"], "--fallbacks")])
def test_wrong_options_are_one_clear_error(penstock, arguments, said) -> None:
    outcome = penstock("endpoint-picker", "fleet.yaml", *arguments)
    assert outcome.status == 2
    assert said in outcome.err
    assert outcome.err.count("\n") == 1


def test_a_taken_port_is_one_clear_error(penstock) -> None:
    import socket
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        outcome = penstock("endpoint-picker", "fleet.yaml", "--port", port, "--metrics-port", "0",
                           "--set", "replicas[0].endpoints=[http://127.0.0.1:9]")
    assert outcome.status == 2
    assert re.fullmatch(rf"[^\n]*cannot listen on 127.0.0.1 port {port}[^\n]*\n", outcome.err)


def test_a_missing_extra_is_named_with_its_command(penstock, monkeypatch) -> None:
    import sys
    monkeypatch.setitem(sys.modules, "grpc_health.v1.health", None)
    outcome = penstock("endpoint-picker", "fleet.yaml")
    assert outcome.status == 2
    assert "pip install '.[kubernetes]'" in outcome.err
