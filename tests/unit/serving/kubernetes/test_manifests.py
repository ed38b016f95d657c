"""Workloads that Penstock creates."""

import pytest

from penstock.core.errors import InputError
from penstock.serving.kubernetes import objects
from penstock.serving.kubernetes.commands import engine_command
from penstock.serving.kubernetes.manifests import (
    LEAVE_S,
    MOST_GRACE_S,
    created_workload,
    grace_s,
    laid_over,
    replica_group,
)
from support import cluster_objects as cluster

FLEET = objects.fleet(cluster.fleet_document())


def made(kubernetes=cluster.CREATE, text=cluster.FLEET):
    return created_workload(FLEET, cluster.values_of(kubernetes, text), 0)


def test_a_deployment_runs_the_planned_variant():
    document = made()
    template = document["spec"]["template"]
    container, = template["spec"]["containers"]
    assert document["kind"] == "Deployment"
    assert container["image"] == "vllm/vllm-openai:v0.19.0"
    assert container["command"][:5] == ["vllm", "serve", "meta/llama", "--served-model-name",
                                        "llama-3.1-8b"]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "1"}
    selector = document["spec"]["selector"]["matchLabels"]
    assert selector.items() <= template["metadata"]["labels"].items()
    assert document["metadata"]["ownerReferences"][0]["uid"] == "uid-chat"
    assert "replicas" not in document["spec"]


def test_a_pod_starts_with_an_answer_and_ends_after_the_longest():
    spec = made()["spec"]["template"]["spec"]
    container, = spec["containers"]
    assert "/v1/completions" in container["startupProbe"]["exec"]["command"][2]
    compile(container["startupProbe"]["exec"]["command"][2], "probe", "exec")
    assert container["lifecycle"]["preStop"]["exec"]["command"] == ["sleep", str(LEAVE_S)]
    assert spec["terminationGracePeriodSeconds"] > LEAVE_S
    port, = container["ports"]
    assert container["readinessProbe"]["httpGet"]["port"] == port["name"]


def test_the_grace_follows_the_longest_answer_and_the_pace():
    values = cluster.values_of(text=cluster.FLEET.replace("rate_per_s: 1,",
                                                          "rate_per_s: 1, max_tokens: 8000,"))
    assert grace_s(values, values.replicas[0]) == LEAVE_S + 8000 * 0.05
    values = cluster.values_of(text=cluster.FLEET.replace("rate_per_s: 1,",
                                                          "rate_per_s: 1, max_tokens: 500000,"))
    assert grace_s(values, values.replicas[0]) == MOST_GRACE_S


def test_a_replica_of_several_pods_is_a_leader_worker_set():
    document = made("parallelism: {tensor: 8, pipeline: 2}, kubernetes: {create: {image: 'i:1', "
                    "model: m, pods: 2}}")
    assert document["kind"] == "LeaderWorkerSet"
    both = document["spec"]["leaderWorkerTemplate"]
    assert both["size"] == 2
    leader, worker = (both[name]["spec"]["containers"][0]
                      for name in ("leaderTemplate", "workerTemplate"))
    assert leader["resources"]["limits"] == worker["resources"]["limits"] == {"nvidia.com/gpu": "8"}
    assert "--headless" in worker["command"]
    assert "--headless" not in leader["command"]
    assert "readinessProbe" in leader
    assert "readinessProbe" not in worker


@pytest.mark.parametrize(("engine", "first", "option"), [
    ("vllm", "vllm", "--gpu-memory-utilization"), ("sglang", "python3", "--enable-metrics"),
    ("tensorrt-llm", "trtllm-serve", "--max_seq_len"), ("penstock-in-vllm", "vllm", "--dtype")])
def test_every_stock_engine_has_a_command_line(engine, first, option):
    values = cluster.values_of(text=cluster.FLEET.replace("name: vllm", f"name: {engine}"))
    found = engine_command(values, 0).words
    assert first in found
    assert option in found


def test_an_ideal_engine_has_none():
    values = cluster.values_of(text=cluster.FLEET.replace(
        "engine: {name: vllm}", "policies: {schedule: sarathi}"))
    with pytest.raises(InputError, match=r"replicas\[0\].engine: 'no engine' has no command line"):
        created_workload(FLEET, values, 0)


def test_a_template_is_laid_over():
    document = made("kubernetes: {create: {image: 'i:1', model: m, secrets: [hf], "
                    "node_selector: {gpu: h100}, arguments: [--seed, '1'], template: {spec: "
                    "{tolerations: [{operator: Exists}], containers: [{name: engine, env: "
                    "[{name: A, value: b}]}, {name: sidecar, image: 's:1'}]}}}}")
    spec = document["spec"]["template"]["spec"]
    engine, sidecar = spec["containers"]
    assert engine["env"] == [{"name": "A", "value": "b"}]
    assert engine["image"] == "i:1"
    assert engine["command"][-2:] == ["--seed", "1"]
    assert engine["envFrom"] == [{"secretRef": {"name": "hf"}}]
    assert sidecar["name"] == "sidecar"
    assert spec["nodeSelector"] == {"gpu": "h100"}
    assert spec["tolerations"] == [{"operator": "Exists"}]


def test_lists_without_names_are_replaced():
    assert laid_over({"a": [1, 2], "b": 1}, {"a": [3], "c": 2}) == {"a": [3], "b": 1, "c": 2}


def test_a_group_has_the_labels_of_its_workload():
    values = cluster.values_of("served_as: 'Meta/Llama 3', ".replace(" 3", "-3") + cluster.CREATE)
    document = replica_group(FLEET, values, 0)
    assert document["metadata"]["labels"]["penstock.dev/model"] == "Meta-Llama-3"
    assert document["spec"] == {"fleet": "chat", "group": 0}
