"""Deployments as replicas of a gateway: every running deployment is an engine like any other."""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.core.errors import InputError
from penstock.fleet.values import Fleet, ReplicaGroup
from penstock.serving.application import Part
from penstock.serving.deployments.cluster import SERVER, Cluster, announce, open_cluster
from penstock.serving.deployments.deployments import Deployment, Instance, State
from penstock.serving.deployments.supervision import supervise

if TYPE_CHECKING:
    from penstock.serving.deployments.controller import Controller


class RoutedDeployments:
    """The deployments of a cluster, which ``run`` supervises; empty without a cluster.

    Confidential deployments are left out, because the gateway cannot attest their accelerators, and
    so are simulated ones, which have no address.
    """

    def __init__(self, found: "tuple[Cluster, Controller] | None" = None,
                 parts: Sequence[Part] = ()) -> None:
        self._found = found
        self.parts = parts
        """The deployments' API."""

    def announce(self, url: str) -> None:
        """Record the deployments' URL for later commands."""
        if self._found is not None:
            announce(self._found[0].folder, url)

    def fleet(self, fleet: Fleet) -> Fleet:
        """Return the fleet with a replica for every started deployment of one of its models."""
        models = {choice.spec.name for choice in fleet.models}
        found = tuple(_group(cluster, one, instance) for cluster, one, instance in self._started()
                      if one.model in models)
        return replace(fleet, replicas=(*fleet.replicas, *found))

    async def run(self, changed: Callable[[], None]) -> None:
        """Supervise deployments until cancelled. ``changed`` is called when addresses change."""
        await supervise(self._reconcile, lambda: [(one.name, instance)
                                                  for _, one, instance in self._started()], changed)

    async def _reconcile(self) -> None:
        if self._found is not None:
            await self._found[1].reconcile()

    def _started(self) -> Iterator[tuple[Cluster, Deployment, Instance]]:
        if self._found is None:
            return
        cluster, control = self._found
        for one in control.deployments():
            confidential = one.intent is not None and one.intent.confidential
            if one.state in (State.RUNNING, State.UNHEALTHY) and not confidential \
                    and one.instance is not None and one.instance.url.startswith("http"):
                yield cluster, one, one.instance


@asynccontextmanager
async def routed_deployments(folder: Path | None, note: Callable[[str], None]
                             ) -> AsyncIterator[RoutedDeployments]:
    """Yield the deployments of a folder, if one is given. Engines keep running after the context.
    Raises InputError for a folder without deployments, and where another process has it open."""
    if folder is None:
        yield RoutedDeployments()
        return
    # Only here, for their memory: most gateways have no folder of deployments.
    from penstock.serving.deployments.opening import opened
    from penstock.serving.deployments.store import InUseError
    from penstock.serving.deployments.verbs import LocalDeployments
    from penstock.serving.planning.deployments import part

    try:
        async with opened(folder, on_bug=note) as control:
            try:
                yield RoutedDeployments((open_cluster(folder), control),
                                        [part(LocalDeployments(control))])
            finally:
                (folder / SERVER).unlink(missing_ok=True)
    except InUseError:
        raise InputError(f"{folder}: another command or server has this folder open") from None


def _group(cluster: Cluster, one: Deployment, instance: Instance) -> ReplicaGroup:
    from penstock.serving.deployments.commands import ON_GPUS, lora_of

    assert one.configuration is not None
    configuration = one.configuration
    return ReplicaGroup(
        cluster.model(one.model).spec, cluster.accelerator, 1, configuration.parallelism,
        configuration.precision.partition("_")[0], configuration.kv_precision,
        endpoints=(instance.url,), served_as=instance.served_as,
        engine=one.engine if one.engine in ON_GPUS else "auto", lora=lora_of(one.options))
