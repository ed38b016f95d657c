"""Files of sessions in their public forms: samples by hand, and broken lines."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import InputError
from penstock.workload.column_map import column_map
from penstock.workload.mixing import generate
from penstock.workload.readers import read_trace, sniff_format
from penstock.workload.sessions import Sessions, sessions_of
from penstock.workload.source import TrafficSource
from penstock.workload.writers import write_trace

DERIVED = [
    {"id": 0, "session": 0, "turn": 1, "parent": -1, "t_ms": 0, "in": 1100, "out": 5,
     "blocks": [[0, 1], [7, 2]]},
    {"id": 1, "session": 1, "turn": 1, "parent": -1, "t_ms": 3000, "in": 600, "out": 0,
     "blocks": [[0, 1], [20, 1]]},
    {"id": 2, "session": 0, "turn": 2, "parent": 0, "t_ms": 9000, "in": 1700, "out": 6,
     "blocks": [[0, 1], [7, 3]]},
    {"id": 3, "session": 1, "turn": 2, "parent": 1, "t_ms": 9500, "in": 1000, "out": 6,
     "blocks": []}]
HEADER = {"schema": "dynamo.agentic_mooncake", "version": 2, "block_size": 16,
          "hash_id_scope": "local", "source": {"format": "by_hand", "digest": "none"}}
AGENTIC = [
    HEADER,
    {"request_id": "plan", "play_id": "p", "session_id": "s", "model": "m", "input_length": 32,
     "output_length": 8, "hash_ids": [1, 2], "not_before_ms": 500},
    {"request_id": "join", "play_id": "p", "session_id": "s", "model": "m", "input_length": 80,
     "output_length": 4, "hash_ids": [1, 2, 3], "dependencies": [
         {"request_id": "left", "trigger": "completion", "delay_ms": 10, "relation": "join"},
         {"request_id": "right", "trigger": "completion", "delay_ms": 0, "relation": "join"}]},
    {"request_id": "left", "play_id": "p", "session_id": "s/1", "model": "m", "input_length": 20,
     "output_length": 4, "hash_ids": [9], "dependencies": [
         {"request_id": "plan", "trigger": "dispatch", "delay_ms": 250, "relation": "spawn"}]},
    {"request_id": "right", "play_id": "p", "session_id": "s/2", "model": "m", "input_length": 20,
     "output_length": 4, "not_before_ms": 2500, "dependencies": [
         {"request_id": "plan", "trigger": "completion", "delay_ms": 1000, "relation": "spawn"}]},
    {"request_id": "other", "play_id": "q", "session_id": "t", "model": "m", "input_length": 32,
     "output_length": 8, "hash_ids": [1, 2], "not_before_ms": 700}]
FIRST = [
    {"request_id": "a", "session_id": "s", "input_length": 600, "output_length": 5, "hash_ids": [1],
     "timestamp": 100, "branches": ["b", "c"]},
    {"request_id": "b", "session_id": "s", "input_length": 700, "output_length": 5,
     "wait_for": ["a"], "delay": 20, "tool_wait_ms": 30},
    {"request_id": "c", "session_id": "s", "input_length": 700, "output_length": 5,
     "wait_for": ["a", "b"], "prefix_reset": True}]
AIPERF = [
    {"session_id": "x", "timestamp": 1000, "input_length": 600, "output_length": 5,
     "hash_ids": [3]},
    {"session_id": "x", "delay": 250, "input_tokens": 1200, "output_tokens": 6,
     "hash_ids": [3, 4]},
    {"session_id": "y", "created_time": 1100, "input_length": 50, "output_length": 7},
    {"session_id": "x", "delay_ms": 500, "input_tokens": 1300, "output_tokens": 6}]
WEKA = [
    {"id": "one", "models": ["m"], "block_size": 64, "requests": [
        {"t": 0.0, "model": "m", "in": 130, "out": 20, "hash_ids": [1, 2], "api_time": 2.0,
         "type": "s"},
        {"t": 5.0, "type": "subagent", "duration_ms": 4000, "requests": [
            {"t": 5.0, "model": "m", "in": 64, "out": 5, "hash_ids": [1], "api_time": 1.0},
            {"t": 8.0, "model": "m", "in": 70, "out": 5, "api_time": 1.0}]},
        {"t": 10.0, "model": "m", "in": 200, "out": 20, "hash_ids": [1, 2, 3], "think_time": 0.5,
         "ttft": 0.4}]},
    {"id": "two", "models": ["m"], "block_size": 64, "requests": [
        {"t": 0.0, "model": "m", "in": 130, "out": 20, "hash_ids": [1, 2]}]}]
LLMSERVINGSIM = [
    {"session_id": "a", "arrival_time_ns": 2_000_000_000, "sub_requests": [
        {"input_toks": 100, "output_toks": 10, "tool_duration_ns": 1_500_000_000},
        {"input_toks": 200, "output_toks": 20, "tool_duration_ns": 0}]},
    {"session_id": "b", "arrival_time_ns": 0, "sub_requests": [
        {"input_toks": 50, "output_toks": 5}]}]
BAILIAN = [
    {"chat_id": 5, "parent_chat_id": -1, "timestamp": 10.5, "input_length": 20, "output_length": 4,
     "type": "text", "turn": 1, "hash_ids": [1, 2]},
    {"chat_id": 6, "parent_chat_id": 5, "timestamp": 12.0, "input_length": 40, "output_length": 4,
     "type": "text", "turn": 2, "hash_ids": [1, 2, 3]},
    {"chat_id": 7, "parent_chat_id": 4, "timestamp": 13.0, "input_length": 10, "output_length": 4,
     "type": "search", "turn": 3, "hash_ids": []}]
SAMPLES = {"sessions": DERIVED, "agentic": AGENTIC, "aiperf": AIPERF, "weka": WEKA,
           "llmservingsim": LLMSERVINGSIM, "bailian": BAILIAN}


@pytest.fixture
def read(tmp_path):
    def _read(rows, **settings):
        path = tmp_path / "trace.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return read_trace(path, **settings)
    return _read


def waits(trace):
    """Each link as (row, after, delay, on dispatch)."""
    found = trace.links
    return sorted(zip(found.row.tolist(), found.after.tolist(),
                      np.round(found.delay_s, 9).tolist(), found.on_dispatch.tolist(), strict=True))


def prefix(trace, row):
    offsets = trace.prefixes.offsets
    return trace.prefixes.values[offsets[row]:offsets[row + 1]].tolist()


@pytest.mark.parametrize("form", SAMPLES)
def test_a_form_is_told_by_its_content(form, tmp_path):
    path = tmp_path / "trace.jsonl"
    path.write_text("\n" + "".join(json.dumps(row) + "\n" for row in SAMPLES[form]))
    assert sniff_format(path) == form
    assert len(read_trace(path)) == len(read_trace(path, form))


def test_derived_sessions_keep_their_gaps_and_pass_failures_on(read):
    trace = read(DERIVED)
    assert (trace.arrival_s.tolist(), trace.timed, trace.num_dropped) == ([0, 9, 9.5], True, 1)
    # The parent of the last row failed and had no parent itself.
    assert waits(trace) == [(1, 0, 0.0, False), (1, 0, 9.0, True)]
    assert prefix(trace, 0) == prefix(trace, 1)[:3]
    assert len(prefix(trace, 1)) == 4
    assert trace.prefixes.block_tokens == 512
    assert sessions_of(trace).tolist() == [0, 0, 2]


def test_agentic_plays_spawn_and_join(read):
    trace = read(AGENTIC)
    # In order: plan, other, left (a dispatch later), right (not before), join.
    assert trace.prompt_tokens.tolist() == [32, 32, 20, 20, 80]
    assert trace.arrival_s.tolist() == pytest.approx([0, 0.2, 0.25, 2.0, 2.0])
    assert waits(trace) == [
        (2, 0, 0.25, True), (3, 0, 1.0, False), (3, 0, 2.0, True),
        (4, 2, 0.01, False), (4, 3, 0.0, False)]
    assert not trace.timed
    assert sessions_of(trace).tolist() == [0, 1, 0, 0, 0]
    # Hashes of another play are other blocks, and the same play's are the same.
    assert prefix(trace, 0) != prefix(trace, 1)
    assert prefix(trace, 4)[:2] == prefix(trace, 0)
    assert trace.prefixes.block_tokens == 16
    assert trace.model.names == ("m",)


def test_hashes_of_a_global_scope_are_shared(read):
    trace = read([{**HEADER, "hash_id_scope": "global"}, *AGENTIC[1:]])
    assert prefix(trace, 0) == prefix(trace, 1)


def test_agentic_rows_of_version_1_wait_for_all_that_they_name(read):
    trace = read(FIRST)
    assert waits(trace) == [(1, 0, 0.05, False), (2, 0, 0.0, False), (2, 1, 0.0, False)]
    assert trace.arrival_s.tolist() == pytest.approx([0, 0.05, 0.05])


def test_aiperf_s_next_turns_have_delays_in_place_of_times(read):
    trace = read(AIPERF)
    assert trace.arrival_s.tolist() == pytest.approx([0, 0.1, 0.25, 0.75])
    assert trace.prompt_tokens.tolist() == [600, 50, 1200, 1300]
    assert waits(trace) == [(2, 0, 0.25, False), (3, 2, 0.5, False)]
    assert not trace.timed


def test_mooncake_s_rows_with_sessions_and_times_stay_mooncake_s(read):
    rows = [{"session_id": "x", "timestamp": 1000 * number, "input_length": 600,
             "output_length": 5} for number in range(3)]
    trace = read(rows)
    assert trace.links is None
    assert read(rows, format="aiperf").links is not None


def test_weka_s_sub_agents_run_before_the_next_request(read):
    trace = read(WEKA)
    assert trace.prompt_tokens.tolist() == [130, 130, 64, 70, 200]
    assert waits(trace) == [(2, 0, 3.0, False), (3, 2, 2.0, False),
                            (4, 0, 0.5, False), (4, 3, 0.5, False)]
    assert prefix(trace, 4)[:2] == prefix(trace, 0) != prefix(trace, 1)
    assert trace.prefixes.block_tokens == 64


def test_llmservingsim_s_tools_run_between_requests(read):
    trace = read(LLMSERVINGSIM)
    assert trace.arrival_s.tolist() == [0, 2, 3.5]
    assert waits(trace) == [(2, 1, 1.5, False)]
    assert not trace.prefixes


def test_bailian_s_chats_go_on_with_their_parents(read):
    trace = read(BAILIAN)
    assert trace.arrival_s.tolist() == [0, 1.5, 2.5]
    assert waits(trace) == [(1, 0, 0.0, False), (1, 0, 1.5, True)]
    assert sessions_of(trace).tolist() == [0, 0, 2]
    assert trace.prefixes.block_tokens == 16


def test_bailian_s_chats_find_parents_that_stand_later(read):
    trace = read([BAILIAN[1], BAILIAN[0], BAILIAN[2]])
    assert waits(trace) == [(1, 0, 0.0, False), (1, 0, 1.5, True)]
    assert sessions_of(trace).tolist() == [0, 0, 2]


def test_azure_s_log_of_images_is_read_as_its_others(tmp_path):
    path = tmp_path / "lmm.csv"
    path.write_text("TIMESTAMP,NumImages,ContextTokens,GeneratedTokens\n"
                    "2025-01-01 00:00:01.5,2,1500,40\n2025-01-01 00:00:03.5,0,100,4\n")
    assert sniff_format(path) == "azure"
    trace = read_trace(path)
    assert trace.prompt_tokens.tolist() == [1500, 100]
    assert trace.arrival_s.tolist() == [0, 2]


def test_times_that_only_answers_tell_are_not_kept(read):
    trace = read(AIPERF)
    workload = generate([TrafficSource("agents", "m", trace=trace)], 0)
    assert workload.links is not None
    assert workload.tasks.tolist() == [0, 1, 0, 0]
    stated = generate([TrafficSource("agents", "m", trace=trace, sessions=Sessions(3.0))], 0)
    assert stated.links.delay_s.tolist() == [3.0, 3.0]
    recorded = generate([TrafficSource("talks", "m", trace=read(BAILIAN))], 0)
    assert recorded.links is None


def test_files_without_times_are_not_written_as_if_they_had_them(read, tmp_path):
    with pytest.raises(InputError, match="wait for answers and have no times of their own"):
        write_trace(read(WEKA), tmp_path / "w.parquet")
    write_trace(read(BAILIAN), tmp_path / "b.parquet")
    assert sessions_of(read_trace(tmp_path / "b.parquet")).tolist() == [0, 0, 2]


def changed(rows, number, **fields):
    return [{**row, **fields} if place == number else row for place, row in enumerate(rows)]


BROKEN = [
    (changed(DERIVED, 2, parent=9), "jsonl:3: waits for the request '9'"),
    (changed(DERIVED, 1, id=0), "jsonl:2: the request '0' appears twice"),
    (changed(DERIVED, 0, blocks=[[0]]), r"jsonl:1: blocks has '\[0\]'; expected pairs"),
    (changed(DERIVED, 0, blocks=[[0, 9]]), "jsonl:1: 9 blocks for 1100 prompt tokens; expected at"),
    (changed(DERIVED, 3, t_ms="soon"), "jsonl:4: t_ms is 'soon'; expected a number from 0"),
    (changed(AIPERF, 1, delay_ms=7), "jsonl:2: has delay and delay_ms; expected one of them"),
    (changed(AGENTIC, 0, version=3), "jsonl:1: version is '3'; expected 1 or 2"),
    (changed(AGENTIC, 0, block_size=0), "jsonl:1: block_size is '0'; expected a whole number from"),
    (changed(AGENTIC, 3, dependencies=[{"request_id": "plan", "trigger": "maybe"}]),
     "jsonl:4: dependency 1: trigger is 'maybe'; expected dispatch or completion"),
    (changed(AGENTIC, 3, dependencies=[{"request_id": "join"}]),
     "the request '(left|join)' waits for itself"),
    (changed(AGENTIC, 3, dependencies=["plan"]), "jsonl:4: dependency 1: found 'plan'; expected a"),
    (changed(AGENTIC, 4, input_length=0), "jsonl:5: input_length is '0'; expected a whole number"),
    (changed(AGENTIC, 1, hash_ids=[1, -2]), "jsonl:2: hash_ids is not a list of whole numbers"),
    (changed(FIRST, 1, wait_for=[3]), "jsonl:2: wait_for is not a list of names"),
    (changed(AIPERF, 1, delay=-1), "jsonl:2: delay is '-1'; expected a number from 0"),
    (changed(AIPERF, 3, output_tokens=None), "jsonl:4: no field 'output_length' or 'output_tok"),
    (changed(WEKA, 1, block_size=32), "jsonl:2: block_size is 32; expected 64"),
    (changed(WEKA, 1, requests=[{"t": 1}]), "jsonl:2: requests 1: no field 'in'; found 't'"),
    (changed(WEKA, 1, requests=5), "jsonl:2: requests is '5'; expected a list"),
    (changed(LLMSERVINGSIM, 1, sub_requests=[{"input_toks": 1.5}]),
     "jsonl:2: sub_requests 1: input_toks is '1.5'; expected a whole number from 1"),
    (changed(BAILIAN, 1, chat_id=True), "jsonl:2: chat_id is 'True'; expected a name"),
    (changed(DERIVED, 3, t_ms=1e30), r"jsonl:4: t_ms is '1e\+30'; expected a number from 0 to 1e"),
    (changed(AGENTIC, 0, hash_id_scope="play"), "jsonl:1: hash_id_scope is 'play'; expected local"),
    (AGENTIC[1:], "jsonl:1: not_before_ms without a header of version 2"),
    ([FIRST[0], *AGENTIC[2:]], "jsonl:2: dependencies without a header of version 2"),
    ([*WEKA, WEKA[0]], "jsonl:3: the session 'one' appears twice"),
    (changed(LLMSERVINGSIM, 1, session_id="a"), "jsonl:2: the session 'a' appears twice"),
    (changed(BAILIAN, 0, parent_chat_id=6), "the request '(5|6)' waits for itself"),
    (changed(BAILIAN, 0, parent_chat_id=5), "jsonl:1: the request '5' waits for itself"),
    ([HEADER], "trace.jsonl: no requests"),
    (changed(DERIVED[:1], 0, out=0), "no requests; every row has 0 output tokens"),
]


@pytest.mark.parametrize(("rows", "said"), BROKEN)
def test_a_broken_line_is_named(rows, said, read):
    with pytest.raises(InputError, match=said):
        read(rows)


def test_a_line_that_is_no_json_is_named(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps(BAILIAN[0]) + "\n\nno\n")
    with pytest.raises(InputError, match=r"t\.jsonl:3: not a JSON object"):
        read_trace(path)


def test_other_names_are_refused_where_the_names_are_fixed(read):
    with pytest.raises(InputError, match="the fields of the format weka are fixed"):
        read(WEKA, format="weka", mapping=column_map({"session": "id"}))


def test_mooncake_s_derived_sessions_are_its_requests(shared_data):
    trace = read_trace(shared_data / "sessions" / "mooncake_conversation.jsonl.gz")
    raw = read_trace(shared_data / "traces" / "mooncake_conversation_with_hash_ids.jsonl.gz")
    assert (trace.arrival_s == raw.arrival_s).all()
    assert (trace.prompt_tokens == raw.prompt_tokens).all()
    assert (trace.output_tokens == raw.output_tokens).all()
    assert (trace.prefixes.offsets == raw.prefixes.offsets).all()
    assert len(np.unique(raw.prefixes.values)) == len(np.unique(trace.prefixes.values))
    assert len(np.unique(sessions_of(trace))) == 8132
    assert len(trace.links) == 2 * (len(trace) - 8132)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2**70, 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner,
                                                                max_size=2), max_leaves=5)


@given(st.sampled_from(sorted(SAMPLES)), st.data())
def test_a_row_of_any_content_is_read_or_refused(tmp_path_factory, form, data):
    """Each field of a sample, also within its lists, may hold anything."""
    rows = json.loads(json.dumps(SAMPLES[form]))
    places = []

    def walk(value):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in list(items):
            places.append((value, key))
            if isinstance(inner, dict | list):
                walk(inner)

    walk(rows)
    for _ in range(data.draw(st.integers(1, 2))):
        value, key = data.draw(st.sampled_from(places))
        value[key] = data.draw(VALUES)
    path = tmp_path_factory.mktemp("fuzz") / "t.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    trace, said = None, ""
    try:
        trace = read_trace(path, form)
    except InputError as error:
        said = str(error)
    if trace is None:
        assert str(path) in said
    else:
        assert (np.diff(trace.arrival_s) >= 0).all()
        assert (trace.links.after < trace.links.row).all()
