"""The controller's part: one cycle after the other, every period or when somebody asks."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from penstock.core.errors import InputError
from penstock.published.inferno.cluster.actuate import patched, patches
from penstock.published.inferno.cluster.answers import collected_document, cycle_document
from penstock.published.inferno.cluster.collect import Collected, collect
from penstock.published.inferno.cluster.cycle_log import CycleLog
from penstock.published.inferno.cluster.data import Data, Parts
from penstock.published.inferno.cluster.decide import (
    AbortedError,
    Decision,
    Rules,
    decide,
    system_of,
)
from penstock.published.inferno.cluster.labels import MANAGED, place
from penstock.published.inferno.cluster.series import Series
from penstock.serving.kubernetes.actions import Tell
from penstock.serving.kubernetes.api import Cluster, ClusterError
from penstock.serving.kubernetes.objects import Ref

Skipped = (InputError, ClusterError, AbortedError)
"""Errors that end a cycle before it changes anything."""

_NOT_OBSERVED, _NO_ALLOCATION, _SATURATED = "NotObserved", "NoAllocation", "Saturated"


@dataclass(frozen=True, slots=True)
class Told:
    """A remark about a Deployment, as an Event says it."""

    ref: Ref
    uid: str
    reason: str
    message: str

    @property
    def key(self) -> str:
        """Return what makes a remark a new one: figures in a reason why nothing fits change all the
        time."""
        return self.message if self.reason == _NOT_OBSERVED else self.reason


class InfernoLoop:
    """Control loop over the managed Deployments of a cluster.

    Static data are read once, or before each cycle where they are ``dynamic``; counts of
    accelerators before each cycle. Cycles never overlap.
    """

    def __init__(self, cluster: Cluster, data: Data, series: Series | None, rules: Rules,
                 log: CycleLog | None, note: Callable[[str], None], *,
                 dynamic: bool = False) -> None:
        self._cluster = cluster
        self._data = data
        self._series = series
        self._rules = rules
        self._log = log
        self._note = note
        self._dynamic = dynamic
        self._lock = asyncio.Lock()
        self._static: Parts | None = None
        self._number = 0
        self._noted: set[str] = set()
        self._events: dict[Ref, str] = {}

    async def run(self, period_s: float) -> None:
        """Run a cycle at the end of every period, until cancelled."""
        while True:
            await asyncio.sleep(period_s)
            try:
                await self.invoke()
            except Skipped as error:
                self._note(f"cycle skipped: {error}")

    async def collected(self) -> dict[str, Any]:
        """Return what the collector sees. Raises InputError or ClusterError."""
        async with self._lock:
            found = await collect(self._cluster, self._series, self._rules.backend)
            return collected_document(found, self._rules, system_of(await self._parts()))

    async def invoke(self) -> dict[str, Any]:
        """Run a cycle, and return its document. Raises one of ``Skipped`` where nothing changed.

        A cycle goes on to its end when the caller is gone: half of a decision may want more than
        there is.
        """
        return await asyncio.shield(asyncio.create_task(self._alone()))

    async def _alone(self) -> dict[str, Any]:
        async with self._lock:
            return await self._cycle()

    async def _cycle(self) -> dict[str, Any]:
        started_s = time.monotonic()
        parts = await self._parts()
        collected = await collect(self._cluster, self._series, self._rules.backend)
        if not collected.servers and not collected.held:
            raise InputError(f"no Deployment has the label {MANAGED}: \"true\"; expected at least "
                             "one in the watched namespaces")
        collected_s = time.monotonic()
        decision = await asyncio.to_thread(decide, parts, collected.servers, self._rules)
        decided_s = time.monotonic()
        problems = await self._actuate(collected, decision)
        self._number += 1
        problems += await self._record(decision, {
            "collect": round(1000.0 * (collected_s - started_s)), "tune": 0,
            "optimize": round(1000.0 * (decided_s - collected_s)),
            "actuate": round(1000.0 * (time.monotonic() - decided_s)),
            "total": round(1000.0 * (time.monotonic() - started_s))})
        self._say({*collected.remarks, *decision.doubts, *problems})
        return cycle_document(self._number, collected, decision) | {"problems": problems}

    async def _parts(self) -> Parts:
        if self._static is None or self._dynamic:
            static = await self._data.static()
            system_of(static)  # data that are wrong are read again when somebody has changed them
            self._static = static
        return {**self._static, **await self._data.dynamic()}

    async def _actuate(self, collected: Collected, decision: Decision) -> list[str]:
        """Carry out all orders; return what the API server refused. One refusal does not stop the
        others."""
        problems = []
        for order in decision.orders:
            own = order.observed.managed
            try:
                for patch in patches(order, collected.pods_of(own)):
                    await patched(self._cluster, patch)
            except ClusterError as error:
                problems.append(f"{place(own.ref)}: {error}")
                continue
            if order.replicas != own.replicas:
                self._note(f"{place(own.ref)}: {own.replicas} to {order.replicas} replicas")
        return problems + await self._tell([*_remarks(collected, decision)])

    async def _tell(self, remarks: Sequence[Told]) -> list[str]:
        """Record an Event for each remark that its Deployment did not have before."""
        problems = []
        for one in remarks:
            if self._events.get(one.ref) == one.key:
                continue
            self._note(one.message)
            try:
                await self._cluster.act(Tell(one.ref, one.uid, "Warning", one.reason, one.message))
            except ClusterError as error:
                problems.append(f"no Event could be recorded: {error}")
        self._events = {one.ref: one.key for one in remarks}
        return problems

    async def _record(self, decision: Decision, spent_ms: Mapping[str, int]) -> list[str]:
        if self._log is None:
            return []
        try:
            await asyncio.to_thread(self._log.write, self._number, decision, spent_ms)
        except OSError as error:
            return [f"the cycle log cannot be written ({error.strerror})"]
        return []

    def _say(self, lines: set[str]) -> None:
        """Note the lines that the cycle before did not have."""
        for line in sorted(lines - self._noted):
            self._note(line)
        self._noted = lines


def _remarks(collected: Collected, decision: Decision) -> Iterator[Told]:
    for one in collected.held:
        yield Told(one.ref, one.uid, _NOT_OBSERVED, one.reason)
    for order in decision.orders:
        own = order.observed.managed
        if order.told:
            reason = _NO_ALLOCATION if order.desired is None else _SATURATED
            yield Told(own.ref, own.uid, reason, f"{place(own.ref)}: {order.told}")
