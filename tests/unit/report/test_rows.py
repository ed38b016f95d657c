import pytest

from penstock.core.errors import InputError
from penstock.report.rows import RowsFile, read_rows, write_rows

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


def test_parquet_comes_back_with_its_types(tmp_path):
    rows = [{"n": 1, "x": 1, "t": True, "s": "a", "m": 1, "none": None},
            {"n": 2, "x": 2.5, "t": False, "s": "b", "m": "x", "more": {"a": 1}}]
    write_rows(tmp_path / "r.parquet", rows)
    assert read_rows(tmp_path / "r.parquet") == [
        {"n": 1, "x": 1.0, "t": True, "s": "a", "m": "1", "none": None, "more": None},
        {"n": 2, "x": 2.5, "t": False, "s": "b", "m": "x", "none": None, "more": "{'a': 1}"}]


class Clock:
    now_s = 0.0

    def __call__(self):
        return self.now_s


@pytest.mark.parametrize("name", ["r.csv", "r.json", "r.parquet"])
def test_a_file_has_the_rows_so_far_and_at_the_end_all(tmp_path, name):
    path, clock = tmp_path / name, Clock()
    file = RowsFile(path, [{"key": "known"}], clock)
    for number in range(10):
        clock.now_s += 0.4
        file.add({"key": str(number)})
        kept = [row["key"] for row in read_rows(path)]
        # of Parquet a part each second
        expected = ["known", *map(str, range(number + 1))]
        assert kept == expected or (name == "r.parquet" and set(kept) <= set(expected))
    file.close()
    assert [row["key"] for row in read_rows(path)] == ["known", *map(str, range(10))]
    if path.is_dir():
        assert [one.name for one in path.iterdir()] == ["part-000000.parquet"]


def test_parts_that_the_whole_includes_count_once(tmp_path):
    path, clock = tmp_path / "r.parquet", Clock()
    file = RowsFile(path, [], clock)
    for number in range(6):
        clock.now_s += 2.0
        file.add({"key": number})
    part = (path / "part-000004.parquet").read_bytes()
    file.close()
    (path / "part-000004.parquet").write_bytes(part)  # as if the process had ended in between
    assert [row["key"] for row in read_rows(path)] == [*range(6)]


def test_a_long_table_is_not_written_for_each_row(tmp_path):
    written = []

    class Slow(Clock):
        """Each reading while a file is written takes time, as writing does."""

        def __call__(self):
            self.now_s += 0.01
            return self.now_s

    clock = Slow()
    file = RowsFile(tmp_path / "r.csv", [], clock)
    for number in range(100):
        file.add({"key": number})
        written.append((tmp_path / "r.csv").stat().st_mtime_ns)
    assert len(set(written)) <= 10
    file.close()
    assert len(read_rows(tmp_path / "r.csv")) == 100


def test_without_rows_there_is_no_file(tmp_path):
    RowsFile(tmp_path / "r.csv", [], Clock()).close()
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_place_of_the_folder_is_told(tmp_path):
    (tmp_path / "r.parquet").write_bytes(b"x")
    with pytest.raises(InputError, match="expected a folder of Parquet files"):
        read_rows(tmp_path / "r.parquet")
    (tmp_path / "s.parquet").mkdir()
    (tmp_path / "s.parquet" / "part-000000.parquet").write_bytes(b"x")
    with pytest.raises(InputError, match="not a table of rows"):
        read_rows(tmp_path / "s.parquet")


def test_rows_of_another_grid_do_not_stand_in_the_way(tmp_path):
    path, clock = tmp_path / "r.parquet", Clock()
    write_rows(path, [{"key": "other"}, {"key": "ours"}])
    RowsFile(path, [{"key": "ours"}], clock).add({"key": "new"})
    assert [row["key"] for row in read_rows(path)] == ["ours", "new"]
