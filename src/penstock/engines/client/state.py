"""State of one real engine: the gateway's requests in flight and the engine's own metrics."""

from dataclasses import dataclass, field
from typing import NamedTuple

from penstock.core.attestation import Attestation, Confidentiality
from penstock.core.snapshot import QueuedWork, ReplicaSnapshot
from penstock.engines.client.breaker import Breaker
from penstock.engines.client.metrics_text import EngineLoad
from penstock.engines.client.outliers import MOST_EJECTION_S, Outcomes, ejection_s
from penstock.fleet.values_adapters import LoraOptions
from penstock.fleet.values_disaggregation import BOOTSTRAP_PORT
from penstock.perf.speculation.learned import LearnedAcceptance
from penstock.policy.route.roles import BOTH

LEAST_PENDING_TOKENS = 8.0
"""Output tokens assumed to be left in an answer that has passed its expected length."""

SLOW_START_S = 10.0
LEAST_SPEED_SHARE = 0.1
"""Assumed share of full speed of an engine that has recovered; it rises to 1 within
``SLOW_START_S``."""

NEVER_S = float("-inf")

COLD_LOAD_S = 0.5
"""A model that took longer than this to be available was not in memory."""

MOST_LATE_LOOKS = 1
"""Health checks in a row that may time out before an engine counts as lost: one that computes a
long prompt on a busy host answers late, and is alive."""

UNSEEN_LOAD_S = 10.0
"""Load time assumed for a model before a first observation."""


@dataclass(slots=True)
class InFlight:
    """One request on an engine, as seen by the gateway."""

    prompt_tokens: int
    expected_output_tokens: float = 0.0
    output_tokens: int = 0

    @property
    def pending_output_tokens(self) -> float:
        """Return the expected remaining output tokens."""
        return max(self.expected_output_tokens - self.output_tokens, LEAST_PENDING_TOKENS)


class EvidencePlace(NamedTuple):
    """Source of an engine's evidence, a URL or a file (created with ``nonce``), and the identities
    of the accelerators that the evidence must cover."""

    source: str
    nonce: str | None
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """Constant facts about an engine: address, model, size and speed.

    ``kind`` names the engine's software (``auto``: recognised by its metrics). ``served_as`` is the
    engine's name for the model, where it differs. ``confidential`` says whether its accelerators
    are meant to run in confidential mode. ``evidence`` is the source of evidence for that, None
    without one. ``kv_events`` and ``kv_replay`` are addresses of the events of its KV cache, None
    where it publishes none; ``*`` stands for its own host. ``lora`` is its room for adapters, None
    where it takes none. ``role`` says whether the engine computes prompts, answers or both.
    An engine that computes prompts takes none of fewer than ``min_prompt_tokens``. SGLang's engines
    that compute prompts wait for others at the ``bootstrap_port``.
    ``drafted_tokens`` is the tokens of a turn that the fleet file's acceptance gives, None where
    the file states no speculative decoding.
    """

    replica_id: int
    url: str
    model: str
    service_classes: frozenset[str] | None
    kv_total_tokens: int
    speed: float
    kind: str = "auto"
    served_as: str | None = None
    confidential: bool = False
    evidence: EvidencePlace | None = None
    kv_events: str | None = None
    kv_replay: str | None = None
    lora: LoraOptions | None = None
    role: str = BOTH
    bootstrap_port: int = BOOTSTRAP_PORT
    drafted_tokens: float | None = None
    min_prompt_tokens: int = 0

    @property
    def name(self) -> str:
        """The engine's name for tenants, who must not learn its address."""
        number = self.replica_id
        return f"replica {number}" if number >= 0 else f"an engine of {self.model}"


@dataclass(slots=True)
class Ledger:
    """Sums over the requests on an engine, updated incrementally.

    Until its first token a request waits, and its prompt counts in ``queued_prompt_tokens``.
    Afterwards its prompt and output count in ``held_tokens``.
    """

    requests: dict[int, InFlight] = field(default_factory=dict)
    num_waiting: int = 0
    queued_prompt_tokens: int = 0
    held_tokens: int = 0
    pending_output_tokens: float = 0.0
    num_changes: int = 0

    def begin(self, request_id: int, one: InFlight) -> None:
        """Add a request."""
        self.num_changes += 1
        self.requests[request_id] = one
        self.num_waiting += 1
        self.queued_prompt_tokens += one.prompt_tokens
        self.pending_output_tokens += one.pending_output_tokens

    def advance(self, one: InFlight, output_tokens: int) -> None:
        """Update the output tokens of a request in flight (never fewer than before)."""
        self.num_changes += 1
        if not one.output_tokens:
            self.num_waiting -= 1
            self.queued_prompt_tokens -= one.prompt_tokens
            self.held_tokens += one.prompt_tokens
        self.held_tokens += output_tokens - one.output_tokens
        self.pending_output_tokens -= one.pending_output_tokens
        one.output_tokens = output_tokens
        self.pending_output_tokens += one.pending_output_tokens

    def end(self, request_id: int) -> None:
        """Remove a request."""
        self.num_changes += 1
        one = self.requests.pop(request_id)
        if one.output_tokens:
            self.held_tokens -= one.prompt_tokens + one.output_tokens
        else:
            self.num_waiting -= 1
            self.queued_prompt_tokens -= one.prompt_tokens
        self.pending_output_tokens -= one.pending_output_tokens
        if not self.requests:
            self.pending_output_tokens = 0.0  # removes accumulated rounding errors

    def queue(self) -> tuple[QueuedWork, ...]:
        """Return the remaining work of each request, the oldest first."""
        return tuple(QueuedWork(0 if one.output_tokens else one.prompt_tokens,
                                one.prompt_tokens + one.output_tokens, one.pending_output_tokens)
                     for one in self.requests.values())


class PeerLoad(NamedTuple):
    """Sums over the requests that other processes of this server have on an engine, as in
    ``Ledger``. ``num_running`` have a first token."""

    num_waiting: int = 0
    num_running: int = 0
    queued_prompt_tokens: int = 0
    held_tokens: int = 0
    pending_output_tokens: float = 0.0

    def plus(self, other: "PeerLoad") -> "PeerLoad":
        """Return the sums of both."""
        return PeerLoad(self.num_waiting + other.num_waiting, self.num_running + other.num_running,
                        self.queued_prompt_tokens + other.queued_prompt_tokens,
                        self.held_tokens + other.held_tokens,
                        self.pending_output_tokens + other.pending_output_tokens)


NO_PEERS = PeerLoad()


class EngineState:
    """Merges the gateway's own ledger with the engine's latest metrics.

    The ledger is never stale; the load of peers is a fraction of a second old. The engine's own
    count also includes requests of other clients, so the larger one is used. An engine that was
    never observed healthy is unavailable: unknown is not idle.
    """

    def __init__(self, facts: EngineFacts) -> None:
        self.facts = facts
        self.ledger = Ledger()
        self.breaker = Breaker()
        self.healthy = False
        self.draining = False
        self.observed_at_s = NEVER_S
        self.heard_s = NEVER_S  # when the last byte of any answer came
        self.num_served = 0
        self.num_failed = 0
        self.num_losses = 0  # looks at which it did not answer
        self.num_disputed = 0  # answers whose token count was not believed
        self.drafts = LearnedAcceptance()
        self._num_late_looks = 0  # in a row
        self._load = EngineLoad()
        self._seen_kind = "openai"
        self._load_s = UNSEEN_LOAD_S
        self._back_since_s = NEVER_S
        self.outcomes = Outcomes()
        self._compared_from_s = NEVER_S
        self._ejection: tuple[float, str] | None = None
        self._ejected_until_s = NEVER_S
        self._num_ejections = 0
        self._attestations: tuple[Attestation, ...] = ()
        self._doubt = ""
        self._peers = NO_PEERS
        self._kept: tuple[EngineFacts, int, bool, ReplicaSnapshot] | None = None

    @property
    def in_flight(self) -> dict[int, InFlight]:
        """The requests on the engine, by number."""
        return self.ledger.requests

    @property
    def kind(self) -> str:
        """The engine's software."""
        if self.facts.kind != "auto":
            return self.facts.kind
        return self._seen_kind

    @property
    def load(self) -> EngineLoad:
        """The load that the engine reported last."""
        return self._load

    # -- observations ---------------------------------------------------------------------------

    def observe(self, load: EngineLoad, now_s: float) -> None:
        """Record the load that a healthy engine reports."""
        if not self.healthy and self.observed_at_s > NEVER_S:
            self._back_since_s = now_s
        self.healthy, self._load, self.observed_at_s = True, load, now_s
        self._kept = None
        self._num_late_looks = 0
        self._seen_kind = load.kind or self._seen_kind
        if load.drafts is not None:
            self.drafts.see(*load.drafts)

    def heard_of_peers(self, load: PeerLoad) -> None:
        """Record the load that other processes of this server put on the engine."""
        if load != self._peers:
            self._peers, self._kept = load, None

    def lost(self) -> None:
        """Record that the engine refuses an answer or reports itself unhealthy."""
        self.healthy = False
        self.num_losses += 1

    def late(self) -> None:
        """Record that a health check timed out."""
        self._num_late_looks += 1
        if self._num_late_looks > MOST_LATE_LOOKS:
            self.lost()

    def begin(self, request_id: int, one: InFlight) -> None:
        """Record that a request goes to the engine."""
        self.ledger.begin(request_id, one)
        self.breaker.begin(request_id)

    def end(self, request_id: int) -> None:
        """Record that a request has ended, for whatever reason."""
        self.ledger.end(request_id)
        self.breaker.end(request_id)

    def loaded_in(self, load_s: float) -> None:
        """Record the time that an answer waited for its model to be loaded."""
        if load_s >= COLD_LOAD_S:
            self._load_s = load_s
            self._kept = None

    def compare_from(self, now_s: float) -> None:
        """Compare latencies with those of peers only for requests that are sent from now on: an
        engine that has joined has no queue, and the queues of the others are not their fault."""
        self._compared_from_s = now_s
        self.outcomes.num_timed = self.outcomes.latency_s = 0.0

    def succeeded(self, now_s: float, latency_s: float | None = None,
                  asked_s: float | None = None) -> None:
        """Record a successful request, its time to the first byte and when it was sent."""
        if asked_s is not None and asked_s < self._compared_from_s:
            latency_s = None
        self.num_served += 1
        self.outcomes.add(now_s, failed=False, latency_s=latency_s)
        if self.breaker.succeeded():
            self._back_since_s, self._kept = now_s, None

    def failed(self, now_s: float) -> None:
        """Record a failure through a fault of the engine."""
        self.num_failed += 1
        self.outcomes.add(now_s, failed=True)
        self.breaker.failed(now_s)

    def attested(self, attestation: Attestation) -> None:
        """Record an accepted attestation."""
        self._attestations, self._doubt = (attestation,), ""

    def doubted(self, why: str, *, revoked: bool) -> None:
        """Record evidence that was rejected (``revoked``) or unavailable. In the latter case
        earlier attestations hold until they expire."""
        self._doubt = why
        if revoked:
            self._attestations = ()

    def eject(self, why: str, now_s: float) -> None:
        """Eject the engine, for longer each time."""
        if now_s - self._ejected_until_s > MOST_EJECTION_S:
            self._num_ejections = 0  # it was healthy for long enough since
        self._ejected_until_s = now_s + ejection_s(self._num_ejections)
        self._ejection = (self._ejected_until_s, why)
        self._num_ejections += 1
        self.outcomes = Outcomes(at_s=now_s)

    # -- conclusions ----------------------------------------------------------------------------

    @property
    def confidentiality(self) -> Confidentiality:
        """The engine's state for confidential requests. Times of attestations are seconds since
        1970."""
        return Confidentiality(self.facts.confidential, self._attestations, self._doubt)

    def unavailable(self, now_s: float) -> str | None:
        """Return why the engine may get no request now, None if it may."""
        if (self.healthy and not self.draining and not self.breaker.failures
                and self._ejection is None):
            return None  # as usual, and every engine is asked for every request
        if self.draining:
            return "is being drained"
        if not self.healthy:
            return "does not answer" if self.observed_at_s > NEVER_S else "was never seen"
        return self.breaker.reason(now_s) or self.ejected(now_s)

    def ejected(self, now_s: float) -> str | None:
        """Return why the engine is ejected, None if it is not. An ejected engine may still get
        requests where no other engine is left."""
        if self._ejection is None:
            return None
        if now_s < self._ejection[0]:
            return self._ejection[1]
        self._ejection, self._back_since_s, self._kept = None, now_s, None
        return None

    def last_resort(self, now_s: float) -> bool:
        """Whether the engine could get requests if it were not ejected."""
        return (self.healthy and not self.draining and self.breaker.reason(now_s) is None
                and self.ejected(now_s) is not None)

    def own_load(self) -> PeerLoad:
        """Return the load of this process's requests, as its peers are told."""
        ledger = self.ledger
        return PeerLoad(ledger.num_waiting, len(ledger.requests) - ledger.num_waiting,
                        ledger.queued_prompt_tokens, ledger.held_tokens,
                        ledger.pending_output_tokens)

    def snapshot(self, now_s: float, *, with_queue: bool = False) -> ReplicaSnapshot:
        """Return the state for routers. Its queue has the gateway's own requests, in order. Between
        two changes it is one object: most engines have not changed since the request before."""
        kept = self._kept
        if (kept is not None and kept[1] == self.ledger.num_changes and kept[0] is self.facts
                and kept[2] is with_queue):
            return kept[3]
        is_steady = self._back_since_s == NEVER_S
        found = self._seen(now_s, with_queue=with_queue)
        if is_steady:
            self._kept = self.facts, self.ledger.num_changes, with_queue, found
        return found

    def _seen(self, now_s: float, *, with_queue: bool) -> ReplicaSnapshot:
        facts, load = self.facts, self._load
        own, peers = self.own_load(), self._peers
        waiting, running, queued, held, pending = own if peers is NO_PEERS else own.plus(peers)
        share = load.kv_used_share
        return ReplicaSnapshot(
            facts.replica_id, facts.model, self.observed_at_s,
            max(waiting, load.num_waiting or 0), max(running, load.num_running or 0), queued,
            max(held, 0 if share is None else int(share * facts.kv_total_tokens)),
            facts.kv_total_tokens, facts.service_classes, facts.speed * self._speed_share(now_s),
            pending, self.ledger.queue() if with_queue else (),
            self._load_s if load.loaded is False else 0.0)

    def _speed_share(self, now_s: float) -> float:
        """Return the assumed share of full speed, below 1 for a while after a recovery: the
        engine's caches are cold, and otherwise all requests would go to the engine that looks
        idle."""
        if self._back_since_s == NEVER_S:
            return 1.0
        share = (now_s - self._back_since_s) / SLOW_START_S
        if share >= 1.0:
            self._back_since_s = NEVER_S
        return min(1.0, max(share, LEAST_SPEED_SHARE))
