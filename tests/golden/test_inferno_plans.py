"""Candidates, assignments, optima and published totals of the sample bundles."""

import numpy as np
import orjson
import pytest

from penstock.published.figures import Options
from penstock.published.inferno.candidates import find_candidates
from penstock.published.inferno.change import apply_allocations, scale_capacity, scale_load
from penstock.published.inferno.read import read_bundle
from penstock.published.inferno.solve import Settings, solve
from penstock.published.reproduce import reproduce

SAMPLES = ("v1_small", "v1_large", "v2_small", "v2_large")


@pytest.fixture(scope="module")
def data(shared_data):
    folder = shared_data / "inferno"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    return folder


@pytest.fixture(scope="module")
def samples(data):
    """System and candidates by sample."""
    found = {}
    for name in SAMPLES:
        folder = data / f"sample_{name[:2]}" / name[3:]
        if folder.is_dir():
            system = read_bundle(folder)
            found[name] = system, find_candidates(system)
    return found


def sample(samples, name):
    if name not in samples:
        pytest.skip(f"no sample {name}")
    return samples[name]


@pytest.mark.long
def test_every_record_of_the_folder_agrees(data) -> None:
    found = reproduce("inferno", data, Options())
    assert [record["name"] for record in found.records if not record["agrees"]] == []
    assert [figure.name for figure in found.figures if not figure.agrees] == []


def test_candidates_are_equal_bit_by_bit(data, samples) -> None:
    path = data / "golden_candidates.json"
    if not path.is_file():
        pytest.skip(f"no {path}")
    for name, servers in orjson.loads(path.read_bytes()).items():
        _, candidates = sample(samples, name)
        for server, published in servers.items():
            ours = candidates.by_server[server]
            assert set(ours) == set(published)
            for accelerator, theirs in published.items():
                each = ours[accelerator]
                assert (each.num_replicas, each.max_batch) == (
                    theirs["numReplicas"], theirs["maxBatch"])
                for key, value in (("itl", each.itl_ms), ("ttft", each.ttft_ms),
                                   ("maxRPM", each.max_per_min), ("value", each.value),
                                   ("cost", each.cost_cents_per_hour)):
                    assert np.float32(value) == np.float32(theirs[key]), (server, accelerator, key)


# Totals of the upstream programs, in cents/h: unlimited supply, greedy (policy None), servers that
# greedy leaves out, and the optimum with one accelerator per server and with several.
TOTALS = {"v1_small": (35924.5, 43819, 0, 41857.75, 37929),
          "v1_large": (18205, 19208, 1, 26300.5, 23410.5),
          "v2_small": (21252, 25826, 0, 22564, 22343.5),
          "v2_large": (20439, 21855, 0, 21161, 20653.5)}


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=[pytest.mark.long] if "large" in name else []) for name in SAMPLES])
def test_published_totals(samples, name) -> None:
    system, candidates = sample(samples, name)
    unlimited, greedy, left_out, single, multi = TOTALS[name]
    plans = {solver: solve(system, Settings(solver), candidates=candidates)
             for solver in ("unlimited", "greedy", "milp-single", "milp-multi")}
    assert plans["unlimited"].total_cost == unlimited
    assert (plans["greedy"].total_cost, len(plans["greedy"].unserved)) == (greedy, left_out)
    for solver, cost in (("milp-single", single), ("milp-multi", multi)):
        plan = plans[solver]
        assert plan.objective == pytest.approx(cost, rel=1e-6)
        assert (plan.status, plan.gap, plan.complete) == ("optimal", 0.0, True)


# Unserved of the published scarcity runs: None at half and at a quarter of the cards.
@pytest.mark.parametrize(("name", "half", "quarter"), [
    ("v1_small", (18744, 3), (9047.75, 6)), ("v2_small", (18950, 1), (10338, 4)),
    ("v2_large", (12294, 2), (8242, 4)), ("v1_large", (17044.75, 3), None)])
def test_published_scarcity(samples, name, half, quarter) -> None:
    system, candidates = sample(samples, name)
    for factor, expected in ((0.5, half), (0.25, quarter)):
        plan = solve(scale_capacity(system, factor), Settings("greedy"), candidates=candidates)
        if expected is not None:
            assert (plan.total_cost, len(plan.unserved)) == expected
        for mixed in ("milp-single", "milp-multi"):
            program = solve(scale_capacity(system, factor), Settings(mixed), candidates=candidates)
            assert program.status == "infeasible"


# After rates of 1.5 and 0.5 times, and half the tokens: unlimited supply and RoundRobin.
CHANGES = {"v1_small": ((53660.5, 18127, 8825.5), (49704, 18127, 8308)),
           "v1_large": ((26785, 9575, 6421), (21667, 9588, 7074)),
           "v2_small": ((31441, 10856, 5290), (39147, 11312, 5530)),
           "v2_large": ((29917, 10629, 5550), (26800, 11112, 5863))}


@pytest.mark.parametrize("name", SAMPLES)
def test_published_load_changes(samples, name) -> None:
    system, candidates = sample(samples, name)
    for solver, totals in zip(("unlimited", "greedy"), CHANGES[name], strict=True):
        settings = Settings(solver, "RoundRobin")
        before = solve(system, settings, candidates=candidates)
        current = apply_allocations(system, before.allocations)
        for (rate, tokens), total in zip(((1.5, 1), (0.5, 1), (1, 0.5)), totals, strict=True):
            after = solve(scale_load(current, rate, tokens), settings)
            assert after.total_cost == pytest.approx(total, abs=0.51)
