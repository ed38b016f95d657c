"""Replicas behind a router, as sources of the event kernel."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from penstock.core.request import Request
from penstock.core.units import to_ps
from penstock.sim.dispatch import Dispatcher
from penstock.sim.kernel import NEVER_PS, Arrivals, EventSource, Kernel
from penstock.sim.replica import SimReplica

OnRefused = Callable[[Request, str], None]


class RoutedReplica(EventSource):
    """A replica of a fleet. The dispatcher is told whenever the replica changes."""

    def __init__(self, number: int, replica: SimReplica, dispatcher: Dispatcher,
                 on_refused: OnRefused) -> None:
        super().__init__(number)
        self._replica = replica
        self._dispatcher = dispatcher
        self._on_refused = on_refused

    def arrive(self, request: Request, now_ps: int) -> None:
        """A request was routed here; its arrival may shorten the run of steps under way."""
        self._dispatcher.changed(self.number)
        reason = self._replica.arrive(request, now_ps)
        if reason is not None:
            self._dispatcher.turned_away(request)
            self._on_refused(request, reason)
        elif self._replica.busy:
            self.due_ps = self._replica.end_ps

    def commit(self, now_ps: int) -> None:
        self._replica.finish()
        self.due_ps = NEVER_PS
        self._dispatcher.changed(self.number)
        self._dispatcher.learn(self.number)

    def plan(self, now_ps: int) -> None:
        self._dispatcher.changed(self.number)
        if not self._replica.busy and self._replica.begin(now_ps):
            self.due_ps = self._replica.end_ps
        self._dispatcher.learn(self.number)

    def stop(self, now_ps: int) -> None:
        self._replica.stop(now_ps)


class RoutedRequests(Arrivals):
    """Requests of a stream, each to the replica that the dispatcher chooses."""

    def __init__(self, requests: Iterator[Request], dispatcher: Dispatcher,
                 replicas: Sequence[RoutedReplica]) -> None:
        super().__init__()
        self._requests = requests
        self._dispatcher = dispatcher
        self._replicas = replicas
        self._upcoming: Request | None = None
        self._advance()

    def deliver(self, now_ps: int) -> int:
        request = self._upcoming
        assert request is not None
        self._advance()
        number = self._dispatcher.choose(request, now_ps)
        if number >= 0:
            self._replicas[number].arrive(request, now_ps)
        return number

    def _advance(self) -> None:
        upcoming = self._upcoming = next(self._requests, None)
        self.due_ps = NEVER_PS if upcoming is None else to_ps(upcoming.arrival_s)


class Cluster:
    """Runs requests through routed replicas."""

    def __init__(self, replicas: Sequence[SimReplica], dispatcher: Dispatcher,
                 on_refused: OnRefused) -> None:
        self._replicas = [RoutedReplica(number, replica, dispatcher, on_refused)
                          for number, replica in enumerate(replicas)]
        self._dispatcher = dispatcher
        self.now_ps = 0

    def run(self, requests: Iterable[Request], on_instant: Callable[[int], None] | None = None,
            until_ps: int = NEVER_PS) -> None:
        """Simulate until all requests have ended, or the clock passes ``until_ps``."""
        kernel = Kernel(self._replicas, RoutedRequests(iter(requests), self._dispatcher,
                                                       self._replicas))
        kernel.run(on_instant, until_ps)
        self.now_ps = kernel.now_ps
