"""When lines are looked at for requests that are too late, and where models are."""

from hypothesis import given
from hypothesis import strategies as st

from penstock.policy.multiplex.device import Device
from penstock.policy.multiplex.infeasible import Checks
from penstock.policy.multiplex.queues import ModelLocations
from penstock.policy.multiplex.values import BatchTime, HostedModel, Load
from support.scaled_examples import unit_examples

MODELS = [HostedModel(name, 10, BatchTime(1.0, 0.1)) for name in "abc"]


@given(st.lists(st.tuples(st.integers(0, 4), st.floats(0, 100)), max_size=40),
       st.floats(0, 120))
@unit_examples(100)
def test_each_model_is_due_once_at_its_soonest(wishes, now_s):
    checks = Checks(5)
    for model, at_s in wishes:
        checks.at(model, at_s)
    found = []
    while (model := checks.due(now_s)) is not None:
        found.append(model)
    soonest = {model: min(at_s for other, at_s in wishes if other == model)
               for model, _ in wishes}
    assert sorted(found) == sorted(model for model, at_s in soonest.items() if at_s <= now_s)
    later = {model: at_s for model, at_s in soonest.items() if at_s > now_s}
    for model, at_s in sorted(later.items(), key=lambda item: (item[1], item[0])):
        assert checks.due(at_s) == model


def test_a_model_that_was_looked_at_may_be_asked_for_again():
    checks = Checks(1)
    checks.at(0, 5.0)
    assert checks.due(4.0) is None
    assert checks.due(5.0) == 0
    assert checks.due(9.0) is None
    checks.at(0, 7.0)
    assert checks.due(9.0) == 0


def test_who_loads_a_model_counts_as_having_it():
    where = ModelLocations()
    devices = [Device(index, 20, MODELS) for index in range(3)]
    for device in devices:
        where.see(device)
    assert where.counts() == {}
    devices[0].begin_load(Load(1))
    devices[1].begin_load(Load(1))
    devices[1].end_load(5.0, loaded=True)
    devices[1].begin_load(Load(2))
    assert where.counts() == {1: 2, 2: 1}
