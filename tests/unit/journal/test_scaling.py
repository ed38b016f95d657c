"""Records of scaling decisions are read as they were written."""

import json
from pathlib import Path

import pytest

from penstock.core.errors import InputError
from penstock.journal.scaling import Recorded, ScalingLines, header, read_scaling
from penstock.policy.scale.values import (
    Gauges,
    Observation,
    ScalingDecision,
    SeenDemand,
    SeenGroup,
    SeenReplica,
    Totals,
)

LENGTHS = ((10, 5), (20, 6))


def seen(at_s, demand, totals=None):
    group = SeenGroup(2, (SeenReplica(0, "ready", 0.0, Gauges(1, 2, 0.25), at_s),
                          SeenReplica(1, "starting", 3.0)), totals)
    return Observation(at_s, (group,), demand)


OBSERVATIONS = [
    seen(0.0, (SeenDemand("m", "chat", 5, 50, 2, 11, recent=LENGTHS),)),
    seen(10.0, (SeenDemand("m", "chat", 9, 90, 2, 11, 1, recent=LENGTHS),
                SeenDemand("m", "mail", 1, 9, 0, 0, num_deferred=1))),
    seen(20.0, None, Totals(3, 30, 16, (1, 0), (0, 15))),
    seen(30.0, (SeenDemand("m", "chat", 9, 90, 3, 20, recent=(*LENGTHS, (1, 9))),)),
]


def write(path: Path, observations) -> None:
    lines = ScalingLines()
    with path.open("a") as file:
        file.write(json.dumps(header("hpa", {"target": 3}, 7, "0.1")) + "\n")
        for one in observations:
            line = lines.line(None, one.observed_s, one, [2], ScalingDecision((3,), "why"))
            file.write(json.dumps(line) + "\n")


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "scaling.jsonl"
    write(path, OBSERVATIONS)
    first, *found = read_scaling(path)
    assert (first["policy"], first["settings"], first["seed"]) == ("hpa", {"target": 3}, 7)
    assert [one.seen for one in found] == OBSERVATIONS
    assert [(one.now_s, one.targets) for one in found] == [
        (one.observed_s, (3,)) for one in OBSERVATIONS]
    assert path.read_text().count("[20, 6]") == 2, "equal lengths are written once"


def test_a_second_record_in_the_file_begins_anew(tmp_path):
    path = tmp_path / "scaling.jsonl"
    write(path, OBSERVATIONS[:2])
    write(path, OBSERVATIONS)
    found = list(read_scaling(path))
    assert [isinstance(one, Recorded) for one in found] == [
        False, True, True, False, True, True, True, True]
    assert [one.seen for one in found[4:]] == OBSERVATIONS


@pytest.mark.parametrize(("text", "said"), [
    ("", "is empty"), ("{\n", ":1: not JSON"), ("{}\n", ":1: expected the first line"),
    (json.dumps(header("hpa", {}, 1, "0")) + "\n{}\n", ":2: expected a recorded"),
    ("[]\n", ":1: expected a JSON object")])
def test_other_files_are_one_clear_error(tmp_path, text, said):
    path = tmp_path / "scaling.jsonl"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        list(read_scaling(path))
