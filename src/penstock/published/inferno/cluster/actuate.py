"""The actuator's part of a cycle: orders as patches of labels and replicas."""

from collections.abc import Sequence

from penstock.published.inferno.cluster.decide import Order
from penstock.published.inferno.cluster.labels import ACCELERATOR, MAX_BATCH, carries_labels
from penstock.serving.kubernetes.actions import Label
from penstock.serving.kubernetes.api import Cluster, ClusterError
from penstock.serving.kubernetes.objects import Pod, Ref

_GONE = 404


def patches(order: Order, pods: Sequence[Pod]) -> list[Label]:
    """Return the patches of a server's Deployment and of its pods.

    Labels and replicas change in one request. Pods are told only where they carry Inferno's labels,
    which the simulated servers in them read.
    """
    own = order.observed.managed
    found = []
    present = {ACCELERATOR: own.accelerator, MAX_BATCH: str(own.max_batch)}
    changed = {key: value for key, value in order.labels.items() if present[key] != value}
    if changed or order.replicas != own.replicas:
        found.append(Label(own.ref, changed,
                           order.replicas if order.replicas != own.replicas else None))
    if order.replicas:
        found += [Label(Ref("Pod", pod.namespace, pod.name), order.labels) for pod in pods
                  if carries_labels(pod.labels)
                  and any(pod.labels.get(key) != value for key, value in order.labels.items())]
    return found


async def patched(cluster: Cluster, patch: Label) -> None:
    """Carry a patch out; an object that is gone by now needs none. Raises ClusterError."""
    try:
        await cluster.act(patch)
    except ClusterError as error:
        if error.status != _GONE:
            raise
