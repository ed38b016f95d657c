"""Requests, replicas and what is known of them, for tests of routing."""

from collections.abc import Mapping, Sequence

from penstock.core.decision import Route
from penstock.core.departure import Departure
from penstock.core.forecast import Forecast
from penstock.core.money import Price
from penstock.core.request import NO_FORECASTS, NO_NEEDS, Needs, Request
from penstock.core.slo import ServiceClass
from penstock.core.snapshot import QueuedWork, ReplicaSnapshot
from penstock.perf.evidence import Evidence
from penstock.perf.step_time.linear import LinearStepTime
from penstock.policy.route.facts import Offer, ReplicaFacts
from penstock.policy.route.protocol import Router
from penstock.policy.route.usual import UsualForecasts
from penstock.predict.latency import LatencyPrior
from penstock.predict.length import HistoryLengths

ANY = ServiceClass("any")
# 10 ms a step, 0.1 ms a prompt token, 0.1 ms a sequence, 0.1 us a token of context.
STEP = LinearStepTime(0.01, 1e-4, 0.0, 1e-4, 1e-7, Evidence("made up for tests", 0.0, 0.0))
SLOW_STEP = LinearStepTime(0.04, 4e-4, 0.0, 4e-4, 4e-7, Evidence("made up for tests", 0.0, 0.0))
PRIOR = LatencyPrior(STEP, 64, 512)
SLOW_PRIOR = LatencyPrior(SLOW_STEP, 64, 512)

SMALL = Offer("small", Price(1e-7, 2e-7), 1e9, 0.5)
LARGE = Offer("large", Price(5e-7, 10e-7), 9e9, 0.7)


def fact(number: int, offer: Offer = SMALL) -> ReplicaFacts:
    """A replica of the small (fast) or the large (slow) model."""
    prior = SLOW_PRIOR if offer.model == LARGE.model else PRIOR
    return ReplicaFacts(number, offer, offer.model, prior)


def snapshot(number: int, model: str = "small", waiting: int = 0, running: int = 0,
             queued: int = 0, kv_used: int = 0, kv_total: int = 100_000, pending: float = 0.0,
             queue: tuple[QueuedWork, ...] = ()) -> ReplicaSnapshot:
    """A replica as a router sees it."""
    return ReplicaSnapshot(number, model, 0.0, waiting, running, queued, kv_used, kv_total, None,
                           1.0, pending, queue)


def request(number: int = 0, prompt_tokens: int = 100, max_tokens: int = 500, *,
            service_class: ServiceClass = ANY, model: str = "", needs: Needs = NO_NEEDS,
            forecasts: Mapping[str, Forecast] = NO_FORECASTS, tenant: str = "default",
            hashes: tuple[int, ...] = (), session: str = "") -> Request:
    """A request at time 0 that leaves the model open."""
    return Request(number, 0.0, prompt_tokens, max_tokens, service_class, model, tenant, hashes,
                   16 if hashes else 0, needs, forecasts, session)


def expected(small: float = 0.5, large: float = 0.7, tokens: float = 100.0,
             unsure: float = 0.0) -> dict[str, Forecast]:
    """Forecasts of both models."""
    return {"small": Forecast(tokens, 2 * tokens, small, unsure),
            "large": Forecast(tokens, 2 * tokens, large, unsure)}


def usual(facts: Sequence[ReplicaFacts]) -> UsualForecasts:
    """Means and histories of those replicas."""
    return UsualForecasts(facts, HistoryLengths())


def departure(number: int, replica_id: int, ttft_s: float | None, e2e_s: float,
              output_tokens: int = 100, *, finished: bool = True) -> Departure:
    """How a request went."""
    return Departure(number, replica_id, finished, output_tokens, ttft_s, e2e_s)


def joined(replica: ReplicaSnapshot, one: Request, output_tokens: float) -> ReplicaSnapshot:
    """The replica with one more request that waits."""
    return replica.replace(
        num_waiting=replica.num_waiting + 1,
        queued_prompt_tokens=replica.queued_prompt_tokens + one.prompt_tokens,
        pending_output_tokens=replica.pending_output_tokens + output_tokens,
        queue=(*replica.queue, QueuedWork(one.prompt_tokens, 0, output_tokens)))


def burst(router: Router, replicas: Sequence[ReplicaSnapshot], num: int,
          output_tokens: float = 100.0) -> list[Route]:
    """Routes of equal requests at one instant, each seeing where the others went."""
    seen = {replica.replica_id: replica for replica in replicas}
    routes: list[Route] = []
    for number in range(num):
        one = request(number, forecasts=expected(tokens=output_tokens))
        routes.append(router.route(one, list(seen.values()), 0.0))
        chosen = routes[-1].replica_id
        seen[chosen] = joined(seen[chosen], one, output_tokens)
    return routes


