"""How certain the verdict on a simulated run is."""

from dataclasses import replace

import pytest
import yaml

from penstock.experiment.certainty import certainty_of, is_uncertain
from penstock.experiment.run import run_fleet
from penstock.fleet.load import parse_fleet
from penstock.fleet.sources import fleet_workload
from penstock.metrics.run_summary import RunSummary
from penstock.report.terminal.run import run_blocks

FILE = {"accelerators": [{"name": "h100-80gb"}], "models": [{"name": "llama-3.1-8b"}],
        "service_classes": [{"name": "chat", "slo": {"ttft_s": 1, "itl_s": 0.02}}],
        "traffic": [{"trace": "azure-2023-conv", "rate_per_s": 10, "num_requests": 150}],
        "replicas": [{}]}


def ran(itl_s=0.02, **sections):
    document = FILE | {"service_classes": [{"name": "chat", "slo": {"ttft_s": 1, "itl_s": itl_s}}]}
    fleet = parse_fleet(yaml.safe_dump(document | sections))
    workload = fleet_workload(fleet)
    return run_fleet(fleet, workload, 0), workload


@pytest.mark.parametrize(("itl_s", "low", "high"), [
    (0.5, 0.95, 0.96), (1e-3, 0.04, 0.05), (0.012, 0.05, 0.95)])
def test_looser_targets_are_surer(itl_s, low, high):
    found = certainty_of(*ran(itl_s))
    assert low - 1e-3 <= found.meets_probability <= high + 1e-3


def test_intervals_frame_the_run():
    run, workload = ran()
    entry, mine = certainty_of(run, workload).classes["chat"], run.summary.classes["chat"]
    for (low, high), value in ((entry.attainment, mine.attainment),
                               (entry.ttft_p99_s, mine.latency.ttft_s.p99),
                               (entry.tpot_p99_s, mine.latency.tpot_s.p99)):
        assert low <= value <= high
    assert entry.tpot_p99_s[0] < entry.tpot_p99_s[1]


def test_only_step_times_of_known_errors_are_uncertain():
    stock, _ = ran()
    ideal, _ = ran(policies={"schedule": "penstock"})
    assert is_uncertain(stock.fleet)
    assert not is_uncertain(ideal.fleet)


def test_a_run_without_requests_that_count_has_no_certainty():
    assert certainty_of(*ran(run={"warmup_s": 1e4})) is None


def test_the_summary_keeps_and_prints_the_certainty():
    run, workload = ran()
    summary = replace(run.summary, certainty=certainty_of(run, workload))
    assert RunSummary.read(summary.document()).certainty == summary.certainty
    titles = [block.title for block in run_blocks(summary) if hasattr(block, "title")]
    assert "How certain" in titles
