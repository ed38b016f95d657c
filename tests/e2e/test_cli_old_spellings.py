"""Commands by the names of earlier releases: they do the same and name today's on stderr."""

import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from penstock.cli.commands import FIRST_PAGE, IN_LAB, RENAMED, respelt
from penstock.cli.main import _app

LINES = [line for line in (Path(__file__).parents[1] / "data" / "old_command_lines.txt")
         .read_text().splitlines() if not line.startswith("#")]
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"


def parsed(arguments: list[str]) -> str:
    """The path of the command that a line calls, its options read but nothing run."""
    command: Any = typer.main.get_command(_app)
    context = command.make_context("penstock", list(arguments))
    while hasattr(command, "commands"):
        rest = [*getattr(context, "_protected_args", ()), *context.args]
        name, command, rest = command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)
    return str(context.command_path)


@pytest.mark.parametrize("line", LINES)
def test_a_line_that_the_docs_showed_is_understood(line, capsys):
    arguments = shlex.split(line)
    path = parsed(arguments)
    today = respelt(arguments)
    err = capsys.readouterr().err
    if today is None:
        assert err == ""
        assert path.split()[1] == arguments[0]
    else:
        assert err.count("\n") == 1
        assert f"`penstock {arguments[0]}` is now `penstock {today[0]}`" in err
        assert path.startswith(f"penstock {today[0].partition(' --')[0]}")


# An old line and today's; both run, and stdout is the same.
SAME = [
    ("schema", "lab schema"),
    ("bound fleet.yaml --json", "capacity fleet.yaml --method bound --json"),
    ("bound unsized.yaml", "capacity unsized.yaml --method bound"),
    ("sweep fleet.yaml --set run.seed=1,2 --set=run.num_requests=9 --json",
     "compare fleet.yaml --grid run.seed=1,2 --grid run.num_requests=9 --json"),
    ("sweep fleet.yaml --seeds 2", "compare fleet.yaml --grid '' --seeds 2"),
    ("queue size --alpha 12 --beta 0.05 --gamma 0.0005 --input-tokens 128 --output-tokens 512 "
     "--max-batch 48 --ttft-ms 200 --itl-ms 30 --percentile 99 --json",
     "lab queue size --alpha 12 --beta 0.05 --gamma 0.0005 --input-tokens 128 --output-tokens 512 "
     "--max-batch 48 --ttft-ms 200 --itl-ms 30 --percentile 99 --json"),
    ("fit loading warm.csv --json", "profile fit loading warm.csv --json"),
    ("report nowhere", "lab report nowhere"), ("replay nowhere", "lab replay nowhere"),
    ("estimate --configs x.csv --out y.csv", "profile estimate --configs x.csv --out y.csv"),
    ("reproduce nothing --data .", "lab reproduce nothing --data ."),
]


@pytest.mark.parametrize(("old", "today"), SAME)
def test_an_old_line_does_what_todays_does(old, today, penstock, folder):
    (folder / "warm.csv").write_text("run,model,size_bytes,seconds\n" + "\n".join(
        f"{run},{name},{size}000000000,{1 + size / 10 + run % 2}" for run in range(6)
        for name, size in (("a", 20), ("b", 26), ("c", 32), ("a", 20))))
    before, now = penstock(*shlex.split(old)), penstock(*shlex.split(today))
    assert before.status == now.status
    assert before.out == now.out
    assert now.err == before.err.partition("\n")[2]
    name = old.partition(" ")[0]
    assert before.err.startswith(f"`penstock {name}` is now `penstock ")


def test_every_old_name_is_one_that_stood_in_the_first_page():
    began_in_lab = {"inferno", "speculate"}
    assert {*RENAMED} == {"sweep", "bound", "fit", "estimate", *IN_LAB} - began_in_lab
    assert not {*RENAMED} & {*FIRST_PAGE}
    for old in RENAMED:
        name, arguments = respelt([old, "x"])
        assert name.split()[0] in FIRST_PAGE
        assert arguments[-1] == "x" or old == "sweep"


def test_the_reference_has_a_row_for_every_command():
    page = PAGE.read_text()
    groups = dict.fromkeys(entry.group for entry in FIRST_PAGE.values())
    assert [title for title in groups if f"\n**{title}**\n" not in page] == []
    for entry in (*FIRST_PAGE.values(), *IN_LAB.values()):
        if entry.name != "lab":
            begin = page.index(f"\n**{entry.group}**\n")
            assert f"\n| `{entry.spelling}" in page[begin:page.find("\n**", begin + 4)], entry


@pytest.mark.parametrize("name", ["sweep", "bound", "fit", "queue"])
def test_the_reference_names_old_commands_as_old_only(name):
    assert f"| `{name} " not in PAGE.read_text()
