"""State of deployments: on disk, in memory, and their reserved accelerator memory.

Every change is one uninterrupted step and is on disk before it becomes visible.
"""

from collections.abc import Mapping
from dataclasses import replace

from penstock.core.errors import InputError, nearest
from penstock.policy.place.reservations import Holding, Reservations
from penstock.policy.place.values import Device, Infeasible, Placement
from penstock.serving.deployments.cluster import Cluster
from penstock.serving.deployments.deployments import Deployment, State
from penstock.serving.deployments.store import Event, Store


class UnknownDeploymentError(InputError):
    """Error for a name that is not registered."""


class DeploymentRecords:
    """The deployments of a cluster and the memory they hold. Call ``close`` at the end."""

    def __init__(self, cluster: Cluster, store: Store) -> None:
        self.store = store
        self._all = {one.name: one for one in store.deployments()}
        self._own = {device.device_id: device for device in cluster.devices()}
        self._memory = Reservations(self._own.values(), [
            Holding(one.name, one.placement, committed=one.state != State.DEPLOYING)
            for one in self._all.values() if one.placement is not None])

    def deployments(self) -> list[Deployment]:
        """All deployments by name, removed ones included."""
        return [self._all[name] for name in sorted(self._all)]

    def __getitem__(self, name: str) -> Deployment:
        """Return a deployment. Raises UnknownDeploymentError for an unregistered name."""
        if name not in self._all:
            raise UnknownDeploymentError(f"deployment: {name[:60]!r} is unknown"
                                         f"{nearest(name[:60], self._all)}")
        return self._all[name]

    def find(self, name: str) -> Deployment | None:
        """Return a deployment, None for an unregistered name."""
        return self._all.get(name)

    def events(self, name: str) -> list[Event]:
        """Return a deployment's changes of state, the oldest first."""
        return self.store.events(self[name].name)

    def write(self, one: Deployment) -> Deployment:
        """Replaces a deployment, on disk first."""
        self.store.write([one])
        self._all[one.name] = one
        return one

    def settle(self, one: Deployment) -> None:
        """Write a deployment and release memory that its state does not hold."""
        self.write(one)
        if one.placement is None:
            self.release(one.name)

    def devices(self) -> list[Device]:
        """Return the accelerators, with the memory that deployments hold on them."""
        return self._memory.devices()

    def observe(self, used_bytes: Mapping[int, int]) -> None:
        """Record the memory of accelerators that is in use by any process."""
        for device_id, used in used_bytes.items():
            self._memory.observe(replace(self._own[device_id], used_bytes=used))

    def reserve(self, name: str, placement: Placement) -> Infeasible | None:
        """Reserve memory for a deployment. Returns the reason where there is no room, else None."""
        found = self._memory.reserve(name, placement)
        return found if isinstance(found, Infeasible) else None

    def commit(self, name: str) -> None:
        """Note that the reserved memory is in use."""
        self._memory.commit(name)

    def release(self, name: str) -> None:
        """Release a deployment's memory."""
        self._memory.release(name)

    def check_integrity(self) -> None:
        """Raises AssertionError where reserved memory and the deployments that hold memory
        differ."""
        self._memory.check_integrity()
        held = {holding.name: holding.placement for holding in self._memory.holdings()}
        assert held == {one.name: one.placement for one in self._all.values()
                        if one.placement is not None}, held
        assert self.deployments() == self.store.deployments()

    def close(self) -> None:
        """Close the store."""
        self.store.close()
