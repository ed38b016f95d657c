"""``penstock lab report``: the tables of a run that was written before."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.command import App
from penstock.cli.exits import OK
from penstock.cli.options import AsJson, Html, SelfContained
from penstock.core.errors import InputError

if TYPE_CHECKING:
    from penstock.metrics.run_summary import RunSummary
    from penstock.report.model.table import Block

app = App()


@app.command(epilog="Example: penstock lab report runs/quickstart --html quickstart.html\n\n"
                    "Example: penstock lab report runs/a runs/b --html both.html", words={
    "--html": "Write the page again from the stored files, without the step timeline and KV "
              "memory, which a run does not store; of several runs, one page."})
def report(
    folders: Annotated[list[Path], typer.Argument(
        metavar="RUN_DIR...", help="Folder of a run, or of several to overlay.",
        show_default=False)],
    html: Html = None,
    as_json: AsJson = False, self_contained: SelfContained = False,
) -> int:
    """Print the tables of an earlier run and the path of its page.

    Of several runs, prints their figures side by side, as `penstock compare` does, and overlays
    them in the page.
    """
    from penstock.cli.console import note, print_json, print_tables
    from penstock.cli.files import library
    from penstock.report.run_files import PAGE, read_summary

    if len(folders) > 1:
        from penstock.cli.compare_runs import compare_runs
        from penstock.cli.compare_told import Telling

        return compare_runs(folders, 0, Telling(as_json, html, library(self_contained)))
    folder = folders[0]
    document = read_summary(folder)
    if html is not None or not as_json:
        summary = _read(folder, document)
        blocks = _blocks(summary, folder)
        if html is not None:
            _write_page(html, folder, summary, library(self_contained))
    if as_json:
        print_json(document)
    else:
        print_tables(blocks)
    page = html or folder / PAGE
    if page.is_file():
        note(f"page: {page.resolve().as_uri()}")
    return OK


def stored_blocks(folder: Path, document: dict[str, Any]) -> "list[Block]":
    """The tables of a run by its summary and its folder. Raises InputError."""
    return _blocks(_read(folder, document), folder)


def _read(folder: Path, document: dict[str, Any]) -> "RunSummary":
    """The summary. Raises InputError with the file and the key of a value of another form."""
    from penstock.metrics.run_summary import RunSummary
    from penstock.report.run_files import SUMMARY

    try:
        return RunSummary.read(document)
    except InputError as error:
        raise InputError(f"{folder / SUMMARY}: {error}") from None


def _blocks(summary: "RunSummary", folder: Path) -> "list[Block]":
    """The tables. Raises InputError with the key of a document within the summary that is of
    another form: a summary has the fleet, the plan and the load as they were."""
    from penstock.metrics.request_file import read_requests
    from penstock.report.run_files import REQUESTS, SUMMARY
    from penstock.report.terminal.run import run_blocks

    requests = read_requests(folder / REQUESTS) if (folder / REQUESTS).is_file() else None

    def drawn(summary: "RunSummary") -> "list[Block] | None":
        with suppress(AttributeError, IndexError, KeyError, TypeError):
            return run_blocks(summary, requests)
        return None

    blocks = drawn(summary)
    if blocks is not None:
        return blocks
    without = {"plan": replace(summary, plan=None), "fleet": replace(summary, fleet=None),
               "load": replace(summary, measured=None)}
    key = next((key for key, rest in without.items() if drawn(rest)), "plan, fleet or load")
    raise InputError(f"{folder / SUMMARY}: {key}: found another form than `penstock run` writes; "
                     "expected the file as the run wrote it")


def _write_page(path: Path, folder: Path, summary: "RunSummary",
                library: str | None) -> None:
    from penstock.cli.files import write_whole
    from penstock.report.run_files import PAGE, write_stored_page

    fuller = folder / PAGE
    if path.exists() and fuller.exists() and path.samefile(fuller):
        raise InputError(f"--html {path}: is the page that the run wrote, with its steps, which "
                         "are not stored; expected another path")
    write_whole(path, lambda partial: write_stored_page(partial, folder, summary, library),
                (".html",))
