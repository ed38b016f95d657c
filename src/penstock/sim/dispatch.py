"""The dispatcher between arrivals and replicas: snapshots for the router, and its learning."""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from penstock.core.attestation import NOT_KNOWN, Confidentiality, attestation_violation, refusal
from penstock.core.decision import Reject
from penstock.core.departure import Departure
from penstock.core.request import Request
from penstock.core.snapshot import QueuedWork, ReplicaSnapshot
from penstock.core.units import PS_PER_S
from penstock.policy.route.near_adapter import near, nearness
from penstock.policy.route.pools import Availability
from penstock.policy.route.protocol import Router
from penstock.policy.route.roles import Roles
from penstock.predict.length import HistoryLengths
from penstock.sim.kernel import NEVER_PS
from penstock.sim.replica import SimReplica
from penstock.sim.reuse import ReuseMeter

NO_REPLICA: Final = "no replica serves this model and class"
REFUSED: Final = -1
HOLD: Final = -2
"""Answer for a request that waits until a replica of its model serves."""
# remaining share of a mean answer, for a request that has passed its predicted length
_LEAST_LEFT: Final = 0.25


class ReplicaSpec(NamedTuple):
    """Facts about a replica: its model and classes, its speed relative to the fastest replica of
    its model, the times at which it may take confidential requests, and the adapters that it
    takes."""

    model: str
    service_classes: frozenset[str] | None = None
    speed: float = 1.0
    confidentiality: Confidentiality = NOT_KNOWN
    adapters: frozenset[str] = frozenset()

    def serves(self, model: str, service_class: str, adapter: str = "") -> bool:
        """Whether it serves such requests. An empty model means any model."""
        return (not model or model == self.model) and (
            self.service_classes is None or service_class in self.service_classes) and (
            not adapter or adapter in self.adapters)


class Dispatcher:
    """Calls the router, and keeps the records that learning routers need.

    Expected lengths are those of the request's forecast, else the observed mean of its class, as in
    a gateway. ``reuse`` counts the prefixes that routed requests found. A ``blind`` router gets
    snapshots of any time, since its choice depends on no replica's state.
    """

    def __init__(self, router: Router, replicas: Sequence[SimReplica], specs: Sequence[ReplicaSpec],
                 on_refused: Callable[[Request, str], None], roles: Roles | None = None,
                 reuse: ReuseMeter | None = None, blind: bool = False) -> None:
        self.reuse = reuse
        self._blind = blind
        self._old: list[ReplicaSnapshot] = []  # that a blind router got, of these candidates:
        self._old_of: list[int] = []
        self._router = router
        self._replicas = list(replicas)
        self._specs = list(specs)
        self._on_refused = on_refused
        self._roles = roles
        self._looks_into_queues = router.looks_into_queues
        self._keeps_accounts = router.learns or router.looks_into_queues
        self._open = [True] * len(specs)
        self._candidates: dict[tuple[str, str, str], list[int]] = {}
        self._seen: list[ReplicaSnapshot | None] = [None] * len(specs)
        self._seen_until_ps = [NEVER_PS] * len(specs)
        self._lengths = HistoryLengths()
        self._expected: dict[int, tuple[int, float]] = {}
        self._expected_sum = [0.0] * len(specs)
        self._num_known = [0] * len(specs)  # ended requests of each replica that were reported
        self._num_shed_known = [0] * len(specs)

    def availability(self, request: Request, now_s: float) -> Availability:
        """Whether any replica may take a request, now, and now or later."""
        able = [self._specs[i] for i in self._serving(request)
                if request.prompt_tokens < self._replicas[i].scheduler.kv_total_tokens]
        if not request.needs.confidential:
            return Availability(bool(able), bool(able))
        known = [spec.confidentiality for spec in able
                 if spec.confidentiality.mode_on and spec.confidentiality.attestations]
        now = any(attestation_violation(one, now_s) is None for one in known)
        return Availability(now, bool(known))

    def _serving(self, request: Request) -> list[int]:
        """Return the replicas that serve such requests."""
        key = (request.model, request.service_class.name, request.adapter)
        candidates = self._candidates.get(key)
        if candidates is None:
            candidates = [i for i, spec in enumerate(self._specs)
                          if self._open[i] and spec.serves(*key)]
            for known in self._candidates.values():
                if known == candidates:  # equal lists are one, which is fast to recognise
                    candidates = known
                    break
            self._candidates[key] = candidates
        return candidates

    def is_open(self, index: int) -> bool:
        """Whether a replica takes requests."""
        return self._open[index]

    def open(self, index: int) -> None:
        """Let a replica take requests."""
        self._open[index] = True
        self._candidates.clear()

    def close(self, index: int) -> None:
        """Let a replica take no more requests."""
        self._open[index] = False
        self._candidates.clear()

    def choose(self, request: Request, now_ps: int) -> int:
        """Return the replica for a request: REFUSED when the request is rejected, which is already
        recorded, HOLD when only closed replicas serve it."""
        candidates = self._serving(request)
        if not candidates:
            if any(spec.serves(request.model, request.service_class.name, request.adapter)
                   for spec in self._specs):
                return HOLD
            self._on_refused(request, NO_REPLICA)
            return REFUSED
        if self._roles is not None:
            candidates = self._roles.first(request.prompt_tokens, candidates)
        return self._choose(request, candidates, now_ps)

    def splits(self, request: Request, index: int) -> bool:
        """Whether a request that begins at a replica goes on at another one."""
        return self._roles is not None and self._roles.splits(index, self._serving(request))

    def second(self, request: Request, now_ps: int) -> int:
        """Return the replica that decodes what another one has prefilled: REFUSED when the request
        is rejected, which is already recorded, HOLD when no such replica takes requests."""
        candidates = [] if self._roles is None else self._roles.second(self._serving(request))
        return self._choose(request, candidates, now_ps) if candidates else HOLD

    def _choose(self, request: Request, candidates: list[int], now_ps: int) -> int:
        """Return the replica of those ``candidates`` that the router chooses."""
        if request.needs.confidential:
            violations = {i: attestation_violation(self._specs[i].confidentiality,
                                                   now_ps / PS_PER_S)
                        for i in candidates}
            candidates = [i for i in candidates if violations[i] is None]
            if not candidates:
                self._on_refused(request, refusal(one for one in violations.values() if one))
                return REFUSED
        if len(candidates) == 1 and not self._keeps_accounts:
            return candidates[0]
        snapshots = self._snapshots(candidates, now_ps, self._blind and not request.adapter)
        if request.adapter:
            found = near(snapshots, [self._nearness(index, request.adapter)
                                     for index in candidates], request.prompt_tokens)
            snapshots = [snapshots[place] for place in found]
        route = self._router.route(request, snapshots, now_ps / PS_PER_S)
        if route.replica_id < 0:
            reason = route.admit.reason if isinstance(route.admit, Reject) else "was refused"
            self._on_refused(request, reason)
        elif self._keeps_accounts:
            self._book(request, route.replica_id)
        return route.replica_id

    def _nearness(self, index: int, adapter: str) -> tuple[float, int]:
        replica = self._replicas[index]
        assert replica.adapters is not None, "replicas without adapters are no candidates"
        return nearness(replica.adapters, adapter, replica.coming_adapters())

    def changed(self, index: int) -> None:
        """Drop the snapshot of a replica that has changed."""
        self._seen[index] = None

    def turned_away(self, request: Request) -> None:
        """Record that the chosen replica rejected the request."""
        booked = self._expected.get(request.request_id)
        if booked is not None:
            self._unbook(request.request_id)
            self._router.ended(Departure(request.request_id, booked[0], False, 0, None, 0.0))

    def learn(self, index: int) -> None:
        """Report to the router the requests that have left a replica since the last call."""
        if not self._keeps_accounts:
            return
        replica = self._replicas[index]
        for request, tokens, first_ps, end_ps in replica.recorder.ended_since(
                self._num_known[index]):
            # A request that was shed after some steps is also in the list of shed requests.
            shed = any(given_up[0].request_id == request.request_id
                       for given_up in replica.shed[self._num_shed_known[index]:])
            if not shed:
                self._depart(index, request, tokens, first_ps, end_ps)
        self._num_known[index] = replica.recorder.num_ended
        for request, _, _ in replica.shed[self._num_shed_known[index]:]:
            self._unbook(request.request_id)
            self._router.ended(Departure(request.request_id, index, False, 0, None, 0.0))
        self._num_shed_known[index] = len(replica.shed)

    def flushed(self, index: int) -> None:
        """The replica's ended and shed requests have been taken."""
        self._num_known[index] = 0
        self._num_shed_known[index] = 0

    # -- records --------------------------------------------------------------------------------

    def _book(self, request: Request, index: int) -> None:
        forecast = request.forecasts.get(self._specs[index].model)
        mean = (self._lengths.mean(request.service_class.name) if forecast is None
                else forecast.output_tokens)
        expected = min(mean, 1.0 if self.splits(request, index) else float(request.max_tokens))
        self._expected[request.request_id] = (index, expected)
        self._expected_sum[index] += expected

    def _unbook(self, request_id: int) -> None:
        booked = self._expected.pop(request_id, None)
        if booked is not None:
            index, expected = booked
            self._expected_sum[index] -= expected

    def _depart(self, index: int, request: Request, tokens: int, first_ps: int,
                end_ps: int) -> None:
        self._unbook(request.request_id)
        if not request.lends:  # otherwise another replica decodes the answer
            self._lengths.observe(request.service_class.name, tokens)
        first_s = None if first_ps < 0 else first_ps / PS_PER_S - request.arrival_s
        self._router.ended(Departure(request.request_id, index, True, tokens, first_s,
                                     end_ps / PS_PER_S - request.arrival_s))

    # -- snapshots ------------------------------------------------------------------------------

    def _snapshots(self, candidates: list[int], now_ps: int,
                   of_any_time: bool) -> list[ReplicaSnapshot]:
        if not of_any_time:
            return [self._snapshot(index, now_ps) for index in candidates]
        if candidates is not self._old_of:
            self._old = [self._snapshot(index, now_ps) for index in candidates]
            self._old_of = candidates
        return self._old

    def _snapshot(self, index: int, now_ps: int) -> ReplicaSnapshot:
        """Return a replica's snapshot. It is kept until the replica changes, which it does with
        each step of a jump."""
        seen = self._seen[index]
        if seen is None or now_ps >= self._seen_until_ps[index]:
            replica = self._replicas[index]
            scheduler = replica.scheduler
            spec = self._specs[index]
            prompt_tokens, kv_tokens, generated, until_ps = replica.load(now_ps)
            self._seen_until_ps[index] = until_ps
            seen = self._seen[index] = ReplicaSnapshot(
                index, spec.model, now_ps / PS_PER_S, replica.num_waiting,
                scheduler.num_running, prompt_tokens, kv_tokens, scheduler.kv_total_tokens, None,
                spec.speed, self._pending(index, generated),
                self._queue(index, now_ps) if self._looks_into_queues else ())
        return seen

    def _pending(self, index: int, generated: int) -> float:
        """Return the expected remaining output tokens."""
        if not self._keeps_accounts:
            return 0.0
        scheduler = self._replicas[index].scheduler
        num = scheduler.num_running + scheduler.num_waiting
        expected = self._expected_sum[index]
        return max(expected - generated, _LEAST_LEFT * expected if num else 0.0)

    def _queue(self, index: int, now_ps: int) -> tuple[QueuedWork, ...]:
        works: list[QueuedWork] = []
        for one in self._replicas[index].progress(now_ps):
            booked = self._expected.get(one.request_id)
            expected = booked[1] if booked else 1.0
            works.append(QueuedWork(one.prompt_tokens_left, one.context_tokens,
                                    max(expected - one.output_tokens, _LEAST_LEFT * expected)))
        return tuple(works)
