"""Old keys of the fleet file keep working and are told once a load."""

import pytest

from penstock.core.errors import InputError
from penstock.fleet.load import parse_fleet, read_marked

FLEET = """
models: [{name: llama-3-8b}]
accelerators: [{name: a100-80gb}]
service_classes: [{name: chat, priority: 1, slo: {ttft_s: 1}}]
traffic: [{mix: {chat: 1}, lengths: {prompt: {fixed: 100}, output: {fixed: 10}}, rate_per_s: 1}]
policies:
  schedule:
    name: penstock
    SETTING
"""


def test_an_old_key_has_its_meaning_and_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    fleet = parse_fleet(FLEET.replace("SETTING", "patience_s: 3"))
    assert fleet.policies.schedule.queue_timeout_s == 3
    told = capsys.readouterr()
    assert told.err == ("fleet file: patience_s is now queue_timeout_s; the old key goes with the "
                        "next release\n")
    assert not told.out


def test_an_override_by_an_old_key(capsys: pytest.CaptureFixture[str]) -> None:
    fleet = parse_fleet(FLEET.replace("SETTING", ""),
                        overrides={"policies.schedule.bank_share": 0.25})
    assert fleet.policies.schedule.slack_spend_fraction == 0.25
    assert "bank_share is now slack_spend_fraction" in capsys.readouterr().err


def test_current_keys_are_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    parse_fleet(FLEET.replace("SETTING", "queue_timeout_s: 3"))
    assert not capsys.readouterr().err


def test_the_line_of_an_old_key_is_kept() -> None:
    with pytest.raises(InputError, match=r"fleet\.yaml:9: policies\.schedule\.queue_timeout_s"):
        parse_fleet(FLEET.replace("SETTING", "patience_s: soon"))


def test_both_names_of_a_key_are_refused() -> None:
    text = FLEET.replace("SETTING", "patience_s: 3\n    queue_timeout_s: 4")
    with pytest.raises(InputError, match=r"fleet\.yaml:9: patience_s is the old name of"):
        parse_fleet(text)


def test_the_same_word_elsewhere_is_no_old_key() -> None:
    marked = read_marked("traffic: [{patience_s: 3}]", "fleet.yaml")
    assert marked.data == {"traffic": [{"patience_s": 3}]}


def test_the_old_name_of_a_section(capsys: pytest.CaptureFixture[str]) -> None:
    marked = read_marked("residency: [{name: shared}]", "fleet.yaml",
                         {"residency[0].name": "other"})
    assert marked.data == {"multiplexing": [{"name": "other"}]}
    assert marked.place(("multiplexing", 0)) == "fleet.yaml:1"
    assert capsys.readouterr().err.count("residency is now multiplexing") == 2
