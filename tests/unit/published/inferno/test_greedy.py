"""Scenes on two pools of cards: one card per replica, prices by hand."""

from dataclasses import replace

import pytest

from penstock.published.inferno.greedy import best_first, solve_greedy
from penstock.published.inferno.values import (
    Accelerator,
    Allocation,
    IterationTimes,
    Load,
    Profile,
    Server,
    ServiceClass,
)
from support.inferno_bundles import system


def scene(cards, **priorities):
    """Servers by name with their priorities; pools A and B."""
    base = system()
    times = IterationTimes(1.0, 1.0)
    return replace(
        base, capacity=cards,
        accelerators={name: Accelerator(name, name[-1], 2 if name[0] == "2" else 1, 1.0)
                      for name in ("A", "B", "2xA")},
        profiles={("m", name): Profile("m", name, 1, 8, 8, times) for name in ("A", "B", "2xA")},
        service_classes={str(p): ServiceClass(str(p), p, {}) for p in set(priorities.values())},
        servers={name: Server(name, str(priority), "m", Load(10.0, 1, 1))
                 for name, priority in priorities.items()})


def on(accelerator, replicas, value):
    return Allocation(accelerator, replicas, 8, value, value, 10.0, 20.0)


def granted(found):
    return {name: (each.accelerator, each.num_replicas) for name, each in sorted(found.items())}


def test_the_best_candidate_that_fits_whole() -> None:
    bundle = scene({"A": 4, "B": 9}, x=1, y=2)
    candidates = {"x": [on("A", 3, 30.0), on("B", 3, 60.0)],
                  "y": [on("A", 3, 30.0), on("B", 4, 50.0)]}
    assert granted(solve_greedy(bundle, candidates, "None", False)) == {
        "x": ("A", 3), "y": ("B", 4)}


def test_regret_decides_within_a_priority() -> None:
    bundle = scene({"A": 3, "B": 9}, x=1, y=1)
    candidates = {"x": [on("A", 3, 30.0), on("B", 3, 40.0)],
                  "y": [on("A", 3, 30.0), on("B", 3, 90.0)]}
    assert granted(solve_greedy(bundle, candidates, "None", False)) == {
        "x": ("B", 3), "y": ("A", 3)}


def test_who_has_one_choice_goes_first() -> None:
    bundle = scene({"A": 3, "B": 9}, x=1, y=1)
    candidates = {"x": [on("A", 3, 30.0), on("B", 3, 900.0)], "y": [on("A", 3, 30.0)]}
    assert granted(solve_greedy(bundle, candidates, "None", False)) == {
        "x": ("B", 3), "y": ("A", 3)}


def test_a_priority_goes_before_regret() -> None:
    bundle = scene({"A": 3}, x=1, y=2)
    candidates = {"x": [on("A", 3, 30.0), on("B", 3, 31.0)], "y": [on("A", 3, 30.0)]}
    assert granted(solve_greedy(bundle, candidates, "None", False)) == {"x": ("A", 3)}


def test_a_unit_of_two_cards_takes_two() -> None:
    bundle = scene({"A": 5}, x=1)
    assert solve_greedy(bundle, {"x": [on("2xA", 3, 30.0)]}, "None", False) == {}
    assert granted(solve_greedy(bundle, {"x": [on("2xA", 2, 30.0)]}, "None", False)) == {
        "x": ("2xA", 2)}


def test_a_pool_without_a_count_is_empty() -> None:
    bundle = scene({"A": 5}, x=1)
    assert solve_greedy(bundle, {"x": [on("B", 1, 30.0)]}, "RoundRobin", False) == {}


def test_nothing_is_needed_and_nothing_taken() -> None:
    bundle = scene({}, x=1)
    assert granted(solve_greedy(bundle, {"x": [Allocation()]}, "None", False)) == {"x": ("", 0)}


@pytest.mark.parametrize(("policy", "expected"), [
    ("None", {}),
    ("PriorityExhaustive", {"x": ("A", 5), "y": ("B", 2)}),
    ("PriorityRoundRobin", {"x": ("A", 3), "y": ("A", 2), "z": ("B", 2)}),
    ("RoundRobin", {"x": ("A", 2), "y": ("A", 2), "z": ("A", 1)}),
])
def test_best_effort(policy, expected) -> None:
    bundle = scene({"A": 5, "B": 2}, x=1, y=1, z=2)
    candidates = {"x": [on("A", 6, 60.0), on("B", 9, 90.0)],
                  "y": [on("A", 6, 50.0), on("B", 9, 80.0)],
                  "z": [on("A", 6, 60.0), on("B", 9, 90.0)]}
    assert granted(solve_greedy(bundle, candidates, policy, True)) == expected


def test_leftovers_of_a_priority_come_before_the_next_one() -> None:
    bundle = scene({"A": 5}, x=1, y=2)
    candidates = {"x": [on("A", 6, 60.0)], "y": [on("A", 4, 40.0)]}
    at_once = solve_greedy(bundle, candidates, "PriorityExhaustive", False)
    delayed = solve_greedy(bundle, candidates, "PriorityExhaustive", True)
    assert granted(at_once) == {"x": ("A", 5)}
    assert granted(delayed) == {"x": ("A", 1), "y": ("A", 4)}


def test_a_part_costs_its_share_and_shows_the_latencies_of_the_whole() -> None:
    bundle = scene({"A": 3}, x=1)
    part = solve_greedy(bundle, {"x": [on("A", 6, 60.0)]}, "RoundRobin", False)["x"]
    assert (part.cost_cents_per_hour, part.value, part.itl_ms) == (30.0, 30.0, 10.0)


@pytest.mark.parametrize("policy", ["PriorityExhaustive", "PriorityRoundRobin", "RoundRobin"])
def test_nobody_gets_more_than_wanted_or_than_there_is(policy) -> None:
    bundle = scene({"A": 7, "B": 5}, u=1, v=1, w=2, x=3)
    candidates = {name: [on("A", 4 + index, 40.0 + index), on("B", 3 + index, 70.0)]
                  for index, name in enumerate("uvwx")}
    found = solve_greedy(bundle, candidates, policy, False)
    for name, each in found.items():
        wanted = {option.accelerator: option.num_replicas for option in candidates[name]}
        assert each.num_replicas <= wanted[each.accelerator]
    for pool, cards in (("A", 7), ("B", 5)):
        assert sum(e.num_replicas for e in found.values() if e.accelerator == pool) <= cards


def test_ties_break_by_name() -> None:
    assert [each.accelerator for each in best_first(
        "x", [on("B", 1, 5.0), on("A", 1, 5.0), on("2xA", 1, 5.0)])] == ["2xA", "A", "B"]
    bundle = scene({"A": 3}, b=1, a=1)
    candidates = {"b": [on("A", 3, 30.0)], "a": [on("A", 3, 30.0)]}
    assert granted(solve_greedy(bundle, candidates, "None", False)) == {"a": ("A", 3)}
    other = solve_greedy(bundle, candidates, "None", False,
                         lambda server, accelerator: -ord(server[0]))
    assert granted(other) == {"b": ("A", 3)}
