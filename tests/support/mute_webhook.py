"""An admission webhook whose service takes connections and answers none."""

import asyncio
from contextlib import asynccontextmanager

from support import kube_clients


async def at_once(work):
    return await work()


@asynccontextmanager
async def mute_webhook(one, policy, trying=at_once):
    """Let every step on a namespace's Deployments wait for the webhook. ``trying`` does what the
    API server may be down for."""
    async def take(reader, writer):
        await reader.read()
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    configuration = kube_clients.WEBHOOKS({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": f"{one.namespace}-{port}"}, "webhooks": [{
            "name": "mute.example.com", "failurePolicy": policy, "timeoutSeconds": 2,
            "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "namespaceSelector": {"matchLabels": {"test": one.namespace}},
            "clientConfig": {"url": f"https://127.0.0.1:{port}/"},
            "rules": [{"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["*"],
                       "resources": ["deployments", "deployments/scale"]}]}]})
    await trying(lambda: one.there.create(configuration))
    await asyncio.sleep(2.0)  # the server looks at its webhooks now and then
    try:
        yield
    finally:
        await trying(lambda: one.there.delete(kube_clients.WEBHOOKS, f"{one.namespace}-{port}"))
        server.close()
