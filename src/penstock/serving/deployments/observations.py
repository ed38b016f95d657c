"""Observed latencies of deployments' answers, compared with the expected ones."""

from collections.abc import Iterable
from dataclasses import dataclass

from penstock.perf.fingerprint.recalibrate import Recalibration
from penstock.policy.place.beside import Neighbour, Traffic
from penstock.serving.deployments.deployments import Deployment, State
from penstock.serving.deployments.engines import Reply


@dataclass(frozen=True, slots=True)
class Observation:
    """Observations since the latest deploy: ``num_answers`` were measured, and ``latency_s`` is the
    corrected latency of the expected answer."""

    num_answers: int
    scale: float
    offset_s: float
    latency_s: float


class Observations:
    """Learns from the answers of every deployment since its latest deploy. Nothing is kept over a
    restart; the first answers teach it again."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[object, Recalibration]] = {}

    def answered(self, one: Deployment, reply: Reply) -> None:
        """Learn from an answer. An answer without a token count is ignored, and so is a deployment
        without an expected latency."""
        expected = _expected_s(one)
        if expected is None or one.intent is None or not reply.output_tokens:
            return
        known = self._known.get(one.name)
        if known is None or known[0] != one.placement:
            known = self._known[one.name] = (one.placement, Recalibration(expected))
        # An answer of half the tokens is expected in half the time. The part that does not shrink
        # with the tokens (the prompt) becomes part of the learned offset.
        known[1].observe(expected * reply.output_tokens / one.intent.output_tokens, reply.service_s)

    def of(self, one: Deployment) -> Observation | None:
        """Return the observations of a deployment, None where there are none."""
        expected, known = _expected_s(one), self._known.get(one.name)
        if expected is None or known is None or known[0] != one.placement:
            return None
        found = known[1]
        return Observation(found.num_observed, found.scale, found.offset_s,
                           found.corrected_s(expected))

    def beside(self, one: Deployment, everybody: Iterable[Deployment]) -> list[Neighbour]:
        """Return the other deployments on accelerators, except those that are being removed."""
        return [neighbour(other, self.of(other)) for other in everybody
                if other.devices and other.name != one.name and other.state != State.REMOVING]


def neighbour(one: Deployment, seen: Observation | None) -> Neighbour:
    """Return a deployment as a neighbour of others: its request rate is the one stated at its
    deploy, its latency the observed one, else the expected one."""
    service_s = _expected_s(one) if seen is None else seen.latency_s
    rate_per_s = one.intent.criteria.own_rate_per_s if one.intent is not None else 0.0
    known = service_s is not None and rate_per_s > 0.0
    tied = one.intent is not None and one.intent.confidential  # to attested accelerators
    return Neighbour(one.name, frozenset(one.devices),
                     Traffic(rate_per_s, service_s or 0.0) if known else None,
                     None if tied else one.placement)


def _expected_s(one: Deployment) -> float | None:
    if one.expected is None or one.expected.latency_s is None:
        return None
    return one.expected.latency_s.value
