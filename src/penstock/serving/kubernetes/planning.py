"""Plans of Fleets without ``replicas``: computed as by ``penstock plan``, in a process apart."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Final

from penstock.core.errors import InputError
from penstock.fleet.values import Fleet
from penstock.serving.kubernetes.objects import FleetObject, Ref
from penstock.serving.kubernetes.planned import (
    Plan,
    made_plan,
    plan_of,
    planned_spec,
    running_groups,
    text_of,
)
from penstock.serving.planning.fleet_plan import SOURCE, Order
from penstock.serving.planning.jobs import Jobs, Limits

LIMITS = Limits(num_at_once=1, num_waiting=10_000, time_limit_s=600.0)
"""Limits of plans: one is computed at a time, so that a busy controller keeps a core to itself."""

PAUSES_S: Final = (60.0, 300.0, 1800.0, 3600.0)
"""Pauses before a plan is computed again that failed for a reason other than its file. The last one
repeats."""


@dataclass(frozen=True, slots=True)
class Unplanned:
    """A Fleet without a plan: its plan is under way, or there is a ``problem``, which ``passes``
    where the file is not its cause."""

    problem: str | None = None
    passes: bool = False


UNDER_WAY = Unplanned()


@dataclass(slots=True)
class _Work:
    key: tuple[str, int]
    outcome: Plan | Unplanned = UNDER_WAY
    task: asyncio.Task[None] | None = None


class Planning:
    """Plans each Fleet once for each generation of its file. ``made`` is called when there is a
    plan, or a problem. A plan that failed, but not by its file, is computed again.

    A plan that the Fleet's status has is not computed again, so that a new controller begins where
    another one ended.
    """

    def __init__(self, jobs: Jobs, made: Callable[[Ref], None],
                 pauses_s: Sequence[float] = PAUSES_S) -> None:
        self._jobs = jobs
        self._made = made
        self._pauses_s = pauses_s
        self._work: dict[Ref, _Work] = {}

    def plan(self, fleet: FleetObject, drawn: Fleet) -> Plan | Unplanned:
        """Return the plan of a Fleet, whose values are ``drawn``, or begin to compute the plan."""
        known = plan_of(fleet.status)
        if known is not None and known.generation == fleet.generation:
            return known
        key, work = (fleet.uid, fleet.generation), self._work.get(fleet.ref)
        if work is None or work.key != key:
            self.forget(fleet.ref)
            work = self._work[fleet.ref] = _Work(key)
            work.task = asyncio.create_task(self._compute(work, fleet, drawn, known))
        return work.outcome

    def forget(self, ref: Ref) -> None:
        """Forget a Fleet, and stop its plan."""
        work = self._work.pop(ref, None)
        if work is not None and work.task is not None:
            work.task.cancel()

    async def close(self) -> None:
        """Stop all plans."""
        tasks = [work.task for work in self._work.values() if work.task is not None]
        for ref in [*self._work]:
            self.forget(ref)
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _compute(self, work: _Work, fleet: FleetObject, drawn: Fleet, before: Plan | None
                       ) -> None:
        for pause_s in chain(self._pauses_s, repeat(self._pauses_s[-1])):
            work.outcome = await self._tried(fleet, drawn, before)
            self._made(fleet.ref)
            if isinstance(work.outcome, Plan) or not work.outcome.passes:
                return
            await asyncio.sleep(pause_s)

    async def _tried(self, fleet: FleetObject, drawn: Fleet, before: Plan | None
                     ) -> Plan | Unplanned:
        try:
            return await self._planned(fleet, drawn, before)
        except InputError as error:
            return Unplanned(str(error))
        except Exception as error:
            return Unplanned(f"{type(error).__name__}: {error}", passes=True)

    async def _planned(self, fleet: FleetObject, drawn: Fleet, before: Plan | None
                       ) -> Plan | Unplanned:
        """Return the plan from the groups of the plan ``before``, which run now; where the changed
        file does not allow them, as if nothing ran."""
        running = [] if before is None else running_groups(before, drawn)
        files = [planned_spec(fleet.spec, drawn, running)] if running else []
        for spec in (*files, fleet.spec):
            answer = await self._jobs.answer(Order(text_of(spec)))
            if answer.status == 200:
                return made_plan(answer.document, fleet.generation)
            if answer.status != 400:
                break
        message = str(answer.document["error"]["message"])
        return Unplanned(message.removeprefix(f"{SOURCE}:1: ").removeprefix(f"{SOURCE}: "),
                         passes=answer.status != 400)
