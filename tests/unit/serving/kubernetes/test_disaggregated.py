"""Groups with roles as workloads of their own, and as a DisaggregatedSet."""

import os
import time
from pathlib import Path

import pytest
import yaml

from penstock.core.errors import InputError
from penstock.fleet.write import yaml_text
from penstock.serving.kubernetes.applied import applied_workloads
from support.kube_api_server import AbsentError, api_server, skip_or_fail
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


def without_descriptions(value):
    if isinstance(value, dict):
        return {key: without_descriptions(one) for key, one in value.items()
                if not (key == "description" and isinstance(one, str))}
    return [without_descriptions(one) for one in value] if isinstance(value, list) else value


def kept(asked, answered):
    """Whether an answer has all that was asked: a server drops fields that it does not know."""
    if isinstance(asked, dict):
        return all(key in answered and kept(value, answered[key]) for key, value in asked.items())
    if isinstance(asked, list):
        return len(asked) == len(answered) and all(map(kept, asked, answered))
    return asked == answered or str(asked) == str(answered)


def accepted(server, one):
    """The answer to an object, once the server knows its kind."""
    for _ in range(100):
        answer = server.apply(one, dry_run=True)
        if answer.status != 404:
            return answer
        time.sleep(0.2)
    return answer


@pytest.mark.long
@pytest.mark.skipif(CRDS is None, reason="PENSTOCK_LWS_CRDS names no folder of definitions")
def test_a_server_with_the_definitions_keeps_every_field(tmp_path):
    try:
        with api_server(tmp_path) as server:
            for path in sorted(Path(CRDS or "").glob("*.yaml")):
                crd = without_descriptions(yaml.safe_load(path.read_text()))
                answer = server.apply(crd, dry_run=False)
                assert answer.status in (200, 201), answer
            for one in (*made(), *made(with_sets=False)):
                answer = accepted(server, one)
                assert answer.status in (200, 201), answer
                assert kept(one, answer.document)
            wrong = made()[0]
            wrong["spec"]["roles"].pop()
            assert server.apply(wrong, dry_run=True).status == 422
    except AbsentError as reason:
        skip_or_fail(reason)
