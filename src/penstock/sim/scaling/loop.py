"""The scaling loop as a source of events: decisions, starts that end, replicas that stop."""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from penstock.core.request import Request
from penstock.core.units import PS_PER_S, to_ps
from penstock.journal.scaling_view import view
from penstock.metrics.scaling_summary import ScalingEvent, ScalingView
from penstock.policy.scale.budget import Spending
from penstock.policy.scale.deferral import Deferral
from penstock.policy.scale.demand import DemandMeter
from penstock.policy.scale.protocol import Scaler
from penstock.policy.scale.values import (
    Gauges,
    LearnedTimes,
    Observation,
    ScalingDecision,
    SeenGroup,
    SeenReplica,
)
from penstock.sim.dispatch import Dispatcher
from penstock.sim.kernel import NEVER_PS, Arrivals, EventSource
from penstock.sim.replica import SimReplica
from penstock.sim.scaling.faults import Faults
from penstock.sim.scaling.meter import GroupMeter
from penstock.sim.scaling.slots import DRAINING, EMPTY, READY, STARTING, STATES, WAITING, Slot

_APART_PS: Final = PS_PER_S  # least time between decisions that requests ask for


Record = Callable[[float, Observation, Sequence[int], ScalingDecision], None]
"""Function that keeps the time of a decision, what was seen, the targets, and the decision."""


class Limits(NamedTuple):
    """Bounds of one group. ``pool`` is the number of its pool of accelerators, ``width`` the
    accelerators of one replica."""

    floor: int
    ceiling: int
    pool: int
    width: int


class Decided(NamedTuple):
    """A decision that changed a target, and what it followed from. ``targets`` are the decided
    ones within the groups' bounds."""

    at_s: float
    before: tuple[int, ...]
    targets: tuple[int, ...]
    decision: ScalingDecision
    seen: ScalingView


class Gateway(Arrivals):
    """Arrivals of which some may wait for a replica."""

    @property
    def busy(self) -> bool:
        """Whether requests are still to be sent, or on their way."""
        raise NotImplementedError

    @property
    def patience_ps(self) -> int:
        """When a request that waits for a replica becomes hopeless, NEVER_PS where none does."""
        raise NotImplementedError

    def release(self, now_ps: int) -> None:
        """Send the requests that wait for a replica once more."""
        raise NotImplementedError

    def give_up(self, now_ps: int) -> None:
        """Refuse the requests that have waited for a replica for too long."""
        raise NotImplementedError

    def fail(self, replica_id: int, now_ps: int) -> None:
        """Lose a replica, and send its requests once more whose answer has not begun."""
        raise NotImplementedError

    def send_deferred(self, now_ps: int) -> None:
        """Send the requests that are held back no longer."""
        raise NotImplementedError


class ScalingLoop(EventSource):
    """Asks a scaler every period, and starts and drains replicas as it orders.

    ``start_ps`` draws the time from the order of a group's replica until it is ready. ``renew``
    gives a slot a fresh engine. ``pools`` has the accelerators of each pool, None without a limit.
    ``spending`` is of a budget that all replicas share, None without one. ``record`` gets every
    decision. ``faults`` happen to replicas, and ``successor`` makes a scaler that begins with given
    targets, after one that was killed. ``deferral`` decides how long requests are held back, None
    where none are. The loop ends with the last request.
    """

    def __init__(self, number: int, scaler: Scaler, slots: Sequence[Slot],
                 replicas: Sequence[SimReplica], dispatcher: Dispatcher,
                 limits: Sequence[Limits], pools: Sequence[int | None],
                 start_ps: Callable[[int], int], renew: Callable[[int], None],
                 group_meters: Sequence[GroupMeter], demand: DemandMeter, faults: Faults,
                 successor: Callable[[Sequence[int]], Scaler],
                 record: Record | None = None, spending: Spending | None = None,
                 deferral: Deferral[Request] | None = None) -> None:
        super().__init__(number)
        self.due_ps = 0
        self.changes: list[ScalingEvent] = []
        self.decided: list[Decided] = []
        self.learned: tuple[LearnedTimes, ...] = ()
        self.num_starts = 0
        self.num_stops = 0
        self.num_failed_starts = 0
        self.num_failures = 0
        self.num_reclaims = 0
        self._gateway: Gateway | None = None
        self._scaler = scaler
        self._slots = slots
        self._replicas = replicas
        self._dispatcher = dispatcher
        self._limits = limits
        self._pools = pools
        self._start_ps = start_ps
        self._renew = renew
        self._group_meters = group_meters
        self._demand = demand
        self._faults = faults
        self._spending = spending
        self._successor = successor
        self._record = record
        self._deferral = deferral
        self._period_ps = to_ps(scaler.period_s)
        self._next_ps = 0
        self._decided_ps = 0
        self._seen_before: Observation | None = None
        self._targets = [0] * len(limits)
        self._of_group = [[slot for slot in slots if slot.group == group]
                          for group in range(len(limits))]
        for group, own in enumerate(self._of_group):
            for slot in own:
                if dispatcher.is_open(slot.replica_id):
                    slot.state = READY
                    self._live(slot, 0)
                    self._targets[group] += 1
            self._note(group, 0)

    def attach(self, gateway: Gateway) -> None:
        """Set the gateway before the replicas."""
        self._gateway = gateway

    def commit(self, now_ps: int) -> None:
        opened = False
        for slot in self._slots:
            if slot.next_ps <= now_ps:
                self._change(slot, now_ps)
                opened = opened or slot.state == READY
        if now_ps >= self._faults.restart_ps:
            self._scaler = self._successor(self._targets)
            self._seen_before = None
            self._faults.restarted()
        if now_ps >= self._next_ps:
            self._decide(now_ps)
            self._next_ps, self._decided_ps = now_ps + self._period_ps, now_ps
        self._start_waiting(now_ps)
        gateway = self._gateway
        assert gateway is not None, "the loop runs with a gateway"
        if opened:
            gateway.release(now_ps)
        gateway.give_up(now_ps)
        if self._deferral is not None and self._deferral.num_held:
            gateway.send_deferred(now_ps)
        self._set_due(now_ps)

    def held(self, now_ps: int) -> int:
        """Decide soon, where the scaler wants that: a request found no replica. Returns the number
        of this source."""
        if self._scaler.wakes:
            self._next_ps = min(self._next_ps, max(now_ps, self._decided_ps + _APART_PS))
            self._set_due(now_ps)
        gateway = self._gateway
        if gateway is not None:
            self.due_ps = min(self.due_ps, max(now_ps, gateway.patience_ps))
        return self.number

    def deferred(self, now_ps: int) -> int:
        """Look at requests that are held back in time. Returns the number of this source."""
        self._set_due(now_ps)
        return self.number

    def plan(self, now_ps: int) -> None:
        """Do nothing: orders take effect as they are decided."""

    def stop(self, now_ps: int) -> None:
        """Do nothing: slots keep their states."""

    def drained(self, replica_id: int, now_ps: int) -> None:
        """Empty the slot of a draining replica that has ended its last request."""
        slot = self._slots[replica_id]
        if slot.state == DRAINING:
            self._enter(slot, EMPTY, now_ps)
            self.num_stops += 1

    def _set_due(self, now_ps: int) -> None:
        gateway = self._gateway
        due_ps = self._next_ps if gateway is not None and gateway.busy else NEVER_PS
        if due_ps < NEVER_PS:
            assert gateway is not None, "it is busy"
            due_ps = min(due_ps, self._faults.restart_ps, gateway.patience_ps)
            for slot in self._slots:
                if slot.state >= STARTING and slot.next_ps < due_ps:
                    due_ps = slot.next_ps
            if self._deferral is not None and self._deferral.num_held:
                due_ps = min(due_ps, to_ps(self._deferral.next_s(now_ps / PS_PER_S)))
        self.due_ps = due_ps

    # -- replicas that change by themselves -----------------------------------------------------

    def _change(self, slot: Slot, now_ps: int) -> None:
        """Let a start end, a replica fail, or its owner take it back."""
        if slot.state == STARTING:
            slot.due_ps = NEVER_PS
            if slot.doomed:
                slot.doomed = False
                self.num_failed_starts += 1
                self._enter(slot, WAITING, now_ps)  # it begins again
                return
            self._enter(slot, READY, now_ps)
            self._live(slot, now_ps)
            self._dispatcher.open(slot.replica_id)
        elif slot.fails_ps <= now_ps:
            self._fail(slot, now_ps)
        else:
            self.num_reclaims += 1
            slot.reclaimed_ps, slot.doomed = NEVER_PS, True
            slot.fails_ps = min(slot.fails_ps, now_ps + self._faults.notice_ps(slot.group))
            if slot.state == READY:
                self._drain(slot, now_ps)
            self._apply(slot.group, self._targets[slot.group], now_ps)

    def _live(self, slot: Slot, now_ps: int) -> None:
        slot.fails_ps = self._faults.fails_ps(now_ps)
        slot.reclaimed_ps = self._faults.reclaimed_ps(slot.group, now_ps)

    def _fail(self, slot: Slot, now_ps: int) -> None:
        """Lose a replica. Another one takes its place."""
        gateway = self._gateway
        assert gateway is not None, "the loop runs with a gateway"
        self.num_failures += not slot.doomed
        if slot.state == READY:
            self._dispatcher.close(slot.replica_id)
        gateway.fail(slot.replica_id, now_ps)
        self._enter(slot, EMPTY, now_ps)
        self._apply(slot.group, self._targets[slot.group], now_ps)

    # -- decisions ------------------------------------------------------------------------------

    def _decide(self, now_ps: int) -> None:
        seen, now_s = self._observe(now_ps), now_ps / PS_PER_S
        decision = self._scaler.decide(seen, now_s)
        self.learned = decision.learned
        targets = [min(max(target, limit.floor), limit.ceiling)
                   for target, limit in zip(decision.targets, self._limits, strict=True)]
        if self._record is not None:
            self._record(now_s, seen, targets, decision)
        before = self._targets
        self._targets = targets
        if targets != before:
            self.decided.append(Decided(now_s, tuple(before), tuple(targets), decision,
                                        view(seen, self._seen_before, now_s)))
        self._seen_before = seen
        if self._deferral is not None:
            self._deferral.allow(self._deferral.spare_per_s(seen, now_s))
        for group, target in enumerate(targets):
            if target != before[group]:
                self._note(group, now_ps)
            self._apply(group, target, now_ps)

    def _apply(self, group: int, target: int, now_ps: int) -> None:
        own = self._of_group[group]
        num_more = target - sum([slot.ordered for slot in own])
        if num_more > 0:
            for slot in [slot for slot in own if slot.state == EMPTY][:num_more]:
                self._enter(slot, WAITING, now_ps)
        elif num_more < 0:
            for slot in sorted([slot for slot in own if slot.ordered],
                               key=self._worth)[:-num_more]:
                self._give_up(slot, now_ps)

    def _worth(self, slot: Slot) -> tuple[int, int, int]:
        """Order in which replicas are given up: those that wait, the last that began to start, the
        ready ones with the fewest requests."""
        if slot.state < READY:
            return slot.state, -slot.since_ps, -slot.replica_id
        return READY, len(self._replicas[slot.replica_id].requests), -slot.replica_id

    def _give_up(self, slot: Slot, now_ps: int) -> None:
        if slot.state != READY:
            self.num_stops += slot.state == STARTING
            slot.due_ps = NEVER_PS
            self._enter(slot, EMPTY, now_ps)
            return
        self._drain(slot, now_ps)

    def _drain(self, slot: Slot, now_ps: int) -> None:
        self._dispatcher.close(slot.replica_id)
        self._enter(slot, DRAINING, now_ps)
        if self._replicas[slot.replica_id].idle:
            self.drained(slot.replica_id, now_ps)

    def _start_waiting(self, now_ps: int) -> None:
        """Start ordered replicas for which accelerators are free and the budget has room."""
        waiting = [slot for slot in self._slots if slot.state == WAITING]
        if not waiting:
            return
        free = list(self._pools)
        for slot in self._slots:
            limit = self._limits[slot.group]
            left = free[limit.pool]
            if slot.holds and left is not None:
                free[limit.pool] = left - limit.width
        for slot in waiting:
            limit = self._limits[slot.group]
            left = free[limit.pool]
            if (left is not None and left < limit.width) or not self._has_means(slot.group):
                continue
            if left is not None:
                free[limit.pool] = left - limit.width
            self._renew(slot.replica_id)
            self.num_starts += 1
            slot.doomed = self._faults.start_fails()
            slot.due_ps = now_ps + self._start_ps(slot.group)
            self._enter(slot, STARTING, now_ps)

    def _has_means(self, group: int) -> bool:
        """Whether the budget has room for one replica more of a group."""
        return self._spending is None or self._spending.has_room(
            [sum([slot.holds for slot in own]) for own in self._of_group], group)

    # -- records --------------------------------------------------------------------------------

    def _enter(self, slot: Slot, state: int, now_ps: int) -> None:
        slot.enter(state, now_ps)
        self._note(slot.group, now_ps)

    def _note(self, group: int, now_ps: int) -> None:
        counts = [0] * len(STATES)
        for slot in self._of_group[group]:
            counts[slot.state] += 1
        self.changes.append(ScalingEvent(
            at_s=now_ps / PS_PER_S, group=group, target=self._targets[group],
            waiting=counts[WAITING], starting=counts[STARTING], ready=counts[READY],
            draining=counts[DRAINING]))

    def _observe(self, now_ps: int) -> Observation:
        now_s = now_ps / PS_PER_S
        blind = self._faults.blind(now_s)
        groups = tuple(
            SeenGroup(target, tuple([self._seen(slot, now_ps, blind=blind) for slot in own
                                     if slot.state]), None if blind else meter.totals())
            for target, own, meter in zip(self._targets, self._of_group, self._group_meters,
                                          strict=True))
        return Observation(now_s, groups, None if blind else self._demand.seen())

    def _seen(self, slot: Slot, now_ps: int, *, blind: bool) -> SeenReplica:
        state = STATES[slot.state]
        assert state is not None, "the slot has a replica"
        if blind or slot.state < READY:
            return SeenReplica(slot.replica_id, state, slot.since_ps / PS_PER_S)
        replica = self._replicas[slot.replica_id]
        scheduler = replica.scheduler
        kv_tokens = replica.load(now_ps)[1]
        gauges = Gauges(scheduler.num_running, replica.num_waiting,
                        kv_tokens / scheduler.kv_total_tokens)
        return SeenReplica(slot.replica_id, state, slot.since_ps / PS_PER_S, gauges,
                           now_ps / PS_PER_S, replica.inflight_tokens)

