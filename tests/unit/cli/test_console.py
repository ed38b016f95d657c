import sys

import orjson
import pytest

from penstock.cli.console import print_json, print_tables, progress
from penstock.core.step import Drafted
from penstock.report.model.table import table


def test_brackets_in_texts_and_cells_are_no_markup(capsys):
    print_tables(["[red]a[/red]", table("[b]t", ("[i]c",), [("[link]x",)])])
    out = capsys.readouterr().out
    for text in ("[red]a[/red]", "[b]t", "[i]c", "[link]x"):
        assert text in out


def test_json_takes_named_tuples(capsys):
    print_json({"drafted": Drafted(1, 2, 3)})
    assert orjson.loads(capsys.readouterr().out) == {"drafted": [1, 2, 3]}


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_draws_on_a_terminal_only(terminal, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with progress("sizing", 4) as update:
        update("2 replicas: too few")
        update("3 replicas: enough", 4)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert ("sizing" in captured.err) is terminal
    assert ("3 replicas: enough" in captured.err) is terminal


@pytest.mark.parametrize("term", ["dumb", "unknown", None])
def test_progress_that_cannot_be_erased_is_not_drawn(term, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    if term is None:
        monkeypatch.delenv("TERM", raising=False)
    else:
        monkeypatch.setenv("TERM", term)
    with progress("sizing", 4) as update:
        update("2 replicas: too few")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("columns", "width"), [("80", 80), ("120", 120), (None, 120),
                                                ("wide", 120)])
def test_a_pipe_is_as_wide_as_columns_says(columns, width, capsys, monkeypatch):
    if columns is None:
        monkeypatch.delenv("COLUMNS", raising=False)
    else:
        monkeypatch.setenv("COLUMNS", columns)
    print_tables(["word " * 60])
    assert width - 5 < max(map(len, capsys.readouterr().out.splitlines())) <= width
