import itertools
from dataclasses import replace

import pytest

from penstock.published.inferno.candidates import find_candidates
from penstock.published.inferno.milp import solve_milp
from penstock.published.inferno.read import parse_bundle
from penstock.published.inferno.solve import Settings, solve
from support.inferno_bundles import document, rows, server, system


def options(bundle):
    return {name: list(found.values())
            for name, found in find_candidates(bundle).by_server.items()}


def cheapest_by_trying_all(bundle):
    """Least cost over every combination of candidates that fits; None when none does."""
    best = None
    candidates = options(bundle)
    for chosen in itertools.product(*candidates.values()):
        used = dict.fromkeys(bundle.capacity, 0)
        for name, each in zip(candidates, chosen, strict=True):
            pool, cards = bundle.units(each, bundle.servers[name])
            used[pool] += cards * each.num_replicas
        if all(used[pool] <= bundle.capacity[pool] for pool in used):
            cost = sum(each.cost_cents_per_hour for each in chosen)
            best = cost if best is None else min(best, cost)
    return best


@pytest.mark.parametrize("schema", ["v1", "v2"])
@pytest.mark.parametrize("cards", [(240, 120), (100, 140), (0, 400), (400, 0), (60, 60), (150, 95)])
def test_single_is_the_best_of_all_combinations(schema, cards) -> None:
    bundle = replace(system(schema), capacity=dict(zip("AB", cards, strict=True)))
    answer = solve_milp(bundle, options(bundle), mixed=False)
    expected = cheapest_by_trying_all(bundle)
    assert answer.objective == (None if expected is None else pytest.approx(expected, rel=1e-9))
    assert answer.status == ("infeasible" if expected is None else "optimal")
    assert answer.bound == answer.objective


@pytest.mark.parametrize("cards", [(240, 120), (150, 125), (120, 150)])
def test_a_mixture_serves_everybody_within_the_cards(cards) -> None:
    bundle = replace(system(), capacity=dict(zip("AB", cards, strict=True)))
    candidates = find_candidates(bundle).by_server
    mixed = solve_milp(bundle, options(bundle), mixed=True)
    single = solve_milp(bundle, options(bundle), mixed=False)
    assert mixed.status == "optimal"
    assert single.objective is None or mixed.objective <= single.objective + 1e-6
    used = {"A": 0, "B": 0}
    for name, counts in mixed.counts.items():
        served = sum(count * candidates[name][accelerator].max_per_min
                     for accelerator, count in counts.items())
        assert served >= bundle.servers[name].load.arrival_per_min * (1 - 1e-6)
        for accelerator, count in counts.items():
            pool, each = bundle.units(candidates[name][accelerator], bundle.servers[name])
            used[pool] += each * count
    assert all(used[pool] <= bundle.capacity[pool] for pool in used)


def test_a_floor_counts_in_a_mixture() -> None:
    made = document()
    server(made, "Premium-small")["minNumReplicas"] = 7
    bundle = parse_bundle(made, "body")
    counts = solve_milp(bundle, options(bundle), mixed=True).counts["Premium-small"]
    assert sum(counts.values()) == 7


def test_order_of_the_input_does_not_matter() -> None:
    made = document()
    for part in ("acceleratorData", "modelData", "serverData", "capacityData"):
        rows(made, part).reverse()
    other = parse_bundle(made, "body")
    for solver in ("milp-single", "milp-multi"):
        assert solve(system(), Settings(solver)).parts == solve(other, Settings(solver)).parts


def test_no_servers_cost_nothing() -> None:
    answer = solve_milp(system(), {}, mixed=True)
    assert (answer.status, answer.objective, dict(answer.counts)) == ("optimal", 0.0, {})
