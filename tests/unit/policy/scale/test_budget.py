"""A budget shared among models."""

import pytest

from penstock.policy.scale.budget import BudgetSharing, Spending
from penstock.policy.scale.protocol import Budget, GroupFacts


def group(model: str, cost: float = 1.0, floor: int = 0, power_w: float = 100.0) -> GroupFacts:
    return GroupFacts(model, floor, 100, floor, cost, 60.0, 1000, power_w=power_w)


def shared(budget, groups, wanted, present=None, worth=None):
    found = BudgetSharing(budget, groups).shared(
        wanted, present or [one.floor for one in groups], worth or [1.0] * len(groups))
    return None if found is None else found.counts


def test_what_fits_is_left_alone() -> None:
    assert shared(Budget(10), [group("a"), group("b")], (5, 5)) is None


def test_one_model_gets_what_the_budget_holds_and_the_reason_says_so() -> None:
    found = BudgetSharing(Budget(50), [group("llama", 15.0)]).shared((5,), (1,), (1.0,))
    assert found == ((3,), "budget of 50 per hour: 3 of 5 replicas of llama")
    both = BudgetSharing(Budget(50, 150), [group("llama", 15.0)]).shared((5,), (1,), (1.0,))
    assert both == ((1,), "budget of 50 per hour and 150 W: 1 of 5 replicas of llama")


@pytest.mark.parametrize(("wanted", "counts"), [
    ((10, 10), (4, 4)), ((12, 4), (6, 2)), ((2, 40), (1, 7)), ((8, 1), (7, 1))])
def test_models_get_about_the_same_share_of_what_they_want(wanted, counts) -> None:
    assert shared(Budget(8), [group("a"), group("b")], wanted) == counts


def test_floors_come_first() -> None:
    assert shared(Budget(8), [group("a", floor=1), group("b", floor=6)], (20, 6)) == (2, 6)


def test_a_model_with_room_left_goes_on_where_another_is_too_dear() -> None:
    assert shared(Budget(10), [group("big", 6.0), group("small", 1.0)], (2, 9)) == (1, 4)


def test_a_cut_model_gets_the_replicas_worth_the_most_for_their_share() -> None:
    groups = [group("a", 4.0), group("a", 3.0)]
    assert shared(Budget(12), groups, (3, 3), worth=(2.0, 1.0)) == (3, 0)
    assert shared(Budget(12), groups, (3, 3), worth=(1.0, 1.0)) == (0, 3)


def test_present_replicas_stay_unless_the_least_share_rises_by_a_tenth() -> None:
    groups = [group("a"), group("b")]
    assert shared(Budget(8), groups, (9, 8), present=(4, 4)) == (4, 4)
    assert shared(Budget(8), groups, (10, 8), present=(4, 4)) == (4, 4)
    assert shared(Budget(8), groups, (20, 8), present=(4, 4)) == (6, 2)


def test_a_model_at_zero_gets_a_replica_of_a_model_that_has_all() -> None:
    assert shared(Budget(6), [group("a"), group("b")], (6, 1), present=(6, 0)) == (5, 1)


def test_floors_are_reserved() -> None:
    spending = Spending(Budget(6), [group("a", floor=0), group("b", floor=2)])
    assert spending.has_room((3, 0), 0)
    assert not spending.has_room((4, 0), 0)
    assert spending.has_room((4, 1), 1)
    assert not spending.fits((5, 0))


def test_a_limit_is_kept_up_to_rounding() -> None:
    spending = Spending(Budget(0.3), [group("a", 0.1)])
    assert spending.fits((3,))
    assert not spending.fits((4,))
