"""Observed latencies of deployments' answers beside the expected ones."""

from collections.abc import Iterable
from dataclasses import dataclass

from penstock.perf.fingerprint.recalibrate import Recalibration
from penstock.policy.place.beside import Neighbour, Traffic
from penstock.serving.deployments.deployments import Deployment, State
from penstock.serving.deployments.engines import Reply


@dataclass(frozen=True, slots=True)
class Observation:
    """The last deploy of a deployment: ``num_answers`` were measured, ``latency_s`` is what the
    expected answer takes by now."""

    num_answers: int
    scale: float
    offset_s: float
    latency_s: float


class Observations:
    """Learns from the answers of every deployment since it was deployed; forgets when it is
    deployed anew. Nothing is kept over a restart: the first answers tell it again."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[object, Recalibration]] = {}

    def answered(self, one: Deployment, reply: Reply) -> None:
        """An answer came. One whose tokens were not counted teaches nothing, and nothing is learnt
        where nothing was expected."""
        expected = _expected_s(one)
        if expected is None or one.intent is None or not reply.output_tokens:
            return
        known = self._known.get(one.name)
        if known is None or known[0] != one.placement:
            known = self._known[one.name] = (one.placement, Recalibration(expected))
        # An answer of half the tokens is expected in half the time; what does not shrink with them
        # (the prompt) is the offset that is learnt.
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
        """The others on accelerators, but those that are being removed."""
        return [neighbour(other, self.of(other)) for other in everybody
                if other.devices and other.name != one.name and other.state != State.REMOVING]


def neighbour(one: Deployment, seen: Observation | None) -> Neighbour:
    """A deployment as others find it on its accelerators: asked as often as was told when it was
    deployed, for as long as its answers are seen to take, else as was expected."""
    service_s = _expected_s(one) if seen is None else seen.latency_s
    rate_per_s = one.intent.criteria.own_rate_per_s if one.intent is not None else 0.0
    known = service_s is not None and rate_per_s > 0.0
    return Neighbour(one.name, frozenset(one.devices),
                     Traffic(rate_per_s, service_s or 0.0) if known else None)


def _expected_s(one: Deployment) -> float | None:
    if one.expected is None or one.expected.latency_s is None:
        return None
    return one.expected.latency_s.value
