import gzip
from pathlib import Path

import pytest

from penstock.core.errors import InputError
from penstock.published.measured.rows import read_measured
from support.measured_rows import write_measured


def test_rows_are_read_in_order_of_file_and_line(tmp_path: Path) -> None:
    write_measured(tmp_path, {"isl": 2}, {"isl": 3}, name="measured_b.csv.gz")
    write_measured(tmp_path, {"isl": 1}, name="measured_a.csv.gz")
    (tmp_path / "README.md").write_text("not data")
    rows = read_measured(tmp_path)
    assert [(row.file, row.row, row.isl) for row in rows] == [
        ("measured_a.csv.gz", 1, 1.0), ("measured_b.csv.gz", 1, 2.0), ("measured_b.csv.gz", 2, 3.0)]


def test_medians_stand_in_where_no_mean_is_stated(tmp_path: Path) -> None:
    write_measured(tmp_path, {}, {"ttft_mean": "", "tpot_mean": "", "ttft_p50": 0.2,
                                  "tpot_p50": 0.01, "output_tok_per_s": 900})
    means, medians = read_measured(tmp_path)
    assert (means.is_median, means.ttft_s, means.tpot_s) == (False, 0.05, 0.006)
    assert (medians.is_median, medians.ttft_s, medians.tpot_s) == (True, 0.2, 0.01)
    assert (means.output_tok_per_s, medians.output_tok_per_s) == (None, 900.0)


def test_a_folder_without_rows_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no measured\*\.csv\.gz"):
        read_measured(tmp_path)


def test_a_broken_value_is_named_with_its_line(tmp_path: Path) -> None:
    write_measured(tmp_path, {}, {"isl": "many"})
    with pytest.raises(InputError, match=r"measured\.csv\.gz:3: isl: found 'many'"):
        read_measured(tmp_path)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    path = write_measured(tmp_path, {})
    text = gzip.decompress(path.read_bytes()).decode().replace("load_value", "load_values", 1)
    path.write_bytes(gzip.compress(text.encode()))
    with pytest.raises(InputError, match="no column 'load_value'; did you mean 'load_values'"):
        read_measured(tmp_path)


@pytest.mark.parametrize("content", [
    b"no gzip", gzip.compress(b"hardware\n" * 9, mtime=0)[:-12]], ids=["text", "cut"])
def test_a_broken_file_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "measured.csv.gz").write_bytes(content)
    with pytest.raises(InputError, match=r"measured\.csv\.gz: "):
        read_measured(tmp_path)


def test_a_row_without_workers_takes_those_of_the_same_run(tmp_path: Path) -> None:
    unstated = {"disaggregated": 1, "notes": "prefill workers/tp/pp/dp ?/4/1/1, decode ?/8/1/1"}
    stated = {"disaggregated": 1, "notes": "prefill 1x tp4 ep4, decode 4x tp8 ep8", "num_gpus": 36,
              "spec_decode": "mtp"}
    write_measured(tmp_path, unstated, stated, {**unstated, "tpot_mean": 0.0061})
    same, _, other = read_measured(tmp_path)
    assert (same.notes, same.spec_decode, same.num_gpus) == (stated["notes"], "mtp", 36)
    assert other.notes == unstated["notes"]
