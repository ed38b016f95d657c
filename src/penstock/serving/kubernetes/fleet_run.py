"""A Fleet under control: its values, its groups, and its scaling loop where a policy scales."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp

from penstock.core.errors import InputError
from penstock.engines.launch.kinds import engine_of_group
from penstock.fleet.load import parse_fleet
from penstock.fleet.scaler import spending_of
from penstock.fleet.values import Fleet
from penstock.policy.scale.budget import Spending
from penstock.serving.gateway.decision_log import DecisionLog
from penstock.serving.kubernetes.disaggregated import in_sets
from penstock.serving.kubernetes.group import ClusterGroup
from penstock.serving.kubernetes.objects import FleetObject
from penstock.serving.kubernetes.planned import check_plannable, text_of
from penstock.serving.kubernetes.reconcile import GroupState
from penstock.serving.scaling.loop import LiveScaling
from penstock.serving.scaling.opening import loop_of, prometheus_source

ATTAINED_S = 600.0
"""Time over which the attainment of the status is counted."""

_RETRY_S = 10.0


class FleetRun:
    """Values of a Fleet, and the loop that decides its numbers of replicas.

    Raises InputError for a file that is not valid, or that a cluster cannot run. ``ordered`` is
    called for every order, ``note`` for what an operator should know. ``with_sets`` says that the
    cluster has DisaggregatedSets.
    """

    def __init__(self, fleet: FleetObject, session: aiohttp.ClientSession, records: Path,
                 ordered: Callable[[], None], note: Callable[[str], None], *,
                 with_sets: bool = False) -> None:
        self.spec = fleet.spec
        self.with_sets = with_sets
        self.values = in_sets(parsed(fleet)) if with_sets else parsed(fleet)
        self.groups = [ClusterGroup(group.served_name, time.monotonic, ordered)
                       for group in self.values.replicas]
        self.loop: LiveScaling | None = None
        self._switching = False
        self._note = note
        self._name = f"{fleet.ref.namespace}/{fleet.ref.name}"
        self._stack = ExitStack()
        self._task: asyncio.Task[None] | None = None
        self._counts: deque[tuple[float, int, int]] = deque()
        self._spending = spending_of(self.values)
        if self.values.scales:
            self.loop = self._opened(fleet, session, records)

    def start(self) -> None:
        """Begin to decide."""
        if self.loop is not None and self._task is None:
            self._task = asyncio.create_task(self._decide(self.loop))

    async def close(self) -> None:
        """Decide no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._stack.close()

    def follow(self, states: list[GroupState], *, switching: bool = False) -> None:
        """Take the groups as the cluster shows them now. While it is ``switching``, replicas of
        former groups take requests, too."""
        self._switching = switching
        for state in states:
            self.groups[state.number].follow(state)

    def targets(self) -> dict[int, int]:
        """Return the wanted replicas by group, as far as they are decided. The bounds of the file
        hold before any decision, and while metrics are missing."""
        if self.loop is None:
            return {number: group.count for number, group in enumerate(self.values.replicas)}
        found = {}
        for number, (group, facts) in enumerate(zip(self.groups, self.loop.facts, strict=True)):
            bounded = facts.bounded(group.target)
            if self._switching:  # the policy sees only a part of the requests
                bounded = max(bounded, self.values.replicas[number].count)
            if group.wanted is not None or (group.is_known and bounded != group.target):
                found[number] = bounded
        return found if self._spending is None else self._afforded(found, self._spending)

    def _afforded(self, targets: Mapping[int, int], spending: Spending) -> dict[int, int]:
        """Return the targets as far as the budget has room beside what holds machines now: replicas
        that drain among them."""
        held, found = [group.num_held for group in self.groups], dict(targets)
        for number, target in targets.items():
            present = self.groups[number].inherited
            while present < target and spending.has_room(held, number):
                held[number] += 1
                present += 1
            found[number] = min(target, max(present, self.groups[number].inherited))
        return found

    def work(self) -> dict[str, int]:
        """Return the requests at each pod by its name, as far as they are known."""
        seen = None if self.loop is None else self.loop.observe()
        if seen is None:
            return {}
        return {self.groups[number].names[one.replica_id]: one.gauges.num_running
                + one.gauges.num_waiting
                for number, group in enumerate(seen.groups) for one in group.replicas
                if one.gauges is not None and one.replica_id in self.groups[number].names}

    def attainment(self) -> float | None:
        """Return the share of the last minutes' requests that met their objectives, None where none
        is known to have ended."""
        seen, now_s = None if self.loop is None else self.loop.observe(), time.monotonic()
        if seen is None or seen.demand is None:
            return None
        counts = self._counts
        counts.append((now_s, sum(one.num_met for one in seen.demand),
                       sum(one.num_ended for one in seen.demand)))
        while len(counts) > 2 and counts[1][0] <= now_s - ATTAINED_S:
            counts.popleft()
        num_met, num_ended = (last - first for last, first in zip(
            counts[-1][1:], counts[0][1:], strict=True))
        return num_met / num_ended if num_ended > 0 else None

    def decisions(self) -> list[Mapping[str, Any]]:
        """Return the last decisions that changed a number."""
        return [] if self.loop is None else [*self.loop.recent]

    def _opened(self, fleet: FleetObject, session: aiohttp.ClientSession, records: Path
                ) -> LiveScaling:
        options = self.values.scaling.observe
        assert options is not None, "parsed has looked"
        options = replace(options, namespace=options.namespace or fleet.ref.namespace)
        source = prometheus_source(self.values, options, self.groups, self.groups, session,
                                   self._note)
        records.mkdir(parents=True, exist_ok=True, mode=0o700)
        log = DecisionLog(records / f"{fleet.ref.namespace}.{fleet.ref.name}.jsonl", self._note)
        self._stack.callback(log.close)
        return loop_of(self.values, self.groups, source, log)

    async def _decide(self, loop: LiveScaling) -> None:
        """Decide again and again. A bug in a policy leaves its fleet as it is, and no other."""
        while True:
            try:
                await loop.run()
            except Exception as error:
                self._note(f"{self._name}: {self.values.policies.scale.name} failed "
                           f"({type(error).__name__}: {error}); the numbers stay")
                await asyncio.sleep(_RETRY_S)


def parsed(fleet: FleetObject) -> Fleet:
    """Return a Fleet's values. Raises InputError where its file is not valid, or where a cluster
    cannot run it."""
    values = _read(fleet, to_plan=False)
    for number, group in enumerate(values.replicas):
        if group.kubernetes is None:
            raise InputError(f"replicas[{number}].kubernetes: is left out, and no entry of the "
                             "fleet's section kubernetes fits; expected adopt or create")
        if group.kubernetes.create is not None:
            engine_of_group(values, number)
    _check_observed(values)
    return values


def drawn(fleet: FleetObject) -> Fleet:
    """Return the values of a Fleet whose groups Penstock plans. Raises InputError where its file is
    not valid, or where a cluster could not run what is planned."""
    values = _read(fleet, to_plan=True)
    check_plannable(values)
    _check_observed(values)
    return values


def _read(fleet: FleetObject, *, to_plan: bool) -> Fleet:
    # Its data came as JSON, on one line: an error's line number would say nothing.
    try:
        return parse_fleet(text_of(fleet.spec), fleet.ref.name, base=None, to_plan=to_plan)
    except InputError as error:
        raise InputError(str(error).removeprefix(f"{fleet.ref.name}:1: ")) from None


def _check_observed(values: Fleet) -> None:
    if values.scales and values.scaling.observe is None:
        raise InputError("scaling.observe: is left out, and policies.scale is "
                         f"{values.policies.scale.name}; expected the Prometheus server that "
                         "scrapes the engines")
