"""Names from files and engines cannot steer a terminal or turn around what it shows."""

import json

import pytest

from penstock.cli.console import note, print_json, print_line, print_tables
from penstock.core.printable import printable
from penstock.report.model.table import table

ODD = "a\x1b[31mb\u202etxt.exe\u2066\x9b2J\x07\r\x00"
STEERING = "\x1b\u202e\u2066\x9b\x07\r\x00"
SHOWN = "a\\u001b[31mb\\u202etxt.exe\\u2066\\u009b2J\\u0007\\u000d\\u0000"


def test_control_and_direction_characters_are_escaped_and_no_others() -> None:
    assert printable(ODD) == SHOWN
    assert printable("ä\tb\n日本 ✓ 🙂") == "ä\tb\n日本 ✓ 🙂"


@pytest.mark.parametrize("show", [
    print_line, note, lambda text: print_json({text: [text]}), lambda text: print_tables([text]),
    lambda text: print_tables([table(text, ("name", text), [(text, "x")])])])
def test_no_way_to_the_terminal_lets_them_pass(show, capfd) -> None:
    show(ODD)
    out, err = capfd.readouterr()
    assert "u202e" in out + err
    assert not set(STEERING) & set(out + err)


def test_json_stays_the_same_document(capfd) -> None:
    print_json({ODD: ODD})
    assert json.loads(capfd.readouterr().out) == {ODD: ODD}
