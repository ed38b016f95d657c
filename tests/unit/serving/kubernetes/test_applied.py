"""Workloads for a cluster without the controller."""

import pytest
import yaml

from penstock.core.errors import InputError
from penstock.fleet.write import yaml_text
from penstock.serving.kubernetes.applied import applied_workloads
from support.launched import CATALOG, read

FLEET = """\
name: Two
accelerators: [{name: h100-80gb}, {name: mi300x, price_per_hour: 2}]
models: [{name: llama-3.1-8b}]
service_classes: [{name: chat, slo: {ttft_s: 2}}]
traffic: [{lengths: {prompt: {fixed: 9}, output: {fixed: 9}}, rate_per_s: 1, num_requests: 9}]
engine: {name: vllm, version: 0.32.0}
replicas:
"""


def made(*entries, engine="vllm:0.32.0"):
    fleet, said = read(FLEET + "".join(f"  - {{{entry}}}\n" for entry in entries), engine, None)
    return applied_workloads(fleet, CATALOG, said, "infer")


def test_a_group_is_a_deployment_with_its_replicas():
    document, = made("count: 3, kv_precision: fp8")
    assert yaml.safe_load(yaml_text(document)) == document
    assert document["kind"] == "Deployment"
    assert document["metadata"]["name"] == "two-0"
    assert document["metadata"]["namespace"] == "infer"
    assert "ownerReferences" not in document["metadata"]
    assert document["spec"]["replicas"] == 3
    container, = document["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "vllm/vllm-openai:v0.32.0"
    line = " ".join(container["command"])
    assert line.startswith("vllm serve meta-llama/Llama-3.1-8B --served-model-name llama-3.1-8b "
                           "--host 0.0.0.0 --port 8000")
    for part in ("--tensor-parallel-size 1", "--kv-cache-dtype fp8", "--dtype bfloat16",
                 "--gpu-memory-utilization 0.92", "--max-model-len 131072"):
        assert part in line


def test_a_replica_of_two_machines_is_a_leader_worker_set():
    document, = made("count: 1, parallelism: {tensor: 8, pipeline: 2}")
    assert document["kind"] == "LeaderWorkerSet"
    assert document["spec"]["leaderWorkerTemplate"]["size"] == 2
    assert document["spec"]["replicas"] == 1


def test_options_of_tensorrt_llm_are_written_in_the_pod():
    document, = made("count: 1, kv_precision: fp8", engine="tensorrt-llm:1.3.0")
    container, = document["spec"]["template"]["spec"]["containers"]
    shell, flag, script, name, options, *words = container["command"]
    assert (shell, flag, name) == ("sh", "-c", "sh")
    assert script.endswith('shift && exec "$@"')
    assert yaml.safe_load(options)["kv_cache_config"]["dtype"] == "fp8"
    assert words[:2] == ["trtllm-serve", "serve"]
    path = words[words.index("--extra_llm_api_options") + 1]
    assert f"> {path} &&" in script


def test_a_stated_image_stays():
    document, = made("count: 1, kubernetes: {create: {image: 'mine:1', model: /m}}")
    container, = document["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "mine:1"
    assert container["command"][2] == "/m"


@pytest.mark.parametrize(("entry", "message"), [
    ("count: 1, kubernetes: {adopt: {name: x}}", r"replicas\[0\].kubernetes: adopts a workload"),
    ("count: 1, accelerator: mi300x", "knows no image of vllm for amd"),
    ("count: 1, precision: int4", "makes only fp8 of meta-llama/Llama-3.1-8B")])
def test_what_cannot_be_created_is_refused(entry, message):
    text = FLEET.replace("{name: llama-3.1-8b}", "{name: llama-3.1-8b, precisions: [bf16, int4]}")
    fleet, said = read(f"{text}  - {{{entry}}}\n", "vllm:0.32.0", None)
    with pytest.raises(InputError, match=message):
        applied_workloads(fleet, CATALOG, said, "infer")
