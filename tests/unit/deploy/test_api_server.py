"""A real API server accepts the rendered objects, and grants the rights of the table only."""

import copy
import importlib.util
from pathlib import Path

import pytest

from support.kube_api_server import AbsentError, api_server
from support.manifests import NAMES, of_kind, rendered

OPERATOR = "monitoring.coreos.com/v1"
ACCOUNT = "system:serviceaccount:penstock:penstock-"


def rights_of_the_table():
    """The table of the test beside this one; tests are no package."""
    path = Path(__file__).with_name("test_rights.py")
    spec = importlib.util.spec_from_file_location("rights_of_the_table", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.RIGHTS


@pytest.fixture(scope="module")
def objects():
    return rendered()


@pytest.fixture(scope="module")
def server(tmp_path_factory, objects):
    """An API server with the namespace, the roles and the bindings."""
    try:
        with api_server(tmp_path_factory.mktemp("kube")) as found:
            for kind in ("Namespace", "ServiceAccount", "Role", "ClusterRole", "RoleBinding",
                         "ClusterRoleBinding"):
                for name in NAMES[:3]:
                    for one in of_kind(objects[name], kind):
                        answer = found.apply(one, dry_run=False)
                        assert answer.status in (200, 201), answer
            yield found
    except AbsentError as reason:
        pytest.skip(str(reason))


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
    assert server.ask("GET", "/apis/apps/v1/namespaces/penstock/deployments").document["items"] == []


def test_accounts_may_do_what_the_table_says(server):
    for role, rights in rights_of_the_table().items():
        account = ACCOUNT + role.removeprefix("penstock-").removesuffix("-leader")
        places = ["penstock"] if role.endswith("-leader") else ["", "elsewhere"]
        refused = [(key, verb) for (group, resource, *name), verbs in rights.items()
                   for verb in verbs for place in places
                   for key in [(group, resource, place, *name)]
                   if not server.may(account, verb, *key)]
        assert not refused


@pytest.mark.parametrize(("account", "verb", "group", "resource", "namespace", "name"), [
    ("controller", "get", "", "secrets", "penstock", ""),
    ("controller", "list", "", "secrets", "", ""),
    ("controller", "delete", "apps", "deployments", "elsewhere", ""),
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
    ("endpoint-picker", "list", "", "pods", "penstock", "")])
def test_accounts_may_not_do_more(account, verb, group, resource, namespace, name, server):
    assert not server.may(ACCOUNT + account, verb, group, resource, namespace, name)
