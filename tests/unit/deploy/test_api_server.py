"""A real API server accepts the rendered objects, and grants the rights of the table only."""

import copy
import importlib.util
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml

from support.kube_api_server import AbsentError, api_server, skip_or_fail
from support.manifests import NAMES, of_kind, rendered

pytestmark = pytest.mark.long
OPERATOR = "monitoring.coreos.com/v1"
ACCOUNT = "system:serviceaccount:penstock:penstock-"


def rights_tests():
    """The test beside this one, which has the table; tests are no package."""
    path = Path(__file__).with_name("test_rights.py")
    spec = importlib.util.spec_from_file_location("rights_of_the_table", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def objects():
    return rendered()


@pytest.fixture(scope="module")
def server(tmp_path_factory, objects):
    """An API server with the namespace, the roles and the bindings."""
    try:
        with api_server(tmp_path_factory.mktemp("kube")) as found:
            for kind in ("CustomResourceDefinition", "Namespace", "ServiceAccount", "Role",
                         "ClusterRole", "RoleBinding", "ClusterRoleBinding"):
                for name in NAMES[:3]:
                    for one in of_kind(objects[name], kind):
                        answer = found.apply(one, dry_run=False)
                        assert answer.status in (200, 201), answer
            yield found
    except AbsentError as reason:
        skip_or_fail(reason)


def as_known(one, server):
    """An object in a version that the server knows: a PodDisruptionBudget of policy/v1 has the same
    fields in v1beta1, the version of servers before 1.21."""
    if one["apiVersion"] == "policy/v1" and server.ask("GET", "/apis/policy/v1").status == 404:
        return {**one, "apiVersion": "policy/v1beta1"}
    return one


@pytest.mark.parametrize("name", NAMES)
def test_the_server_accepts_every_object(name, objects, server):
    own = [one for one in objects[name] if one["apiVersion"] != OPERATOR]
    if not own:
        pytest.skip("the server has no CRDs of the Prometheus operator")
    refused = {}
    for one in own:
        answer = server.apply(as_known(one, server), dry_run=True)
        if answer.status not in (200, 201):
            refused[one["kind"], one["metadata"]["name"]] = answer.document["message"]
    assert not refused


@pytest.mark.parametrize(("kind", "change"), [
    ("Deployment", lambda spec: spec["template"]["spec"].update(runAsUser=1)),
    ("Deployment", lambda spec: spec["template"]["spec"]["containers"][0].update(ports=[
        {"name": "a-name-that-is-too-long", "containerPort": 1}])),
    ("Deployment", lambda spec: spec["selector"]["matchLabels"].update(a="b")),
    ("NetworkPolicy", lambda spec: spec.update(policyTypes=["Inbound"])),
    ("PodDisruptionBudget", lambda spec: spec.update(minAvailable=1)),
    ("Service", lambda spec: spec["ports"][0].update(port=0))])
def test_the_server_refuses_a_false_object(kind, change, objects, server):
    changed = copy.deepcopy(of_kind(objects["base"], kind)[-1])
    change(changed["spec"])
    assert server.apply(as_known(changed, server), dry_run=True).status >= 400


def test_a_dry_run_leaves_nothing(objects, server):
    (one,) = of_kind(objects["base"], "Deployment")
    assert server.apply(one, dry_run=True).status in (200, 201)
    there = server.ask("GET", "/apis/apps/v1/namespaces/penstock/deployments")
    assert there.document["items"] == []


def test_accounts_may_do_what_the_table_says(server):
    for role, rights in rights_tests().RIGHTS.items():
        account = ACCOUNT + role.removeprefix("penstock-").removesuffix("-leader")
        places = ["penstock"] if role in rights_tests().OF_NAMESPACE else ["", "elsewhere"]
        refused = [(key, verb) for (group, resource, *name), verbs in rights.items()
                   for verb in verbs for place in places
                   for key in [(group, resource, place, *name)]
                   if not server.may(account, verb, *key)]
        assert not refused


@pytest.mark.parametrize(("account", "verb", "group", "resource", "namespace", "name"), [
    ("controller", "get", "", "secrets", "penstock", ""),
    ("controller", "list", "", "secrets", "", ""),
    ("controller", "delete", "apps", "replicasets", "elsewhere", ""),
    ("controller", "delete", "", "pods", "elsewhere", ""),
    ("controller", "delete", "penstock.dev", "fleets", "elsewhere", ""),
    ("controller", "update", "apps", "deployments", "elsewhere", ""),
    ("controller", "create", "", "pods", "penstock", ""),
    ("controller", "create", "", "pods/exec", "penstock", ""),
    ("controller", "patch", "penstock.dev", "fleets", "penstock", ""),
    ("controller", "patch", "autoscaling", "horizontalpodautoscalers", "penstock", ""),
    ("controller", "update", "coordination.k8s.io", "leases", "penstock", "another"),
    ("controller", "update", "coordination.k8s.io", "leases", "elsewhere", "penstock-controller"),
    ("controller", "create", "coordination.k8s.io", "leases", "elsewhere", ""),
    ("gateway", "list", "", "pods", "penstock", ""),
    ("gateway", "get", "", "secrets", "penstock", "penstock-ledger"),
    ("endpoint-picker", "list", "", "pods", "elsewhere", ""),
    ("endpoint-picker", "list", "", "pods", "", ""),
    ("endpoint-picker", "patch", "", "pods", "penstock", ""),
    ("endpoint-picker", "delete", "", "pods", "penstock", ""),
    ("endpoint-picker", "list", "", "secrets", "penstock", ""),
    ("endpoint-picker", "list", "", "configmaps", "penstock", ""),
    ("endpoint-picker", "patch", "apps", "deployments", "penstock", ""),
    ("endpoint-picker", "patch", "inference.networking.k8s.io", "inferencepools/status", "penstock",
     ""),
    ("endpoint-picker", "list", "inference.networking.k8s.io", "inferencepools", "elsewhere", ""),
    ("endpoint-picker", "list", "penstock.dev", "fleets", "penstock", "")])
def test_accounts_may_not_do_more(account, verb, group, resource, namespace, name, server):
    assert not server.may(ACCOUNT + account, verb, group, resource, namespace, name)


FLEET = yaml.safe_load("""
apiVersion: penstock.dev/v1alpha1
kind: Fleet
metadata: {name: chat, namespace: inference}
spec:
  accelerators: [{name: h100-80gb, count: 4}]
  models: [{name: llama-3.1-8b}]
  service_classes: [{name: chat, slo: {ttft_s: 2, itl_s: 0.05}}]
  traffic: [{lengths: azure-2023-conv, rate_per_s: 10}]
  engine: {name: vllm, max_num_seqs: 256}
  replicas:
    - count: 2
      min_replicas: 1
      max_replicas: 4
      kubernetes: {create: {image: "vllm:1", model: m}}
  scaling: {start_s: 180, observe: {prometheus: "http://127.0.0.1:1"}}
  policies: {scale: penstock}
""")
GROUP = "/apis/penstock.dev/v1alpha1/namespaces/inference"


def settled(server):
    """What the controller made of the Fleet, once all of it is there; asks for at most a minute."""
    for _ in range(120):
        fleet = server.ask("GET", f"{GROUP}/fleets/chat").document
        events = server.ask("GET", "/api/v1/namespaces/inference/events").document["items"]
        found = {
            "conditions": {one["type"] for one in fleet.get("status", {}).get("conditions", ())},
            "events": {one["reason"] for one in events},
            "groups": [one.get("status", {}).get("workload") for one in server.ask(
                "GET", f"{GROUP}/replicagroups").document["items"]],
            "replicas": [one["spec"]["replicas"] for one in server.ask(
                "GET", "/apis/apps/v1/namespaces/inference/deployments").document["items"]],
            "leases": [one["metadata"]["name"] for one in server.ask(
                "GET", "/apis/coordination.k8s.io/v1/namespaces/penstock/leases"
            ).document["items"]]}
        if all(found.values()) and None not in found["groups"] and "Scaled" in found["events"]:
            return found
        time.sleep(0.5)
    return found


def test_the_controller_works_with_its_rights(server, tmp_path):
    kubeconfig, log = tmp_path / "kubeconfig", tmp_path / "log"
    kubeconfig.write_text(yaml.safe_dump(server.kubeconfig_of("penstock", "penstock-controller")))
    server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "inference"}},
                 dry_run=False)
    with log.open("w") as told:
        running = subprocess.Popen(
            [sys.executable, "-m", "penstock", "controller", "--kubeconfig", kubeconfig,
             "--records", tmp_path / "records", "--port", "0"], stdout=told, stderr=told)
        try:
            assert server.apply(FLEET, dry_run=False).status == 201
            found = settled(server)
        finally:
            running.terminate()
            status = running.wait(30)
    text = log.read_text()
    assert "forbidden" not in text, text
    assert found["conditions"] == {"Accepted", "Ready", "Scaling"}, text
    assert (found["replicas"], found["groups"]) == ([2], ["Deployment/chat-0"])
    assert found["leases"] == ["penstock-controller"]
    assert status == 0


def crd(group, version, kind, plural):
    """A CRD of the inference extension with any fields."""
    return {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.{group}", "annotations": {
                "api-approved.kubernetes.io": "unapproved, for tests"}},
            "spec": {"group": group, "scope": "Namespaced",
                     "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
                     "versions": [{"name": version, "served": True, "storage": True, "schema": {
                         "openAPIV3Schema": {"type": "object",
                                             "x-kubernetes-preserve-unknown-fields": True}}}]}}


POOL_FLEET = """
name: pool
accelerators: [{name: h100-80gb, count: 4}]
models: [{name: llama-3.1-8b}]
service_classes: [{name: chat, slo: {ttft_s: 2, itl_s: 0.05}}]
traffic: [{lengths: azure-2023-conv, rate_per_s: 10}]
replicas: [{count: 1}]
policies: {route: least_loaded}
"""


def test_the_picker_follows_a_pool_with_its_rights(server, tmp_path):
    (tmp_path / "fleet.yaml").write_text(POOL_FLEET)
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(
        server.kubeconfig_of("penstock", "penstock-endpoint-picker")))
    assert server.apply(crd("inference.networking.k8s.io", "v1", "InferencePool",
                            "inferencepools"), dry_run=False).status == 201
    pods = "/api/v1/namespaces/penstock/pods"

    def run(*arguments):
        return subprocess.Popen([sys.executable, "-m", "penstock", *arguments], cwd=tmp_path,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    with run("emulate", "fleet.yaml", "--port", "0") as engine:
        port = int(engine.stdout.readline().split()[1].rpartition(":")[2])
        picker = None
        try:
            for _ in range(60):  # until the server serves the new kind
                made = server.apply({
                    "apiVersion": "inference.networking.k8s.io/v1", "kind": "InferencePool",
                    "metadata": {"name": "llama", "namespace": "penstock"},
                    "spec": {"selector": {"matchLabels": {"app": "vllm"}},
                             "targetPorts": [{"number": port}]}}, dry_run=False)
                if made.status == 201:
                    break
                time.sleep(0.5)
            assert made.status == 201, made
            picker = run("endpoint-picker", "fleet.yaml", "--kubeconfig", str(kubeconfig),
                         "--pool", "penstock/llama", "--port", "0", "--metrics-port", "0",
                         "--drain-s", "0")
            url = picker.stdout.readline().split()[2]
            assert not is_ready(url)
            made = server.apply({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": "vllm-0", "namespace": "penstock", "labels": {"app": "vllm"}},
                "spec": {"containers": [{"name": "vllm", "image": "vllm:1"}],
                         "automountServiceAccountToken": False}}, dry_run=False)
            assert made.status == 201, made
            pod = server.ask("GET", f"{pods}/vllm-0").document
            pod["status"].update(podIP="127.0.0.1", podIPs=[{"ip": "127.0.0.1"}], conditions=[
                {"type": "Ready", "status": "True"}])
            assert server.ask("PUT", f"{pods}/vllm-0/status", pod).status == 200
            assert any(is_ready(url) or time.sleep(0.5) for _ in range(60))
        finally:
            engine.kill()
            if picker is not None:
                picker.terminate()
                _, told = picker.communicate(timeout=60)
    assert "forbidden" not in told
    # Of the kinds that the cluster lacks, each is told once.
    assert told.count("no such kind") == 2
    assert picker.returncode == 0


def is_ready(url):
    try:
        with urllib.request.urlopen(f"{url}/ready", timeout=10) as answer:
            return answer.status == 200
    except urllib.error.HTTPError:
        return False
