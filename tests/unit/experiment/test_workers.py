"""Pieces of work in processes: their order, their errors, and processes that are killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing import active_children
from pathlib import Path

import pytest

import penstock.experiment.workers as module
from penstock.core.errors import InputError
from penstock.experiment.workers import ALONE, Cores
from support.worker_processes import lives

square = (2).__rpow__


@pytest.fixture
def importable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of modules that processes import, too."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_pieces_are_taken_as_results_are_asked_for() -> None:
    taken: list[int] = []

    def pieces() -> Iterator[int]:
        for number in range(1000):
            taken.append(number)
            yield number

    found = ALONE.results(square, pieces())
    assert [next(found), next(found)] == [0, 1]
    assert taken == [0, 1]


def test_short_work_starts_no_process() -> None:
    others = active_children()
    assert list(Cores(2, patience_s=60.0).results(square, range(50))) == [n * n for n in range(50)]
    assert list(Cores(2).results(square, [3])) == [9], "a lone piece"
    assert active_children() == others


def test_a_fault_in_making_a_piece_comes_after_the_results_before_it() -> None:
    def pieces() -> Iterator[int]:
        yield 3
        raise InputError("no second piece")

    for where in (ALONE, Cores(2, patience_s=60.0)):
        found = where.results(square, pieces())
        assert next(found) == 9
        with pytest.raises(InputError, match="no second piece"):
            next(found)


WORK = """\
import os, signal
from pathlib import Path

def work(piece):
    folder, number, deadly = piece
    mark = Path(folder) / f"tried {number}"
    seen = mark.exists()
    mark.touch()
    if deadly and (deadly > 1 or not seen):
        os.kill(os.getpid(), signal.SIGKILL)
    Path(folder, f"{os.getpid()} has {number}").touch()
    return number * number
"""


def test_processes_may_be_killed(importable: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that work is handed to after its patience, and once more where they end."""
    (importable / "deadly_work.py").write_text(WORK)
    from deadly_work import work  # type: ignore[import-not-found]

    others = active_children()
    pieces = [(str(importable), number, number == 5) for number in range(12)]
    assert list(Cores(2).results(work, pieces)) == [number * number for number in range(12)]
    assert not list(importable.glob(f"{os.getpid()} has *"))
    poisonous = [(str(importable), number, 2 * (number == 5)) for number in range(12)]
    with pytest.raises(InputError, match=r"ended twice before its result was there.*--jobs 1"):
        list(Cores(2).results(work, poisonous))
    assert active_children() == others


def test_what_is_left_is_dropped_when_the_caller_stops(importable: Path) -> None:
    (importable / "endless_work.py").write_text("import time\n\ndef work(piece):\n"
                                                "    time.sleep(piece)\n    return piece\n")
    from endless_work import work  # type: ignore[import-not-found]

    others = active_children()
    found = Cores(2).results(work, [0, 3600, 3600])
    assert next(found) == 0
    found.close()  # type: ignore[attr-defined]
    assert active_children() == others


def test_slow_work_is_handed_over_after_a_while(importable: Path) -> None:
    (importable / "patient_work.py").write_text(
        "import os, time\n\ndef work(piece):\n    time.sleep(piece)\n    return os.getpid()\n")
    from patient_work import work  # type: ignore[import-not-found]

    here, *there = Cores(2, patience_s=0.01).results(work, [1.0, 0.0, 0.0])
    assert here == os.getpid()
    assert os.getpid() not in there


def test_a_signal_that_comes_while_a_process_starts_is_kept() -> None:
    if not hasattr(signal, "pthread_sigmask"):
        pytest.skip("signals of POSIX")
    with module._interrupts_later():
        assert signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_processes_end_with_the_first(importable: Path) -> None:
    """A process that is killed cannot end those that compute for it."""
    if not Path("/proc/self/task").exists():
        pytest.skip("finds processes as on Linux")
    (importable / "sleepy_work.py").write_text(
        "import os, time\nfrom pathlib import Path\n\ndef work(folder):\n"
        "    Path(folder, str(os.getpid())).touch()\n    time.sleep(3600)\n")
    names = importable / "names"
    names.mkdir()
    code = ("import sys\nfrom penstock.experiment.workers import Cores\n"
            "from sleepy_work import work\n\nif __name__ == '__main__':\n"
            "    list(Cores(2).results(work, [sys.argv[1]] * 4))\n")
    (importable / "first.py").write_text(code)
    with subprocess.Popen([sys.executable, str(importable / "first.py"), str(names)]) as first:
        until(lambda: len(list(names.iterdir())) == 2)
        first.kill()
    found = [int(path.name) for path in names.iterdir()]
    until(lambda: not any(map(lives, found)))


def until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
