"""Machines, devices and ports of replicas."""

import pytest

from penstock.core.errors import InputError
from penstock.engines.launch.placing import placed
from support.launched import read, started

FLEET = """\
name: placed
accelerators: [{name: h100-80gb}, {name: mi300x, price_per_hour: 2}]
models: [{name: llama-3.1-8b}]
service_classes: [{name: chat, slo: {ttft_s: 2}}]
traffic: [{lengths: {prompt: {fixed: 9}, output: {fixed: 9}}, rate_per_s: 1, num_requests: 9}]
engine: {name: vllm}
replicas:
"""


def places(*entries):
    fleet, _ = read(FLEET + "".join(f"  - {{{entry}}}\n" for entry in entries), "vllm", None)
    return [(one.machines, one.devices, one.order) for one in placed(fleet)]


def lines(engine, *entries, **more):
    return started(FLEET + "".join(f"  - {{{entry}}}\n" for entry in entries), engine, None, **more)


def test_machines_fill_up_one_after_another():
    assert places("count: 3, parallelism: {tensor: 4}", "count: 1", "count: 1, accelerator: mi300x"
                  ) == [(("h100-80gb-0",), (0, 1, 2, 3), 0), (("h100-80gb-0",), (4, 5, 6, 7), 1),
                        (("h100-80gb-1",), (0, 1, 2, 3), 0), (("h100-80gb-1",), (4,), 1),
                        (("mi300x-0",), (0,), 0)]


def test_a_wide_replica_has_machines_of_its_own():
    assert places("count: 1", "count: 1, parallelism: {tensor: 8, pipeline: 2}", "count: 1") == [
        (("h100-80gb-0",), (0,), 0), (("h100-80gb-1", "h100-80gb-2"), tuple(range(8)), 0),
        (("h100-80gb-0",), (1,), 1)]


def test_replicas_are_where_their_endpoints_are():
    urls = "[http://a.example:81, http://b.example, http://b.example:9000]"
    assert places(f"count: 3, endpoints: {urls}") == [
        (("a.example",), (0,), 0), (("b.example",), (0,), 0), (("b.example",), (1,), 1)]
    found = lines("sglang", f"count: 3, engine: sglang, endpoints: {urls}")
    assert [start.port for start in found] == [81, 80, 9000]
    reasons = {" ".join(one.words): one.reason for one in found[0].line.arguments}
    assert reasons["--port 81"] == "stated by fleet.yaml:8"
    assert reasons["--host 0.0.0.0"] == "its endpoint is http://a.example:81"


def test_neighbours_have_ports_and_devices_of_their_own():
    first, second = lines("vllm", "count: 2")
    assert (first.port, second.port) == (8000, 8001)
    assert "--port" not in first.line.argv
    assert dict(first.line.environment)["CUDA_VISIBLE_DEVICES"].value == "0"
    assert dict(second.line.environment)["CUDA_VISIBLE_DEVICES"].value == "1"
    alone, = lines("vllm", "count: 1")
    assert not alone.line.environment
    amd = lines("vllm", "count: 2, accelerator: mi300x")
    assert [*amd[1].line.environment] == ["HIP_VISIBLE_DEVICES"]


def test_a_replica_of_two_machines_has_two_commands():
    first, second = lines("vllm", "count: 1, parallelism: {tensor: 8, pipeline: 2}")
    assert first.name == "replica-0-0-0"
    assert first.line.argv[-8:] == ["--nnodes", "2", "--node-rank", "0", "--master-addr",
                                    "$LEADER_ADDRESS", "--master-port", "20000"]
    assert second.line.argv[-1] == "--headless"
    stated, _ = lines("vllm", "count: 1, parallelism: {tensor: 8, pipeline: 2}, "
                              "endpoints: ['http://a.example:8000']")
    assert "a.example" in stated.line.argv


def test_arguments_of_the_file_are_stated():
    found, = lines("vllm", "count: 1, kubernetes: {create: {image: i, model: /m, arguments: "
                           "[--seed, '1']}}")
    assert found.line.argv == ["vllm", "serve", "/m", "--served-model-name", "llama-3.1-8b",
                               "--seed", "1"]
    assert found.line.arguments[-1].reason == "stated by fleet.yaml:8"
    with pytest.raises(InputError, match=r"replicas\[0\].kubernetes.create.arguments: vllm 0.33.0 "
                                         "no longer has --swap-space"):
        lines("vllm", "count: 1, kubernetes: {create: {image: i, model: /m, arguments: "
                      "[--swap-space, '4']}}")


def test_containers_listen_everywhere():
    found, = lines("sglang", "count: 1", everywhere=True)
    assert "--host" in found.line.argv
    found, = lines("vllm", "count: 1", everywhere=True)  # vLLM does so by itself
    assert "--host" not in found.line.argv
