"""State of one real engine: requests in flight to the engine, and the engine's own metrics."""

from dataclasses import dataclass, field
from typing import NamedTuple

from penstock.core.attestation import Attestation, Confidentiality
from penstock.core.snapshot import QueuedWork, ReplicaSnapshot
from penstock.engines.client.breaker import Breaker
from penstock.engines.client.metrics_text import EngineLoad
from penstock.engines.client.outliers import MOST_EJECTION_S, Track, ejection_s

LEAST_PENDING_TOKENS = 8.0
"""Output tokens assumed to be left while an answer goes on past its expected length."""

SLOW_START_S = 10.0
LEAST_SPEED_SHARE = 0.1
"""An engine that comes back counts as this slow at first, and as itself after ``SLOW_START_S``."""

NEVER_S = float("-inf")

COLD_LOAD_S = 0.5
"""A model that took longer than this to be at hand was not in memory."""

UNSEEN_LOAD_S = 10.0
"""How long a model takes to load where nobody has seen it yet: a guess, to be replaced by sight."""


@dataclass(slots=True)
class InFlight:
    """One request that an engine works on, as far as the gateway sees."""

    prompt_tokens: int
    expected_output_tokens: float = 0.0
    output_tokens: int = 0

    @property
    def pending_output_tokens(self) -> float:
        """Output tokens that are expected to come yet."""
        return max(self.expected_output_tokens - self.output_tokens, LEAST_PENDING_TOKENS)


class EvidencePlace(NamedTuple):
    """Source of one engine's evidence, a URL or a file (made with ``nonce``), and the identities of
    the accelerators that the evidence must cover."""

    source: str
    nonce: str | None
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """Constant facts about an engine: address, model, size and speed.

    ``kind`` names the software that answers there (``auto``: it is known by its metrics), and
    ``served_as`` is what it calls the model, where that is not the model's name. ``confidential``
    says whether its accelerators are meant to run in that mode; ``evidence`` is where that is
    shown, None where it never is.
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

    @property
    def name(self) -> str:
        """The engine's name for tenants, who are not told where engines are."""
        number = self.replica_id
        return f"replica {number}" if number >= 0 else f"an engine of {self.model}"


@dataclass(slots=True)
class Ledger:
    """Sums over requests that are on an engine, kept as they change.

    A request waits until its first token: then ``queued_prompt_tokens`` has its prompt, afterwards
    ``held_tokens`` has prompt and output.
    """

    requests: dict[int, InFlight] = field(default_factory=dict)
    num_waiting: int = 0
    queued_prompt_tokens: int = 0
    held_tokens: int = 0
    pending_output_tokens: float = 0.0

    def begin(self, request_id: int, one: InFlight) -> None:
        """A request is on its way."""
        self.requests[request_id] = one
        self.num_waiting += 1
        self.queued_prompt_tokens += one.prompt_tokens
        self.pending_output_tokens += one.pending_output_tokens

    def advance(self, one: InFlight, output_tokens: int) -> None:
        """A request in flight has that many tokens by now (never fewer than before)."""
        if not one.output_tokens:
            self.num_waiting -= 1
            self.queued_prompt_tokens -= one.prompt_tokens
            self.held_tokens += one.prompt_tokens
        self.held_tokens += output_tokens - one.output_tokens
        self.pending_output_tokens -= one.pending_output_tokens
        one.output_tokens = output_tokens
        self.pending_output_tokens += one.pending_output_tokens

    def end(self, request_id: int) -> None:
        """A request has left."""
        one = self.requests.pop(request_id)
        if one.output_tokens:
            self.held_tokens -= one.prompt_tokens + one.output_tokens
        else:
            self.num_waiting -= 1
            self.queued_prompt_tokens -= one.prompt_tokens
        self.pending_output_tokens -= one.pending_output_tokens
        if not self.requests:
            self.pending_output_tokens = 0.0  # no rounding is left behind

    def queue(self) -> tuple[QueuedWork, ...]:
        """Work left for each request, the oldest first."""
        return tuple(QueuedWork(0 if one.output_tokens else one.prompt_tokens,
                                one.prompt_tokens + one.output_tokens, one.pending_output_tokens)
                     for one in self.requests.values())


class EngineState:
    """Merges the gateway's own ledger with what was last scraped.

    The ledger is never stale; an engine's own count matters where others use it as well, so the
    larger of both is believed. An engine that was never seen to be well is not available:
    unknown is not idle.
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
        self._load = EngineLoad()
        self._seen_kind = "openai"
        self._load_s = UNSEEN_LOAD_S
        self._back_since_s = NEVER_S
        self.track = Track()
        self._ejection: tuple[float, str] | None = None
        self._ejected_until_s = NEVER_S
        self._num_ejections = 0
        self._attestations: tuple[Attestation, ...] = ()
        self._doubt = ""

    @property
    def in_flight(self) -> dict[int, InFlight]:
        """The requests that are on the engine, by number."""
        return self.ledger.requests

    @property
    def kind(self) -> str:
        """Kind of software that answers."""
        if self.facts.kind != "auto":
            return self.facts.kind
        return self._seen_kind

    # -- what is observed -----------------------------------------------------------------------

    def observe(self, load: EngineLoad, now_s: float) -> None:
        """The engine answered and said this of its load."""
        if not self.healthy and self.observed_at_s > NEVER_S:
            self._back_since_s = now_s
        self.healthy, self._load, self.observed_at_s = True, load, now_s
        self._seen_kind = load.kind or self._seen_kind

    def lost(self) -> None:
        """The engine does not answer, or says that it is not well."""
        self.healthy = False

    def begin(self, request_id: int, one: InFlight) -> None:
        """A request goes to the engine."""
        self.ledger.begin(request_id, one)
        self.breaker.begin(request_id)

    def end(self, request_id: int) -> None:
        """The request is over here, however it ended."""
        self.ledger.end(request_id)
        self.breaker.end(request_id)

    def loaded_in(self, load_s: float) -> None:
        """An answer waited that long for its model to be at hand."""
        if load_s >= COLD_LOAD_S:
            self._load_s = load_s

    def succeeded(self, now_s: float, latency_s: float | None = None) -> None:
        """A request went well, with that time to its first byte."""
        self.num_served += 1
        self.track.add(now_s, failed=False, latency_s=latency_s)
        if self.breaker.succeeded():
            self._back_since_s = now_s

    def failed(self, now_s: float) -> None:
        """A request failed for a reason that lies with the engine."""
        self.num_failed += 1
        self.track.add(now_s, failed=True)
        self.breaker.failed(now_s)

    def attested(self, attestation: Attestation) -> None:
        """Its evidence was accepted."""
        self._attestations, self._doubt = (attestation,), ""

    def doubted(self, why: str, *, revoked: bool) -> None:
        """New evidence was not accepted, or (not ``revoked``) not to be had: then what was
        accepted before is believed until it expires."""
        self._doubt = why
        if revoked:
            self._attestations = ()

    def eject(self, why: str, now_s: float) -> None:
        """The engine is to be left alone, for longer each time."""
        if now_s - self._ejected_until_s > MOST_EJECTION_S:
            self._num_ejections = 0  # it did well for long enough since
        self._ejected_until_s = now_s + ejection_s(self._num_ejections)
        self._ejection = (self._ejected_until_s, why)
        self._num_ejections += 1
        self.track = Track(at_s=now_s)

    # -- what follows ---------------------------------------------------------------------------

    @property
    def confidentiality(self) -> Confidentiality:
        """State of the engine with regard to confidential requests; times of attestations are
        seconds since 1970."""
        return Confidentiality(self.facts.confidential, self._attestations, self._doubt)

    def unavailable(self, now_s: float) -> str | None:
        """Why the engine may get no request now, None if it may."""
        if self.draining:
            return "is being drained"
        if not self.healthy:
            return "does not answer" if self.observed_at_s > NEVER_S else "was never seen"
        return self.breaker.reason(now_s) or self.ejected(now_s)

    def ejected(self, now_s: float) -> str | None:
        """Why the engine is left alone, None if it is not. Where nobody else is left, it may get
        requests all the same."""
        if self._ejection is None:
            return None
        if now_s < self._ejection[0]:
            return self._ejection[1]
        self._ejection, self._back_since_s = None, now_s
        return None

    def last_resort(self, now_s: float) -> bool:
        """Whether nothing speaks against the engine but that it is ejected."""
        return (self.healthy and not self.draining and self.breaker.reason(now_s) is None
                and self.ejected(now_s) is not None)

    def snapshot(self, now_s: float, *, with_queue: bool = False) -> ReplicaSnapshot:
        """The state as a router sees it; the queue is the gateway's own requests in their order."""
        facts, ledger, load = self.facts, self.ledger, self._load
        running = len(ledger.requests) - ledger.num_waiting
        share = load.kv_used_share
        return ReplicaSnapshot(
            facts.replica_id, facts.model, self.observed_at_s,
            max(ledger.num_waiting, load.num_waiting or 0), max(running, load.num_running or 0),
            ledger.queued_prompt_tokens,
            max(ledger.held_tokens, 0 if share is None else int(share * facts.kv_total_tokens)),
            facts.kv_total_tokens, facts.service_classes, facts.speed * self._speed_share(now_s),
            ledger.pending_output_tokens, ledger.queue() if with_queue else (),
            self._load_s if load.loaded is False else 0.0)

    def _speed_share(self, now_s: float) -> float:
        """Below 1 for a while after the engine came back: its caches are cold, and all routers
        would turn to the one that looks idle."""
        if self._back_since_s == NEVER_S:
            return 1.0
        share = (now_s - self._back_since_s) / SLOW_START_S
        if share >= 1.0:
            self._back_since_s = NEVER_S
        return min(1.0, max(share, LEAST_SPEED_SHARE))
