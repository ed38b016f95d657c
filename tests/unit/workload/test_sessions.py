"""Sessions of a trace: by its column, or derived from its prefix hashes."""

import gzip
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import InputError
from penstock.workload.column_map import column_map
from penstock.workload.mixing import generate
from penstock.workload.readers import read_trace
from penstock.workload.select import select
from penstock.workload.sessions import Sessions, has_sessions, sessions_of
from penstock.workload.source import TrafficSource
from penstock.workload.trace import Prefixes, Trace, offsets_of
from penstock.workload.writers import write_trace

ROW = '{{"timestamp": {}, "input_length": {}, "output_length": 5, "hash_ids": {}{}}}\n'


@pytest.fixture
def hashed(tmp_path):
    """Two talks with a common first block, of which the second answer of one is far away."""
    rows = [(0, 1100, [0, 1, 2]), (10_000, 1030, [0, 7, 8]), (30_000, 1700, [0, 1, 5, 6]),
            (95_000, 1600, [0, 7, 9, 10]), (96_000, 500, [0]), (99_000, 600, [0, 11])]
    path = tmp_path / "m.jsonl"
    path.write_text("".join(ROW.format(*row, "") for row in rows))
    return read_trace(path)


def test_a_prompt_that_contains_an_earlier_one_goes_on_with_it(hashed):
    assert sessions_of(hashed).tolist() == [0, 1, 0, 1, 4, 5]


def test_a_column_of_sessions_counts_before_hashes(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text(ROW.format(0, 1100, [0, 1, 2], ', "session_id": "a"')
                    + ROW.format(1000, 1700, [0, 1, 5], "")
                    + ROW.format(2000, 900, [], ', "session_id": "a"')
                    + ROW.format(3000, 900, [], ""))
    assert sessions_of(read_trace(path)).tolist() == [0, 1, 0, 3]


def test_null_and_blank_are_no_names(tmp_path):
    (tmp_path / "m.jsonl").write_text("".join(
        ROW.format(number, 900, [], f', "session": {name}')
        for number, name in enumerate(["null", '"a"', "null", '" a "', '" "', '" "'])))
    assert sessions_of(read_trace(tmp_path / "m.jsonl")).tolist() == [0, 1, 2, 1, 4, 5]


def test_a_column_without_a_name_is_none(tmp_path):
    (tmp_path / "t.csv").write_text("arrival_s,prompt_tokens,output_tokens,session\n0,5,5,\n")
    trace = read_trace(tmp_path / "t.csv")
    assert not has_sessions(trace)
    with pytest.raises(InputError, match="no column 'session'"):
        sessions_of(trace)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(2, 6), st.integers(0, 511)), max_size=30))
def test_each_request_goes_on_with_the_latest_that_it_contains(rows):
    """Against the definition, one pair of requests after the other."""
    prompts = [blocks * 512 + rest for _, blocks, rest in rows]
    hashes = [[100 * family * (number > 0) + number for number in range(blocks)]
              for family, blocks, _ in rows]
    expected = list(range(len(rows)))
    for later in range(len(rows)):
        for earlier in range(later):
            if prompts[earlier] < prompts[later] and hashes[earlier][-1] in hashes[later]:
                expected[later] = expected[earlier]
    values = np.array([value for row in hashes for value in row], np.int64)
    prefixes = Prefixes(offsets_of(np.array([len(row) for row in hashes], np.int64)), values, 512)
    trace = Trace(None, np.array(prompts, np.int64), np.ones(len(rows), np.int64), None, None,
                  None, prefixes)
    assert sessions_of(trace).tolist() == expected


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "t.jsonl"])
def test_files_keep_the_column(tmp_path, name):
    (tmp_path / "a.csv").write_text("arrival_s,prompt_tokens,output_tokens,talk\n"
                                    "0,5,5,x\n1,5,5,y\n2,5,5,x\n")
    trace = read_trace(tmp_path / "a.csv", mapping=column_map({"session": "talk"}, None))
    write_trace(trace, tmp_path / name)
    again = read_trace(tmp_path / name)
    assert sessions_of(again).tolist() == sessions_of(trace).tolist() == [0, 1, 0]


def test_without_either_nothing_is_guessed(tmp_path):
    (tmp_path / "t.csv").write_text("arrival_s,prompt_tokens,output_tokens\n0,5,5\n")
    with pytest.raises(InputError, match=r"t\.csv: no column 'session' and no prefix hashes"):
        sessions_of(read_trace(tmp_path / "t.csv"))


def pairs(workload):
    """Each link as (row, after, delay, on dispatch)."""
    links = workload.links
    return sorted(zip(links.row.tolist(), links.after.tolist(), links.delay_s.tolist(),
                      links.on_dispatch.tolist(), strict=True))


def test_recorded_gaps_stay_where_first_turns_come_faster(hashed):
    source = TrafficSource("talks", "m", trace=hashed, rate_per_s=hashed.rate_per_s * 2,
                           sessions=Sessions())
    workload = generate([source], 0)
    assert workload.arrival_s.tolist() == [0, 5, 15, 47.5, 48, 49.5]
    assert pairs(workload) == [(2, 0, 0.0, False), (2, 0, 30.0, True),
                               (3, 1, 0.0, False), (3, 1, 85.0, True)]
    assert workload.tasks.tolist() == [0, 1, 0, 1, 4, 5]


def test_think_times_are_drawn_for_next_turns_alone(hashed):
    source = TrafficSource("talks", "m", trace=hashed, sessions=Sessions(20.0, 1.0))
    found = pairs(generate([source], 0))
    assert [(row, after, on_dispatch) for row, after, _, on_dispatch in found] == [
        (2, 0, False), (3, 1, False)]
    assert len({delay_s for _, _, delay_s, _ in found}) == 2


def test_a_second_round_has_sessions_of_its_own(hashed):
    source = TrafficSource("talks", "m", trace=hashed, num_requests=12, sessions=Sessions(1.0))
    workload = generate([source], 0)
    assert [(row, after) for row, after, _, _ in pairs(workload)] == [
        (2, 0), (3, 1), (8, 6), (9, 7)]
    assert workload.tasks.tolist() == [0, 1, 0, 1, 4, 5, 6, 7, 6, 7, 10, 11]


def test_a_link_to_a_request_that_is_cut_off_is_dropped(hashed):
    source = TrafficSource("talks", "m", trace=hashed, num_requests=3, sessions=Sessions(1.0))
    workload = generate([source], 0)
    assert pairs(workload) == [(2, 0, 1.0, False)]
    later = select(workload, np.array([False, True, True]))
    assert pairs(later) == []
    assert later.tasks.tolist() == [1, 0]


def test_sessions_keep_apart_where_workloads_are_merged(hashed):
    sources = [TrafficSource(name, "m", trace=hashed, sessions=Sessions(1.0)) for name in "ab"]
    workload = generate(sources, 0)
    assert [(row, after) for row, after, _, _ in pairs(workload)] == [
        (4, 0), (5, 1), (6, 2), (7, 3)]
    assert workload.tasks.tolist() == [0, 6, 1, 7, 0, 6, 1, 7, 4, 10, 5, 11]
    plain = TrafficSource("c", "m", trace=hashed)
    assert generate([sources[0], plain], 0).tasks.tolist()[:4] == [0, -1, 1, -1]


def test_sessions_may_begin_at_a_rate(hashed):
    source = TrafficSource("talks", "m", trace=hashed, sessions=Sessions(sessions_per_s=0.01))
    workload = generate([source], 0)
    assert (np.diff(workload.arrival_s) >= 0).all()
    firsts = np.unique(workload.tasks, return_index=True)[1]
    assert 100 < workload.arrival_s[firsts].max() < 1200  # four sessions, 100 s apart on average
    assert sorted(np.unique(workload.tasks, return_counts=True)[1].tolist()) == [1, 1, 2, 2]
    gaps = {after: delay for _, after, delay, on_dispatch in pairs(workload) if on_dispatch}
    assert sorted(gaps.values()) == pytest.approx([30.0, 85.0])


def test_a_session_has_one_class_and_one_tenant(hashed):
    source = TrafficSource("talks", "m", {"a": 0.5, "b": 0.5}, {"x": 0.5, "y": 0.5}, trace=hashed,
                           num_requests=60, sessions=Sessions(1.0))
    workload = generate([source], 1)
    for column in (workload.class_index, workload.tenant_index):
        assert {*column.tolist()} == {0, 1}
        pairs_ = {*zip(workload.tasks.tolist(), column.tolist(), strict=True)}
        assert len(pairs_) == len(np.unique(workload.tasks))


@pytest.mark.parametrize(("sessions", "said"), [
    (Sessions(-1.0), "think_s is -1"), (Sessions(1.0, float("inf")), "think_cv is inf"),
    (Sessions(None, 1.0), "think_cv is stated without think_s"),
    (Sessions(sessions_per_s=0.0), "sessions_per_s is 0")])
def test_impossible_settings_are_refused(sessions, said):
    with pytest.raises(InputError, match=said):
        sessions.check()


def test_mooncake_s_sessions_are_those_that_were_derived_elsewhere(shared_data):
    """Each of the other's sessions lies in one of ours; a rule of theirs parts nine of 8,132."""
    trace = read_trace(shared_data / "traces" / "mooncake_conversation_with_hash_ids.jsonl.gz")
    with gzip.open(shared_data / "sessions" / "mooncake_conversation.jsonl.gz") as lines:
        theirs = np.array([json.loads(line)["session"] for line in lines])
    ours = sessions_of(trace)
    assert len(np.unique(theirs)) == 8132
    assert len({*zip(ours.tolist(), theirs.tolist(), strict=True)}) == 8132
    assert len(np.unique(ours)) == 8123
