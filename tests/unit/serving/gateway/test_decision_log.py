import asyncio
import errno
import os

import orjson
import pytest

from penstock.core.errors import InputError
from penstock.serving.gateway.decision_log import DecisionLog, Rotation


def test_every_decision_is_a_line(tmp_path) -> None:
    log = DecisionLog(tmp_path / "log.jsonl", lambda text: None)
    for i in range(500):
        log.add({"decision_id": f"dec-{i}", "prospects": (1, 2)})
    log.close()
    lines = [orjson.loads(line) for line in (tmp_path / "log.jsonl").read_bytes().splitlines()]
    assert [line["decision_id"] for line in lines] == [f"dec-{i}" for i in range(500)]
    assert lines[0]["prospects"] == [1, 2]


def test_a_second_gateway_appends(tmp_path) -> None:
    for name in ("a", "b"):
        log = DecisionLog(tmp_path / "log.jsonl", lambda text: None)
        log.add({"decision_id": name})
        log.close()
    lines = (tmp_path / "log.jsonl").read_bytes().splitlines()
    assert [orjson.loads(line)["decision_id"] for line in lines] == ["a", "b"]


def test_a_place_that_cannot_be_written_is_told_at_once(tmp_path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        DecisionLog(tmp_path / "no" / "log.jsonl", lambda text: None)


def test_trouble_is_told_once_and_what_is_lost_is_counted(tmp_path) -> None:
    path, told = tmp_path / "log.jsonl", []
    log = DecisionLog(path, told.append)
    path.unlink()
    path.mkdir()  # nothing can be appended to a folder
    for i in range(3):
        log.add({"decision_id": str(i)})
    log.close()
    assert log.num_dropped == 3
    assert len(told) == 1
    assert "decisions are lost" in told[0]


def test_only_the_owner_reads_it_also_where_it_was_there_before(tmp_path) -> None:
    path = tmp_path / "log.jsonl"
    path.touch(mode=0o644)
    path.chmod(0o644)
    for _ in range(2):
        log = DecisionLog(path, lambda text: None)
        log.add({"decision_id": "a"})
        log.close()
        assert path.stat().st_mode & 0o777 == 0o600
        path.unlink()


def test_a_large_file_is_rotated_and_the_oldest_are_dropped(tmp_path) -> None:
    path = tmp_path / "log.jsonl"
    for number in range(10):
        log = DecisionLog(path, lambda text: None, Rotation(most_bytes=60, num_kept=3))
        log.add({"decision_id": f"decision-{number:020}"})
        log.close()
    names = {one.name: orjson.loads(one.read_bytes())["decision_id"][-1]
             for one in tmp_path.iterdir()}
    assert names == {"log.jsonl": "9", "log.jsonl.1": "8", "log.jsonl.2": "7", "log.jsonl.3": "6"}


def test_what_was_waited_for_is_in_the_file(tmp_path) -> None:
    path = tmp_path / "log.jsonl"
    log = DecisionLog(path, lambda text: None)

    async def work():
        for number in range(100):
            log.add({"decision_id": str(number)})
            await log.written()
            assert path.read_bytes().count(b"\n") == number + 1

    asyncio.run(work())
    log.close()


def test_a_disk_that_is_full_leaves_no_half_of_a_line(tmp_path, monkeypatch) -> None:
    path, told, real = tmp_path / "log.jsonl", [], os.write
    is_full = False

    def write(file, content):
        if not is_full:
            return real(file, content)
        if len(content) > 10:
            return real(file, content[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    log = DecisionLog(path, told.append)
    monkeypatch.setattr(os, "write", write)

    async def work():
        nonlocal is_full
        for number, full in enumerate((False, True, True, False)):
            is_full = full
            log.add({"decision_id": f"decision-{number:020}"})
            await log.written()

    asyncio.run(work())
    log.close()
    monkeypatch.undo()
    found = [orjson.loads(line)["decision_id"][-1] for line in path.read_bytes().splitlines()]
    assert (found, log.num_dropped, len(told)) == (["0", "3"], 2, 1)
