import numpy as np
import pyarrow.parquet as pq
import pytest

from penstock.core.errors import InputError
from penstock.metrics.request_file import (
    PARQUET_COLUMNS,
    RequestWriter,
    StoredRequests,
    read_requests,
)
from penstock.metrics.summary import Usage, summarise
from penstock.metrics.table import COLUMNS, concat
from support.made_up_run import CLASSES, make_table

TABLE = make_table(1500)
SPECIFIED = [
    "request_id", "model", "service_class", "tenant", "replica", "arrival_s", "prompt_tokens",
    "output_tokens", "first_scheduled_s", "first_token_s", "last_token_s", "itl_mean_s",
    "itl_p99_s", "itl_max_s", "num_late_tokens", "num_preemptions", "num_relegations", "status",
    "met_slo"]


def test_requests_have_the_specified_columns(tmp_path):
    with RequestWriter(tmp_path / "requests.parquet") as writer:
        writer.write(TABLE)
    stored = pq.read_table(tmp_path / "requests.parquet")
    assert stored.column_names == SPECIFIED == list(PARQUET_COLUMNS)
    assert stored.num_rows == len(TABLE)
    assert set(stored["status"].to_pylist()) == {"finished", "rejected"}
    names = [TABLE.service_classes[code] for code in TABLE.class_index]
    assert stored["service_class"].to_pylist() == names
    np.testing.assert_array_equal(stored["arrival_s"].to_numpy(), TABLE.arrival_s)
    assert stored["first_token_s"].null_count == int(np.isnan(TABLE.first_token_s).sum()) > 0


@pytest.mark.parametrize("rows_per_group", [400, 100_000])
def test_what_was_written_comes_back(tmp_path, rows_per_group):
    with RequestWriter(tmp_path / "r.parquet", rows_per_group) as writer:
        for start in range(0, len(TABLE), 250):
            writer.write(TABLE.take(slice(start, start + 250)))
    again = read_requests(tmp_path / "r.parquet")
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(again, name), getattr(TABLE, name), name)
        assert getattr(again, name).dtype == getattr(TABLE, name).dtype
    assert (again.models, again.service_classes, again.tenants) == \
        (TABLE.models, TABLE.service_classes, TABLE.tenants)


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


def test_blocks_stream_into_row_groups(tmp_path):
    path = tmp_path / "requests.parquet"
    with RequestWriter(path, rows_per_group=400) as writer:
        for start in range(0, 1500, 100):
            writer.write(TABLE.take(slice(start, start + 100)))
            assert not path.exists()
    stored = pq.ParquetFile(path)
    assert stored.num_row_groups == 4
    ids = stored.read()["request_id"].to_pylist()
    assert ids == TABLE.request_id.tolist()


def test_a_failed_run_leaves_nothing(tmp_path):
    def fail():
        with RequestWriter(tmp_path / "requests.parquet", rows_per_group=10) as writer:
            writer.write(TABLE)
            raise RuntimeError("engine fell over")

    with pytest.raises(RuntimeError, match="fell over"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_an_empty_table_is_a_file_without_rows(tmp_path):
    with RequestWriter(tmp_path / "requests.parquet") as writer:
        writer.write(make_table(0))
    assert pq.read_table(tmp_path / "requests.parquet").num_rows == 0


def write_groups(path, rows):
    """Write the file anew in row groups of another size."""
    pq.write_table(pq.read_table(path), path, row_group_size=rows)


@pytest.mark.parametrize("rows", [7, 70, 1499, 5000])
def test_blocks_are_the_whole(tmp_path, rows):
    with RequestWriter(tmp_path / "r.parquet") as writer:
        writer.write(TABLE)
    write_groups(tmp_path / "r.parquet", rows)
    stored = StoredRequests(tmp_path / "r.parquet")
    assert len(stored) == len(TABLE)
    whole = concat(stored.blocks())
    for name in COLUMNS:
        if not name.endswith("_index"):
            np.testing.assert_array_equal(getattr(whole, name), getattr(TABLE, name), name)
    usage = Usage(np.array([9.0]), 2.5)
    assert summarise(stored, CLASSES, usage, from_s=20.0) == \
        summarise(TABLE.take(TABLE.arrival_s >= 20.0), CLASSES, usage)


def test_a_sample_is_even_and_stands_for_all(tmp_path):
    with RequestWriter(tmp_path / "r.parquet") as writer:
        writer.write(TABLE)
    write_groups(tmp_path / "r.parquet", 70)
    stored = StoredRequests(tmp_path / "r.parquet")
    assert stored.sample(5000).stands_for == 1
    sample = stored.sample(400)
    assert sample.stands_for == 4
    np.testing.assert_array_equal(sample.request_id, np.arange(0, 1500, 4))
    assert sample.of_class("batch").stands_for == 4
