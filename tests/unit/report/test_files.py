import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from penstock.core.errors import InputError
from penstock.metrics.table import COLUMNS
from penstock.report import files
from penstock.report.files import (
    PARQUET_COLUMNS,
    RequestWriter,
    read_requests,
    write_summary,
    write_text,
)

SPECIFIED = [
    "request_id", "model", "service_class", "tenant", "replica", "arrival_s", "prompt_tokens",
    "output_tokens", "first_scheduled_s", "first_token_s", "last_token_s", "itl_mean_s",
    "itl_p99_s", "itl_max_s", "num_late_tokens", "num_preemptions", "num_relegations", "status",
    "met_slo"]


def test_requests_have_the_specified_columns(run, tmp_path):
    with RequestWriter(tmp_path / "requests.parquet") as writer:
        writer.write(run.table)
    stored = pq.read_table(tmp_path / "requests.parquet")
    assert stored.column_names == SPECIFIED == list(PARQUET_COLUMNS)
    assert stored.num_rows == len(run.table)
    assert set(stored["status"].to_pylist()) == {"finished", "rejected"}
    names = [run.table.service_classes[code] for code in run.table.class_index]
    assert stored["service_class"].to_pylist() == names
    np.testing.assert_array_equal(stored["arrival_s"].to_numpy(), run.table.arrival_s)
    assert stored["first_token_s"].null_count == int(np.isnan(run.table.first_token_s).sum()) > 0


@pytest.mark.parametrize("rows_per_group", [400, 100_000])
def test_what_was_written_comes_back(run, tmp_path, rows_per_group):
    with RequestWriter(tmp_path / "r.parquet", rows_per_group) as writer:
        for start in range(0, len(run.table), 250):
            writer.write(run.table.take(slice(start, start + 250)))
    again = read_requests(tmp_path / "r.parquet")
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(again, name), getattr(run.table, name), name)
        assert getattr(again, name).dtype == getattr(run.table, name).dtype
    assert (again.models, again.service_classes, again.tenants) == \
        (run.table.models, run.table.service_classes, run.table.tenants)


@pytest.mark.parametrize("content", [None, b"", b"PAR1", b"x" * 100])
def test_what_is_no_table_of_requests_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "r.parquet").write_bytes(content)
    with pytest.raises(InputError, match=r"r\.parquet: "):
        read_requests(tmp_path / "r.parquet")


def test_another_table_is_refused(tmp_path):
    import pyarrow as pa

    pq.write_table(pa.table({"request_id": [1]}), tmp_path / "r.parquet")
    with pytest.raises(InputError, match="not the requests of a run"):
        read_requests(tmp_path / "r.parquet")


def test_blocks_stream_into_row_groups(run, tmp_path):
    path = tmp_path / "requests.parquet"
    with RequestWriter(path, rows_per_group=400) as writer:
        for start in range(0, 1500, 100):
            writer.write(run.table.take(slice(start, start + 100)))
            assert not path.exists()
    stored = pq.ParquetFile(path)
    assert stored.num_row_groups == 4
    ids = stored.read()["request_id"].to_pylist()
    assert ids == run.table.request_id.tolist()


def test_a_failed_run_leaves_nothing(run, tmp_path):
    def fail():
        with RequestWriter(tmp_path / "requests.parquet", rows_per_group=10) as writer:
            writer.write(run.table)
            raise RuntimeError("engine fell over")

    with pytest.raises(RuntimeError, match="fell over"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_an_empty_table_is_a_file_without_rows(empty_run, tmp_path):
    with RequestWriter(tmp_path / "requests.parquet") as writer:
        writer.write(empty_run.table)
    assert pq.read_table(tmp_path / "requests.parquet").num_rows == 0


def test_summary_is_stable_json(run, tmp_path):
    paths = [tmp_path / "a" / "summary.json", tmp_path / "b" / "summary.json"]
    for path in paths:
        write_summary(path, run.summary)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert json.loads(paths[0].read_bytes()) == run.summary
    assert [path.name for path in paths[0].parent.iterdir()] == ["summary.json"]


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "plan.txt"
    write_text(path, "old")
    with pytest.raises(TypeError):
        files.write_bytes(path, b"new", None)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
