"""The budget of a scaled fleet's file: problems of its numbers."""

from collections.abc import Callable, Iterator, Sequence

from penstock.fleet.problems import Problem
from penstock.fleet.scaling import bounds, replica_per_hour, replica_power_w
from penstock.fleet.values import Fleet


def budget_problems(fleet: Fleet) -> Iterator[Problem]:
    """Yield limits of the budget that do not hold the floors, the replicas of the start, or one
    replica of a group beside the floors."""
    budget = fleet.scaling.budget
    if budget is None or not fleet.scales:
        return
    path = ("scaling", "budget")
    if budget.cost_per_hour is None and budget.power_w is None:
        yield Problem(path, "is empty; expected cost_per_hour or power_w")
    if budget.cost_per_hour is not None:
        each = [replica_per_hour(fleet, group) for group in fleet.replicas]
        yield from _problems(fleet, (*path, "cost_per_hour"), budget.cost_per_hour, each,
                             lambda value: f"{value:,.6g} per hour")
    if budget.power_w is not None:
        each = [replica_power_w(group) for group in fleet.replicas]
        yield from _problems(fleet, (*path, "power_w"), budget.power_w, each,
                             lambda value: f"{value:,.6g} W")


def _problems(fleet: Fleet, path: tuple[str, ...], limit: float, each: Sequence[float],
              shown: Callable[[float], str]) -> Iterator[Problem]:
    floors = [bounds(fleet, group)[0] for group in fleet.replicas]
    counts = [group.count for group in fleet.replicas]
    for numbers, text in ((floors, "fewest replicas (min_replicas)"),
                          (counts, "replicas of the start (count)")):
        needed = _sum(numbers, each)
        if needed > limit:
            yield Problem(path, f"{shown(limit)} is less than the {text} take, {shown(needed)}")
            return
    for number in range(len(each)):
        needed = _sum([max(floor, i == number) for i, floor in enumerate(floors)], each)
        if needed > limit:
            yield Problem(path, f"{shown(limit)} is less than one replica of replicas[{number}] "
                                f"takes beside the fewest of the others, {shown(needed)}")


def _sum(numbers: Sequence[int], each: Sequence[float]) -> float:
    return sum(number * one for number, one in zip(numbers, each, strict=True))
