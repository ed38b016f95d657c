import orjson
import pytest

from penstock.core.errors import InputError
from penstock.serving.gateway.decision_log import DecisionLog


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
