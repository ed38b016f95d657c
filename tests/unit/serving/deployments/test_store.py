"""Deployments on disk: whole, flushed, and of one process at a time."""

import sqlite3
import subprocess
import sys
from math import inf
from pathlib import Path

import pytest

from penstock.core.configuration import Configuration
from penstock.core.errors import InputError
from penstock.core.hardware import Parallelism
from penstock.core.prediction import Prediction
from penstock.policy.place.intent import Criteria, Traffic
from penstock.serving.deployments.deployments import DeployIntent, Expected, Instance, State, moved
from penstock.serving.deployments.store import InUseError, document, open_store
from support.simulated_deployments import PLACEMENT, deployment

TESTS = Path(__file__).resolve().parents[3]
FULL = deployment(
    "full", options={"speed": 10.0, "model": "x.gguf"}, state=State.UNHEALTHY, reason="gone",
    profile="/p", placement=PLACEMENT, instance=Instance("http://127.0.0.1:1", 4711, "99", "a.log"),
    intent=DeployIntent(Criteria("min_lat", 3.0, precisions=frozenset({"int4"}),
                                 others=(Traffic(1.0, 0.5),)),
                        Configuration(Parallelism(1, 2), "int4", "fp16"), 20, 2, "maveriq",
                        {"llama-2-7b_int4_False_None": 87.1}),
    configuration=Configuration(Parallelism(1, 2), "int4", "fp16"),
    expected=Expected(Prediction(1.0, 0.5, 2.0, 0.9, "cuts", ("long",)), None),
    num_failures=2, retry_s=8.0)


def test_what_was_written_is_read(tmp_path):
    store = open_store(tmp_path / "new" / "deployments.db")
    store.write([FULL, deployment("b")])
    assert store.deployments() == [deployment("b"), FULL]
    store.close()
    again = open_store(tmp_path / "new" / "deployments.db")
    assert again.deployments() == [deployment("b"), FULL]
    again.close()
    assert document(FULL)["placement"]["stages"][0] == {"num_layers": 3, "device_ids": [0]}
    assert document(FULL)["state"] == "unhealthy"


def test_events_are_the_states_it_came_into(tmp_path):
    store = open_store(tmp_path / "d.db")
    one = deployment()
    for change in (one, moved(one, State.DEPLOYING, 1.0), moved(one, State.DEPLOYING, 1.0)):
        store.write([change])
    store.write([moved(moved(one, State.DEPLOYING, 1.0), State.FAILED, 1.0, "no"),
                 deployment("b")])
    assert [(event.at_s, event.state, event.reason) for event in store.events("a")] == [
        (0.0, "registered", ""), (1.0, "deploying", ""), (1.0, "failed", "no")]
    assert [event.name for event in store.events()] == ["a", "a", "a", "b"]
    store.close()


def test_all_of_a_change_or_none(tmp_path):
    store = open_store(tmp_path / "d.db")
    with pytest.raises(AttributeError):
        store.write([deployment("a"), None])
    assert store.deployments() == []
    assert store.events() == []
    store.close()


def test_one_process_has_it_and_a_killed_one_leaves_it(tmp_path):
    path = tmp_path / "d.db"
    code = ("import sys; from pathlib import Path; sys.path.insert(0, sys.argv[2]);"
            "from support.simulated_deployments import deployment;"
            "from penstock.serving.deployments.store import open_store;"
            "store = open_store(Path(sys.argv[1])); store.write([deployment('kept')]);"
            "print('ready', flush=True); sys.stdin.read()")
    with subprocess.Popen([sys.executable, "-c", code, str(path), str(TESTS)],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "ready\n"
        with pytest.raises(InUseError):
            open_store(path)
        other.kill()
        other.wait()
    store = open_store(path)
    assert [one.name for one in store.deployments()] == ["kept"]
    store.close()


def test_the_lock_is_of_a_store_not_of_a_process(tmp_path):
    store = open_store(tmp_path / "d.db")
    with pytest.raises(InUseError):
        open_store(tmp_path / "d.db")
    store.close()
    open_store(tmp_path / "d.db").close()


def test_what_is_no_state_is_one_clear_error(tmp_path):
    (tmp_path / "text.db").write_text("not a database at all, but long enough to be read" * 20)
    with pytest.raises(InputError, match=r"text\.db: is not a state file of deployments"):
        open_store(tmp_path / "text.db")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="cannot be opened"):
        open_store(tmp_path / "folder")


def test_another_version_and_a_broken_record(tmp_path):
    path = tmp_path / "d.db"
    store = open_store(path)
    store.write([deployment()])
    store.close()
    change(path, "UPDATE deployments SET document = '{\"name\": 1}'")
    store = open_store(path)
    with pytest.raises(InputError, match="deployment a: its record cannot be read"):
        store.deployments()
    store.close()
    change(path, "PRAGMA user_version = 9")
    with pytest.raises(InputError, match="version 9; expected 1"):
        open_store(path)


def change(path, statement):
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(statement)
    connection.close()


def test_endless_numbers_come_back(tmp_path):
    store = open_store(tmp_path / "d.db")
    store.write([deployment(retry_s=inf)])
    assert store.deployments()[0].retry_s == inf
    store.close()


def test_a_record_of_release_0_1_is_read(tmp_path):
    """Its intent was called `wish`, and the criteria of that `wishes`."""
    path = tmp_path / "d.db"
    store = open_store(path)
    store.write([FULL])
    store.close()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE deployments SET document = replace(replace(document, "
                       """'"intent":{', '"wish":{'), '"criteria":', '"wishes":')""")
    connection.commit()
    (text,) = connection.execute("SELECT document FROM deployments").fetchone()
    assert '"wish":{"wishes":{' in text
    connection.close()
    store = open_store(path)
    assert store.deployments() == [FULL]
    store.close()
