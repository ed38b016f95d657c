"""Columns of an entry come from the summary or plan, as far as it states them."""

import pytest

from penstock.experiment.runs.kept import COLUMNS, plan_figures, run_figures

GROUPS = [{"count": 3, "parallelism": {"tensor": 2, "pipeline": 2, "data": 1, "expert": 4}},
          {"count": 2, "parallelism": {"tensor": 1, "data": 2}}]
SUMMARY = {
    "name": "chat", "version": "0.2.0", "seed": 7, "window_s": 1800.0,
    "overall": {"received": 60, "attainment": 0.9, "goodput_requests_per_s": 4.5,
                "meets_slo": False, "cost": {"per_hour": 8.0, "total": 4.0},
                "latency": {"ttft_s": {"p99": 0.5}, "tpot_s": {"p99": 0.05},
                            "e2e_s": {"p99": None}}},
    "classes": {}, "fleet": {"replicas": GROUPS}, "energy": {"energy_kwh": 2.5}}
SCALING = {"mean_replicas": 1.5, "gpu_hours": 6.0, "cost": 24.0, "energy_kwh": 3.0}


def test_a_summary_states_the_figures():
    assert run_figures(SUMMARY) == {
        "name": "chat", "version": "0.2.0", "seed": 7, "status": "missed", "num_requests": 60,
        "attainment": 0.9, "goodput_requests_per_s": 4.5, "ttft_p99_s": 0.5, "tpot_p99_s": 0.05,
        "e2e_p99_s": None, "replicas": 5, "num_accelerators": 16, "gpu_hours": 8.0, "cost": 4.0,
        "cost_per_hour": 8.0, "energy_kwh": 2.5}


def test_a_scaled_run_has_the_means_and_sums_of_its_scaling():
    found = run_figures({**SUMMARY, "scaling": SCALING, "energy": None})
    assert [found[key] for key in ("replicas", "num_accelerators", "gpu_hours", "cost",
                                   "energy_kwh")] == [1.5, None, 6.0, 24.0, 3.0]


def test_devices_that_models_share_are_counted():
    pools = [{"num_devices": 2}, {"num_devices": 1}]
    found = run_figures({**SUMMARY, "fleet": {}, "multiplexing": pools})
    assert (found["replicas"], found["num_accelerators"], found["gpu_hours"]) == (None, 3, 1.5)


@pytest.mark.parametrize(("meets", "status"), [(True, "met"), (False, "missed"), (None, "done")])
def test_a_plan_states_replicas_and_cost(meets, status):
    found = plan_figures({"name": "chat", "version": "0.2.0", "seed": 1, "replicas": GROUPS,
                          "served_in_full": meets, "cost_per_hour": 12.0})
    assert found == {"name": "chat", "version": "0.2.0", "seed": 1, "status": status,
                     "replicas": 5, "num_accelerators": 16, "cost_per_hour": 12.0}


@pytest.mark.parametrize("document", [
    {}, {"overall": None, "fleet": [], "scaling": 1}, {"overall": {"latency": [], "cost": "8"}},
    {"name": 3, "seed": True, "window_s": "long", "fleet": {"replicas": [1, {"count": "many"}]}},
    {"seed": 2**70, "multiplexing": {}, "energy": {"energy_kwh": []}}])
def test_a_document_of_another_form_has_fewer_figures(document):
    for found in (run_figures(document), plan_figures(document)):
        assert found.keys() <= COLUMNS.keys()
        assert found["status"] == "done"
        assert found["seed"] is None
        assert not any(isinstance(value, bool | list | dict) for value in found.values())
