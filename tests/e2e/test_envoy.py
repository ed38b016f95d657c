"""A real Envoy before ``penstock endpoint-picker``, with the configuration of the documentation."""

import asyncio
import os
import re
import shutil
import socket
import subprocess
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import aiohttp
import orjson
import pytest

pytest.importorskip("grpc", reason="the extra 'kubernetes' is not installed")
pytest.importorskip("grpc",
                    reason="the extra 'kubernetes' is not installed")

from penstock.engines.emulated.cluster import EmulatorOptions, emulated_cluster
from penstock.fleet.load import parse_fleet
from penstock.fleet.replica_factory import dispatch_of
from penstock.serving.endpoint_picker.credentials import self_signed_credentials
from penstock.serving.endpoint_picker.limits import PickerOptions
from penstock.serving.endpoint_picker.running import Places, running_picker
from support.small_fleet import FLEET

ENVOY = os.environ.get("PENSTOCK_ENVOY") or shutil.which("envoy")
pytestmark = pytest.mark.skipif(ENVOY is None, reason="no Envoy: set PENSTOCK_ENVOY")
PATIENCE_S = 60.0
QUICK = PickerOptions(drain_s=1.0)
MODEL = "llama-3-8b"
PAGE = "docs/howto/behind-your-gateway.md"
ORIGINAL_DST = re.compile(r"    - name: engines\n.*?(?=    - name: penstock)", re.DOTALL)
ENDPOINT = "{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %s}}}}"
POLICIES = "type.googleapis.com/envoy.extensions.load_balancing_policies"
OVERRIDE_HOST = f"""\
    - name: engines
      type: STATIC
      connect_timeout: 2s
      load_balancing_policy:
        policies:
          - typed_extension_config:
              name: override_host
              typed_config:
                "@type": {POLICIES}.override_host.v3.OverrideHost
                override_host_sources:
                  - metadata: {{key: envoy.lb, path: [{{key: x-gateway-destination-endpoint}}]}}
                fallback_policy:
                  policies:
                    - typed_extension_config:
                        name: round_robin
                        typed_config:
                          "@type": {POLICIES}.round_robin.v3.RoundRobin
      load_assignment:
        cluster_name: engines
        endpoints: [{{lb_endpoints: [ENDPOINTS]}}]
"""
UNVERIFIED_TLS = """\
    - name: penstock
      transport_socket:
        name: tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


def configuration(repository: Path, port: int, picker: str, urls, *, fail_open: bool = False,
                  override_host: bool = False, secure: bool = False) -> str:
    """The documentation's file with these addresses."""
    text = (repository / PAGE).read_text()
    block = re.search(r"```yaml\n# file: envoy.yaml\n(.*?)```", text, re.DOTALL)[1]
    found = block.replace("8088", str(port)).replace("9002", picker.rpartition(":")[2])
    if fail_open:
        found = found.replace("failure_mode_allow: false", "failure_mode_allow: true")
    if secure:
        found = found.replace("    - name: penstock\n", UNVERIFIED_TLS)
    if override_host:
        endpoints = ", ".join(ENDPOINT % url.rpartition(":")[2] for url in urls)
        found = ORIGINAL_DST.sub(OVERRIDE_HOST.replace("ENDPOINTS", endpoints), found)
        found = found.replace("timeout: 0s}", "timeout: 0s, retry_policy: {retry_on: "
                              "connect-failure, num_retries: 2}}")
    return found


@contextmanager
def envoy(text: str, folder: Path):
    (folder / "envoy.yaml").write_text(text)
    with (folder / "envoy.log").open("w") as log, subprocess.Popen(
            [ENVOY, "-c", str(folder / "envoy.yaml"), "--concurrency", "1",
             "--use-dynamic-base-id", "--log-level", "warning"], stdout=log, stderr=log) as found:
        try:
            yield found
        finally:
            found.kill()


class Client:
    """Asks Envoy."""

    def __init__(self, http, url, running) -> None:
        self._http = http
        self.url = url
        self.running = running

    async def ask(self, headers=None, **body):
        return await self.send(orjson.dumps({"model": MODEL, **body}), headers)

    async def send(self, content, headers=None):
        async with self._http.post(f"{self.url}/v1/completions", data=content, headers=headers or {}
                                   ) as answer:
            return answer.status, await answer.read(), answer.headers

    async def up(self, envoy) -> None:
        """Wait until Envoy listens."""
        async with asyncio.timeout(PATIENCE_S):
            while envoy.poll() is None:
                try:
                    async with self._http.get(f"{self.url}/v1/models"):
                        return
                except aiohttp.ClientConnectionError:
                    await asyncio.sleep(0.05)
        raise AssertionError("Envoy has ended; see envoy.log")


@asynccontextmanager
async def gateway(repository, folder, count=2, options=QUICK, dead=(), secure=False, **more):
    """Engines, a picker and an Envoy before them."""
    fleet = parse_fleet(FLEET, overrides={"replicas": [{"count": count}]})
    async with emulated_cluster(fleet, EmulatorOptions(speed=100.0), lambda _: None) as cluster:
        urls = [*dead, *(one.url for one in cluster.replicas)]
        fleet = parse_fleet(FLEET, overrides={"replicas": [
            {"count": len(urls), "endpoints": urls}]})
        bugs = []
        router = dispatch_of(fleet, lambda _: 0, lambda _: 0.0)
        async with running_picker(fleet, router, Places(port=0, metrics_port=0), options,
                                  credentials=self_signed_credentials() if secure else None,
                                  on_bug=bugs.append) as running, aiohttp.ClientSession() as http:
            port = free_port()
            text = configuration(repository, port, running.address, urls,
                                 secure=secure, **more)
            with envoy(text, folder) as one:
                client = Client(http, f"http://127.0.0.1:{port}", running)
                await client.up(one)
                yield client
        assert bugs == []


async def freed(engines) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while any(one.in_flight for one in engines):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("secure", [False, True])
def test_envoy_carries_what_the_picker_chooses(repository, tmp_path, secure) -> None:
    if secure:
        pytest.importorskip("cryptography", reason="makes certificates")

    async def run():
        async with gateway(repository, tmp_path, secure=secure) as client:
            answers = await asyncio.gather(*(client.ask(
                prompt="hello", max_tokens=5, ignore_eos=True, stream=number % 2 == 0,
                stream_options={"include_usage": True} if number % 2 == 0 else None)
                for number in range(20)))
            for status, body, headers in answers:
                assert status == 200, body
                assert b'"completion_tokens":5' in body
                assert headers["x-penstock-decision"].startswith("dec-")
            engines = client.running.engines
            await freed(engines)
            served = [one.num_served for one in engines]
            assert sum(served) == 20
            assert min(served) > 0

    asyncio.run(run())


def test_a_long_body_arrives_whole(repository, tmp_path) -> None:
    async def run():
        async with gateway(repository, tmp_path) as client:
            status, body, _ = await client.ask(prompt="word " * 100_000, max_tokens=1)
            assert status == 400
            assert b"the prompt has 125,000 tokens" in body  # so says the engine, which has it all

    asyncio.run(run())


def test_refusals_reach_the_client(repository, tmp_path) -> None:
    async def run():
        options = PickerOptions(max_body_bytes=100_000, drain_s=1.0)
        async with gateway(repository, tmp_path, options=options) as client:
            for content, expected in ((b"{", 400), (b'{"model": "x"}', 404),
                                      (b"x" * 200_000, 413)):
                status, body, _ = await client.send(content)
                assert status == expected
                assert orjson.loads(body)["error"]["message"]
            for engine in client.running.engines:
                engine.draining = True
            status, _, headers = await client.ask(prompt="x")
            assert status == 503
            assert headers["x-llm-d-request-dropped-reason"] == "rejected-no-endpoints"

    asyncio.run(run())


def test_a_client_that_leaves_frees_its_engine(repository, tmp_path) -> None:
    async def run():
        async with gateway(repository, tmp_path, count=1) as client:
            (engine,) = client.running.engines
            content = orjson.dumps({"model": MODEL, "prompt": "x", "max_tokens": 5000,
                                    "ignore_eos": True, "stream": True})
            async with client._http.post(f"{client.url}/v1/completions", data=content) as answer:
                await answer.content.readany()
                assert len(engine.in_flight) == 1
                answer.close()
            await freed([engine])
            assert engine.num_failed == 0

    asyncio.run(run())


def seen(client, number: int) -> None:
    """Let the picker believe for a moment that a dead engine lives."""
    engines = client.running.engines
    engines[number].observe(engines[-1].load, asyncio.get_running_loop().time())


def test_an_engine_that_is_gone_is_blamed(repository, tmp_path) -> None:
    async def run():
        dead = [f"http://127.0.0.1:{free_port()}"]
        async with gateway(repository, tmp_path, count=1, dead=dead) as client:
            gone = client.running.engines[0]
            statuses = set()
            for _ in range(20):
                seen(client, 0)
                statuses.add((await client.ask(prompt="x", max_tokens=1))[0])
                if gone.num_failed:
                    break
            assert 503 in statuses
            assert gone.num_failed == 1
            assert (await client.ask(prompt="x", max_tokens=1))[0] in (200, 503)

    asyncio.run(run())


def test_envoy_falls_back_to_the_next_endpoint(repository, tmp_path) -> None:
    async def run():
        dead = [f"http://127.0.0.1:{free_port()}"]
        options = PickerOptions(num_fallbacks=2, drain_s=1.0)
        async with gateway(repository, tmp_path, count=1, dead=dead, options=options,
                           override_host=True) as client:
            chosen = set()
            for _ in range(10):
                seen(client, 0)
                status, _, headers = await client.ask(prompt="x", max_tokens=1)
                assert status == 200
                chosen.add(headers["x-penstock-decision"])
            assert len(chosen) == 10

    asyncio.run(run())


@pytest.mark.parametrize(("fail_open", "expected"), [(False, 500), (True, 200)])
def test_without_a_picker_the_gateway_fails_closed_or_open(repository, tmp_path, fail_open,
                                                           expected) -> None:
    async def run():
        fleet = parse_fleet(FLEET)
        async with emulated_cluster(fleet, EmulatorOptions(speed=100.0), lambda _: None
                                    ) as cluster, aiohttp.ClientSession() as http:
            urls, port = [one.url for one in cluster.replicas], free_port()
            with envoy(configuration(repository, port, f"127.0.0.1:{free_port()}", urls,
                                     fail_open=fail_open, override_host=True), tmp_path) as one:
                client = Client(http, f"http://127.0.0.1:{port}", None)
                await client.up(one)
                async with http.get(f"{client.url}/v1/models") as answer:
                    assert answer.status == expected
                # Envoy cannot have a body back that it has begun to send to the picker.
                assert (await client.ask(prompt="x", max_tokens=1))[0] in (500, expected)

    asyncio.run(run())


def test_no_client_chooses_its_address(repository, tmp_path) -> None:
    async def run():
        fleet = parse_fleet(FLEET)
        async with emulated_cluster(fleet, EmulatorOptions(speed=100.0), lambda _: None
                                    ) as cluster, aiohttp.ClientSession() as http:
            url, port = cluster.replicas[0].url, free_port()
            with envoy(configuration(repository, port, f"127.0.0.1:{free_port()}", [url],
                                     fail_open=True), tmp_path) as one:
                client = Client(http, f"http://127.0.0.1:{port}", None)
                await client.up(one)
                async with http.get(f"{client.url}/v1/models", headers={
                        "x-gateway-destination-endpoint": url.removeprefix("http://")}) as answer:
                    assert answer.status == 503

    asyncio.run(run())
