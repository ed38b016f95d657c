"""Traces whose columns and clocks have other names and units than the known formats."""

import gzip
import json
from pathlib import Path

import pytest

from penstock.core.errors import InputError
from penstock.workload.column_map import ColumnMap, column_map
from penstock.workload.readers import assumed_clock, read_trace, sniff_format

CSV = """ts,in,out,kind
1700000001000,20,4,chat
1700000000250,10,3,batch
1700000002000,30,0,chat
"""
JSONL = "\n".join(json.dumps(dict(zip(("ts", "in", "out", "kind"), row, strict=True))) for row in [
    (1700000001000, 20, 4, "chat"), (1700000000250, 10, 3, "batch"), (1700000002000, 30, 0, "chat"),
]) + "\n"
NAMES = {"input_tokens": "in", "output_tokens": "out", "arrived_at": "ts", "class": "kind"}


@pytest.fixture
def write(tmp_path: Path):
    def write_file(text: str, name: str) -> Path:
        path = tmp_path / name
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return path
    return write_file


@pytest.mark.parametrize(("text", "name"), [
    (CSV, "t.csv"), (CSV, "t.csv.gz"), (JSONL, "t.jsonl"), (JSONL, "t.jsonl.gz")])
def test_csv_and_json_lines_read_alike(write, text, name):
    path = write(text, name)
    trace = read_trace(path, mapping=column_map(NAMES))
    assert trace.arrival_s.tolist() == [0.0, 0.75]
    assert trace.prompt_tokens.tolist() == [10, 20]
    assert trace.output_tokens.tolist() == [3, 4]
    assert [trace.service_class.names[i] for i in trace.service_class.index] == ["batch", "chat"]
    assert trace.num_dropped == 1
    assert assumed_clock(path, None, column_map(NAMES)) == f"{path}: {trace.assumed}"
    assert "'ts' is taken as milliseconds since 1970" in trace.assumed


def test_parquet_takes_names_numbers_and_moments(tmp_path):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    for name, times in (("n.parquet", pa.array([1_700_000_000, 1_700_000_002])),
                        ("d.parquet", pa.array([0, 2_000], pa.timestamp("ms", "UTC")))):
        pq.write_table(pa.table({"ts": times, "in": [5, 6], "out": [1, 2]}), tmp_path / name)
        trace = read_trace(tmp_path / name, mapping=column_map(
            {key: value for key, value in NAMES.items() if key != "class"}))
        assert trace.arrival_s.tolist() == [0.0, 2.0]
        assert trace.prompt_tokens.tolist() == [5, 6]
        assert trace.assumed


def test_json_lines_with_known_names_need_no_map(write):
    path = write('{"arrived_at": 0.5, "prompt_tokens": 4, "completion_tokens": 2, "user": "a"}\n'
                 '{"arrived_at": 1.5, "prompt_tokens": 5, "completion_tokens": 3, "user": "b"}\n',
                 "t.jsonl")
    assert sniff_format(path) == "jsonl"
    trace = read_trace(path)
    assert trace.arrival_s.tolist() == [0.5, 1.5]
    assert trace.tenant.names == ("a", "b")
    assert trace.assumed == ""


def test_json_lines_may_hold_lengths_only(write):
    path = write('{"input_len": 4, "output_len": 2}\n', "t.jsonl")
    assert read_trace(path).arrival_s is None


def test_milliseconds_of_mooncake_stay_as_they_are(write):
    rows = '{{"timestamp": 0, "{0}": 4, "{1}": 2}}\n{{"timestamp": 1500, "{0}": 5, "{1}": 3}}\n'
    mooncake = write(rows.format("input_length", "output_length"), "m.jsonl")
    assert read_trace(mooncake).arrival_s.tolist() == [0.0, 1.5]
    assert assumed_clock(mooncake) == ""
    other = read_trace(write(rows.format("in", "out"), "o.jsonl"),
                       mapping=column_map({"input_tokens": "in", "output_tokens": "out"}))
    assert other.arrival_s.tolist() == [0.0, 1.5]
    assert "'timestamp' is taken as milliseconds;" in other.assumed


@pytest.mark.parametrize("clock", ["ms", None])
def test_the_unit_may_stand_in_the_map_or_beside_it(write, clock):
    path = write("t,input_len,output_len\n500,1,1\n2500,1,1\n", "t.csv")
    names = {"arrived_at": "t" if clock else "t:ms"}
    trace = read_trace(path, mapping=column_map(names, clock))
    assert trace.arrival_s.tolist() == [0.5, 2.5]
    assert trace.assumed == ""


def test_a_stated_clock_needs_no_map_of_a_usual_name(write):
    path = write("ts,input_len,output_len\n500,1,1\n2500,1,1\n", "t.csv")
    assert read_trace(path, mapping=ColumnMap(clock="ms")).arrival_s.tolist() == [0.5, 2.5]


@pytest.mark.parametrize("name", ["timestamp", "time", "created_at"])
@pytest.mark.parametrize("times", [("1700000000", "1700000003"),
                                   ("2023-11-14T22:13:20Z", "2023-11-14T22:13:23Z")])
def test_a_usual_name_with_moments_needs_nothing(write, name, times):
    path = write(f"{name},input_len,output_len\n{times[0]},5,5\n{times[1]},6,6\n", "t.csv")
    trace = read_trace(path)
    assert trace.arrival_s.tolist() == [0.0, 3.0]
    assert trace.assumed


def test_the_map_goes_before_known_names(write):
    path = write("arrival_s,prompt_tokens,output_tokens,real_prompt\n0,1,1,7\n", "t.csv")
    trace = read_trace(path, mapping=column_map({"prompt_tokens": "Real Prompt"}))
    assert trace.prompt_tokens.tolist() == [7]


@pytest.mark.parametrize(("text", "name"), [(CSV, "t.csv"), (JSONL, "t.jsonl")])
@pytest.mark.parametrize(("names", "said"), [
    ({"inptu_tokens": "in"}, "unknown name 'inptu_tokens' in the map; did you mean 'input_tokens'?;"
                             " the file has ts, in, out, kind"),
    ({"weight": "in"}, "unknown name 'weight' in the map; expected one of: arrival_s, class, model,"
                       " output_tokens, prompt_tokens, session, tenant; the file has ts, in,"
                        " out, kind"),
    ({"input_tokens": "inn"}, "no column 'inn', which the map names for 'input_tokens'; found 'ts',"
                              " 'in', 'out', 'kind'; did you mean 'in'?"),
    ({"input_tokens": "in", "prompt_tokens": "in"}, "the map names 'prompt_tokens' twice, also as "
                                                    "'prompt_tokens'"),
    ({"input_tokens": "in"}, "no column 'output_tokens'; found 'ts', 'in', 'out', 'kind'; where "
                             "another column holds it, state --map output_tokens=COLUMN (in a "
                             "fleet file, columns)"),
])
def test_a_wrong_map_is_told_with_the_file_and_its_columns(write, text, name, names, said):
    path = write(text, name)
    with pytest.raises(InputError) as caught:
        read_trace(path, mapping=column_map(names))
    assert str(caught.value) == f"{path}: {said}"


def test_a_field_that_a_later_line_lacks_is_told_by_its_line(write):
    path = write(JSONL + '{"ts": 1700000000000, "in": 5}\n', "t.jsonl")
    with pytest.raises(InputError, match=r"t.jsonl:4: no field 'out'; found 'ts', 'in'"):
        read_trace(path, mapping=column_map(NAMES))


def test_two_units_of_one_clock_are_refused():
    assert column_map({"arrived_at": "ts:ms"}, "ms") == ColumnMap((("arrived_at", "ts"),), "ms")
    assert column_map({"class": "a:ms"}).names == (("class", "a:ms"),)
    with pytest.raises(InputError, match="two clocks, s and arrived_at=ts:ms; keep one of them"):
        column_map({"arrived_at": "ts:ms"}, "s")
