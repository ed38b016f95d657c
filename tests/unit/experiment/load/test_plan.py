import numpy as np
import pytest

from penstock.core.errors import InputError
from penstock.core.slo import Slo
from penstock.experiment.load.plan import LoadOptions, fleet_plan, numbers_of, option_plan
from penstock.fleet.load import parse_fleet
from support.small_fleet import FLEET


def test_options_become_requests() -> None:
    plan = option_plan(LoadOptions(4.0, 200, None, "100-900", "32", slo=Slo(ttft_s=1.0),
                                   class_name="chat", seed=3))
    rows = plan.workload
    assert len(rows) == 200
    assert rows.prompt_tokens.min() >= 100
    assert rows.prompt_tokens.max() <= 900
    assert set(rows.output_tokens.tolist()) == {32}
    assert rows.service_classes == ("chat",)
    assert plan.classes[0].slo.ttft_s == 1.0
    assert rows.rate_per_s == pytest.approx(4.0, rel=0.3)
    again = option_plan(LoadOptions(4.0, 200, None, "100-900", "32", seed=3)).workload
    assert rows.arrival_s.tolist() == again.arrival_s.tolist()


@pytest.mark.parametrize(("arrivals", "cv"), [("constant", 0.0), ("poisson", 1.0),
                                              ("gamma:3", 3.0)])
def test_arrivals(arrivals, cv) -> None:
    rows = option_plan(LoadOptions(10.0, 4000, arrivals=arrivals)).workload
    gaps = np.diff(rows.arrival_s)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, abs=0.35)


def test_without_a_bound_there_are_a_hundred_requests() -> None:
    assert len(option_plan(LoadOptions(4.0)).workload) == 100
    assert len(option_plan(LoadOptions(), timed=False).workload) == 100
    longer = option_plan(LoadOptions(duration_s=60.0), timed=False)
    assert len(longer.workload) == 4096
    assert longer.at_concurrency(2, None, 60.0).num_requests is None


def test_levels_of_a_rate_last_as_long_and_begin_alike() -> None:
    slow, fast = (option_plan(LoadOptions(rate, duration_s=50.0)).workload for rate in (2.0, 8.0))
    assert slow.arrival_s[-1] > 40
    assert fast.arrival_s[-1] > 40
    assert fast.arrival_s[:len(slow)] * 4 == pytest.approx(slow.arrival_s)


def test_a_ramp_gets_denser() -> None:
    rows = option_plan(LoadOptions(10.0, None, 100.0, arrivals="ramp:1:9:100")).workload
    half = np.searchsorted(rows.arrival_s, 50.0)
    assert half < 0.4 * len(rows)


def test_a_trace_is_replayed_at_its_own_rate_or_another(tmp_path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("arrival_s,prompt_tokens,output_tokens\n0,10,5\n1,20,6\n4,30,7\n")
    own = option_plan(LoadOptions(trace=trace)).workload
    assert own.arrival_s.tolist() == [0, 1, 4]
    assert own.prompt_tokens.tolist() == [10, 20, 30]
    faster = option_plan(LoadOptions(1.5, trace=trace)).workload
    assert faster.arrival_s.tolist() == [0, 0.5, 2]
    closed = option_plan(LoadOptions(num_requests=3, trace=trace), timed=False)
    assert closed.workload.output_tokens.tolist() == [5, 6, 7]
    untimed = tmp_path / "lengths.csv"
    untimed.write_text("prompt_tokens,output_tokens\n10,5\n20,6\n")
    with pytest.raises(InputError, match="give --rate"):
        option_plan(LoadOptions(trace=untimed))
    assert len(option_plan(LoadOptions(2.0, trace=untimed)).workload) == 2


@pytest.mark.parametrize("options", [
    {"prompt": "0"}, {"prompt": "ten"}, {"prompt": "9-3"}, {"output": "1-2-3"}, {"output": "-5"},
    {"lengths": "azure"}, {"arrivals": "sometimes"}, {"arrivals": "gamma"},
    {"arrivals": "gamma:x"}, {"arrivals": "poisson:1"}, {"arrivals": "gamma:-1"},
    {"rate_per_s": 1e-9, "duration_s": 1.0}])
def test_bad_options_are_told(options) -> None:
    with pytest.raises(InputError):
        option_plan(LoadOptions(**{"rate_per_s": 1.0, **options}))


def test_a_fleet_file_has_it_all() -> None:
    plan = fleet_plan(parse_fleet(FLEET))
    assert len(plan.workload) == 60
    assert [one.name for one in plan.classes] == ["chat", "batch"]
    assert plan.cost_per_hour > 0
    faster = plan.at_rate(50.0)
    assert faster.workload.rate_per_s == pytest.approx(50.0)
    assert faster.stated["rate_per_s"] == 50.0
    assert plan.at_concurrency(4, None, None).num_requests == 60


@pytest.mark.parametrize(("text", "numbers"), [("1", [1]), ("1,2.5, 8", [1, 2.5, 8])])
def test_lists_of_numbers(text, numbers) -> None:
    assert numbers_of("--rate", text) == numbers


@pytest.mark.parametrize("text", ["", "0", "-1", "1,1", "a", "inf", "1,,2", "nan"])
def test_what_is_no_list_of_numbers(text) -> None:
    with pytest.raises(InputError, match="--rate"):
        numbers_of("--rate", text)
