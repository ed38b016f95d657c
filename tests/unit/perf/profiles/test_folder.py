"""Profiles on disk: back as they went, and broken ones told."""

from dataclasses import fields, replace
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock.core.errors import InputError
from penstock.perf.profiles.folder import DOCUMENT, POINTS, is_profile, read_profile, write_profile
from penstock.perf.profiles.points import (
    COLUMNS,
    Measurement,
    ModelConfiguration,
    column_type,
    point_key,
    row_of,
)

WHOLE = ModelConfiguration("llama", (16, 16), "int4", "int8", 2)
FULL = Measurement(
    "batch", WHOLE, 8, 128, 16, 3, True, "ok", "none", 1.5, 0.5, 0.01, 2, 1.25, 1e9, 2e9, 3e9, 4096,
    "cold", 0.01, 1e8, 9e7, 0.5, 300.0, 1500.0, 60.0, 0.7, "gemm", '{"m":1}', "here:3", 1.7e9, 4)


def test_every_column_comes_back(tmp_path: Path) -> None:
    unset = [one.name for one in fields(Measurement)
             if getattr(FULL, one.name) == one.default and one.name != "outcome"]
    assert unset == []
    bare = Measurement("load", WHOLE, outcome="out_of_memory", reason="small")
    write_profile(tmp_path, {"kind": "model", "subject": {"simulated": True}}, (FULL, bare))
    found = read_profile(tmp_path)
    assert found.measurements == (FULL, bare)
    assert found.counted == (bare,)
    assert found.is_simulated
    assert found.document["kind"] == "model"
    assert (found.document["format"], found.document["version"]) == ("penstock-profile", 1)
    assert is_profile(tmp_path)


def test_columns_have_types_and_stand_once(tmp_path: Path) -> None:
    write_profile(tmp_path, {}, (FULL,))
    table = pq.read_table(tmp_path / POINTS)
    assert tuple(table.column_names) == COLUMNS
    assert len(set(COLUMNS)) == len(COLUMNS)
    types = {"text": pa.string(), "whole": pa.int64(), "flag": pa.bool_(), "number": pa.float64()}
    assert {name: table.schema.field(name).type for name in COLUMNS} == {
        name: types[column_type(name)] for name in COLUMNS}


def test_every_column_is_documented(repository: Path) -> None:
    page = (repository / "docs" / "reference" / "profiles.md").read_text()
    assert [name for name in COLUMNS if f"| `{name}` |" not in page] == []


def test_nothing_partial_is_left(tmp_path: Path) -> None:
    write_profile(tmp_path / "deep" / "folder", {}, (FULL,))
    assert {path.name for path in (tmp_path / "deep" / "folder").iterdir()} == {DOCUMENT, POINTS}


def test_a_profile_without_rows(tmp_path: Path) -> None:
    write_profile(tmp_path, {}, ())
    assert read_profile(tmp_path).measurements == ()
    (tmp_path / POINTS).unlink()
    assert read_profile(tmp_path).measurements == ()


def test_keys_tell_points_apart_and_join_repeats() -> None:
    key = FULL.key
    assert replace(FULL, repeat=9, warm_up=False, seconds=2.0, session=0).key == key
    for change in ({"batch": 9}, {"prompt_tokens": 1}, {"output_tokens": 1}, {"cache": "warm"},
                   {"kind": "load"}, {"op": "x"}, {"shape": "{}"},
                   {"configuration": replace(WHOLE, tensor=4)},
                   {"configuration": replace(WHOLE, layers_by_stage=(32,))},
                   {"configuration": replace(WHOLE, precision="fp8")},
                   {"configuration": replace(WHOLE, model="m")}):
        assert replace(FULL, **change).key != key
    assert point_key("batch", WHOLE, 1, 2, 3) == "batch:llama:tp2-l16+16-int4-kv_int8-b1-p2-o3"


def test_a_configuration_counts() -> None:
    assert (WHOLE.pipeline, WHOLE.num_layers, WHOLE.num_accelerators) == (2, 32, 4)
    unknown = replace(WHOLE, layers_by_stage=())
    assert (unknown.pipeline, unknown.num_layers) == (1, 0)


@pytest.mark.parametrize(("content", "said"), [
    (b"{", "is not JSON"), (b"[]", "not a profile"), (b'{"format": "other"}', "not a profile"),
    (b'{"format": "penstock-profile", "version": 9}', "version 9; expected 1"),
    (b'{"format": "penstock-profile", "version": 1, "subject": 3}', "subject: found 3"),
])
def test_a_broken_document_is_told(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / DOCUMENT).write_bytes(content)
    with pytest.raises(InputError, match=said) as caught:
        read_profile(tmp_path)
    assert str(caught.value).startswith(str(tmp_path / DOCUMENT))


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no profile\.json there"):
        read_profile(tmp_path)


def rewritten(folder: Path, **changes: object) -> None:
    write_profile(folder, {}, (FULL,))
    row = {**row_of(FULL), **changes}
    pq.write_table(pa.Table.from_pylist([row]), folder / POINTS)


@pytest.mark.parametrize(("changes", "said"), [
    ({"kind": "dance"}, "row 1: kind: found 'dance'"),
    ({"outcome": "fine"}, "row 1: outcome: found 'fine'"),
    ({"layers_by_stage": "many"}, "row 1: layers_by_stage: found 'many'"),
    ({"layers_by_stage": "8 0"}, "layers_by_stage: found '8 0'"),
    ({"seconds": -1.0}, r"row 1: seconds: found -1\.0"),
    ({"seconds": float("nan")}, "seconds: found nan"),
    ({"batch": "three"}, "a column has other values"),
    ({"model": None}, "row 1: model: found null"),
])
def test_a_broken_row_is_told(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    rewritten(tmp_path, **changes)
    with pytest.raises(InputError, match=said):
        read_profile(tmp_path)


def test_a_missing_column_is_told(tmp_path: Path) -> None:
    write_profile(tmp_path, {}, (FULL,))
    table = pq.read_table(tmp_path / POINTS)
    pq.write_table(table.rename_columns(["second" if name == "seconds" else name
                                         for name in table.column_names]), tmp_path / POINTS)
    with pytest.raises(InputError, match="no column 'seconds'; did you mean 'second'"):
        read_profile(tmp_path)


def test_a_table_that_is_none(tmp_path: Path) -> None:
    write_profile(tmp_path, {}, ())
    (tmp_path / POINTS).write_bytes(b"PAR1 and then nothing")
    with pytest.raises(InputError, match="is not a Parquet table"):
        read_profile(tmp_path)


def test_further_columns_do_no_harm(tmp_path: Path) -> None:
    write_profile(tmp_path, {}, (FULL,))
    table = pq.read_table(tmp_path / POINTS)
    pq.write_table(table.append_column("mood", pa.array(["good"])), tmp_path / POINTS)
    assert read_profile(tmp_path).measurements == (FULL,)


def test_the_document_is_plain_json(tmp_path: Path) -> None:
    write_profile(tmp_path, {"design": {"points": [{"batch": 1}]}}, ())
    assert orjson.loads((tmp_path / DOCUMENT).read_bytes())["design"]["points"] == [{"batch": 1}]
