import pytest

from penstock.core.errors import InputError
from penstock.report.rows import read_rows, write_rows

ROWS = [{"a": 1, "b": None}, {"a": 2.5, "c": "x, \"y\"\nz"}]


def test_json_comes_back_as_it_was(tmp_path):
    write_rows(tmp_path / "r.json", ROWS)
    assert read_rows(tmp_path / "r.json") == ROWS


def test_csv_has_every_column_and_empty_fields(tmp_path):
    write_rows(tmp_path / "r.csv", ROWS)
    assert read_rows(tmp_path / "r.csv") == [{"a": "1", "b": "", "c": ""},
                                             {"a": "2.5", "b": "", "c": 'x, "y"\nz'}]


def test_rows_that_were_read_can_be_written_again(tmp_path):
    write_rows(tmp_path / "r.csv", ROWS)
    before = (tmp_path / "r.csv").read_bytes()
    write_rows(tmp_path / "r.csv", read_rows(tmp_path / "r.csv"))
    assert (tmp_path / "r.csv").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["r.csv"]


@pytest.mark.parametrize("content", [b"{}", b"[1]", b"[", b"\xff"])
def test_what_is_no_table_is_refused(content, tmp_path):
    (tmp_path / "r.json").write_bytes(content)
    with pytest.raises(InputError, match=r"r\.json: not a table of rows"):
        read_rows(tmp_path / "r.json")
    with pytest.raises(InputError, match="cannot be read"):
        read_rows(tmp_path / "missing.csv")
