"""Journals and fleet files of release 0.1 replay: the same calls bring the same plans."""

import json
from pathlib import Path

import pytest

from penstock.cli.main import main

JOURNALS = Path(__file__).parent / "data" / "journals-0.1"


@pytest.mark.parametrize("policy", ["niyama", "penstock", "sarathi"])
def test_a_journal_of_an_old_release_replays(policy: str,
                                             capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lab", "replay", str(JOURNALS / policy / "journal-0.jsonl"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["same"]
    assert report["num_plans"] > 30


def test_a_plan_that_was_changed_is_found(tmp_path: Path) -> None:
    old = JOURNALS / "sarathi"
    records = [json.loads(line) for line in (old / "journal-0.jsonl").read_text().splitlines()]
    plan = next(record["plan"] for record in records if record["kind"] == "plan")
    plan["chunks"][0][1] += 1
    (tmp_path / "fleet.yaml").write_text((old / "fleet.yaml").read_text())
    changed = tmp_path / "journal-0.jsonl"
    changed.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert main(["lab", "replay", str(changed)]) == 1
