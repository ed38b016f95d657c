"""A fleet's traffic becomes a workload, within the run's bounds."""

from pathlib import Path

import numpy as np
import pytest

from penstock.core.errors import InputError
from penstock.fleet import sources
from penstock.fleet.load import parse_fleet
from penstock.fleet.sources import (
    DEFAULT_NUM_REQUESTS,
    assumed_clocks,
    fleet_traffic,
    fleet_workload,
    traffic_sources,
)
from penstock.fleet.values import Fleet
from penstock.fleet.write import resolved

TEXT = """\
accelerators: [{name: a100-80gb}]
models: [{name: llama-3-8b}]
service_classes: [{name: chat}, {name: bulk}]
traffic: [{mix: {chat: 0.25, bulk: 0.75}, trace: azure-2023-code, rate_per_s: 2}]
"""
TRACE = "arrival_s,prompt_tokens,output_tokens,class\n0,10,1,chat\n2,20,2,bulk\n4,30,3,chat\n"


def with_trace(folder: Path, entry: str, trace: str = TRACE) -> Fleet:
    (folder / "t.csv").write_text(trace)
    text = TEXT.replace("{mix: {chat: 0.25, bulk: 0.75}, trace: azure-2023-code, rate_per_s: 2}",
                        entry)
    return parse_fleet(text, base=folder)


def test_a_trace_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = with_trace(tmp_path, "{trace: {file: t.csv, arrivals: own}}")
    read = sources.read_trace
    files: list[str] = []
    monkeypatch.setattr(sources, "read_trace",
                        lambda path, *others: files.append(path) or read(path, *others))
    assert len(fleet_traffic(fleet)) == 3
    assert len(files) == 1


def test_unbounded_traffic_has_a_default_length() -> None:
    assert len(fleet_workload(parse_fleet(TEXT))) == DEFAULT_NUM_REQUESTS


def test_the_run_bounds_traffic_that_has_no_bounds_of_its_own() -> None:
    fleet = parse_fleet(TEXT + "run: {num_requests: 70}\n")
    assert len(fleet_workload(fleet)) == 70
    timed = fleet_workload(parse_fleet(TEXT + "run: {duration_s: 60}\n"))
    assert 60 < len(timed) < 200
    assert timed.duration_s <= 60


def test_the_run_s_number_is_of_all_traffic_together() -> None:
    second = "{name: more, mix: {chat: 1}, trace: sharegpt-8k, rate_per_s: 8, num_requests: 50}"
    fleet = parse_fleet(TEXT.replace("rate_per_s: 2}]", f"rate_per_s: 2}}, {second}]")
                        + "run: {num_requests: 20}\n")
    assert [source.num_requests for source in traffic_sources(fleet)] == [20, 50]
    workload = fleet_workload(fleet)
    assert len(workload) == 20
    assert workload.duration_s < 10


def test_seeds_repeat_and_differ() -> None:
    fleet = parse_fleet(TEXT, overrides={"traffic[0].num_requests": 50})
    first, again, other = (fleet_workload(fleet), fleet_workload(fleet), fleet_workload(fleet, 1))
    np.testing.assert_array_equal(first.arrival_s, again.arrival_s)
    assert not np.array_equal(first.arrival_s, other.arrival_s)


def test_classes_follow_the_mix() -> None:
    fleet = parse_fleet(TEXT, overrides={"traffic[0].num_requests": 4000})
    workload = fleet_workload(fleet)
    chats = np.mean(workload.class_index == workload.service_classes.index("chat"))
    assert chats == pytest.approx(0.25, abs=0.03)


def test_a_trace_file_keeps_its_times_lengths_and_classes(tmp_path: Path) -> None:
    workload = fleet_workload(with_trace(tmp_path, "{trace: {file: t.csv}}"))
    assert workload.arrival_s.tolist() == [0, 2, 4]
    assert workload.prompt_tokens.tolist() == [10, 20, 30]
    assert [workload.service_classes[i] for i in workload.class_index] == ["chat", "bulk", "chat"]
    assert set(workload.models) == {"llama-3-8b"}


def test_a_trace_s_rate_is_scaled_or_set(tmp_path: Path) -> None:
    for entry in ("{trace: {file: t.csv, scale: 2}}",
                  "{trace: {file: t.csv}, rate_per_s: 1.5}"):
        workload = fleet_workload(with_trace(tmp_path, entry))
        assert workload.arrival_s == pytest.approx([0, 1, 2])


def test_times_since_1970_are_told_from_a_long_run(tmp_path: Path) -> None:
    fleet = with_trace(tmp_path, "{trace: {file: t.csv}}")
    text = "arrival_s,prompt_tokens,output_tokens,class\n1.7e9,10,1,chat\n1700000001,20,2,chat\n"
    (tmp_path / "t.csv").write_text(text)
    assert fleet_workload(fleet).arrival_s.tolist() == [0, 1]
    said, = assumed_clocks(fleet)
    assert "t.csv: 'arrival_s' is taken as seconds since 1970" in said
    (tmp_path / "t.csv").write_text(text.replace("1.7e9", "1.7e8").replace("17000", "1700"))
    assert assumed_clocks(fleet) == ()
    with pytest.raises(InputError, match=r"the first request arrives after 170,000,000 s; .*"
                                         "subtract the first from all"):
        fleet_workload(fleet)


def test_a_trace_file_s_columns_and_clock_may_be_stated(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("at,in,out,kind\n500,10,1,chat\n1500,20,2,bulk\n")
    fleet = with_trace(tmp_path, "{trace: {file: log.csv, clock: ms, columns: {arrived_at: at, "
                                 "input_tokens: in, output_tokens: out, class: kind}}}")
    workload = fleet_workload(fleet)
    assert workload.arrival_s.tolist() == [0.5, 1.5]
    assert workload.prompt_tokens.tolist() == [10, 20]
    assert assumed_clocks(fleet) == ()
    section = resolved(fleet)["traffic"][0]["trace"]
    assert section["clock"] == "ms"
    assert section["columns"]["input_tokens"] == "in"


@pytest.mark.parametrize(("columns", "said"), [
    ("{inptu_tokens: in}", "unknown name 'inptu_tokens' in the map; did you mean 'input_tokens'?; "
                           "the file has at, in, out"),
    ("{input_tokens: inn, output_tokens: out}",
     "no column 'inn', which the map names for 'input_tokens'; found 'at', 'in', 'out'; "
     "did you mean 'in'?"),
])
def test_a_wrong_name_in_columns_is_told(tmp_path: Path, columns: str, said: str) -> None:
    (tmp_path / "log.csv").write_text("at,in,out\n500,10,1\n")
    with pytest.raises(InputError) as caught:
        with_trace(tmp_path, f"{{trace: {{file: log.csv, columns: {columns}}}}}")
    assert str(caught.value).startswith("fleet.yaml:4: traffic[0].trace.columns.in")
    assert str(caught.value).endswith(f"log.csv: {said}")


def test_two_units_of_one_clock_are_refused_at_their_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"traffic\[0\].trace.columns: two clocks, s and "):
        with_trace(tmp_path, "{trace: {file: t.csv, clock: s, columns: {arrived_at: 'at:ms'}}}")


def test_a_burst_cannot_be_pressed_to_a_rate(tmp_path: Path) -> None:
    fleet = with_trace(tmp_path, "{trace: {file: t.csv}, rate_per_s: 5}")
    text = "arrival_s,prompt_tokens,output_tokens,class\n7,10,1,chat\n7,20,2,chat\n"
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError, match="all 2 requests of its trace come at one moment"):
        fleet_workload(fleet)


def test_a_trace_s_rows_may_arrive_anew_and_be_cut(tmp_path: Path) -> None:
    fleet = with_trace(tmp_path, "{trace: {file: t.csv, arrivals: constant, shuffle: true, "
                                 "num_requests: 2}, mix: {chat: 1}, rate_per_s: 0.5}")
    workload = fleet_workload(fleet)
    assert workload.arrival_s.tolist() == [2, 4]
    assert set(workload.prompt_tokens.tolist()) < {10, 20, 30}


def test_one_trace_file_is_read_once_for_several_entries(tmp_path: Path) -> None:
    fleet = with_trace(tmp_path, "{trace: {file: t.csv}}, {trace: {file: t.csv, scale: 2}}")
    first, second = traffic_sources(fleet)
    assert first.trace is second.trace
    assert first.name != second.name


def test_a_prompt_beyond_the_model_s_context_is_refused_once_the_file_is_read(
        tmp_path: Path) -> None:
    fleet = with_trace(tmp_path, "{trace: {file: t.csv}}", TRACE.replace("30", "9000"))
    with pytest.raises(InputError, match=r"request 2 has a prompt of 9,000 tokens.*8,192"):
        fleet_workload(fleet)


def test_a_broken_trace_file_is_named(tmp_path: Path) -> None:
    fleet = with_trace(tmp_path, "{trace: {file: t.csv}}", "a,b\n1,2\n")
    with pytest.raises(InputError, match=r"t\.csv"):
        fleet_workload(fleet)


def test_cutting_keeps_the_prefix_hashes_of_what_is_left(shared_data: Path) -> None:
    path = shared_data / "traces" / "mooncake_conversation_with_hash_ids.jsonl.gz"
    fleet = parse_fleet(TEXT.replace("trace: azure-2023-code, rate_per_s: 2",
                                     f"trace: {{file: {path}}}")
                        + "run: {num_requests: 40}\n",
                        overrides={"models[0].max_context_tokens": 200_000})
    workload = fleet_workload(fleet)
    assert len(workload) == 40
    assert len(workload.hash_offsets) == 41
    assert workload.hash_offsets[-1] == len(workload.hash_values) > 0
