"""A metrics adapter on the loopback: external.metrics.k8s.io of a real API server, which passes
each question on to it, from the metrics page of ``penstock controller``."""

from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

import aiohttp
from aiohttp import web
from lightkube import ApiError
from prometheus_client.parser import text_string_to_metric_families

from penstock.engines.http import listening
from penstock.engines.tls import ServerTls
from support import kube_clients

GROUP, VERSION = "external.metrics.k8s.io", "v1beta1"
PATH = f"/apis/{GROUP}/{VERSION}"


class MetricsAdapter:
    """``page`` is the URL of the metrics. ``pki`` is the folder of the API server's certificates;
    nobody else is answered."""

    def __init__(self, page, pki):
        self.page, self.pki, self.asked = page, pki, []

    async def found(self, request):
        """Answer with the samples of a name in a namespace that have the selector's labels."""
        namespace, name = request.match_info["namespace"], request.match_info["name"]
        wanted = {key: value for key, _, value in (
            one.partition("=") for one in request.query.get("labelSelector", "").split(",")) if key}
        wanted["namespace"] = namespace
        async with aiohttp.ClientSession() as session, session.get(self.page) as answer:
            text = await answer.text()
        self.asked.append(request.headers.get("X-Remote-User"))
        items = [{"metricName": name, "metricLabels": sample.labels, "value": f"{sample.value:g}",
                  "timestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}
                 for family in text_string_to_metric_families(text) for sample in family.samples
                 if sample.name == name and wanted.items() <= sample.labels.items()]
        return web.json_response({"kind": "ExternalMetricValueList", "metadata": {},
                                  "apiVersion": f"{GROUP}/{VERSION}", "items": items})

    @staticmethod
    async def described(request):
        return web.json_response({
            "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": f"{GROUP}/{VERSION}",
            "resources": [{"name": "any", "singularName": "", "namespaced": True,
                           "kind": "ExternalMetricValueList", "verbs": ["get"]}]})

    @asynccontextmanager
    async def registered(self, there, namespace):
        """Serve until the context ends, as an API service of the cluster."""
        app = web.Application()
        app.router.add_get(PATH, self.described)
        app.router.add_get(PATH + "/namespaces/{namespace}/{name}", self.found)
        tls = ServerTls(self.pki / "server.crt", self.pki / "server.key", self.pki / "ca.crt",
                        lambda _: None)
        service = f"{VERSION}.{GROUP}"
        async with listening(app, "127.0.0.1", 0, 0.1, tls=tls) as url:
            port = int(url.rpartition(":")[2])
            await there.create(kube_clients.SERVICE({
                "metadata": {"name": "adapter", "namespace": namespace},
                "spec": {"type": "ExternalName", "externalName": "localhost",
                         "ports": [{"port": port}]}}))
            await there.create(kube_clients.API_SERVICE({
                "metadata": {"name": service}, "spec": {
                    "group": GROUP, "version": VERSION, "groupPriorityMinimum": 100,
                    "versionPriority": 100, "insecureSkipTLSVerify": True,
                    "service": {"namespace": namespace, "name": "adapter", "port": port}}}))
            try:
                yield
            finally:
                with suppress(ApiError):
                    await there.delete(kube_clients.API_SERVICE, service)
