import pickle

import pytest

from penstock.core.decision import Reject, Route
from penstock.core.snapshot import ReplicaSnapshot
from penstock.core.step import Chunk, StepFeatures, StepPlan, StepResult

PLAN = StepPlan(3, (Chunk(1, 20, 5, False),), (7, 8), StepFeatures(20, 300.0, 2, 90), (0,),
                joined=((1, 0),))
VALUES = [PLAN, StepResult((1, 2), 5), ReplicaSnapshot(0, "m", 1.5, 1, 2, 30, 400, 5000),
          Route(-1, {"load": 2.0}, {3: "full"}, Reject("is too long"))]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
class TestEveryValue:
    def test_is_equal_to_its_copy_and_survives_pickling(self, value):
        assert value.replace() == value == pickle.loads(pickle.dumps(value))
        assert value.replace() is not value

    def test_names_its_fields_in_the_order_of_its_parameters(self, value):
        assert type(value)(*value.as_dict().values()) == value

    def test_shows_its_fields(self, value):
        name, first = value.__match_args__[0], next(iter(value.as_dict().values()))
        assert repr(value).startswith(f"{type(value).__name__}({name}={first!r}")


def test_another_field_makes_another_value():
    assert PLAN.replace(step=4) != PLAN
    assert PLAN.replace(step=4).step == 4
    assert StepResult() != PLAN


def test_equal_values_have_equal_hashes():
    assert hash(PLAN) == hash(PLAN.replace())
    assert len({PLAN, PLAN.replace(), PLAN.replace(step=4)}) == 2


def test_an_unknown_field_is_refused():
    with pytest.raises(TypeError):
        PLAN.replace(stage=1)
