"""The way of ended requests from the replicas' recorders to the columns of outcomes."""

from collections.abc import Callable, Sequence
from typing import Final

from penstock.metrics.table import RequestTable
from penstock.sim.cluster import Cluster
from penstock.sim.columns import Outcomes
from penstock.sim.drafts import TrueDrafts
from penstock.sim.kernel import Observer
from penstock.sim.multiplex.pools import SimulatedPool
from penstock.sim.oracle import TrueLengths
from penstock.sim.replica import SimReplica

_FLUSH_REQUESTS: Final = 1 << 13
_FLUSH_INSTANTS: Final = 1 << 12
"""Instants between two counts of the ended requests."""
_LOOKS: Final = 10
"""How often at most ``lost`` is asked."""


class Lost(Exception):  # noqa: N818 - no error: it ends a run that needs no more steps
    """The caller knows enough."""


class Flusher(Observer):
    """Moves ended requests from the recorders to the columns, to limit memory and to show them."""

    def __init__(self, cluster: Cluster, replicas: Sequence[SimReplica],
                 pools: Sequence[SimulatedPool], outcomes: Outcomes,
                 lengths: Sequence[TrueLengths | TrueDrafts],
                 on_progress: Callable[[int], None] | None,
                 lost: Callable[[RequestTable], bool] | None, num_requests: int) -> None:
        self._cluster = cluster
        self._replicas = replicas
        self._pools = pools
        self._outcomes = outcomes
        self._lengths = lengths
        self._on_progress = on_progress
        self._lost = lost
        self._look_requests = max(1, num_requests // _LOOKS)
        self._instants = 0
        self._flush_instants = _FLUSH_INSTANTS

    def on_instant(self, now_ps: int) -> None:
        self._instants += 1
        if self._lost is not None and not self._instants & 0x3F:
            self._look(self._lost)
        if self._instants % self._flush_instants:
            return
        pending = sum(replica.recorder.num_ended for replica in self._replicas)
        if pending >= _FLUSH_REQUESTS:
            self.flush()
            pending = 0
        if self._on_progress is not None:
            pending += sum(pool.record.num_ended for pool in self._pools)
            self._on_progress(self._outcomes.num_stored + pending)

    def _look(self, lost: Callable[[RequestTable], bool]) -> None:
        if sum(replica.recorder.num_ended for replica in self._replicas) >= self._look_requests:
            self.flush()
            if lost(self._outcomes.table()):
                raise Lost

    def flush(self) -> None:
        for number, replica in enumerate(self._replicas):
            if replica.recorder.num_ended or replica.recorder.unfinished:
                unfinished = replica.recorder.unfinished
                self._outcomes.store(number, replica.recorder.flush(), unfinished)
            # Some were also in a step, so their last word comes after.
            self._outcomes.shed(number, replica.shed)
            self._cluster.flushed(number)
        self._outcomes.hand_over()
        for lengths in self._lengths:
            lengths.forget_before(self._outcomes.first)
