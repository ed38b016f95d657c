"""The store of runs keeps what it is given, whole or not at all, and leaves other files alone."""

import os
import resource
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from penstock.core.errors import InputError
from penstock.experiment.runs.conditions import read_condition, read_order
from penstock.experiment.runs.kept import COLUMNS, KeptRun
from penstock.experiment.runs.store import FORM, RunStore
from support.kept_runs import kept_run, numbered

WRITER = """
import sys
from pathlib import Path
from penstock.experiment.runs.store import RunStore
from support.kept_runs import kept_run, numbered
store, first = RunStore(Path(sys.argv[1])), int(sys.argv[2])
for number in range(first, first + 5):
    store.add(kept_run(number), lambda: numbered(number))
"""


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "kept" / "runs.db")


def filled(store: RunStore, *runs: KeptRun) -> list[KeptRun]:
    return [store.add(run, lambda place=place: numbered(place))
            for place, run in enumerate(runs)]


def test_what_is_kept_is_read_as_it_was(store: RunStore) -> None:
    values = {name: {str: f"ü {name}", int: place, float: place + 0.5}[kind]
              for place, (name, kind) in enumerate(COLUMNS.items())}
    full = KeptRun(**{**values, "replaced_by": None})
    assert store.runs() == []
    assert not store.path.exists()  # to look makes no file
    kept = filled(store, full, kept_run(1))
    assert kept == [full._replace(id="00000000"), kept_run(1)._replace(id="00000001")]
    assert store.runs() == [kept[1], kept[0]]


def test_the_run_that_takes_a_folder_replaces_the_earlier_in_it(store: RunStore) -> None:
    first, other, second = filled(store, kept_run(0, folder="/a"), kept_run(1, folder="/b"),
                                  kept_run(2, folder="/a"))
    assert {run.id: run.replaced_by for run in store.runs()} == {
        first.id: second.id, other.id: None, second.id: None}
    assert store.find("x", Path("/a")) == second


def test_an_id_is_given_once(store: RunStore) -> None:
    ids = iter(["aa", "aa", "aa", "bb"])
    assert store.add(kept_run(0), lambda: next(ids)).id == "aa"
    assert store.add(kept_run(1), lambda: next(ids)).id == "bb"


@pytest.mark.parametrize(("texts", "numbers"), [
    ([], [3, 2, 1, 0]),
    (["attainment<0.99"], [1]),
    (["attainment>=0.99"], [2, 0]),
    (["attainment="], [3]),
    (["attainment!="], [2, 1, 0]),
    (["attainment != 1"], [3, 2, 1]),
    (["kind=plan"], [3]),
    (["name=chat*", "attainment<=1"], [1, 0]),
    (["name!=chat*"], [3, 2]),
    (["name=[ab]?"], [2]),
    (["begun_s<1970-01-01T00:16:42+00:00"], [1, 0]),
    (["begun_s>=1002"], [3, 2])])
def test_conditions_choose(store: RunStore, texts: list[str], numbers: list[int]) -> None:
    filled(store, kept_run(0, attainment=1.0, name="chat"),
           kept_run(1, attainment=0.5, name="chats"),
           kept_run(2, attainment=0.99, name="[ab]c"), kept_run(3, kind="plan"))
    assert [int(run.id) for run in store.runs([read_condition(text) for text in texts])] == numbers


def test_an_order_has_absent_values_last_and_a_limit(store: RunStore) -> None:
    filled(store, kept_run(0, cost=2.0), kept_run(1), kept_run(2, cost=1.0), kept_run(3, cost=2.0))
    assert [int(run.id) for run in store.runs(order=read_order("cost"))] == [2, 3, 0, 1]
    assert [int(run.id) for run in store.runs(order=read_order("-cost"), limit=3)] == [3, 0, 2]


@pytest.mark.parametrize(("text", "words"), [
    ("atainment<1", "did you mean 'attainment'"), ("attainment", "expected KEY=VALUE"),
    ("attainment<high", "expected a number"), ("attainment<nan", "expected a number"),
    ("begun_s>yesterday", "expected a date"), ("id=1 OR 1", None)])
def test_a_condition_is_read_or_refused(store: RunStore, text: str, words: str | None) -> None:
    filled(store, kept_run())
    if words is None:
        assert store.runs([read_condition(text)]) == []
        return
    with pytest.raises(InputError, match=words):
        read_condition(text)


def test_a_run_is_found_by_the_beginning_of_its_id(store: RunStore) -> None:
    for name in ("ab12", "ab34", "cd"):
        store.add(kept_run(len(name), folder=f"/{name}"), lambda name=name: name)
    assert store.find("ab1", Path("/")).id == "ab12"
    assert store.find("name", Path("/cd")).id == "cd"
    with pytest.raises(InputError, match="several ids: ab34, ab12"):
        store.find("ab", Path("/cd"))
    with pytest.raises(InputError, match="no run 'ab15'; did you mean 'ab12'"):
        store.find("ab15", Path("/none"))


def test_entries_are_removed(store: RunStore) -> None:
    filled(store, kept_run(0), kept_run(1), kept_run(2))
    store.remove([numbered(0), numbered(2), "none"])
    assert [run.id for run in store.runs()] == [numbered(1)]


def changed(store: RunStore, *statements: str) -> None:
    with closing(sqlite3.connect(store.path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def refuse_all(store: RunStore, words: str) -> None:
    before = store.path.read_bytes()
    for act in (lambda: store.add(kept_run(9), lambda: "09"), store.runs,
                lambda: store.remove(["00"])):
        with pytest.raises(InputError, match=words):
            act()
    assert store.path.read_bytes() == before
    assert [path.name for path in store.path.parent.iterdir()] == [store.path.name]


def test_a_store_of_a_later_release_is_left_as_it_is(store: RunStore) -> None:
    filled(store, kept_run())
    changed(store, f"PRAGMA user_version = {FORM + 1}", "ALTER TABLE runs ADD COLUMN more TEXT")
    refuse_all(store, f"later release of Penstock \\(form {FORM + 1}")


def test_a_file_of_something_else_is_left_as_it_is(store: RunStore) -> None:
    store.path.parent.mkdir()
    changed(store, "CREATE TABLE runs (id TEXT)")
    refuse_all(store, "another program's database")


@pytest.mark.parametrize("content", [b"not a database" * 100, b"SQLite format 3\0" + bytes(5000)])
def test_a_damaged_store_is_left_as_it_is(store: RunStore, content: bytes) -> None:
    store.path.parent.mkdir()
    store.path.write_bytes(content)
    refuse_all(store, "damaged, or no store of runs")


def test_values_of_another_kind_are_damage(store: RunStore) -> None:
    filled(store, kept_run())
    changed(store, "UPDATE runs SET attainment = 'high'")
    with pytest.raises(InputError, match="damaged"):
        store.runs()


def test_an_empty_file_is_a_new_store(store: RunStore) -> None:
    store.path.parent.mkdir()
    store.path.touch()
    assert store.runs() == []
    store.remove(["00"])
    filled(store, kept_run())
    assert len(store.runs()) == 1


def test_a_locked_store_is_not_waited_for_forever(store: RunStore) -> None:
    filled(store, kept_run())
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(InputError, match="database is locked"):
            RunStore(store.path, wait_s=0.0).add(kept_run(1), lambda: "01")
    assert len(store.runs()) == 1


def test_a_disk_that_fills_leaves_no_part_of_an_entry(store: RunStore) -> None:
    filled(store, kept_run(0, folder="/a"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (store.path.stat().st_size, limits[1]))
    try:
        with pytest.raises(InputError, match="cannot be used"):
            store.add(kept_run(1, folder="/a", name="n" * 100_000), lambda: "01")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [(run.id, run.replaced_by) for run in store.runs()] == [(numbered(0), None)]
    assert store.add(kept_run(1), lambda: "01").id == "01"


def test_eight_processes_lose_no_entry(store: RunStore, repository: Path) -> None:
    path = os.pathsep.join([*sys.path, str(repository / "tests")])
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(store.path), str(5 * place)],
                                env={**os.environ, "PYTHONPATH": path}) for place in range(8)]
    assert [writer.wait(timeout=120) for writer in writers] == [0] * 8
    assert sorted(run.id for run in store.runs()) == [numbered(place) for place in range(40)]
