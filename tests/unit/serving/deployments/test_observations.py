"""Expectations follow what answers take, deployment by deployment."""

from dataclasses import replace

import pytest

from penstock.core.prediction import Prediction
from penstock.policy.place.intent import Criteria
from penstock.policy.place.values import Footprint, Placement, Stage
from penstock.serving.deployments.deployments import DeployIntent, Deployment, Expected
from penstock.serving.deployments.engines import Reply
from penstock.serving.deployments.observations import Observations

TWO_S = Prediction(2.0, 1.5, 2.5, 0.9, "test")
PLACED = Placement(Footprint("m", 2, 1, 1, 10), (Stage(2, (0,)),))


@pytest.fixture
def one() -> Deployment:
    return replace(Deployment("chat", "m", "sim", 0.0, 0.0), placement=PLACED,
                   intent=DeployIntent(Criteria("min_lat"), output_tokens=100),
                   expected=Expected(TWO_S, Prediction(1.0, 1.0, 1.0, 0.9, "test")))


def reply(service_s: float, output_tokens: int | None = 100) -> Reply:
    return Reply("x", service_s, 10, output_tokens)


def test_nothing_was_seen_before_the_first_answer(one: Deployment) -> None:
    assert Observations().of(one) is None


def test_answers_half_as_long_again_as_expected(one: Deployment) -> None:
    seen = Observations()
    for _ in range(60):
        for tokens in (50, 100, 200):
            seen.answered(one, reply(3.0 * tokens / 100, tokens))
    found = seen.of(one)
    assert found is not None
    assert found.num_answers == 180
    assert found.latency_s == pytest.approx(3.0, rel=0.05)


def test_what_was_not_counted_teaches_nothing(one: Deployment) -> None:
    seen = Observations()
    seen.answered(one, reply(3.0, None))
    seen.answered(one, reply(3.0, 0))
    seen.answered(replace(one, expected=None), reply(3.0))
    assert seen.of(one) is None


def test_a_deployment_made_anew_is_learnt_anew(one: Deployment) -> None:
    seen = Observations()
    seen.answered(one, reply(3.0))
    moved = replace(one, placement=Placement(PLACED.footprint, (Stage(2, (1,)),)))
    assert seen.of(moved) is None
    seen.answered(moved, reply(2.0))
    found = seen.of(moved)
    assert found is not None
    assert found.num_answers == 1
    assert seen.of(one) is None
