"""What another deployment is taken to be asked on its accelerators."""

from penstock.core.prediction import Prediction
from penstock.policy.place.beside import Neighbour, Traffic
from penstock.policy.place.intent import Criteria
from penstock.serving.deployments.deployments import DeployIntent, Expected
from penstock.serving.deployments.observations import Observation, neighbour
from support.simulated_deployments import PLACEMENT, deployment

EXPECTED = Expected(Prediction(2.0, 1.0, 3.0, 0.9, "test"), None)
ASKED = deployment(placement=PLACEMENT, expected=EXPECTED,
                   intent=DeployIntent(Criteria(own_rate_per_s=0.25)))
BOTH = frozenset({0, 1})


def test_as_expected_until_answers_are_seen() -> None:
    assert neighbour(ASKED, None) == Neighbour("a", BOTH, Traffic(0.25, 2.0), PLACEMENT)
    assert neighbour(ASKED, Observation(9, 0.5, 0.0, 1.0)) == Neighbour(
        "a", BOTH, Traffic(0.25, 1.0), PLACEMENT)


def test_without_a_rate_or_an_estimate_nothing_is_known() -> None:
    for more in ({"intent": DeployIntent()}, {"intent": None}, {"expected": Expected(None, None)},
                 {"expected": None}):
        one = deployment(**({"placement": PLACEMENT, "expected": EXPECTED,
                             "intent": ASKED.intent} | more))
        assert neighbour(one, None) == Neighbour("a", BOTH, None, PLACEMENT)


def test_a_confidential_deployment_stays_where_it_is() -> None:
    one = deployment(placement=PLACEMENT, intent=DeployIntent(confidential=True))
    assert neighbour(one, None) == Neighbour("a", BOTH)
