"""Election of one controller among several, by a Lease."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from penstock.serving.kubernetes.api import LEASE, Cluster, ClusterError
from penstock.serving.kubernetes.objects import Document

LEASE_NAME = "penstock-controller"
DURATION_S = 15.0
"""Time after which another controller may take over a Lease that is not renewed."""

RENEW_S = 10.0
"""Time after which a leader that could not renew its Lease leads no longer: less than the duration,
so that there are never two."""

RETRY_S = 2.0
RELEASE_S = 5.0


class Election:
    """Candidate for the Lease of a namespace. ``clock`` counts seconds.

    Whether the Lease of another controller has expired is judged by this machine's clock since the
    Lease was last seen to change, as clocks of different machines differ.
    """

    def __init__(self, cluster: Cluster, namespace: str, identity: str,
                 clock: Callable[[], float], note: Callable[[str], None],
                 now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.identity = identity
        self.leads = asyncio.Event()
        self.lost = asyncio.Event()
        self._cluster = cluster
        self._namespace = namespace
        self._clock = clock
        self._note = note
        self._now = now
        self._seen: tuple[str, float] | None = None  # the Lease's version, and since when
        self._renewed_s = float("-inf")

    @property
    def may_act(self) -> bool:
        """Whether the Lease is ours at this very moment. ``leads`` may be older: this process may
        have been stopped for a while."""
        return self._clock() - self._renewed_s < RENEW_S

    async def run(self) -> None:
        """Try to lead, until cancelled; then give the Lease up."""
        try:
            while True:
                started_s = self._clock()
                if await self._try_in_time():
                    self._renewed_s = started_s
                self._judge()
                await asyncio.sleep(RETRY_S)
        finally:
            if self.leads.is_set():
                self._renewed_s = float("-inf")
                self.leads.clear()
                self.lost.set()
                with suppress(ClusterError, TimeoutError):
                    async with asyncio.timeout(RELEASE_S):
                        await self._release()

    def _judge(self) -> None:
        if self.may_act and not self.leads.is_set():
            self._note(f"{self.identity} leads")
            self.lost.clear()
            self.leads.set()
        elif not self.may_act and self.leads.is_set():
            self._note(f"{self.identity} leads no longer: its Lease could not be renewed")
            self.leads.clear()
            self.lost.set()

    async def _try_in_time(self) -> bool:
        """Try, but not beyond the time after which a leader must know that it leads no longer."""
        with suppress(TimeoutError):
            async with asyncio.timeout(RENEW_S - RETRY_S):
                return await self._try()
        self._note(f"the Lease {LEASE_NAME}: the API server does not answer in time")
        return False

    async def _try(self) -> bool:
        """Create, renew or take over the Lease. Returns whether it is ours."""
        try:
            found = await self._cluster.get(LEASE, self._namespace, LEASE_NAME)
            if found is None:
                await self._cluster.create(LEASE, self._lease(None, 0))
                return True
            spec = found.get("spec") or {}
            if spec.get("holderIdentity") == self.identity:
                await self._cluster.replace(LEASE, self._lease(found, _changes(spec)))
                return True
            if spec.get("holderIdentity") and not self._expired(found, spec):
                return False
            await self._cluster.replace(LEASE, self._lease(found, _changes(spec) + 1))
            return True
        except ClusterError as error:
            if error.status != 409:  # another candidate was faster
                self._note(f"the Lease {LEASE_NAME}: {error}")
            return False

    def _expired(self, found: Document, spec: Document) -> bool:
        version = found["metadata"]["resourceVersion"]
        if self._seen is None or self._seen[0] != version:
            self._seen = (version, self._clock())
        return self._clock() - self._seen[1] >= float(spec.get("leaseDurationSeconds", DURATION_S))

    async def _release(self) -> None:
        found = await self._cluster.get(LEASE, self._namespace, LEASE_NAME)
        if found is not None and (found.get("spec") or {}).get("holderIdentity") == self.identity:
            lease: dict[str, Any] = self._lease(found, _changes(found["spec"]))
            lease["spec"]["holderIdentity"] = ""
            await self._cluster.replace(LEASE, lease)

    def _lease(self, found: Document | None, changes: int) -> dict[str, Any]:
        at = self._now()
        text = at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        old = {} if found is None else found.get("spec") or {}
        acquired = old.get("acquireTime") if old.get("holderIdentity") == self.identity else text
        metadata = {"name": LEASE_NAME, "namespace": self._namespace} if found is None \
            else dict(found["metadata"])
        return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata,
                "spec": {"holderIdentity": self.identity, "renewTime": text,
                         "acquireTime": acquired or text, "leaseTransitions": changes,
                         "leaseDurationSeconds": round(DURATION_S)}}


def _changes(spec: Document) -> int:
    return int(spec.get("leaseTransitions") or 0)
