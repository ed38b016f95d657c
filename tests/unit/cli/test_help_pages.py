"""Help pages of all commands: readable in a narrow terminal, in one style."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from penstock.cli import main as entry
from penstock.cli.main import main

LEAST_TEXT = 40


def spellings(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if words:
        yield words
    if hasattr(command, "list_commands"):
        context = typer.Context(command)
        for name in command.list_commands(context):
            yield from spellings(command.get_command(context, name), (*words, name))


PAGES = [*spellings(typer.main.get_command(entry._app))]


@pytest.mark.parametrize("columns", [80, 100])
@pytest.mark.parametrize("words", PAGES, ids=" ".join)
def test_a_page_fits_and_gives_its_texts_room(words: tuple[str, ...], columns: int,
                                              capsys: pytest.CaptureFixture[str],
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main([*words, "--help"]) == 0
    page = capsys.readouterr().out
    lines = page.splitlines()
    assert max(map(len, lines)) <= columns
    assert "\N{HORIZONTAL ELLIPSIS}" not in page
    assert not [line for line in lines[1:] if line.endswith("...")]  # a cut text
    assert not re.search(r"<=?x|x>|x<|\[default", page)  # another style of ranges and defaults
    texts = [match.end(1) for line in lines
             if (match := re.match(r"(  (?:-|[A-Z_]+ )\S.*?  +)\S", line))]
    assert all(columns - start >= LEAST_TEXT for start in texts)


@pytest.mark.parametrize(("command", "told", "others"), [
    ("lab train quality", "knn, ridge", "roofline"), ("lab train latency", "roofline", "knn"),
    ("lab plan-server", "callers may ask for less", "MILP"),
    ("bench", "with the traffic and the service classes", "step time"),
    ("lab replay", "Fleet file with the step time", "the traffic"),
    ("emulate", "as without this option", "removed"),
    ("deployments list", "Include removed deployments", "replica")])
def test_a_shared_option_is_told_in_the_commands_own_words(
        command: str, told: str, others: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command.split(), "--help"]) == 0
    page = " ".join(capsys.readouterr().out.split())
    assert told in page
    assert others not in page


def test_a_long_name_has_its_text_below(capsys: pytest.CaptureFixture[str],
                                        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["plan", "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    place = lines.index("  --delayed-best-effort / --no-delayed-best-effort")
    assert lines[place + 1].startswith(f"{' ' * 34}Inferno: share leftover")
