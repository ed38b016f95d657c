"""Choice of an engine for a request: the fleet's routing policy over the engines' observed
states."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import ceil
from typing import Any

from penstock.core.attestation import Attestation, attestation_violation
from penstock.core.decision import ACCEPT, Admit, Reject, Relax, Route, ScoredCandidate
from penstock.core.disclosure import USUAL, Disclosure
from penstock.core.request import Request
from penstock.core.snapshot import ReplicaSnapshot
from penstock.engines.client.state import EngineState
from penstock.fleet.values_adapters import Adapter, LoraOptions
from penstock.policy.route.explore import PROPENSITY
from penstock.policy.route.pools import Availability
from penstock.policy.route.protocol import BatchRouter, Router
from penstock.serving.adapters.adapters import Adapters
from penstock.serving.errors import ServiceError
from penstock.serving.gateway.ask import ANYBODY, Ask
from penstock.serving.gateway.confidential import any_confidential, padded

_NOT_NEAR = "is not near the adapter, or has far more load"
_NOT_CHOSEN = "was not chosen by the routing policy"
MOST_KEPT = 1000
"""How many decisions are kept for each tenant."""


@dataclass(slots=True)
class Decision:
    """One routing decision with its reasons and its outcome.

    ``candidates`` are the engines as they were observed, and ``urls`` theirs (one URL may serve
    several models). ``rejected`` has the reason against every other engine, by URL. ``prospects``
    are the scores of a policy that scores engines. The reasons against ``rejected_by_policy`` tell
    the load. ``admit`` says whether the request was admitted
    unchanged. ``attempts`` lists every engine that was tried, in order, with the outcome. Only its
    own tenant may read a ``confidential`` decision; ``attestation`` is the one that its engine had
    at the time.
    """

    decision_id: str
    at_s: float
    model: str | None
    service_class: str
    prompt_tokens: int
    max_tokens: int
    tenant: str = ANYBODY.name
    confidential: bool = False
    attestation: Attestation | None = None
    candidates: Sequence[ReplicaSnapshot] = ()
    urls: Sequence[str] = ()
    rejected: dict[str, str] = field(default_factory=dict)
    terms: dict[str, float] = field(default_factory=dict)
    prospects: tuple[ScoredCandidate, ...] = ()
    admit: Admit = ACCEPT
    answer_tokens: int | None = None
    attempts: list[dict[str, Any]] = field(default_factory=list)
    outcome: dict[str, Any] = field(default_factory=dict)
    rejected_by_policy: set[str] = field(default_factory=set)

    def document(self) -> dict[str, Any]:
        """Return the decision as plain data for operators."""
        seen = [snapshot.as_dict() | {"service_classes": None, "url": url}
                for url, snapshot in zip(self.urls, self.candidates, strict=True)]
        url_of = self._url_of()
        prospects = [one.as_dict() | {"url": url_of.get(one.replica_id)} for one in self.prospects]
        return {name: getattr(self, name) for name in self.__slots__
                if name not in ("rejected_by_policy", "urls")} | {
            "candidates": seen, "prospects": prospects, "admit": _admission_document(self.admit),
            "attestation": None if self.attestation is None else asdict(self.attestation)}

    def document_for_tenant(self, names: Mapping[str, str]) -> dict[str, Any]:
        """Return the decision as plain data for its tenant, with ``names`` (by URL) in place of the
        engines' URLs. Nothing in it depends on load or caches, which other tenants fill: the
        verdict, the request's own forecasts, the engines' names, and the outcome."""
        found = self.document()
        url_of = self._url_of()
        found["terms"] = {}
        found["admit"].pop("retry_after_s", None)  # the answer's Retry-After has whole seconds
        found["candidates"] = [{"replica": names.get(url, url), "model": seen.model}
                               for url, seen in zip(self.urls, self.candidates, strict=True)]
        found["prospects"] = [
            {"replica": names.get(url_of.get(one.replica_id, ""), ""), "quality": one.quality,
             "price": one.price} for one in self.prospects]
        found["attempts"] = [{name: value for name, value in one.items() if name != "url"}
                             for one in self.attempts]
        found["rejected"] = {names.get(url, url): _NOT_CHOSEN if url in self.rejected_by_policy
                             else why for url, why in self.rejected.items()}
        return found

    def _url_of(self) -> dict[int, str]:
        return {seen.replica_id: url for url, seen in zip(self.urls, self.candidates, strict=True)}

    @property
    def relaxed(self) -> str | None:
        """The requirements that were relaxed to serve the request, None where there were none."""
        return self.admit.reason if isinstance(self.admit, Relax) else None


_Found = tuple[Route, list[ReplicaSnapshot]]


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A request that is routed together with others of the same moment. ``found`` is None where the
    fleet changes in that moment."""

    request: Request
    able: Sequence[EngineState]
    found: "asyncio.Future[_Found | None]"


class Chooser:
    """Chooses among engines and keeps each tenant's last decisions. Attestations expire by the
    clock ``wall_s``. ``disclosure`` limits what decisions reveal about engines in confidential
    mode."""

    def __init__(self, engines: Sequence[EngineState], router: Router,
                 wall_s: Callable[[], float] = time.time,
                 disclosure: Callable[[], Disclosure] = lambda: USUAL,
                 adapters: Adapters | None = None) -> None:
        self.engines = engines
        self._wall_s = wall_s
        self._disclosure = disclosure
        self._adapters = adapters
        self._decisions: dict[str, Decision] = {}
        self._of_tenant: dict[str, deque[str]] = {}
        self._batch: list[_Waiting] = []
        self.use(router)

    def use(self, router: Router) -> None:
        """Replace the router. The new router must know the present engines."""
        batch, self._batch = self._batch, []
        for one in batch:  # they were waiting for a choice among the previous engines
            if not one.found.done():
                one.found.set_result(None)
        self.router = router
        # Checked once: testing an object against a protocol takes as long as a choice.
        self._batch_router = router if isinstance(router, BatchRouter) else None

    def open(self, decision_id: str, ask: Ask, now_s: float) -> Decision:
        """Open a decision, which is kept from now on."""
        decision = Decision(decision_id, now_s, ask.name, ask.service_class.name,
                            ask.prompt_tokens, ask.max_tokens, ask.tenant,
                            ask.needs.confidential)
        self._decisions[decision_id] = decision
        # By tenant, so that a busy tenant does not evict the decisions of others.
        own = self._of_tenant.setdefault(ask.tenant, deque())
        own.append(decision_id)
        if len(own) > MOST_KEPT:
            del self._decisions[own.popleft()]
        return decision

    def find(self, decision_id: str) -> Decision | None:
        """Return one of the kept decisions."""
        return self._decisions.get(decision_id)

    def names(self) -> dict[str, str]:
        """Return the engines' names for tenants, by URL."""
        found: dict[str, str] = {}
        for engine in self.engines:
            url, name = engine.facts.url, engine.facts.name
            found[url] = f"{found[url]}, {name}" if url in found else name
        return found

    def availability(self, ask: Ask, now_s: float) -> Availability:
        """Whether any engine may take a request now, and whether any may later."""
        unfit = _unfit_for(ask)
        now = any(unfit(engine) is None and engine.unavailable(now_s) is None
                  and not (ask.needs.confidential and self._untrusted(engine))
                  for engine in self.engines)
        return Availability(now, now or self.suits(ask))

    def suits(self, ask: Ask) -> bool:
        """Whether any engine may take such a request, now or later."""
        unfit = _unfit_for(ask)
        return any(unfit(engine) is None for engine in self.engines)

    async def choose(self, request: Request, decision: Decision, ask: Ask,
                     tried: Sequence[EngineState], now_s: float,
                     outside: Collection[EngineState] = ()) -> EngineState:
        """Choose the engine for a request, among those not ``tried`` yet and not ``outside`` of
        those that the caller admits. Raises ServiceError when none may take it.

        A router that decides on batches is called once for all requests of one iteration of the
        event loop. There is no batching window, so no request waits.
        """
        while True:
            router, able = self.router, self._able(decision, ask, tried, now_s, outside)
            if self._adapters is not None and ask.adapter is not None and len(able) > 1:
                able = self._near(self._adapters, decision, able, ask, ask.adapter, now_s)
            # With only one possible engine there is nothing to decide in a batch.
            if self._batch_router is None or len(able) == 1:
                snapshots = self._snapshots(able, now_s)
                engine = _taken(decision, able, snapshots,
                                router.route(request, snapshots, now_s), self._disclosure())
            else:
                found = await self._together(request, able, now_s)
                if found is None or router is not self.router:
                    continue
                engine = _taken(decision, able, found[1], found[0], self._disclosure())
            if self._attested(engine, decision, ask):
                return engine

    def _able(self, decision: Decision, ask: Ask, tried: Sequence[EngineState],
              now_s: float, outside: Collection[EngineState]) -> list[EngineState]:
        able: list[EngineState] = []
        why: dict[EngineState, str] = {}
        unfit = _unfit_for(ask)
        secret, is_narrowed = ask.needs.confidential, bool(tried or outside)
        for engine in self.engines:
            reason = (unfit(engine) or (self._untrusted(engine) if secret else None)
                      or engine.unavailable(now_s))
            if ask.adapter is not None and reason is None and self._adapters is not None:
                reason = self._adapters.refusal(engine, ask.adapter)
            if is_narrowed:
                if engine in tried:
                    reason = "was tried"
                elif engine in outside:
                    reason = "is not among the endpoints that the gateway admits"
            if reason is None:
                able.append(engine)
                continue
            why[engine] = reason
            if _serves(engine, ask):
                decision.rejected[engine.facts.url] = reason
            else:  # a reason about the right model at the same URL says more
                decision.rejected.setdefault(engine.facts.url, reason)
        if not able:  # an ejected engine is better than none
            able = [engine for engine in self.engines if engine not in tried
                    and engine not in outside and unfit(engine) is None
                    and not (secret and self._untrusted(engine)) and engine.last_resort(now_s)]
        if not able:
            raise _no_engine_error({engine: reason for engine, reason in why.items()
                           if _serves(engine, ask)} or why, later=self.suits(ask))
        return able

    def _near(self, adapters: Adapters, decision: Decision, able: Sequence[EngineState], ask: Ask,
              adapter: Adapter, now_s: float) -> list[EngineState]:
        """Return the engines that are near an adapter, and record why others are left out."""
        found = adapters.near(able, self._snapshots(able, now_s), adapter, ask.prompt_tokens)
        for engine in able:
            if engine not in found:
                decision.rejected[engine.facts.url] = _NOT_NEAR
                decision.rejected_by_policy.add(engine.facts.url)
        return found

    def _attested(self, engine: EngineState, decision: Decision, ask: Ask) -> bool:
        """Whether a confidential request may still go to the chosen engine. Records the attestation
        by which it may."""
        if not ask.needs.confidential:
            return True
        now_s = self._wall_s()
        decision.attestation = next((one for one in engine.confidentiality.attestations
                                     if one.fresh(now_s)), None)
        return decision.attestation is not None

    def _untrusted(self, engine: EngineState) -> str | None:
        """Return why a confidential request may not go to an engine, None where it may."""
        found = attestation_violation(engine.confidentiality, self._wall_s())
        return None if found is None else str(found)

    def _snapshots(self, able: Sequence[EngineState], now_s: float) -> list[ReplicaSnapshot]:
        with_queue = self.router.looks_into_queues
        return [engine.snapshot(now_s, with_queue=with_queue) for engine in able]

    async def _together(self, request: Request, able: Sequence[EngineState],
                        now_s: float) -> _Found | None:
        loop = asyncio.get_running_loop()
        if not self._batch:
            loop.call_soon(self._decide, now_s)
        found: asyncio.Future[_Found | None] = loop.create_future()
        self._batch.append(_Waiting(request, able, found))
        return await found

    def _decide(self, now_s: float) -> None:
        batch, self._batch = [one for one in self._batch if not one.found.done()], []
        if not batch:
            return
        try:
            seen: dict[int, ReplicaSnapshot] = {}
            snapshots_of_each = []
            for one in batch:
                new = [engine for engine in one.able if engine.facts.replica_id not in seen]
                seen.update((s.replica_id, s) for s in self._snapshots(new, now_s))
                snapshots_of_each.append([seen[engine.facts.replica_id] for engine in one.able])
            router, together = self.router, self._batch_router
            if len(batch) > 1 and together is not None:
                routes = together.route_many([one.request for one in batch], snapshots_of_each,
                                             now_s)
            else:
                routes = [router.route(one.request, snapshots, now_s)
                          for one, snapshots in zip(batch, snapshots_of_each, strict=True)]
        except Exception as error:  # every waiting request must receive the error
            for one in batch:
                one.found.set_exception(error)
            return
        for one, route, snapshots in zip(batch, routes, snapshots_of_each, strict=True):
            one.found.set_result((route, snapshots))


def has_engine(engines: Sequence[EngineState], ask: Ask, now_s: float) -> bool:
    """Whether any engine may take an ordinary request now, as a last resort an ejected one."""
    unfit = _unfit_for(ask)
    return any(unfit(engine) is None and (engine.unavailable(now_s) is None
                                                or engine.last_resort(now_s))
               for engine in engines)


def _taken(decision: Decision, able: Sequence[EngineState], snapshots: Sequence[ReplicaSnapshot],
           route: Route, disclosure: Disclosure) -> EngineState:
    """Record a route in the decision and return its engine. About engines in confidential mode, the
    decision records only what ``disclosure`` allows, and no score that reveals their load."""
    facts = [engine.facts for engine in able]
    decision.candidates, decision.urls = snapshots, [one.url for one in facts]
    decision.terms, decision.prospects = dict(route.terms), route.prospects
    decision.admit, decision.answer_tokens = route.admit, route.max_tokens
    ids = [one.replica_id for one in facts]
    if any_confidential(able):
        decision.candidates = [padded(seen, disclosure) if one.confidential else seen
                               for one, seen in zip(facts, snapshots, strict=True)]
        decision.terms = {name: term for name, term in route.terms.items() if name == PROPENSITY}
        decision.prospects = tuple(one for one in route.prospects
                                   if not facts[ids.index(one.replica_id)].confidential)
    url_of = {one.replica_id: one.url for one in facts} if route.rejected else {}
    for replica_id, reason in route.rejected.items():
        if (url := url_of.get(replica_id)) is not None:
            decision.rejected[url] = reason
            decision.rejected_by_policy.add(url)
    if isinstance(route.admit, Reject):
        raise _refused(route.admit)
    return able[ids.index(route.replica_id)]


def _serves(engine: EngineState, ask: Ask) -> bool:
    return ask.models is None or engine.facts.model in ask.models


def _unfit_for(ask: Ask) -> Callable[[EngineState], str | None]:
    """Return the function that tells why an engine can never take a request, None where it can.
    The request's part is read once for all engines."""
    models, name, longest = ask.models, ask.service_class.name, ask.prompt_tokens + 1
    is_secret, adapter = ask.needs.confidential, ask.adapter

    def unfit(engine: EngineState) -> str | None:
        facts = engine.facts
        if models is not None and facts.model not in models:
            return f"serves {facts.model}"
        if facts.service_classes is not None and name not in facts.service_classes:
            return f"does not serve class {name}"
        if is_secret and not (facts.confidential and facts.evidence):
            # Such an engine can never be attested, so waiting does not help.
            return str(attestation_violation(engine.confidentiality, 0.0))
        if longest > facts.kv_total_tokens:
            return "the prompt is longer than its KV cache"
        return None if adapter is None else _unfit_for_adapter(facts.lora, adapter)

    return unfit


def _unfit_for_adapter(lora: LoraOptions | None, adapter: Adapter) -> str | None:
    """Return why an engine with that room can never have an adapter, None where it can."""
    if lora is None:
        return "takes no adapters"
    return None if lora.takes(adapter) else f"takes adapters up to rank {lora.max_rank}"


def _admission_document(admit: Admit) -> dict[str, Any]:
    if isinstance(admit, Reject):
        return {"verdict": "reject", "reason": admit.reason, "retry_after_s": admit.retry_after_s}
    if isinstance(admit, Relax):
        return {"verdict": "relax", "reason": admit.reason}
    return {"verdict": "accept"}


def _refused(admit: Reject) -> ServiceError:
    """Return the error for the client, with a time to retry where waiting may help."""
    if admit.retry_after_s is None:
        return ServiceError(400, admit.reason, "needs_unmet")
    return ServiceError(429, f"{admit.reason}; try again in {admit.retry_after_s:g} s",
                        "not_in_time", headers={"Retry-After": str(ceil(admit.retry_after_s))})


def _no_engine_error(why: Mapping[EngineState, str], *, later: bool) -> ServiceError:
    """Return the error for a request that no engine may take, now or (without ``later``) ever."""
    reasons = "; ".join(f"{engine.facts.name} {reason}" for engine, reason in why.items())
    if not later:
        return ServiceError(400, f"no engine can serve the request: {reasons}", "needs_unmet")
    return ServiceError(503, f"no engine may take the request: {reasons}", "no_engine",
                        headers={"Retry-After": "1"})
