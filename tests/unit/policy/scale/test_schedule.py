"""Timetables of replicas."""

import pytest

from penstock.core.errors import InputError
from penstock.core.settings import Steps
from penstock.policy.scale.build import schedule
from penstock.policy.scale.protocol import GroupFacts, ScalerContext
from penstock.policy.scale.values import Observation, SeenGroup

CONTEXT = ScalerContext((GroupFacts("m", 0, 9, 1, 1.0, 60.0, 1000),
                         GroupFacts("m", 0, 9, 2, 1.0, 60.0, 1000)), {})
STEPS = [[60, 3, 0], [120, 5, 1]]


def targets(settings, now_s):
    seen = Observation(now_s, (SeenGroup(1, ()), SeenGroup(2, ())), None)
    return schedule(settings, CONTEXT).decide(seen, now_s).targets


@pytest.mark.parametrize(("now_s", "expected"), [
    (0, (1, 2)), (59, (1, 2)), (60, (3, 0)), (119, (3, 0)), (120, (5, 1)), (1e6, (5, 1))])
def test_the_last_row_whose_time_has_come_holds(now_s, expected):
    assert targets({"steps": STEPS}, now_s) == expected


@pytest.mark.parametrize(("now_s", "expected"), [
    (0, (1, 2)), (130, (5, 1)), (200, (5, 1)), (260, (3, 0)), (330, (5, 1))])
def test_a_timetable_that_repeats_goes_on_with_its_last_numbers(now_s, expected):
    assert targets({"steps": STEPS, "repeat_s": 200}, now_s) == expected


def test_every_group_needs_a_number():
    with pytest.raises(InputError, match="expected a time and 2 numbers in every row, one for each "
                                         "of `replicas`; found 1 numbers"):
        schedule({"steps": [[0, 1]]}, CONTEXT)


@pytest.mark.parametrize(("value", "problem"), [
    ([[0, 2], [3600, 5]], ""), ([[0.5, 2, 3]], ""), ([], "expected rows"),
    ("text", "expected rows"),
    ([[0]], "expected rows"), ([[-1, 2]], "expected rows"), ([[0, -2]], "expected rows"),
    ([[0, 1.5]], "expected rows"), ([[True, 1]], "expected rows"),
    ([[0, 1], [1, 2, 3]], "expected as many numbers in every row"),
    ([[5, 1], [5, 2]], "expected rising times")])
def test_steps(value, problem):
    assert Steps().problem(value).startswith(problem)
    assert bool(Steps().problem(value)) == bool(problem)
