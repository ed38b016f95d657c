"""What the documentation shows is true: its commands run, its code runs, its fleets load.

Every fenced block of a page runs in the page's order, in one folder that starts as a copy of
``examples/``, so a page reads like a session:

- ``console``: each line after ``$ `` is a command (a trailing backslash continues it). The lines
  below it are shown output: the real output must be these lines, whatever the spaces; a line
  ``...`` leaves any number of lines out, ``...`` in a line any part of it, and what follows the
  last shown line is free.
- ``python``: the code must run; blocks of one page share their names.
- ``yaml`` that begins with ``# file: NAME``: the block is written to NAME; with ``# fleet: NAME``
  it must also load as a fleet file.

An HTML comment on the line above a block changes that: ``<!-- exit 1 -->`` states the last
command's exit status, ``<!-- skip: REASON -->`` leaves the block out.

A plain ``penstock`` command is called within this process, which saves its imports. On the pages
that a newcomer follows, and wherever the shell has a part in it, a command is a process of its own.
"""

import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from penstock.cli.main import main
from penstock.core.errors import InputError
from penstock.fleet.load import load_fleet

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = [path.relative_to(REPOSITORY) for path in
         [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]]
FENCE = re.compile(r"^(?:<!-- (?P<note>[^\n]*) -->\n)?```(?P<language>\w+)\n(?P<body>.*?)^```$",
                   re.DOTALL | re.MULTILINE)
NOTE = re.compile(r"exit (?P<status>\d+)|skip: (?P<reason>.+)")
NAMED = re.compile(r"# (fleet|file): (\S+)\n")
SHELL = re.compile(r"[|&;<>$`*?~]")
IN_PROCESSES = {Path("README.md"), Path("docs/tutorial.md")}
LONG = ("README.md", "docs/tutorial.md", "docs/howto/choose-an-autoscaler.md",
        "docs/howto/first-questions.md", "docs/howto/how-many-gpus.md", "docs/howto/many-cores.md",
        "docs/howto/run-on-kubernetes.md", "docs/howto/size-a-fleet.md",
        "docs/howto/split-prefill-and-decode.md", "docs/howto/your-own-model.md",
        "docs/howto/your-own-trace.md", "docs/reference/cli.md")
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]*)(?:#([^)\s]*))?\)")
LINKING = [*PAGES, *map(Path, ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md",
                               "benchmarks/README.md"))]


@dataclass(frozen=True)
class Block:
    language: str
    body: str
    line: int
    status: int = 0
    skipped: bool = False


@dataclass(frozen=True)
class Command:
    text: str
    shown: tuple[str, ...] = ()


def blocks(text: str) -> Iterator[Block]:
    for match in FENCE.finditer(text):
        note = NOTE.fullmatch(match["note"] or "")
        line = text.count("\n", 0, match.start("body")) + 1
        yield Block(match["language"], match["body"], line, int(note["status"] or 0) if note else 0,
                    bool(note and note["reason"]))


def commands(session: str) -> list[Command]:
    found: list[Command] = []
    lines = iter(session.replace("\\\n", " ").splitlines())
    for line in lines:
        if line.startswith("$ "):
            found.append(Command(line[2:]))
        elif not found:
            raise ValueError(f"output before any command: {line!r}")
        elif line.strip():
            found[-1] = Command(found[-1].text, (*found[-1].shown, " ".join(line.split())))
    return found


def same(shown: str, real: str) -> bool:
    parts = [re.escape(part) for part in shown.split("...")]
    return re.fullmatch(".*".join(parts), real) is not None


def missing_line(shown: tuple[str, ...], output: str) -> str | None:
    """The first shown line that the output does not have where it should."""
    real = iter([" ".join(line.split()) for line in output.splitlines() if line.strip()])
    skipping = False
    for line in shown:
        if line == "...":
            skipping = True
            continue
        if not any(same(line, other) for other in (real if skipping else islice(real, 1))):
            return line
        skipping = False
    return None


def in_shell(command: str, folder: Path) -> tuple[int, str]:
    """(exit status, output) of a command as a reader runs it."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "COLUMNS": "120", "NO_COLOR": "1"}
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], cwd=folder, env=environment,
                          text=True, timeout=300, check=False, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    return done.returncode, done.stdout


def in_this_process(arguments: list[str], folder: Path) -> tuple[int, str]:
    """The same of one call of ``penstock``."""
    with pytest.MonkeyPatch.context() as patch, io.StringIO() as output:
        patch.chdir(folder)
        patch.setenv("COLUMNS", "120")
        patch.setenv("NO_COLOR", "1")
        with redirect_stdout(output), redirect_stderr(output):
            status = main(arguments)
        return status, output.getvalue()


def run(command: str, folder: Path, *, plain: bool) -> tuple[int, str]:
    """Runs one command of a page; ``plain`` where a process of its own proves nothing more."""
    name, *arguments = shlex.split(command)
    if plain and name == "penstock" and not SHELL.search(command):
        return in_this_process(arguments, folder)
    return in_shell(command, folder)


def check_session(block: Block, folder: Path, place: str) -> None:
    *before, last = commands(block.body)
    plain = Path(place.rpartition(":")[0]) not in IN_PROCESSES
    for command in (*before, last):
        real_status, output = run(command.text, folder, plain=plain)
        status = block.status if command is last else 0
        assert real_status == status, f"{place}: $ {command.text}\n{output}"
        line = missing_line(command.shown, output)
        assert line is None, f"{place}: $ {command.text}\nshould print {line!r}:\n{output}"


def check_python(block: Block, names: dict[str, Any], folder: Path, place: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        exec(compile(block.body, place, "exec"), names)


def check_yaml(block: Block, folder: Path, place: str) -> None:
    named = NAMED.match(block.body)
    if not named:
        return
    kind, path = named[1], folder / named[2]
    path.write_text(block.body)
    if kind == "fleet":
        try:
            load_fleet(path)
        except InputError as error:
            pytest.fail(f"{place}: {error}")


def check_page(text: str, page: str, folder: Path) -> None:
    names: dict[str, Any] = {"__name__": "docs"}
    for block in blocks(text):
        place = f"{page}:{block.line}"
        if block.skipped:
            continue
        if block.language == "console":
            check_session(block, folder, place)
        elif block.language == "python":
            check_python(block, names, folder, place)
        elif block.language == "yaml":
            check_yaml(block, folder, place)


@pytest.mark.parametrize("page", [
    pytest.param(page, id=str(page), marks=[pytest.mark.long] if str(page) in LONG else [])
    for page in PAGES])
def test_examples_of_a_page_work(page: Path, tmp_path: Path,
                                 monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_RUNS", str(tmp_path / "runs.db"))
    shutil.copytree(REPOSITORY / "examples", tmp_path / "examples")
    check_page((REPOSITORY / page).read_text(), str(page), tmp_path)


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    plain = FENCE.sub("", text)
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", plain, re.MULTILINE):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        anchor = re.sub(r"[^\w\- ]", "", shown).replace(" ", "-")
        number = next(n for n in range(len(plain)) if (f"{anchor}-{n}" if n else anchor)
                      not in found)
        found.add(f"{anchor}-{number}" if number else anchor)
    return found


def broken_links(path: Path) -> list[str]:
    """Links of a page to files and anchors that do not exist."""
    broken = []
    for target, anchor in LINK.findall(path.read_text()):
        if "://" in target or target.startswith("mailto:"):
            continue
        file = path.parent / target if target else path
        if not file.exists() or (anchor and file.suffix == ".md"
                                 and anchor not in anchors(file.read_text())):
            broken.append(f"{target}#{anchor}")
    return broken


@pytest.mark.parametrize("page", LINKING, ids=str)
def test_links_lead_somewhere(page: Path) -> None:
    assert broken_links(REPOSITORY / page) == []


def test_a_false_link_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A title, of `code`\n[here](#a-title-of-code) [no](#a-title) [none](x.md) "
                    "[there](page.md#a-title-of-code) [not there](page.md#b)\n")
    assert broken_links(page) == ["#a-title", "x.md#", "page.md#b"]


@pytest.mark.parametrize("page", [
    "```console\n$ false\n```\n",
    "```console\n$ echo one\ntwo\n```\n",
    "```console\n$ echo one two\none\n```\n",
    "```console\n$ echo one two\ntwo ...\n```\n",
    "```console\n$ printf 'one\\ntwo\\n'\ntwo\n```\n",
    "```console\n$ printf 'two\\none\\n'\n...\none\ntwo\n```\n",
    "<!-- exit 1 -->\n```console\n$ true\n```\n",
    "```python\nassert False\n```\n",
    "```python\nx = 1\n```\ntext\n```python\nassert x == 2\n```\n",
    "```yaml\n# fleet: bad.yaml\nname: bad\nmodel: []\n```\n",
])
def test_a_false_example_is_noticed(page: str, tmp_path: Path) -> None:
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check_page(page, "page", tmp_path)


@pytest.mark.parametrize("page", [
    "```console\n$ echo one  two\none two\n$ printf 'a\\nb\\nc\\n'\na\n...\nc\n```\n",
    "```console\n$ echo one two\none ...\n```\n",
    "```console\n$ echo one \\\n    two\none two\n```\n",
    "<!-- exit 1 -->\n```console\n$ true\n$ false\n```\n",
    "<!-- skip: it needs a GPU -->\n```console\n$ false\n```\n",
    "```yaml\nname: a part of a file\n```\n```text\nfree\n```\n",
])
def test_a_true_example_passes(page: str, tmp_path: Path) -> None:
    check_page(page, "page", tmp_path)
