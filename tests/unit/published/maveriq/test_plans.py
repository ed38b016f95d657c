"""Plans beside MaverIQ's records: what they may know, and what they come to."""

from pathlib import Path

import numpy as np
import pytest

from penstock.catalog.catalog import load_catalog
from penstock.core.configuration import Configuration
from penstock.core.hardware import Parallelism
from penstock.plan.place.options import Forecast
from penstock.plan.place.shared import SharedPlan
from penstock.published.maveriq.against import counterpart
from penstock.published.maveriq.own_plan import (
    ANY,
    FORECAST_REQUESTS,
    FP16,
    INTENTS,
    JOIN_MINUTES,
    MINUTE_S,
    TRACE_MINUTES,
    Arrivals,
    Judged,
    arrivals_of,
    forecast_for,
    forecast_of,
    judge,
    node,
    only,
    plan_for,
)
from penstock.published.maveriq.records import Cell, Records, RunKey
from penstock.published.maveriq.services import Profiles, Services, aligned, cautious

CELL = Cell("large", "code", "0.4")
INT4_PAIR = Configuration(Parallelism(2, 1), "int4", "int8")
INT4_QUAD = Configuration(Parallelism(4, 1), "int4", "int8")


def test_blocks_of_neighbours_are_told_from_sets_across() -> None:
    assert aligned(frozenset({4, 5, 6, 7}), 4)
    assert aligned(frozenset({3}), 1)
    assert not aligned(frozenset({1, 2, 3, 4}), 4)
    assert not aligned(frozenset({0, 1, 2, 5}), 4)


def test_between_known_ranks_the_higher_ratio_counts() -> None:
    ratios = {1: 0.5, 4: 0.4, 8: 0.9}
    assert cautious(ratios, 4) == 0.4
    assert cautious(ratios, 2) == 0.5
    assert cautious(ratios, 6) == 0.9
    assert cautious({2: 0.7}, 8) == cautious({2: 0.7}, 1) == 0.7


@pytest.mark.parametrize("model_set", sorted(JOIN_MINUTES))
def test_a_forecast_has_the_rate_and_the_list_and_nothing_else(model_set: str) -> None:
    cell = Cell(model_set, "code", "0.4")
    forecast = forecast_of(cell, 870, 0.1, seed=3)
    assert forecast == forecast_of(cell, 870, 0.1, seed=3)
    assert forecast != forecast_of(cell, 870, 0.1, seed=4)
    arrival_s = np.array(forecast.arrival_s)
    assert np.all(np.diff(arrival_s) >= 0.0)
    expected = 4.0 * 870 / (TRACE_MINUTES * MINUTE_S)
    assert len(arrival_s) / arrival_s[-1] == pytest.approx(expected, rel=0.15)
    length_s = FORECAST_REQUESTS / expected
    for client, minute in enumerate(JOIN_MINUTES[model_set]):
        joins_s = minute / TRACE_MINUTES * length_s
        assert arrival_s[forecast.deployment.index(client)] >= joins_s
    assert max(forecast.deployment) == len(JOIN_MINUTES[model_set]) - 1


def test_a_shorter_forecast_has_the_same_rate() -> None:
    usual, short = (forecast_of(CELL, 870, 0.1, 3, *more) for more in ((), (100,)))
    assert 50 < len(short.arrival_s) < len(usual.arrival_s) / 2
    assert short.arrival_s == usual.arrival_s[:len(short.arrival_s)]


def test_only_some_models() -> None:
    arrivals = Arrivals(CELL, (0.0, 1.0, 2.0, 3.0), (0, 1, 2, 1), (1.0, 0.9, 1.1, 1.0),
                        ("a", "b", "a"))
    found = only(arrivals, {"a"})
    assert found.models == ("a", "a")
    assert found.arrival_s == (0.0, 2.0)
    assert found.client == (0, 1)
    assert found.factor == (1.0, 1.1)
    forecast = forecast_for(Forecast((0.0, 1.0, 2.0), (2, 1, 0)), arrivals, {"a"})
    assert forecast == Forecast((0.0, 2.0), (1, 0))


def test_forecasts_choose_what_is_compared_and_results_do_not() -> None:
    def judged(e2e_s: float, device_s: float, result_s: float) -> Judged:
        return Judged(INTENTS[0], SharedPlan((), e2e_s, device_s, 1), np.array([result_s]),
                      np.array([9.0]))

    quick, thrifty = judged(0.3, 1.1, 5.0), judged(0.9, 0.7, 0.1)
    assert counterpart([quick, thrifty], 2.0) is quick
    assert counterpart([quick, thrifty], 1.0) is thrifty
    assert counterpart([quick, thrifty], 0.1) is thrifty
    assert counterpart([quick, thrifty], float("nan")) is quick


@pytest.fixture(scope="module")
def records(shared_data: Path) -> Records:
    return Records(shared_data / "maveriq")


@pytest.fixture(scope="module")
def services(shared_data: Path, records: Records) -> Services:
    profiles = Profiles(shared_data / "maveriq", load_catalog())
    return Services(profiles, [records.run(key) for key in records.keys])


def test_services_do_not_look_at_the_cell_that_is_judged(services: Services) -> None:
    """min_gpu_cost ran the 70B on one device on this cell and with 21 models elsewhere."""
    alone = Configuration(Parallelism(1, 1), "int4", "fp16")
    without = services.expected_s("llama-2-70b", alone, CELL)
    here = services.truth_s("llama-2-70b", alone, CELL)
    assert without is not None
    assert here is not None
    assert without != here
    assert without == pytest.approx(here, rel=0.05)
    assert services.expected_s("llama-2-70b", INT4_QUAD, CELL) == pytest.approx(0.44, rel=0.02)
    pair = services.expected_s("llama-2-70b", INT4_PAIR, CELL)
    assert pair is not None
    assert not services.was_run("llama-2-70b", INT4_PAIR)
    assert 0.44 < pair < 1.25, "between what four and one take"


def test_precision_limits_and_batches_of_ways(services: Services) -> None:
    assert {way.configuration.precision for way in services.ways("falcon-40b", FP16, CELL)} == {
        "fp16"}
    ways = services.ways("llama-2-7b", ANY, CELL, max_batch=4)
    assert {way.max_batch for way in ways} == {4}
    by_ranks = {way.configuration.parallelism.tensor: way.growth for way in ways
                if way.configuration.precision == "int4"}
    assert 0.0 < by_ranks[1] < by_ranks[4], "ranks exchange more for each further request"


@pytest.mark.long
def test_the_busiest_cell_is_planned_better_than_any_system_ran_it(records: Records,
                                                                  services: Services) -> None:
    run = records.run(RunKey("MaverIQ", "min_cost", CELL))
    thrifty = records.run(RunKey("MaverIQ", "min_gpu_cost", CELL))
    arrivals = arrivals_of(run)
    forecast = forecast_of(CELL, 861, 0.1, seed=0)
    quick = INTENTS[0]
    plan = plan_for(arrivals, services, forecast, quick)
    assert plan is not None
    held = dict.fromkeys(range(8), 0)
    for seat in plan.seats:
        for device in frozenset().union(*seat.device_sets):
            held[device] += seat.way.device_bytes
    assert all(held[device.device_id] <= device.free_bytes for device in node())
    found = judge(arrivals, quick, plan, services)
    assert len(found.e2e_s) == len(run.e2e_s)
    assert run.gpu_s is not None
    assert thrifty.gpu_s is not None
    assert np.median(found.e2e_s) < 0.5 * np.median(run.e2e_s)
    assert found.e2e_s.mean() < 0.2 * run.e2e_s.mean()
    assert thrifty.gpu_s.mean() < found.gpu_s.mean() < run.gpu_s.mean()
