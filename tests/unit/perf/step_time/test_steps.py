"""Reading measured steps from tables and journals."""

import gzip

import numpy as np
import pytest

from penstock.core.errors import InputError
from penstock.core.step import StepFeatures
from penstock.perf.profiles.step_tables import read_steps

HEADER = "prefill_tokens,decode_tokens,prefill_ctx_sum,decode_ctx_sum,step_wall_s,step_cpu_s\n"
ROWS = "64,0,128,0,0.2,0.1\n0,3,0,900,0.02,0.01\n"


@pytest.fixture
def table_path(tmp_path):
    path = tmp_path / "steps.csv"
    path.write_text(HEADER + ROWS)
    return path


def test_contexts_before_the_step_become_features(table_path):
    table = read_steps(table_path)
    assert table.attention_work.tolist() == [64 * (128 + 32), 0.0]
    assert table.context_tokens.tolist() == [0.0, 903.0]
    assert table.largest == StepFeatures(64, 10_240.0, 3, 903)
    assert len(table) == 2


def test_cpu_seconds_win_unless_another_column_is_named(table_path):
    assert read_steps(table_path).seconds.tolist() == [0.1, 0.01]
    assert "durations from step_cpu_s; step_wall_s not used" in read_steps(table_path).notes
    assert read_steps(table_path, "step_wall_s").seconds.tolist() == [0.2, 0.02]


def test_unknown_duration_names_the_nearest(table_path):
    with pytest.raises(InputError, match="did you mean 'step_wall_s'"):
        read_steps(table_path, "step_wal_s")


def test_aliases_and_milliseconds(tmp_path):
    path = tmp_path / "batches.csv.gz"
    with gzip.open(path, "wt") as out:
        out.write("prefill_tokens,prefill_attn_work,decode_seqs,decode_kv_tokens,n_prefill,ms\n"
                  "10,50,2,300,1,12.5\n")
    table = read_steps(path)
    assert table.seconds.tolist() == [0.0125]
    assert (table.attention_work[0], table.context_tokens[0]) == (50.0, 300.0)
    assert table.notes == ()


def test_parquet_reads_as_csv_does(table_path, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = HEADER.strip().split(",")
    columns = np.array([row.split(",") for row in ROWS.split()], dtype=float).T
    path = tmp_path / "steps.parquet"
    pq.write_table(pa.table(dict(zip(names, columns, strict=True))), path)
    expected, found = read_steps(table_path), read_steps(path)
    for name in ("prefill_tokens", "attention_work", "decode_seqs", "context_tokens", "seconds"):
        assert np.array_equal(getattr(found, name), getattr(expected, name))


def test_journal_reads_commits_and_skips_other_records(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_text('{"kind":"add","request":1}\n\n'
                    '{"kind":"commit","step":1,"features":[64,2048.0,2,30],"duration_s":0.02}\n'
                    '{"kind":"commit","step":2}\n')
    table = read_steps(path)
    assert table.largest == StepFeatures(64, 2048.0, 2, 30)
    assert table.seconds.tolist() == [0.02]


@pytest.mark.parametrize(("text", "message"), [
    ('{"kind":"commit","features":[1,2],"duration_s":1}\n', "line 1: features"),
    ('{"kind":"commit","features":[1,2,"x",4],"duration_s":1}\n', "line 1: found 'x'"),
    ("{oops\n", "line 1: is not JSON"), ('{"kind":"plan"}\n', "no commit record")])
def test_bad_journals_name_the_line(tmp_path, text, message):
    path = tmp_path / "run.jsonl"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_steps(path)


@pytest.mark.parametrize(("text", "message"), [
    ("a,b\n1,2\n", "no column 'prefill_tokens'"),
    (HEADER, "no steps"),
    ("", "no column"),
    (HEADER + "1,2,3\n", "line 2: 3 fields; expected 6"),
    (HEADER + "1,0,0,0,0.1,abc\n", "line 2: step_cpu_s is 'abc'"),
    (HEADER + "1,0,0,0,0.1,0\n", "step 1: seconds is 0; expected more than 0"),
    (HEADER + "-1,0,0,0,0.1,0.1\n", "step 1: prefill_tokens is -1"),
    (HEADER + "1,0,0,0,0.1,nan\n", "step 1: seconds is nan"),
    (HEADER.replace("step_wall_s,step_cpu_s", "x,y") + "1,0,0,0,1,1\n", "no duration column")])
def test_bad_tables_name_what_is_wrong(tmp_path, text, message):
    path = tmp_path / "steps.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_steps(path)


def test_missing_and_broken_files(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_steps(tmp_path / "none.csv")
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"not parquet")
    with pytest.raises(InputError, match="not a Parquet table"):
        read_steps(broken)
