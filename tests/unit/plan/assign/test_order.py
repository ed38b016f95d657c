"""The order of plans, and shares without rounding."""

from dataclasses import replace

import numpy as np
import pytest

from penstock.plan.assign.instance import build_instance, served_shares
from penstock.plan.assign.order import is_better, squared
from penstock.plan.assign.problem import Demand, Option, Pool, Problem

SHARED = Problem((Pool("a", 1.0), Pool("b", 1.0)), (
    Demand("late", (Option("a", 4.0),), priority=2), Demand("own", (Option("b", 1.5),)),
    Demand("soon", (Option("a", 2.0),)), Demand("whole", (Option("a", 1.0),), partial=False)))


@pytest.mark.parametrize("rounding", [-3e-9, 0.0, 3e-9])
def test_who_is_served_in_part_gets_what_the_replicas_have_left(rounding: float) -> None:
    shares = np.array([0.0, 2 / 3 + rounding, 0.5 + rounding, 1.0])
    assert squared(build_instance(SHARED), shares).tolist() == pytest.approx(
        [0.0, 2 / 3, 0.5, 1.0], abs=1e-15)


def test_room_goes_to_the_first_priority() -> None:
    instance = build_instance(SHARED)
    served = served_shares(instance, squared(instance, np.array([0.05, 0.0, 0.3, 1.0])))
    assert served.tolist() == pytest.approx([0.05, 0.0, 0.4, 1.0])


def test_nobody_gets_more_than_all() -> None:
    roomy = replace(SHARED, demands=(Demand("d", (Option("a", 0.4),)),))
    assert squared(build_instance(roomy), np.array([0.9])).tolist() == [1.0]


def test_rounding_decides_nothing() -> None:
    assert is_better((-2.0, 5.0), (-1.0, 1.0))
    assert is_better((-2.0, 1.0), (-2.0 - 1e-9, 5.0))
    assert not is_better((-2.0, 1.0), (-2.0, 1.0))
