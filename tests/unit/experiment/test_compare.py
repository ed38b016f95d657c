from dataclasses import replace

import pytest

from penstock.experiment.compare import Contender, compare, figures
from penstock.fleet.load import parse_fleet
from penstock.policy.schedule.options import scheduler_options
from support.small_fleet import FLEET

SEEDS = (0, 1, 2)


@pytest.fixture(scope="module")
def found():
    fleet = parse_fleet(FLEET, overrides={"service_classes[0].slo.ttft_s": 0.06})
    return compare(fleet, [(name, scheduler_options(name)) for name in ("penstock", "fcfs")],
                   SEEDS)[None]


def test_means_are_of_all_seeds(found):
    for contender, means in zip(found, figures(found), strict=True):
        shares = [run.classes["chat"].attainment for run in contender.summaries]
        assert means["chat.attainment"]["mean"] == pytest.approx(sum(shares) / 3)
        assert means["chat.attainment"]["num_known"] == 3
        ttft = [run.classes["batch"].latency.ttft_s.p99 for run in contender.summaries]
        assert means["batch.ttft_s.p99"]["mean"] == pytest.approx(sum(ttft) / 3)


def test_differences_are_paired_by_seed(found):
    first, second = figures(found)
    assert first["chat.ttft_s.p50"]["difference"]["mean"] == 0
    each = [b.classes["chat"].latency.ttft_s.p50 - a.classes["chat"].latency.ttft_s.p50
            for a, b in zip(found[0].summaries, found[1].summaries, strict=True)]
    difference = second["chat.ttft_s.p50"]["difference"]
    assert difference["mean"] == pytest.approx(sum(each) / 3)
    assert difference["half_width"] > 0


def test_a_seed_without_a_value_is_counted_as_such(found):
    def without(contender, seed):
        runs = list(contender.summaries)
        overall = runs[seed].overall
        cost = replace(overall.cost, per_met_request=None)
        runs[seed] = replace(runs[seed], overall=replace(overall, cost=cost))
        return replace(contender, summaries=tuple(runs))

    first, second = figures([without(found[0], 0), without(found[1], 2)])
    assert first["cost_per_met_request"]["num_known"] == 2
    assert first["cost_per_met_request"]["num_seeds"] == 3
    # Only seed 1 has a value for both.
    assert second["cost_per_met_request"]["difference"]["num_known"] == 1
    assert second["cost_per_met_request"]["difference"]["half_width"] is None


def test_nothing_known_has_no_mean(found):
    empty = Contender("x", found[0].options, tuple(
        replace(run, overall=replace(run.overall, attainment=None))
        for run in found[0].summaries))
    assert figures([empty])[0]["attainment"]["mean"] is None
