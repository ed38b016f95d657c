"""The client of a cluster's API, before a server in memory."""

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime

import httpx2
import pytest
import yaml

lightkube = pytest.importorskip("lightkube", reason="the extra 'kubernetes' is not installed")

from penstock.core.errors import InputError  # noqa: E402
from penstock.serving.kubernetes.actions import (  # noqa: E402
    Annotate,
    Apply,
    Delete,
    Label,
    Release,
    Scale,
    SetStatus,
    Tell,
)
from penstock.serving.kubernetes.api import (  # noqa: E402
    DEPLOYMENT,
    POD,
    SCALED_OBJECT,
    Cluster,
    ClusterError,
    event,
    open_cluster,
)
from penstock.serving.kubernetes.names import CREATOR  # noqa: E402
from penstock.serving.kubernetes.objects import Ref  # noqa: E402
from support import cluster_objects as cluster  # noqa: E402

KUBECONFIG = """\
apiVersion: v1
kind: Config
current-context: here
contexts: [{name: here, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: "http://127.0.0.1:9"}}]
users: [{name: u, user: {token: secret}}]
"""


class Server:
    """Answers by method and path, and keeps what it was asked."""

    def __init__(self, answers):
        self.answers, self.asked = answers, []

    def __call__(self, request):
        self.asked.append(request)
        found = self.answers.get((request.method, request.url.path))
        if isinstance(found, Exception):
            raise found
        status, body = found or (404, "404 page not found")
        if isinstance(body, str):
            return httpx2.Response(status, text=body)
        return httpx2.Response(status, json=body)

    def cluster(self, namespace="ns"):
        config = lightkube.KubeConfig.from_dict(yaml.safe_load(KUBECONFIG)).get()
        return Cluster(lightkube.AsyncClient(
            config, field_manager="penstock", trust_env=False,
            transport=httpx2.MockTransport(self)), namespace)


PODS = "/api/v1/namespaces/ns/pods"
TOLD = Tell(Ref("Fleet", "ns", "chat"), "u", "Normal", "Scaled", "1 to 2", "a")
CHAT = "/apis/apps/v1/namespaces/ns/deployments/chat-0"
FLEET = "/apis/penstock.dev/v1alpha1/namespaces/ns/fleets/chat"


def test_a_list_has_its_version_and_the_kind_of_its_entries():
    entry = {key: value for key, value in cluster.pod("a").items() if key != "kind"}
    server = Server({("GET", PODS): (200, {"items": [entry], "metadata": {
        "resourceVersion": "7"}})})
    found, version = asyncio.run(server.cluster().list(POD))
    assert version == "7"
    assert (found[0]["kind"], found[0]["metadata"]["name"]) == ("Pod", "a")


def test_all_namespaces_are_followed_without_a_namespace():
    server = Server({("GET", "/api/v1/pods"): (200, {"items": [], "metadata": {
        "resourceVersion": "1"}})})
    assert asyncio.run(server.cluster(None).list(POD)) == ([], "1")


def test_a_list_may_be_of_the_objects_with_certain_labels():
    server = Server({("GET", PODS): (200, {"items": [], "metadata": {"resourceVersion": "1"}})})
    asyncio.run(server.cluster().list(POD, {"inferno.server.managed": "true"}))
    assert server.asked[0].url.params["labelSelector"] == "inferno.server.managed=true"


@pytest.mark.parametrize(("answer", "status"), [
    ((404, "404 page not found"), 404),
    ((410, {"kind": "Status", "code": 410, "message": "too old"}), 410),
    (httpx2.ConnectError("refused"), 0),
    ((200, "<html>the page of a proxy</html>"), 0)])
def test_an_error_has_its_status(answer, status):
    path = "/apis/keda.sh/v1alpha1/namespaces/ns/scaledobjects"
    with pytest.raises(ClusterError) as caught:
        asyncio.run(Server({("GET", path): answer}).cluster().list(SCALED_OBJECT))
    assert caught.value.status == status


def test_an_object_that_is_not_there_is_none():
    assert asyncio.run(Server({}).cluster().get(DEPLOYMENT, "ns", "x")) is None


@pytest.mark.parametrize(("action", "method", "path", "kind", "body"), [
    (Apply({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {
        "name": "chat-0", "namespace": "ns"}}), "PATCH", CHAT, "apply-patch+yaml", None),
    (Scale(Ref("Deployment", "ns", "chat-0"), 3, 1), "PATCH", f"{CHAT}/scale", "json-patch+json",
     [{"op": "test", "path": "/spec/replicas", "value": 1},
      {"op": "add", "path": "/spec/replicas", "value": 3}]),
    (Scale(Ref("Deployment", "ns", "chat-0"), 3, 0), "PATCH", f"{CHAT}/scale", "json-patch+json",
     [{"op": "test", "path": "/spec/replicas", "value": None},
      {"op": "add", "path": "/spec/replicas", "value": 3}]),
    (Scale(Ref("Deployment", "ns", "chat-0"), 3, None), "PATCH", f"{CHAT}/scale",
     "json-patch+json", [{"op": "add", "path": "/spec/replicas", "value": 3}]),
    (Annotate(Ref("Pod", "ns", "a"), "k", "v"), "PATCH", f"{PODS}/a", "merge-patch+json",
     {"metadata": {"annotations": {"k": "v"}}}),
    (Label(Ref("Deployment", "ns", "chat-0"), {"k": "v"}, 3), "PATCH", CHAT, "merge-patch+json",
     {"metadata": {"labels": {"k": "v"}}, "spec": {"replicas": 3}}),
    (Label(Ref("Pod", "ns", "a"), {"k": "v"}), "PATCH", f"{PODS}/a", "merge-patch+json",
     {"metadata": {"labels": {"k": "v"}}}),
    (SetStatus(Ref("Fleet", "ns", "chat"), {"policy": "hpa"}), "PATCH", f"{FLEET}/status",
     "merge-patch+json", {"status": {"policy": "hpa"}}),
])
def test_an_action_is_one_request_with_penstock_s_field_manager(action, method, path, kind, body):
    server = Server({(method, path): (200, {"metadata": {"name": "x"}})})
    asyncio.run(server.cluster().act(action))
    request, = server.asked
    assert request.headers["content-type"] == f"application/{kind}"
    assert request.url.params["fieldManager"] == "penstock"
    if kind.startswith("apply"):
        assert request.url.params["force"] == "true"
    if body is not None:
        assert json.loads(request.content) == body


def test_the_creator_of_a_workload_keeps_the_number_of_the_version_that_it_saw():
    server = Server({
        ("GET", CHAT): (200, {"metadata": {"name": "chat-0", "namespace": "ns",
                                           "resourceVersion": "7"}, "spec": {"replicas": 4}}),
        ("PATCH", CHAT): (200, {"metadata": {"name": "x"}})})
    asyncio.run(server.cluster().act(Release(Ref("Deployment", "ns", "chat-0"))))
    request = server.asked[1]
    assert request.headers["content-type"] == "application/apply-patch+yaml"
    assert request.url.params["fieldManager"] == "penstock-create"
    assert request.url.params.get("force", "false") == "false"
    assert json.loads(request.content) == {
        "apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": 4},
        "metadata": {"name": "chat-0", "namespace": "ns", "resourceVersion": "7"}}


def test_the_creator_of_a_workload_takes_no_field_from_others():
    server = Server({("PATCH", CHAT): (200, {"metadata": {"name": "x"}})})
    asyncio.run(server.cluster().act(Apply({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "chat-0", "namespace": "ns"}, "spec": {"replicas": 3}}, CREATOR)))
    assert server.asked[0].url.params["fieldManager"] == "penstock-create"
    assert server.asked[0].url.params.get("force", "false") == "false"


def test_what_is_gone_need_not_be_deleted():
    gone = (404, {"kind": "Status", "code": 404, "message": "not found"})
    refused = (403, {"kind": "Status", "code": 403, "message": "forbidden"})
    server = Server({("DELETE", CHAT): gone})
    asyncio.run(server.cluster().act(Delete(Ref("Deployment", "ns", "chat-0"))))
    assert len(server.asked) == 1
    server.answers["DELETE", CHAT] = refused
    with pytest.raises(ClusterError, match="forbidden"):
        asyncio.run(server.cluster().act(Delete(Ref("Deployment", "ns", "chat-0"))))


def test_an_event_is_about_the_fleet():
    server = Server({("POST", "/api/v1/namespaces/ns/events"): (201, {"metadata": {}})})
    asyncio.run(server.cluster().act(Tell(Ref("Fleet", "ns", "chat"), "u", "Normal", "Scaled",
                                          "1 to 2")))
    found = json.loads(server.asked[0].content)
    assert found["involvedObject"]["uid"] == "u"
    assert found["involvedObject"]["apiVersion"] == "penstock.dev/v1alpha1"
    assert (found["reason"], found["message"], found["type"]) == ("Scaled", "1 to 2", "Normal")


def test_an_event_about_a_deployment_has_its_version():
    server = Server({("POST", "/api/v1/namespaces/ns/events"): (201, {"metadata": {}})})
    asyncio.run(server.cluster().act(Tell(Ref("Deployment", "ns", "a"), "u", "Warning", "R", "m")))
    assert json.loads(server.asked[0].content)["involvedObject"]["apiVersion"] == "apps/v1"


def test_an_event_that_repeats_is_counted():
    path = "/api/v1/namespaces/ns/events"
    there = Server({("POST", path): (409, {"kind": "Status", "code": 409, "message": "exists"})})
    name = event(TOLD, datetime.now(UTC))["metadata"]["name"]
    there.answers |= {("GET", f"{path}/{name}"): (200, {"metadata": {"name": name}, "count": 4}),
                      ("PATCH", f"{path}/{name}"): (200, {"metadata": {"name": name}})}
    asyncio.run(there.cluster().act(TOLD))
    more = json.loads(there.asked[-1].content)
    assert (more["count"], more["message"]) == (5, "1 to 2")
    same, *different = [
        event(replace(TOLD, **change), datetime.now(UTC))["metadata"]["name"] for change in (
            {"message": "2 to 1"}, {"reason": "Refused"}, {"subject": "b"}, {"uid": "v"})]
    assert same == name
    assert len({name, *different}) == 4


def test_replicas_that_somebody_has_changed_are_a_conflict():
    refused = (422, {"kind": "Status", "code": 422, "message": "testing path: test failed"})
    server = Server({("PATCH", f"{CHAT}/scale"): refused})
    with pytest.raises(ClusterError, match="no longer has 1 replicas") as caught:
        asyncio.run(server.cluster().act(Scale(Ref("Deployment", "ns", "chat-0"), 3, 1)))
    assert caught.value.status == 409


@pytest.mark.parametrize(("header", "wait_s"), [("7", 7.0), ("99999", 300.0), ("soon", 0.0)])
def test_a_busy_server_says_when_to_ask_again(header, wait_s):
    class Busy(Server):
        def __call__(self, request):
            return httpx2.Response(429, headers={"Retry-After": header}, json={
                "kind": "Status", "code": 429, "message": "too many requests"})

    with pytest.raises(ClusterError) as caught:
        asyncio.run(Busy({}).cluster().list(POD))
    assert (caught.value.status, caught.value.retry_after_s) == (429, wait_s)


WATCHES = [
    ('{"type":"ERROR","object":{"kind":"Status","code":410,"message":"too old"}}\n', 410),
    ('{"type":"ADDED","object":{"metadata":{"na', 0)]


@pytest.mark.parametrize(("text", "status"), WATCHES)
def test_a_watch_that_ends_in_an_error_says_so(text, status):
    async def work():
        server = Server({("GET", PODS): (200, text)})
        with pytest.raises(ClusterError) as caught:
            async for _ in server.cluster().watch(POD, "1"):
                pass
        assert caught.value.status == status
    asyncio.run(work())


def test_a_watch_that_stays_silent_is_begun_again(monkeypatch):
    versions = []

    class Silent(httpx2.AsyncByteStream):
        async def __aiter__(self):
            if len(versions) == 1:
                yield json.dumps({"type": "ADDED", "object": {"metadata": {
                    "name": "a", "resourceVersion": "7"}}}).encode() + b"\n"
            await asyncio.sleep(3600)

    def answer(request):
        versions.append(request.url.params["resourceVersion"])
        return httpx2.Response(200, stream=Silent())

    async def work():
        monkeypatch.setattr("penstock.serving.kubernetes.api.SILENCE_S", 0.05)
        config = lightkube.KubeConfig.from_dict(yaml.safe_load(KUBECONFIG)).get()
        there = Cluster(lightkube.AsyncClient(config, trust_env=False, transport=(
            httpx2.MockTransport(answer))), "ns")
        watch = there.watch(POD, "1")
        assert (await anext(watch))[1]["metadata"]["name"] == "a"
        task = asyncio.create_task(anext(watch))
        while len(versions) < 3:
            await asyncio.sleep(0.01)
        assert versions[:3] == ["1", "7", "7"]  # from where it was, without a new list
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    asyncio.run(work())


@pytest.mark.parametrize("text", ["", "- a", "a: [", "contexts: 3", "current-context: x\n"])
def test_a_file_that_is_no_kubeconfig_is_an_error(tmp_path, text):
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(InputError, match="kubeconfig"):
        open_cluster(path, None, None)


def test_a_context_that_is_not_in_the_file_is_an_error(tmp_path):
    path = tmp_path / "config"
    path.write_text(KUBECONFIG)
    assert open_cluster(path, "here", None).own_namespace == "default"
    with pytest.raises(InputError, match="nope"):
        open_cluster(path, "nope", None)
    path.write_text(KUBECONFIG.replace(", user: u}", "}"))
    with pytest.raises(InputError, match="names no user"):
        open_cluster(path, None, None)
