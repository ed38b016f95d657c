"""The scaling loop of a gateway: observes the fleet, asks the fleet's scaler, and orders."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from penstock.policy.scale.protocol import GroupFacts, Scaler
from penstock.policy.scale.values import Observation, ScalingDecision, State
from penstock.serving.scaling.groups import LiveGroup
from penstock.serving.scaling.record import ScalingRecord
from penstock.serving.scaling.source import Source

NUM_KEPT = 200
HISTORY_S = 60.0
"""Time for which a new loop leaves each group the replicas that an earlier loop may have ordered:
the policy has no history yet."""

_TEND_S = 0.5
_APART_S = 1.0
STATES: tuple[State, ...] = ("waiting", "starting", "ready", "draining")


class LiveScaling:
    """Asks a scaler every period, and at once when a request finds no replica and the scaler wants
    that. Every decision goes to ``record``. With ``advise`` nothing is ordered.

    ``source`` has the observations. ``facts`` has the scaler's facts of each of the ``groups``.
    ``clock`` counts seconds, ``wall_s`` is the time of day.
    """

    def __init__(self, scaler: Scaler, facts: Sequence[GroupFacts], groups: Sequence[LiveGroup],
                 source: Source, record: ScalingRecord, clock: Callable[[], float],
                 wall_s: Callable[[], float], *, advise: bool) -> None:
        self.advise = advise
        self.facts = facts
        self.groups = groups
        self.num_decisions = 0
        self.advised = tuple(group.target for group in groups)
        self.directions = tuple({"up": 0, "down": 0, "same": 0} for _ in groups)
        self.recent: deque[dict[str, Any]] = deque(maxlen=NUM_KEPT)
        self._scaler = scaler
        self._source = source
        self._record = record
        self._clock = clock
        self._wall_s = wall_s
        self._started_s = clock()
        self._decided_s: float | None = None
        self._held = asyncio.Event()
        self._inherited: list[int] = []

    @property
    def decided_s_ago(self) -> float | None:
        """Time since the last decision, None before the first."""
        return None if self._decided_s is None else self._clock() - self._decided_s

    @property
    def now_s(self) -> float:
        """Return the loop's time, from its start."""
        return self._clock() - self._started_s

    @property
    def cost_per_hour(self) -> float:
        """Price per hour of the replicas that hold accelerators."""
        held = [self.states(number).total() - self.states(number)["waiting"]
                for number in range(len(self.groups))]
        return sum(facts.cost_per_hour * count
                   for facts, count in zip(self.facts, held, strict=True))

    @property
    def problem(self) -> str | None:
        """Reason why metrics are missing, None where they are here."""
        return self._source.problem

    def states(self, number: int) -> Counter[State]:
        """Return the number of a group's replicas by state."""
        return Counter(one.state for one in self.groups[number].replicas())

    def on_held(self) -> None:
        """Ask for a decision now: a request found no replica."""
        if self._scaler.wakes:
            self._held.set()

    async def run(self) -> None:
        """Decide again and again, until cancelled."""
        while True:
            self._held.clear()
            await self.decide()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._scaler.period_s):
                    await self._held.wait()
                await asyncio.sleep(_APART_S)  # one decision for requests that come together

    async def tend(self) -> None:
        """Carry orders out, until cancelled."""
        while True:
            for group in self.groups:
                await group.tend()
            await asyncio.sleep(_TEND_S)

    async def decide(self) -> None:
        """Observe the fleet, and order what the scaler decides. Nothing is decided before the
        number of replicas is known."""
        await self._source.read()
        seen, now_s = self.observe(), self._clock() - self._started_s
        if seen is None:
            return
        # A decision may take a while, and answers must go on meanwhile.
        decision = await asyncio.to_thread(self._scaler.decide, seen, now_s)
        self._inherited = self._inherited or [group.inherited for group in self.groups]
        kept = self._inherited if now_s < HISTORY_S else [0] * len(self.groups)
        targets = tuple(facts.bounded(max(target, least)) for facts, target, least
                        in zip(self.facts, decision.targets, kept, strict=True))
        before = tuple(group.target for group in seen.groups)
        self.num_decisions += 1
        self._decided_s = self._clock()
        compared = self.advised if self.advise else before
        for counts, old, new in zip(self.directions, compared, targets, strict=True):
            counts["up" if new > old else "down" if new < old else "same"] += 1
        self._record.add(self._wall_s(), now_s, seen, targets, decision)
        if targets != compared:
            self.recent.append(_document(self._wall_s(), before, targets, decision))
        self.advised = targets
        if not self.advise:
            for group, target in zip(self.groups, targets, strict=True):
                group.order(target)

    def observe(self) -> Observation | None:
        """Return what is seen of the fleet now, None where the number of replicas is unknown."""
        return self._source.seen(self._started_s, self._clock())

    def document(self) -> dict[str, Any]:
        """Return the present state as plain data."""
        return {"policy": self._record.policy, "advise": self.advise,
                "num_decisions": self.num_decisions, "decided_s_ago": self.decided_s_ago,
                "cost_per_hour": self.cost_per_hour, "missing": self.problem,
                "groups": [self._group(number) for number in range(len(self.groups))],
                "changes": list(self.recent)[-20:]}

    def _group(self, number: int) -> dict[str, Any]:
        facts, counts = self.facts[number], self.states(number)
        found: dict[str, Any] = {
            "model": facts.model, "min_replicas": facts.floor, "max_replicas": facts.ceiling,
            "target": self.groups[number].target, "advised": self.advised[number],
            "cost_per_hour": facts.cost_per_hour}
        return found | {state: counts[state] for state in STATES}


def _document(wall_s: float, before: tuple[int, ...], targets: tuple[int, ...],
              decision: ScalingDecision) -> dict[str, Any]:
    return {"at_s": wall_s, "before": before, "targets": targets, "reason": decision.reason,
            "terms": dict(decision.terms), "attainment": decision.attainment,
            "next_best": None if decision.next_best is None else asdict(decision.next_best)}
