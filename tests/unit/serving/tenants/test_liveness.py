"""Whether a gateway is alive: by its process in the same place, elsewhere by its last sign."""

import os
import shutil
import subprocess
import sys

import pytest

pytest.importorskip("sqlalchemy", reason="the extra 'serve' is not installed")

from penstock.serving.tenants.liveness import Identity, own_identity
from penstock.serving.tenants.store import DEAD_AFTER_S, open_store

NOW_S = 1_000_000.0


@pytest.fixture
def store(tmp_path):
    found = open_store(f"sqlite:///{tmp_path}/ledger.db")
    yield found
    found.close()


def place(folder, boot="boot", namespace="pid:[1]"):
    folder.mkdir()
    (folder / "boot_id").write_text(f"{boot}\n")
    (folder / "pid").symlink_to(namespace)
    return own_identity(folder / "boot_id", folder / "pid")


def test_a_place_is_a_boot_of_a_machine_and_a_namespace_of_process_ids(tmp_path) -> None:
    one = place(tmp_path / "1")
    assert one == place(tmp_path / "2")
    assert one.pid == os.getpid()
    assert "boot pid:[1]" in one.place
    others = {place(tmp_path / "3", namespace="pid:[2]").place,
              place(tmp_path / "4", boot="later").place, own_identity().place,
              own_identity(tmp_path / "none", tmp_path / "none").place}
    assert len(others - {one.place}) == 4
    assert all(len(name) <= 200 for name in others)


def test_processes_are_compared_in_one_place_only(store) -> None:
    mine = Identity("here", 1)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for name, where, pid, seen_s in (
            ("alive", "here", os.getpid(), NOW_S - 1), ("ended", "here", ended.pid, NOW_S - 1),
            ("container", "there", ended.pid, NOW_S - 1), ("old", "there", os.getpid(),
                                                           NOW_S - DEAD_AFTER_S - 1),
            ("previous version", "host", ended.pid, NOW_S - 1)):
        store.beat(name, where, pid, seen_s)
    assert sorted(store.dead("own", mine.place, mine.alive, NOW_S)) == ["ended", "old"]


ALIVE = """
import sys
from penstock.serving.tenants.liveness import own_identity
from penstock.serving.tenants.store import open_store
store, mine = open_store(sys.argv[1]), own_identity()
store.beat(sys.argv[2], mine.place, mine.pid, 1e6)
print(mine.pid, *store.dead(sys.argv[2], mine.place, mine.alive, 1e6 + 1))
"""


@pytest.mark.process
def test_containers_with_one_host_name_do_not_take_each_other_for_dead(tmp_path) -> None:
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("there is no program unshare")
    apart = [unshare, "--pid", "--fork"]
    if subprocess.run([*apart, "true"], capture_output=True).returncode:
        pytest.skip("namespaces of process ids are not permitted here")
    url = f"sqlite:///{tmp_path}/ledger.db"

    def run(name, *before):
        return subprocess.run([*before, sys.executable, "-c", ALIVE, url, name], text=True,
                              check=True, capture_output=True).stdout.split()

    own = own_identity()
    store = open_store(url)
    store.beat("outside", own.place, own.pid, 1e6)
    first, second = run("first", *apart), run("second", *apart)
    # both processes have ended since, and outside this process's id means nothing
    assert first[1:] == []
    assert second[1:] == []
    assert store.dead("outside", own.place, own.alive, 1e6 + 1) == []
    assert sorted(store.dead("outside", own.place, own.alive, 1e6 + DEAD_AFTER_S + 1)) == [
        "first", "second"]
    store.close()
    assert run("third")[1:] == [], "the process outside is alive"
