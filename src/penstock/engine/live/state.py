"""What is known of one real engine: own requests on the way to it, and what it says of itself."""

from dataclasses import dataclass

from penstock.core.snapshot import ReplicaSnapshot
from penstock.engine.live.metrics_text import EngineLoad

FAILURES_TO_OPEN = 3
"""Failures in a row after which an engine gets no more requests for a while."""

FIRST_PAUSE_S, MOST_PAUSE_S = 1.0, 30.0


@dataclass(slots=True)
class InFlight:
    """One request that an engine works on, as far as the gateway sees."""

    prompt_tokens: int
    output_tokens: int = 0

    @property
    def waiting(self) -> bool:
        """Whether no token has come yet."""
        return self.output_tokens == 0


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What does not change: where it is, what it serves, how large and how fast it is."""

    replica_id: int
    url: str
    model: str
    service_classes: frozenset[str] | None
    kv_total_tokens: int
    speed: float


class EngineState:
    """Merges the gateway's own ledger with what was last scraped.

    The ledger is never stale; an engine's own count matters where others use it as well, so the
    larger of both is believed. An engine that was never seen to be well is not ``available``:
    unknown is not idle.
    """

    def __init__(self, facts: EngineFacts) -> None:
        self.facts = facts
        self.in_flight: dict[int, InFlight] = {}
        self.healthy = False
        self.draining = False
        self.observed_at_s = float("-inf")
        self.num_served = 0
        self.num_failed = 0
        self._load = EngineLoad()
        self._failures = 0
        self._closed_until_s = float("-inf")

    # -- what is observed -----------------------------------------------------------------------

    def observe(self, load: EngineLoad, now_s: float) -> None:
        """The engine answered and said this of its load."""
        self.healthy, self._load, self.observed_at_s = True, load, now_s

    def lost(self) -> None:
        """The engine does not answer, or says that it is not well."""
        self.healthy = False

    def succeeded(self) -> None:
        """A request went well."""
        self.num_served += 1
        self._failures = 0

    def failed(self, now_s: float) -> None:
        """A request failed for a reason that lies with the engine."""
        self.num_failed += 1
        self._failures += 1
        if self._failures >= FAILURES_TO_OPEN:
            pause_s = FIRST_PAUSE_S * 2.0 ** (self._failures - FAILURES_TO_OPEN)
            self._closed_until_s = now_s + min(pause_s, MOST_PAUSE_S)

    # -- what follows ---------------------------------------------------------------------------

    def unavailable(self, now_s: float) -> str | None:
        """Why the engine may get no request now, None if it may."""
        if self.draining:
            return "is being drained"
        if not self.healthy:
            return "does not answer" if self.observed_at_s > float("-inf") else "was never seen"
        if now_s < self._closed_until_s:
            return f"failed {self._failures} times in a row"
        return None

    def snapshot(self) -> ReplicaSnapshot:
        """The state as a router sees it."""
        facts, own = self.facts, self.in_flight.values()
        waiting = sum(1 for one in own if one.waiting)
        running = len(self.in_flight) - waiting
        held = sum(one.prompt_tokens + one.output_tokens for one in own if not one.waiting)
        share = self._load.kv_used_share
        return ReplicaSnapshot(
            facts.replica_id, facts.model, self.observed_at_s,
            max(waiting, self._load.num_waiting or 0), max(running, self._load.num_running or 0),
            sum(one.prompt_tokens for one in own if one.waiting),
            max(held, 0 if share is None else int(share * facts.kv_total_tokens)),
            facts.kv_total_tokens, facts.service_classes, facts.speed)
