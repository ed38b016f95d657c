from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from penstock.core.errors import InputError
from penstock.workload.readers import read_trace
from penstock.workload.trace import Labels, Prefixes, Trace, no_prefixes, offsets_of
from penstock.workload.writers import write_trace
from support.scaled_examples import unit_examples

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0\r", exclude_categories=["Cs"]),
                max_size=6)


@st.composite
def traces(draw: st.DrawFn, block_tokens: int = 512) -> Trace:
    num = draw(st.integers(1, 12))
    prompt = np.array(draw(st.lists(st.integers(1, 5000), min_size=num, max_size=num)), np.int64)
    output = np.array(draw(st.lists(st.integers(1, 900), min_size=num, max_size=num)), np.int64)
    gaps = draw(st.lists(st.floats(0, 1e4), min_size=num, max_size=num))
    names = tuple(draw(st.lists(NAMES.filter(str.strip), min_size=1, max_size=3, unique=True)))
    index = draw(st.lists(st.integers(0, len(names) - 1), min_size=num, max_size=num))
    labels = Labels(names, np.array(index, np.int64))
    counts = -(-prompt // block_tokens)
    values = draw(st.lists(st.integers(0, 2**62), min_size=int(counts.sum()),
                           max_size=int(counts.sum())))
    prefixes = Prefixes(offsets_of(counts), np.array(values, np.int64), block_tokens)
    return Trace(np.cumsum(gaps), prompt, output, labels, None, None, prefixes)


def same(left: Trace, right: Trace) -> None:
    np.testing.assert_array_equal(left.arrival_s, right.arrival_s)
    np.testing.assert_array_equal(left.prompt_tokens, right.prompt_tokens)
    np.testing.assert_array_equal(left.output_tokens, right.output_tokens)
    assert names_of(left) == names_of(right)


def names_of(trace: Trace) -> list[str]:
    return [trace.service_class.names[place] for place in trace.service_class.index]


@given(trace=traces())
@unit_examples(25,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_csv_and_parquet_round_trips_are_exact(tmp_path: Path, trace: Trace):
    bare = replace(trace, prefixes=no_prefixes())
    for name in ("t.csv", "t.csv.gz"):
        write_trace(bare, tmp_path / name)
        same(read_trace(tmp_path / name), bare)
    write_trace(trace, tmp_path / "t.parquet")
    back = read_trace(tmp_path / "t.parquet")
    same(back, trace)
    np.testing.assert_array_equal(back.prefixes.offsets, trace.prefixes.offsets)
    np.testing.assert_array_equal(back.prefixes.values, trace.prefixes.values)
    assert back.prefixes.block_tokens == 512


@given(trace=traces())
@unit_examples(25,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_mooncake_round_trip(tmp_path: Path, trace: Trace):
    write_trace(trace, tmp_path / "t.jsonl.gz")
    back = read_trace(tmp_path / "t.jsonl.gz", spread_steps=False)
    # A log starts at 0, and milliseconds do not hold every binary fraction of a second.
    np.testing.assert_allclose(back.arrival_s, trace.arrival_s - trace.arrival_s[0], atol=1e-9)
    np.testing.assert_array_equal(back.prompt_tokens, trace.prompt_tokens)
    np.testing.assert_array_equal(back.prefixes.values, trace.prefixes.values)
    assert names_of(back) == names_of(trace)


def small(**changes) -> Trace:
    one = np.ones(1, np.int64)
    trace = Trace(np.zeros(1), one, one, None, None, None,
                  Prefixes(np.array([0, 1]), np.array([5]), 16))
    return replace(trace, **changes)


@pytest.mark.parametrize(("trace", "name", "said"), [
    (small(), "t.csv", "CSV cannot hold prefix hashes"),
    (small(), "t.jsonl", "prefix hashes are of 16-token blocks"),
    (small(arrival_s=None), "t.parquet", "the trace has lengths only"),
    (small(), "t.txt", "cannot tell the format"),
    (small(), "t.parquet.gz", "cannot tell the format"),
    (small(), "absent/t.parquet", "No such file or directory"),
    (small(prefixes=no_prefixes()), "absent/t.csv", "No such file or directory"),
])
def test_what_does_not_fit_is_refused(tmp_path, trace, name, said):
    with pytest.raises(InputError, match=said):
        write_trace(trace, tmp_path / name)


def test_lengths_only_fit_csv(tmp_path):
    write_trace(small(arrival_s=None, prefixes=no_prefixes()), tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text() == "prompt_tokens,output_tokens\n1,1\n"
    assert read_trace(tmp_path / "t.csv").arrival_s is None


def test_equal_traces_give_equal_gzip_files(tmp_path):
    for name in ("a.csv.gz", "b.csv.gz"):
        write_trace(small(prefixes=no_prefixes()), tmp_path / name)
    assert (tmp_path / "a.csv.gz").read_bytes() == (tmp_path / "b.csv.gz").read_bytes()


@pytest.mark.parametrize(("columns", "said"), [
    ({"arrival_s": [0.0, None], "prompt_tokens": [1, 1], "output_tokens": [1, 1]},
     ": row 2: arrival_s is nan"),
    ({"arrival_s": [0.0, 1.0], "prompt_tokens": [1, 0], "output_tokens": [1, 1]},
     ": row 2: prompt_tokens is 0"),
    ({"arrival_s": [0.0], "prompt_tokens": ["x"], "output_tokens": [1]}, "'x'"),
    ({"arrival_s": [0.0], "prompt_tokens": [1]}, "no column 'output_tokens'"),
    ({"arrival_s": [], "prompt_tokens": [], "output_tokens": []}, "no requests"),
])
def test_bad_parquet(tmp_path, columns, said):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "t.parquet"
    pq.write_table(pa.table(columns), path)
    with pytest.raises(InputError) as caught:
        read_trace(path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_parquet_from_elsewhere(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"arrival_s": [0.0, 1.5], "input_tokens": [7.0, 8.0], "other": [1, 2],
                             "output_tokens": [1, 2], "class": ["a", None]}), path)
    trace = read_trace(path)
    assert trace.prompt_tokens.tolist() == [7, 8]
    assert names_of(trace) == ["a", ""]
    path.write_bytes(b"PAR1 not really")
    with pytest.raises(InputError, match=r"t\.parquet: "):
        read_trace(path)
