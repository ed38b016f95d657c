"""The rights of each account are those that its work needs, and no more."""

import copy

import pytest

from penstock.serving.endpoint_picker.pods import KINDS, POOL_KINDS
from support.kustomization import FormError
from support.manifests import of_kind, rendered

READ = {"list", "watch"}
OWN = READ | {"get", "create", "patch", "delete"}
RIGHTS = {
    "penstock-controller": {
        ("penstock.dev", "fleets"): READ,
        ("penstock.dev", "fleets/status"): {"patch"},
        ("penstock.dev", "fleets/finalizers"): {"update"},
        ("penstock.dev", "replicagroups"): READ | {"create", "delete"},
        ("penstock.dev", "replicagroups/status"): {"patch"},
        ("apps", "deployments"): OWN,
        ("apps", "deployments/scale"): {"patch"},
        ("leaderworkerset.x-k8s.io", "leaderworkersets"): OWN,
        ("leaderworkerset.x-k8s.io", "leaderworkersets/scale"): {"patch"},
        ("disaggregatedset.x-k8s.io", "disaggregatedsets"): OWN,
        ("disaggregatedset.x-k8s.io", "disaggregatedsetrolescalers"): READ,
        ("disaggregatedset.x-k8s.io", "disaggregatedsetrolescalers/scale"): {"patch"},
        ("", "pods"): READ | {"patch"},
        ("autoscaling", "horizontalpodautoscalers"): READ,
        ("keda.sh", "scaledobjects"): READ,
        ("", "events"): {"get", "create", "patch"},
    },
    "penstock-controller-leader": {
        ("coordination.k8s.io", "leases"): {"create"},
        ("coordination.k8s.io", "leases", "penstock-controller"): {"get", "update"},
    },
    "penstock-endpoint-picker": {
        ("", "pods"): READ,
        ("apps", "deployments"): READ,
        ("leaderworkerset.x-k8s.io", "leaderworkersets"): READ,
        ("inference.networking.k8s.io", "inferencepools"): READ,
        ("inference.networking.x-k8s.io", "inferenceobjectives"): READ,
        ("inference.networking.x-k8s.io", "inferencemodelrewrites"): READ,
        ("llm-d.ai", "inferenceobjectives"): READ,
        ("llm-d.ai", "inferencemodelrewrites"): READ,
    },
}
"""Verbs by role and by group, resource and name. docs/reference/deploy.md has the reasons."""
OF_NAMESPACE = {"penstock-controller-leader", "penstock-endpoint-picker"}
"""Roles that hold in the namespace of their account alone."""


@pytest.fixture(scope="module")
def objects():
    return rendered()


def rights(role):
    """Verbs of a role by group, resource and, where it is stated, name. Raises FormError for what
    would grant more than its words say."""
    found = {}
    for rule in role["rules"]:
        if unknown := set(rule) - {"apiGroups", "resources", "resourceNames", "verbs"}:
            raise FormError(f"{role['metadata']['name']}: {unknown}")
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                if "*" in (group, resource, *rule["verbs"]) or resource.startswith("secrets"):
                    raise FormError(f"{role['metadata']['name']}: {rule}")
                for name in rule.get("resourceNames", [None]):
                    key = (group, resource) if name is None else (group, resource, name)
                    if key in found:
                        raise FormError(f"{role['metadata']['name']}: {key} stands twice")
                    found[key] = set(rule["verbs"])
    return found


def roles(objects):
    """Each role once, by name: the local overlay has those of the base."""
    return {one["metadata"]["name"]: one for found in objects.values()
            for kind in ("Role", "ClusterRole") for one in of_kind(found, kind)}


def test_every_role_has_the_rights_of_the_table_and_no_others(objects):
    assert {name: rights(one) for name, one in roles(objects).items()} == RIGHTS
    assert {name for name, one in roles(objects).items() if one["kind"] == "Role"} == OF_NAMESPACE


def test_every_account_is_bound_to_its_own_roles_alone(objects):
    bound = {(one["kind"], subject["name"], one["roleRef"]["name"])
             for found in objects.values() for kind in ("RoleBinding", "ClusterRoleBinding")
             for one in of_kind(found, kind) for subject in one["subjects"]}
    assert bound == {
        ("ClusterRoleBinding", "penstock-controller", "penstock-controller"),
        ("RoleBinding", "penstock-controller", "penstock-controller-leader"),
        ("RoleBinding", "penstock-endpoint-picker", "penstock-endpoint-picker")}


def test_the_picker_may_read_every_kind_that_it_follows_and_no_other():
    followed = {(kind.group, kind.plural): READ for kind in (*KINDS, *POOL_KINDS)}
    assert RIGHTS["penstock-endpoint-picker"] == followed


@pytest.mark.parametrize("rule", [
    {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]},
    {"apiGroups": ["*"], "resources": ["pods"], "verbs": ["get"]},
    {"apiGroups": ["apps"], "resources": ["*"], "verbs": ["get"]},
    {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["*"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]},
    {"nonResourceURLs": ["/metrics"], "verbs": ["get"]}])
def test_a_rule_that_grants_too_much_is_refused(rule, objects):
    role = copy.deepcopy(roles(objects)["penstock-controller"])
    role["rules"].append(rule)
    with pytest.raises((FormError, KeyError)):
        rights(role)
