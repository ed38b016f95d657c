"""A real Kubernetes API server of this machine's own, where a script to start one is at hand.

The script is that of `shared/k8s` beside the repository, or that of `PENSTOCK_KUBE_API_SERVER`.
"""

import json
import os
import signal
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
SCRIPT = Path(os.environ.get("PENSTOCK_KUBE_API_SERVER")
              or REPOSITORY.parent / "shared" / "k8s" / "start-apiserver.sh")
CACHE = Path(os.environ.get("K8S_TEST_CACHE", Path.home() / ".cache" / "k8s-apiserver-test"))
PLURALS = {"NetworkPolicy": "networkpolicies"}
CLUSTER_KINDS = {"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "Namespace",
                 "SubjectAccessReview"}


class AbsentError(Exception):
    """No API server can be started here; the text says why."""


class Answer(NamedTuple):
    """Status and document of an answer."""

    status: int
    document: dict[str, Any]


def skip_or_fail(reason: AbsentError) -> NoReturn:
    """Skip a test for want of an API server, or fail it where PENSTOCK_KUBE_REQUIRED is set."""
    if os.environ.get("PENSTOCK_KUBE_REQUIRED"):
        pytest.fail(str(reason))
    pytest.skip(str(reason))


class ApiServer:
    """Client of an API server, with all rights."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        self._command: list[str] = []
        self._again: list[subprocess.Popen[bytes]] = []
        self.config = yaml.safe_load(kubeconfig.read_text())
        cluster = self.config["clusters"][0]["cluster"]
        self._url, self._token = cluster["server"], self.config["users"][0]["user"]["token"]
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(
                context=ssl.create_default_context(cafile=cluster["certificate-authority"])))

    def ask(self, method: str, path: str, body: Any = None,
            content_type: str = "application/json") -> Answer:
        """Send a request."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self._url + path, method=method, data=data,
            headers={"Authorization": f"Bearer {self._token}", "Content-Type": content_type})
        try:
            with self._opener.open(request, timeout=30) as answer:
                return Answer(answer.status, json.load(answer))
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, json.load(error))

    def apply(self, one: dict[str, Any], *, dry_run: bool) -> Answer:
        """Apply an object as kubectl does on the server. Unknown fields are refused."""
        kind, metadata = one["kind"], one["metadata"]
        path = "/api/v1" if one["apiVersion"] == "v1" else f"/apis/{one['apiVersion']}"
        if kind not in CLUSTER_KINDS:
            path += f"/namespaces/{metadata['namespace']}"
        path += f"/{PLURALS.get(kind, kind.lower() + 's')}/{metadata['name']}?fieldManager=test"
        return self.ask("PATCH", path + ("&dryRun=All" if dry_run else ""), one,
                        "application/apply-patch+yaml")

    def kubeconfig_of(self, namespace: str, account: str) -> dict[str, Any]:
        """Kubeconfig of a service account, with a token that the server makes."""
        made = self.ask("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token", {
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"audiences": [], "expirationSeconds": 3600}})
        (context,) = self.config["contexts"]
        return {**self.config,
                "users": [{"name": account, "user": {"token": made.document["status"]["token"]}}],
                "contexts": [{"name": context["name"], "context": {
                    **context["context"], "user": account, "namespace": namespace}}]}

    def crash(self) -> None:
        """End the API server at once. Its data stay."""
        pid = int((self.kubeconfig.parent / "apiserver.pid").read_text())
        self._command = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")[:-1]
        os.kill(pid, signal.SIGKILL)

    def restart(self) -> None:
        """Start the API server again on the same data."""
        folder = self.kubeconfig.parent
        with (folder / "apiserver.log").open("ab") as log:
            started = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log,
                                       stderr=log, start_new_session=True)
        (folder / "apiserver.pid").write_text(f"{started.pid}\n")
        self._again.append(started)

    def reap(self) -> None:
        """Wait for the end of what was started again."""
        for one in self._again:
            one.wait()

    def may(self, user: str, verb: str, group: str, resource: str, namespace: str = "",
            name: str = "") -> bool:
        """Whether a user has a right, by the server's own judgement."""
        resource, _, subresource = resource.partition("/")
        answer = self.ask("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", {
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": {"user": user, "resourceAttributes": {
                "verb": verb, "group": group, "resource": resource, "subresource": subresource,
                "namespace": namespace, "name": name}}})
        return bool(answer.document["status"]["allowed"])


@contextmanager
def api_server(folder: Path, *, controllers: bool = False) -> Iterator[ApiServer]:
    """An API server with its state in a folder: with Kubernetes' controllers, or with the check of
    owners' references that OpenShift has. Raises AbsentError."""
    if not SCRIPT.exists():
        raise AbsentError(f"no script to start an API server at {SCRIPT}")
    if not [*CACHE.glob("bin-*/.done")]:
        raise AbsentError(f"the API server is not built: {SCRIPT} build takes five minutes")
    environment = dict(os.environ) if controllers else {
        **os.environ, "K8S_TEST_KCM": "0", "K8S_TEST_EXTRA":
        "--enable-admission-plugins=OwnerReferencesPermissionEnforcement"}
    started = subprocess.run([SCRIPT, "start", folder], capture_output=True, text=True,
                             env=environment, check=False)
    if started.returncode == 77:
        raise AbsentError(started.stderr.strip())
    assert started.returncode == 0, started.stderr
    one = ApiServer(Path(started.stdout.strip().splitlines()[-1]))
    try:
        yield one
    finally:
        subprocess.run([SCRIPT, "stop", folder], check=True, capture_output=True, env=environment)
        one.reap()
