"""Replicas behind a router and pools, as sources of the event kernel."""

from collections import deque
from collections.abc import Callable, Sequence

from penstock.core.request import Request
from penstock.policy.scale.demand import DemandMeter
from penstock.sim.dispatch import HOLD, REFUSED, Dispatcher
from penstock.sim.handover import Handover
from penstock.sim.kernel import NEVER_PS, NO_SOURCE, EventSource, Kernel, Observer
from penstock.sim.multiplex.routing import PoolDoor
from penstock.sim.parts import Elsewhere
from penstock.sim.replica import SimReplica
from penstock.sim.scaling.holding import Holding
from penstock.sim.scaling.loop import Gateway, ScalingLoop
from penstock.sim.upcoming import Upcoming

OnRefused = Callable[[Request, str], None]


class RoutedReplica(EventSource):
    """A replica of a fleet, which reports its changes to the dispatcher."""

    def __init__(self, number: int, replica: SimReplica, dispatcher: Dispatcher,
                 on_refused: OnRefused, demand: DemandMeter | None = None) -> None:
        super().__init__(number)
        self._replica = replica
        self._dispatcher = dispatcher
        self._on_refused = on_refused
        self._num_shed = 0  # that were reported
        self.scaling: ScalingLoop | None = None
        self.on_finished: Callable[[int, int], bool] | None = None
        self.on_fetched: Callable[[int, int], None] | None = None
        self._demand = demand

    def arrive(self, request: Request, now_ps: int) -> None:
        """Take a routed request. Its arrival may shorten the present run of steps."""
        self._dispatcher.changed(self.number)
        reason = self._replica.arrive(request, now_ps)
        if reason is not None:
            self._dispatcher.turned_away(request)
            self._on_refused(request, reason)
            if self._demand is not None:
                self._demand.lost(request.model, request.service_class.name)
            if self.on_ended is not None:
                self.on_ended(request.request_id, now_ps)
        else:
            self.due_ps = self._replica.due_ps

    def commit(self, now_ps: int) -> None:
        # An idle replica is due when its scheduler can read a request.
        finished = self._replica.finish() if self._replica.busy else ()
        self._tell_finished(finished, now_ps)
        self.due_ps = NEVER_PS
        self._dispatcher.changed(self.number)
        self._dispatcher.learn(self.number)
        self._tell_drained(now_ps)

    def plan(self, now_ps: int) -> None:
        self._dispatcher.changed(self.number)
        if not self._replica.busy:
            self._replica.begin(now_ps)
        self.due_ps = self._replica.due_ps
        if self._replica.fetched:
            self._tell_fetched(now_ps)
        self._tell_shed(now_ps)
        self._dispatcher.learn(self.number)
        self._tell_drained(now_ps)

    def _tell_finished(self, finished: tuple[int, ...], now_ps: int) -> None:
        """Tell which requests are over, except those that ``on_finished`` says go on elsewhere."""
        if self.on_ended is not None:
            for request_id in finished:
                if self.on_finished is None or not self.on_finished(request_id, now_ps):
                    self.on_ended(request_id, now_ps)

    def returned(self, request_id: int, now_ps: int) -> None:
        """Free the KV cache of a request that another replica has begun."""
        self._replica.returned(request_id, now_ps)
        self._dispatcher.changed(self.number)
        self.due_ps = self._replica.due_ps

    def _tell_fetched(self, now_ps: int) -> None:
        if self.on_fetched is not None:
            for request_id in self._replica.fetched:
                self.on_fetched(request_id, now_ps)
        self._replica.fetched.clear()

    def fail(self, now_ps: int) -> list[Request]:
        """Lose the engine at once. Returns the requests that can be sent again."""
        finished, again = self._replica.fail(now_ps)
        self.due_ps = NEVER_PS
        self._tell_finished(finished, now_ps)
        self._tell_shed(now_ps)
        self._dispatcher.changed(self.number)
        self._dispatcher.learn(self.number)
        for request in again:
            self._dispatcher.turned_away(request)
        return again

    def _tell_shed(self, now_ps: int) -> None:
        shed = self._replica.shed
        if self.on_ended is not None and len(shed) > self._num_shed:
            for request, _, _ in shed[self._num_shed:]:
                if self._demand is not None:
                    self._demand.lost(request.model, request.service_class.name)
                self.on_ended(request.request_id, now_ps)
        self._num_shed = len(shed)

    def forget_shed(self) -> None:
        """Forget the shed requests, which are all reported."""
        self._replica.shed.clear()
        self._num_shed = 0

    def _tell_drained(self, now_ps: int) -> None:
        if self.scaling is not None and self._replica.idle:
            self.scaling.drained(self.number, now_ps)

    def stop(self, now_ps: int) -> None:
        self._replica.stop(now_ps)


class RoutedRequests(Gateway):
    """Requests to be sent. Each goes to a pool that ``door`` chooses, or else to the replica that
    the dispatcher chooses. Where none serves, ``holding`` keeps the request. ``handover`` takes
    prefilled requests to the replicas that decode them. ``elsewhere`` takes the requests that
    another part of the simulation has."""

    def __init__(self, upcoming: Upcoming, dispatcher: Dispatcher,
                 replicas: Sequence[RoutedReplica], door: PoolDoor | None = None,
                 holding: Holding | None = None, handover: Handover | None = None,
                 elsewhere: Elsewhere | None = None) -> None:
        super().__init__()
        self._upcoming = upcoming
        self._dispatcher = dispatcher
        self._replicas = list(replicas)
        self._door = door
        self._holding = holding
        self._handover = handover
        self._elsewhere = elsewhere
        self._released: deque[Request] = deque()
        self._num_sent = 0
        self._num_ended = 0
        self.due_ps = upcoming.due_ps

    @property
    def busy(self) -> bool:
        """Whether requests are still to be sent, or on their way."""
        return self.due_ps < NEVER_PS or self._num_ended < self._num_sent

    @property
    def patience_ps(self) -> int:
        """When a request that waits for a replica becomes hopeless, NEVER_PS where none does."""
        return NEVER_PS if self._holding is None else self._holding.due_ps

    def deliver(self, now_ps: int) -> int:
        if self._handover is not None and self._handover.due_ps <= now_ps:
            return self._hand_over(self._handover, now_ps)
        if self._released:
            request = self._released.popleft()
        else:
            request = self._upcoming.take()
            self._num_sent += 1
            if self._holding is not None:
                deferred = self._holding.arrive(request, now_ps)
                if deferred is not None:
                    self._show_due(now_ps)
                    return deferred
        number = self._deliver(request, now_ps)
        if number == HOLD and self._holding is not None:
            number = self._holding.hold(request, now_ps)
            self._show_due(now_ps)
        elif number < 0:
            if self._holding is not None:
                self._holding.demand.lost(request.model, request.service_class.name)
            self.ended(request.request_id, now_ps)
        else:
            self._show_due(now_ps)
        return number

    def ended(self, request_id: int, now_ps: int) -> None:
        """Take note that a request is over."""
        if self._handover is not None:
            self._handover.over(request_id)
        self._num_ended += 1
        self._upcoming.ended(request_id, now_ps)
        self._show_due(now_ps)

    def release(self, now_ps: int) -> None:
        """Send the requests that wait for a replica once more."""
        if self._holding is not None:
            self._released.extend(self._holding.release())
            self._show_due(now_ps)

    def send_deferred(self, now_ps: int) -> None:
        """Send the requests that are held back no longer."""
        if self._holding is not None:
            self._released.extend(self._holding.send_deferred(now_ps))
            self._show_due(now_ps)

    def fail(self, replica_id: int, now_ps: int) -> None:
        """Lose a replica, and send its requests once more whose answer has not begun."""
        again = self._replicas[replica_id].fail(now_ps)
        if self._handover is not None:
            again = [self._handover.whole(request) for request in again]
            again += self._handover.lose(replica_id)
        self._released.extend(again)
        self._show_due(now_ps)

    def fetched(self, request_id: int, now_ps: int) -> None:
        """Take note that a replica has begun a request that another replica prefilled."""
        if self._handover is not None:
            self._handover.over(request_id)
            self._show_due(now_ps)

    def finished(self, request_id: int, now_ps: int) -> bool:
        """Take note that a request has finished at a replica. Returns whether another replica goes
        on with the request."""
        if self._handover is None or not self._handover.prefilled(request_id):
            return False
        self._show_due(now_ps)
        return True

    def _hand_over(self, handover: Handover, now_ps: int) -> int:
        """Return a KV cache to its replica, send a prefilled request on its way, or let it arrive
        at its second replica. Returns the number of the replica that this concerns."""
        back = handover.next_return()
        number, request = NO_SOURCE, None
        if back is not None:
            number, request_id = back
            self._replicas[number].returned(request_id, now_ps)
        elif handover.sends:
            number, request = handover.send(now_ps)
            if number == REFUSED and request is not None:
                self.ended(request.request_id, now_ps)
                request = None
        else:
            number, request = handover.arrive()
        if request is not None and number >= 0:
            self._replicas[number].arrive(request, now_ps)
        elif request is not None:
            self._released.append(request)
        self._show_due(now_ps)
        return number

    def give_up(self, now_ps: int) -> None:
        """Refuse the requests that have waited for a replica for too long."""
        if self._holding is not None:
            for request in self._holding.give_up(now_ps):
                self._holding.demand.lost(request.model, request.service_class.name)
                self.ended(request.request_id, now_ps)

    def _show_due(self, now_ps: int) -> None:
        self.due_ps = min(now_ps, self._upcoming.due_ps) if self._released \
            else self._upcoming.due_ps
        if self._handover is not None:
            self.due_ps = min(self.due_ps, max(now_ps, self._handover.due_ps))

    def _deliver(self, request: Request, now_ps: int) -> int:
        if self._door is not None:
            number = self._door.deliver(request, now_ps)
            if number >= 0:
                return number
        number = self._dispatcher.choose(request, now_ps)
        if number >= 0 and self._elsewhere is not None and self._elsewhere.takes(request, number):
            return NO_SOURCE
        if number >= 0:
            if self._dispatcher.reuse is not None:
                self._dispatcher.reuse.routed(request, number)
            if self._handover is not None:
                request = self._handover.first_leg(request, number)
            self._replicas[number].arrive(request, now_ps)
        return number

    def close(self) -> None:
        """End the run: pools count requests that arrive after its end."""
        while self._door is not None and self._upcoming.due_ps < NEVER_PS:
            self._door.missed(self._upcoming.take())


class Cluster:
    """Runs requests through routed replicas and, where ``pools`` are given, pools, which are
    numbered after the replicas."""

    def __init__(self, replicas: Sequence[SimReplica], dispatcher: Dispatcher,
                 on_refused: OnRefused, pools: Sequence[EventSource] = (),
                 door: PoolDoor | None = None, scaling: ScalingLoop | None = None,
                 holding: Holding | None = None, handover: Handover | None = None,
                 elsewhere: Elsewhere | None = None) -> None:
        demand = None if holding is None else holding.demand
        self._replicas = [RoutedReplica(number, replica, dispatcher, on_refused, demand)
                          for number, replica in enumerate(replicas)]
        self._dispatcher = dispatcher
        self._pools = pools
        self._door = door
        self._scaling = scaling
        self._holding = holding
        self._handover = handover
        self._elsewhere = elsewhere
        if scaling is not None:
            for one in self._replicas:
                one.scaling = scaling
        self.now_ps = 0

    def flushed(self, number: int) -> None:
        """Forget the requests of a replica that ended or were shed, which its caller has stored."""
        self._replicas[number].forget_shed()
        self._dispatcher.flushed(number)

    def run(self, upcoming: Upcoming, observer: Observer | None = None,
            until_ps: int = NEVER_PS) -> None:
        """Simulate until all requests have ended, or the clock passes ``until_ps``."""
        arrivals = RoutedRequests(upcoming, self._dispatcher, self._replicas, self._door,
                                  self._holding, self._handover, self._elsewhere)
        if self._handover is not None:
            for replica in self._replicas:
                replica.on_finished = arrivals.finished
                replica.on_fetched = arrivals.fetched
        sources: list[EventSource] = [*self._replicas, *self._pools]
        if self._scaling is not None:
            self._scaling.attach(arrivals)
            sources.append(self._scaling)
        for source in sources:
            source.on_ended = arrivals.ended
        kernel = Kernel(sources, arrivals)
        kernel.run(observer, until_ps)
        arrivals.close()
        self.now_ps = kernel.now_ps
