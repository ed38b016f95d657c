"""Kustomizations render, as kubectl renders them, and their objects fit together."""

import copy
import importlib
import shutil
import subprocess
import tomllib

import pytest
import typer
import yaml

from penstock.cli.commands import FIRST_PAGE
from penstock.fleet.load import load_fleet
from support.kustomization import FormError, documents, identity, merged, pod_templates, render
from support.manifests import (
    KUSTOMIZE,
    NAMES,
    REPOSITORY,
    names_of,
    of_kind,
    problems,
    rendered,
)


@pytest.fixture(scope="module")
def objects():
    return rendered()


def beside(objects, name):
    """What a kustomization may refer to besides its own objects."""
    if name == "overlays/monitoring":
        return [one for other in NAMES[:3] for one in objects[other]]
    return [] if name in ("overlays/local", "overlays/external-scaler") else objects["base"]


@pytest.mark.parametrize("name", NAMES)
def test_kubectl_renders_the_same(name, objects):
    program = shutil.which("kubectl")
    if program is None:
        pytest.skip("kubectl is not installed")
    ended = subprocess.run([program, "kustomize", KUSTOMIZE / name], capture_output=True,
                           text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    theirs = {identity(one): one for one in documents(ended.stdout)}
    assert theirs == {identity(one): one for one in objects[name]}


@pytest.mark.parametrize("name", NAMES)
def test_objects_fit_together(name, objects):
    assert problems(objects[name], beside(objects, name)) == []
    assert {one["metadata"].get("namespace", "penstock") for one in objects[name]} == {"penstock"}
    assert all(one["metadata"]["labels"]["app.kubernetes.io/part-of"] == "penstock"
               for one in objects[name])


def test_the_base_has_both_crds(objects):
    assert names_of(objects["base"], "CustomResourceDefinition") == {
        "fleets.penstock.dev", "replicagroups.penstock.dev"}


def set_at(path, value):
    """A change of a rendered object: the value at a path of keys and numbers, or its removal."""
    def change(one):
        *way, last = path
        for key in way:
            one = one[key]
        if value is None:
            del one[last]
        else:
            one[last] = value

    return change


CONTAINER = ("spec", "template", "spec", "containers", 0)
POD = CONTAINER[:3]


@pytest.mark.parametrize(("kind", "path", "value", "problem"), [
    ("Deployment", ("spec", "template", "metadata", "labels", "app.kubernetes.io/name"), "x",
     "selector does not match"),
    ("Deployment", ("spec", "selector", "matchLabels", "app.kubernetes.io/part-of"), "penstock",
     "not name and component"),
    ("Deployment", (*POD, "serviceAccountName"), "x", "no ServiceAccount x"),
    ("Deployment", (*POD, "automountServiceAccountToken"), False, "a token is mounted exactly"),
    ("Deployment", (*POD, "automountServiceAccountToken"), None, "whether it gets a token"),
    ("Deployment", (*POD, "securityContext", "runAsNonRoot"), False, "as root"),
    ("Deployment", (*POD, "securityContext", "seccompProfile"), None, "seccomp"),
    ("Deployment", (*POD, "topologySpreadConstraints", 0, "labelSelector", "matchLabels", "a"), "b",
     "spread constraint"),
    ("Deployment", (*POD, "volumes", 0), None, "volumes and mounts differ: ['tmp']"),
    ("Deployment", (*POD, "volumes", 0, "emptyDir", "sizeLimit"), None, "has no limit"),
    ("Deployment", (*CONTAINER, "volumeMounts", 1), None, "volumes and mounts differ"),
    ("Deployment", (*CONTAINER, "volumeMounts", 0, "mountPath"), "/x", "no /tmp"),
    ("Deployment", (*CONTAINER, "livenessProbe", "httpGet", "port"), "web", "no port web"),
    ("Deployment", (*CONTAINER, "readinessProbe"), None, "no readiness probe"),
    ("Deployment", (*CONTAINER, "securityContext", "readOnlyRootFilesystem"), False, "hardened"),
    ("Deployment", (*CONTAINER, "resources", "limits"), None, "no limit of memory"),
    ("Deployment", (*CONTAINER, "image"), "host:5000/penstock", "has no version"),
    ("Deployment", (*CONTAINER, "image"), "penstock:latest", "has no version"),
    ("Deployment", (*CONTAINER, "env"), [{"name": "API_TOKEN", "value": "x"}], "from a Secret"),
    ("Service", ("spec", "ports", 0, "targetPort"), "web", "no pod has the port web"),
    ("Service", ("spec", "selector", "a"), "b", "no pod has the port http"),
    ("PodDisruptionBudget", ("spec", "selector", "matchLabels", "a"), "b", "no pod"),
    ("NetworkPolicy", ("spec", "ingress", 0, "ports", 0, "port"), "web", "port web"),
    ("NetworkPolicy", ("spec", "policyTypes"), ["Egress"], "policyTypes"),
    ("NetworkPolicy", ("spec", "podSelector", "matchLabels", "a"), "b", "no pod"),
    ("NetworkPolicy", ("spec", "ingress", 0, "from", 0),
     {"podSelector": {"matchLabels": {"a": "b"}}}, "a peer matches no pod"),
    ("RoleBinding", ("roleRef", "name"), "x", "no Role x"),
    ("ClusterRoleBinding", ("subjects", 0, "name"), "x", "no account"),
    ("ClusterRoleBinding", ("subjects", 0, "namespace"), "x", "no account"),
])
def test_a_false_object_is_noticed(kind, path, value, problem, objects):
    changed = copy.deepcopy(objects["base"])
    of = [one for one in of_kind(changed, kind)
          if one["metadata"]["name"].startswith("penstock-controller")]
    set_at(path, value)(of[0])
    assert any(problem in text for text in problems(changed, []))


@pytest.mark.parametrize(("path", "value", "problem"), [
    (("spec", "endpoints", 0, "port"), "web", "no port web"),
    (("spec", "selector", "matchLabels", "a"), "b", "0 Services")])
def test_a_false_monitor_is_noticed(path, value, problem, objects):
    changed = copy.deepcopy(objects["overlays/monitoring"])
    set_at(path, value)(of_kind(changed, "ServiceMonitor")[0])
    assert any(problem in text
               for text in problems(changed, beside(objects, "overlays/monitoring")))


def test_a_missing_config_map_is_noticed(objects):
    changed = [one for one in objects["overlays/gateway"] if one["kind"] != "ConfigMap"]
    assert problems(changed, []) == ["penstock-gateway: no ConfigMap penstock-fleet"]


def test_every_workload_is_covered_by_a_policy_and_denied_all_else(objects):
    for name in ("base", "overlays/gateway", "overlays/endpoint-picker", "overlays/local"):
        policies = {one["metadata"]["name"]: one["spec"]
                    for one in of_kind(objects[name], "NetworkPolicy")}
        assert {one["metadata"]["name"] for one, _ in pod_templates(objects[name])} <= set(policies)
    assert {one["metadata"]["name"]: one["spec"] for one in of_kind(
        objects["base"], "NetworkPolicy")}["deny-all"] == {
            "podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_replicated_workloads_have_a_budget_that_lets_a_node_drain(objects):
    for name in NAMES[:3]:
        for one, _ in pod_templates(objects[name]):
            (budget,) = [found for found in of_kind(objects[name], "PodDisruptionBudget")
                         if found["metadata"]["name"] == one["metadata"]["name"]]
            assert budget["apiVersion"] == "policy/v1"
            assert one["spec"]["replicas"] > budget["spec"]["maxUnavailable"] == 1


def test_the_external_scaler_is_the_leader(objects):
    """A replica that does not lead knows no numbers, and KEDA may be connected to it."""
    (one,) = of_kind(objects["overlays/external-scaler"], "Deployment")
    assert one["spec"]["replicas"] == 1
    (service,) = of_kind(objects["overlays/external-scaler"], "Service")
    assert {port["port"] for port in service["spec"]["ports"]} == {8080, 9005}


def test_secrets_are_named_and_never_held(objects):
    for found in objects.values():
        assert not of_kind(found, "Secret")
    (gateway,) = [template for _, template in pod_templates(objects["overlays/gateway"])]
    (ledger,) = gateway["spec"]["containers"][0]["env"]
    assert ledger == {"name": "PENSTOCK_LEDGER_URL", "valueFrom": {
        "secretKeyRef": {"name": "penstock-ledger", "key": "url"}}}


def test_labels_of_the_controller_win_over_those_of_its_target(objects):
    (monitor,) = [one for one in of_kind(objects["overlays/monitoring"], "ServiceMonitor")
                  if one["metadata"]["name"] == "penstock-controller"]
    assert [one["honorLabels"] for one in monitor["spec"]["endpoints"]] == [True]


def test_the_image_has_the_version_of_the_package(objects):
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    for name in NAMES[:3]:
        for _, template in pod_templates(objects[name]):
            assert [one["image"] for one in template["spec"]["containers"]] == [
                f"registry.example.com/penstock:{version}"]
    for _, template in pod_templates(objects["overlays/local"]):
        assert [one["image"] for one in template["spec"]["containers"]] == [
            "localhost/penstock:dev"]


def test_fleet_files_of_config_maps_are_valid(objects, tmp_path):
    tried = 0
    for found in objects.values():
        for one in of_kind(found, "ConfigMap"):
            file = tmp_path / "fleet.yaml"
            file.write_text(one["data"]["fleet.yaml"])
            assert load_fleet(file).replicas
            tried += 1
    assert tried == 3  # gateway, endpoint picker, local


def test_ports_that_arguments_name_are_ports_of_the_container(objects):
    for found in objects.values():
        for _, template in pod_templates(found):
            for one in template["spec"]["containers"]:
                stated = {int(text.split("=")[1]) for text in one["args"]
                          if text.split("=")[0].endswith("port")}
                assert stated <= {port["containerPort"] for port in one["ports"]}


@pytest.mark.parametrize("name", NAMES)
def test_arguments_are_those_of_the_command(name, objects):
    """Every option in a manifest is an option of the command that it starts."""
    for _, template in pod_templates(objects[name]):
        command, *arguments = template["spec"]["containers"][0]["args"]
        unknown = {text.split("=")[0] for text in arguments if text.startswith("-")}
        if command in FIRST_PAGE:
            unknown -= options_of(command)
        assert not unknown


def options_of(command):
    found = typer.main.get_command(importlib.import_module(FIRST_PAGE[command].module).app)
    return {name for one in found.params for name in (*one.opts, *one.secondary_opts)}


@pytest.mark.parametrize("text", [
    "bases: [x]", "resources: [a.yaml]\npatches: [{patch: x}]", "labels: [{commonLabels: {}}]",
    "configMapGenerator: [{name: x, files: [a.yaml]}]", "resources: [a.yaml, a.yaml]",
    "namespace: x\nnamespace: y", "resources: [a.yaml]\npatches: [{path: b.yaml}]",
    "resources: [a.yaml]\npatches: [{path: c.yaml}]"])
def test_forms_that_the_renderer_does_not_know_are_refused(text, tmp_path):
    (tmp_path / "a.yaml").write_text("{apiVersion: v1, kind: X, metadata: {name: a}, "
                                     "spec: {rules: [{a: 1}]}}")
    (tmp_path / "b.yaml").write_text("{apiVersion: v1, kind: X, metadata: {name: b}}")
    (tmp_path / "c.yaml").write_text("{apiVersion: v1, kind: X, metadata: {name: a}, "
                                     "spec: {rules: [{a: 2}]}}")
    (tmp_path / "kustomization.yaml").write_text(
        f"apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n{text}\n")
    with pytest.raises(FormError):
        render(tmp_path)


def test_patches_merge_by_key_and_delete():
    old = {"containers": [{"name": "a", "image": "x", "args": [1], "env": [
        {"name": "u", "value": 1}, {"name": "v", "value": 2}]}, {"name": "b"}], "gone": 1}
    patch = yaml.safe_load("""
        containers: [{name: a, args: [2], env: [{name: u, $patch: delete}]}, {name: c}]
        gone: null
    """)
    assert merged(old, patch) == {"containers": [
        {"name": "c"}, {"name": "a", "image": "x", "args": [2], "env": [{"name": "v", "value": 2}]},
        {"name": "b"}]}
