"""``penstock endpoint-picker --workers``: one port, one /metrics, and the death of a worker."""

import asyncio
import os
import re
import signal
import urllib.error
import urllib.request
from pathlib import Path

import orjson
import pytest

pytest.importorskip("grpc", reason="the extra 'kubernetes' is not installed")

import grpc

from penstock.serving.endpoint_picker import external_processor as ext_proc
from support.penstock_process import process
from support.picker_streams import MODEL, request_body, request_head, response_body, response_head
from support.small_fleet import FLEET
from support.worker_processes import children, lives

PATIENCE_S = 60.0
pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


async def ask(address: str) -> str | None:
    """One request over a connection of its own, and the decision's id; None where the worker of the
    connection died."""
    async with grpc.aio.insecure_channel(
            address, (("grpc.use_local_subchannel_pool", 1),)) as channel:
        call = ext_proc.client(channel)(timeout=PATIENCE_S)
        try:
            for message in (request_head(), request_body({"model": MODEL, "prompt": "x"}),
                            response_head(), response_body(b"{}")):
                await call.write(message)
            await call.done_writing()
            replies = [reply async for reply in call]
        except grpc.aio.AioRpcError:
            return None
    kinds = [reply.WhichOneof("response") for reply in replies]
    assert kinds == ["request_headers", "request_body", "response_headers", "response_body"]
    return next(one.header.raw_value.decode() for one
                in replies[2].response_headers.response.header_mutation.set_headers
                if one.header.key == "x-penstock-decision")


def got(url: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, b""


def num_requests(url: str) -> int:
    found = re.search(rb"^llm_d_epp_request_total\{.*\} ([0-9.]+)$", got(f"{url}/metrics")[1],
                      re.MULTILINE)
    return 0 if found is None else int(float(found[1]))


async def until(condition) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.05)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "fleet.yaml").write_text(FLEET)
    return tmp_path


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds processes as on Linux")
def test_workers_share_a_port_and_one_that_dies_is_replaced(repository, folder) -> None:
    async def run(address: str, url: str, keeper: int) -> None:
        assert got(f"{url}/health")[0] == 200
        await until(lambda: got(f"{url}/ready")[0] == 200)
        decisions = [await ask(address) for _ in range(12)]
        assert None not in decisions
        assert num_requests(url) == 12
        for one in decisions:  # whichever worker decided
            status, document = got(f"{url}/v1/penstock/decisions/{one}")
            assert (status, orjson.loads(document)["decision_id"]) == (200, one)
        assert got(f"{url}/v1/penstock/decisions/dec-none")[0] == 404

        before = children(keeper)
        assert len(before) == 2
        os.kill(before[0], signal.SIGKILL)
        await until(lambda: before[0] not in children(keeper))
        # The port stays open, and nothing that was counted is lost.
        assert num_requests(url) == 12
        assert got(f"{url}/ready")[0] == 200
        answered = [await ask(address) for _ in range(8)]
        assert answered[-1] is not None
        await until(lambda: len(children(keeper)) == 2)
        assert before[0] not in children(keeper)
        assert num_requests(url) == 12 + sum(one is not None for one in answered)

    with process(repository, folder, "emulate", "fleet.yaml", "--port", "0") as engine:
        url = engine.stdout.readline().split()[1]
        with process(repository, folder, "endpoint-picker", "fleet.yaml", "--port", "0",
                     "--metrics-port", "0", "--drain-s", "2", "--workers", "2",
                     "--set", f"replicas[0].endpoints=[{url}]") as keeper:
            word, address, own = keeper.stdout.readline().split()
            assert word == "endpoint-picker"
            asyncio.run(run(address, own, keeper.pid))
            workers = children(keeper.pid)
            keeper.send_signal(signal.SIGTERM)
            out, err = keeper.communicate(timeout=PATIENCE_S)
            assert (keeper.returncode, out) == (0, "")
            assert "worker" in err
            assert "starts again" in err
            assert not any(lives(pid) for pid in workers)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds processes as on Linux")
def test_workers_end_with_their_keeper(repository, folder) -> None:
    with process(repository, folder, "endpoint-picker", "fleet.yaml", "--port", "0",
                 "--metrics-port", "0", "--drain-s", "0", "--workers", "2",
                 "--set", "replicas[0].endpoints=[http://127.0.0.1:9]") as keeper:
        assert keeper.stdout.readline()
        workers = children(keeper.pid)
        assert len(workers) == 2
        keeper.kill()
        asyncio.run(until(lambda: not any(lives(pid) for pid in workers)))


def test_workers_that_cannot_start_are_a_clear_error(repository, folder) -> None:
    with process(repository, folder, "endpoint-picker", "fleet.yaml", "--port", "0",
                 "--metrics-port", "0", "--workers", "2",
                 "--set", "replicas[0].endpoints=[http://engine:8000]") as keeper:
        out, err = keeper.communicate(timeout=PATIENCE_S)
    assert (keeper.returncode, out) == (2, "")
    assert "expected an IP address" in err
    assert "did not start; it has told why" in err
    assert "Traceback" not in err
