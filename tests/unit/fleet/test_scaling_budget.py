"""The budget of a scaled fleet: numbers that cannot hold the replicas are errors of the file."""

import pytest

from penstock.core.errors import InputError
from penstock.fleet.load import parse_fleet
from penstock.fleet.scaler import scaler_context, spending_of
from penstock.fleet.write import to_yaml
from penstock.policy.scale.protocol import Budget

FLEET = """\
accelerators: [{{name: a100-80gb, count: 9, price_per_hour: 3}}]
models: [{{name: llama-3-8b}}]
service_classes: [{{name: chat}}]
traffic:
  - {{lengths: {{prompt: {{fixed: 9}}, output: {{fixed: 9}}}}, rate_per_s: 1, num_requests: 9}}
replicas:
  - {{count: 2, min_replicas: 1}}
  - {{count: 0, parallelism: {{tensor: 2}}}}
scaling: {{start_s: 5, budget: {budget}}}
policies: {{scale: {scale}}}
"""


def fleet_of(budget: str, scale: str = "static"):
    return parse_fleet(FLEET.format(budget=budget, scale=scale))


def test_a_policy_knows_the_budget_and_what_replicas_take() -> None:
    fleet = fleet_of("{cost_per_hour: 50, power_w: 5000}")
    context = scaler_context(fleet, 0)
    assert context.budget == Budget(50, 5000)
    power_w = fleet.replicas[0].accelerator.power_w
    assert [(one.cost_per_hour, one.power_w) for one in context.groups] == [
        (3, power_w), (6, 2 * power_w)]
    assert parse_fleet(to_yaml(fleet)) == fleet
    assert spending_of(fleet_of("{cost_per_hour: 50}")).fits((2, 7))
    assert not spending_of(fleet_of("{cost_per_hour: 50}")).fits((2, 8))


@pytest.mark.parametrize(("budget", "problem"), [
    ("{cost_per_hour: 2.5}", "budget.cost_per_hour: 2.5 per hour is less than the fewest replicas "
                             "(min_replicas) take, 3 per hour"),
    ("{cost_per_hour: 5}", "budget.cost_per_hour: 5 per hour is less than the replicas of the start"
                           " (count) take, 6 per hour"),
    ("{cost_per_hour: 8}", "budget.cost_per_hour: 8 per hour is less than one replica of "
                           "replicas[1] takes beside the fewest of the others, 9 per hour"),
    ("{power_w: 300}", "budget.power_w: 300 W is less than the fewest"),
    ("{}", "budget: is empty; expected cost_per_hour or power_w"),
    ("{cost_per_hour: 0}", "budget.cost_per_hour: expected more than 0, found 0"),
])
def test_a_budget_that_cannot_hold_the_replicas_is_an_error(budget, problem) -> None:
    with pytest.raises(InputError) as caught:
        fleet_of(budget)
    assert problem in str(caught.value)


