"""Groups with roles as workloads of their own, and as a DisaggregatedSet."""

import os
from pathlib import Path

import pytest
import yaml

from penstock.core.errors import InputError
from penstock.fleet.write import yaml_text
from penstock.serving.kubernetes.applied import applied_workloads
from support.crd_schema import faults
from support.launched import CATALOG, read

FLEET = """\
name: {name}
accelerators: [{{name: h100-80gb}}, {{name: l40s}}]
models: [{{name: llama-3.1-8b}}]
service_classes: [{{name: chat, slo: {{ttft_s: 2}}}}]
traffic: [{{lengths: {{prompt: {{fixed: 9}}, output: {{fixed: 9}}}}, rate_per_s: 1,
           num_requests: 9}}]
engine: {{name: vllm, version: 0.32.0}}
replicas: [{replicas}]
disaggregation: {{transfer: {{gb_per_s: 50}}}}
"""
PAIR = "{role: prefill, count: 2}, {role: decode, count: 3, parallelism: {tensor: 8, pipeline: 2}}"
CRDS = os.environ.get("PENSTOCK_LWS_CRDS")
"""Folder of the definitions of kubernetes-sigs/lws (``config/crd/bases``)."""


def made(replicas=PAIR, name="apart", engine="vllm:0.32.0", *, with_sets=True):
    fleet, said = read(FLEET.format(name=name, replicas=replicas), engine, None)
    return applied_workloads(fleet, CATALOG, said, "default", with_sets=with_sets)


def engine_of(template):
    container, = template["spec"]["containers"]
    return container


def test_each_role_is_a_workload_with_its_connector():
    prefill, decode = made(with_sets=False)
    assert [prefill["kind"], decode["kind"]] == ["Deployment", "LeaderWorkerSet"]
    assert prefill["metadata"]["labels"]["penstock.dev/role"] == "prefill"
    first = engine_of(prefill["spec"]["template"])
    assert '"kv_role":"kv_producer"' in " ".join(first["command"])
    assert first["env"] == [
        {"name": "POD_ADDRESS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "VLLM_NIXL_SIDE_CHANNEL_HOST", "value": "$(POD_ADDRESS)"}]
    pods = decode["spec"]["leaderWorkerTemplate"]
    for template in (pods["leaderTemplate"], pods["workerTemplate"]):
        assert '"kv_role":"kv_consumer"' in " ".join(engine_of(template)["command"])
        assert engine_of(template)["env"][1]["value"] == "$(POD_ADDRESS)"


def test_engines_that_serve_no_whole_request_are_not_asked_for_one_at_their_start():
    for engine, probe in (("vllm:0.32.0", "exec"), ("sglang:0.5.23", "httpGet"),
                          ("tensorrt-llm:1.3.0", "exec")):
        found = made("{role: prefill}, {role: decode}", engine=engine, with_sets=False)
        for one in found:
            assert probe in engine_of(one["spec"]["template"])["startupProbe"]


def test_the_roles_of_a_model_are_one_set_and_other_groups_are_not():
    found = made(f"{PAIR}, {{accelerator: l40s}}")
    assert yaml.safe_load(yaml_text(found[0])) == found[0]
    assert [one["kind"] for one in found] == ["DisaggregatedSet", "Deployment"]
    assert found[0]["apiVersion"] == "disaggregatedset.x-k8s.io/v1"
    assert found[0]["metadata"]["name"] == "apart-0"
    roles = found[0]["spec"]["roles"]
    assert [(one["name"], one["spec"]["replicas"], one["spec"]["leaderWorkerTemplate"]["size"])
            for one in roles] == [("prefill", 2, 1), ("decode", 3, 2)]
    plain = made(with_sets=False)
    assert roles[1]["spec"]["leaderWorkerTemplate"] == plain[1]["spec"]["leaderWorkerTemplate"]
    assert roles[0]["spec"]["leaderWorkerTemplate"]["workerTemplate"] == \
        plain[0]["spec"]["template"]


def test_several_groups_of_a_role_have_names_of_their_own():
    found, = made("{role: prefill}, {role: prefill, accelerator: l40s}, {role: decode}")
    assert [one["name"] for one in found["spec"]["roles"]] == ["prefill-0", "prefill-1", "decode"]


def test_a_name_that_its_services_could_not_have():
    with pytest.raises(InputError, match="have more than 47 characters"):
        made(name="a" * 40)


@pytest.fixture(scope="module")
def schemas():
    """The schema of each kind that is defined."""
    if CRDS is None:
        pytest.skip("PENSTOCK_LWS_CRDS names no folder of definitions")
    found = {}
    for path in sorted(Path(CRDS).glob("*.yaml")):
        crd = yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        for version in crd["spec"]["versions"]:
            name = f"{crd['spec']['group']}/{version['name']}", crd["spec"]["names"]["kind"]
            found[name] = version["schema"]["openAPIV3Schema"]
    return found


def faults_of(document, schemas):
    return list(faults(document, schemas[document["apiVersion"], document["kind"]]))


@pytest.mark.parametrize("engine", ["vllm:0.32.0", "sglang:0.5.23"])
def test_the_definitions_know_every_field(schemas, engine):
    found, = made(engine=engine)
    assert faults_of(found, schemas) == []
    for role in found["spec"]["roles"]:
        role["scaling"] = {"mode": "External"}
        del role["spec"]["replicas"]
    assert faults_of(found, schemas) == []
    wide = made(engine=engine, with_sets=False)[1]
    assert wide["kind"] == "LeaderWorkerSet"
    assert faults_of(wide, schemas) == []


def test_what_the_definitions_refuse_is_noticed(schemas):
    found, = made()
    roles = found["spec"]["roles"]
    roles[0]["name"] = "Prefill"
    roles[0]["scaling"] = {"mode": "Other", "by": 1}
    roles[1]["spec"]["leaderWorkerTemplate"].pop("workerTemplate")
    roles[1]["spec"]["replicas"] = "3"
    said = faults_of(found, schemas)
    assert len(said) == 5
    found["spec"]["roles"] = roles[:1]
    assert any(one.startswith(".spec.roles: has 1") for one in faults_of(found, schemas))
