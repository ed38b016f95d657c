"""When the objective of a request without a replica is out of reach."""

from math import inf

import pytest

from penstock.core.slo import ServiceClass, Slo
from penstock.policy.scale.hopeless import LeastTimes, hopeless_after_s
from penstock.policy.scale.protocol import GroupFacts, ScalerContext


def group(model: str, classes: frozenset[str] | None = None) -> GroupFacts:
    return GroupFacts(model, 0, 4, 0, 1.0, 60.0, 1000, classes)


TIMES = LeastTimes(ScalerContext(
    (group("slow"), group("fast"), group("fast", frozenset({"batch"}))), {}, (),
    (lambda step: step.prefill_tokens / 100, lambda step: step.prefill_tokens / 200,
     lambda step: step.prefill_tokens / 1000)))


@pytest.mark.parametrize(("slo", "after_s"), [
    (Slo(ttft_s=2.0), 1.5), (Slo(e2e_s=9.0), 8.5), (Slo(ttft_s=2.0, e2e_s=1.0), 0.5),
    (Slo(ttft_s=0.2), 0.0), (Slo(itl_s=0.1), inf), (Slo(), inf)])
def test_the_first_token_and_the_last_are_due_after_the_least_answer(slo, after_s) -> None:
    assert hopeless_after_s(slo, 0.5) == after_s


@pytest.mark.parametrize(("model", "name", "least_s"), [
    ("slow", "chat", 1.0), ("fast", "chat", 0.5), ("fast", "batch", 0.1), ("", "chat", 0.5),
    ("other", "chat", inf)])
def test_the_fastest_group_that_may_serve_counts(model, name, least_s) -> None:
    assert TIMES.least_s(model, ServiceClass(name), 100) == least_s


def test_requests_that_nothing_could_serve_or_that_promise_nothing_wait_on() -> None:
    assert TIMES.patience_s("other", ServiceClass("chat", Slo(ttft_s=1.0)), 100) == inf
    assert TIMES.patience_s("fast", ServiceClass("chat"), 100) == inf
    assert TIMES.patience_s("fast", ServiceClass("chat", Slo(ttft_s=1.0)), 100) == 0.5
