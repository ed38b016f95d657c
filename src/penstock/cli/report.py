"""``penstock lab report``: the tables of a run that was written before."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.command import App
from penstock.cli.exits import OK
from penstock.cli.options import AsJson

if TYPE_CHECKING:
    from penstock.metrics.run_summary import RunSummary

app = App()


@app.command(epilog="Example: penstock lab report runs/quickstart --html quickstart.html")
def report(
    folder: Annotated[Path, typer.Argument(
        metavar="RUN_DIR", help="Folder of a run.", show_default=False)],
    html: Annotated[Path | None, typer.Option(
        "--html", metavar="PATH", show_default=False,
        help="Write the page again from the stored files, without the step timeline and KV "
             "memory, which a run does not store.")] = None,
    as_json: AsJson = False,
) -> int:
    """Print the tables of an earlier run and the path of its page."""
    from penstock.cli.console import note, print_json, print_tables
    from penstock.core.errors import InputError
    from penstock.metrics.run_summary import RunSummary
    from penstock.report.run_files import PAGE, read_summary
    from penstock.report.terminal.run import run_blocks

    document = read_summary(folder)
    try:
        blocks = [] if as_json else run_blocks(RunSummary.read(document))
        if html is not None:
            _write_page(html, folder, RunSummary.read(document))
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{folder}: summary.json lacks something ({error}); was it written by "
                         "this version?") from error
    if as_json:
        print_json(document)
    else:
        print_tables(blocks)
    page = html or folder / PAGE
    if page.is_file():
        note(f"page: {page.resolve().as_uri()}")
    return OK


def _write_page(path: Path, folder: Path, summary: "RunSummary") -> None:
    from penstock.cli.files import write_whole
    from penstock.core.errors import InputError
    from penstock.report.run_files import PAGE, write_stored_page

    fuller = folder / PAGE
    if path.exists() and fuller.exists() and path.samefile(fuller):
        raise InputError(f"--html {path}: is the page that the run wrote, with its steps, which "
                         "are not stored; expected another path")
    write_whole(path, lambda partial: write_stored_page(partial, folder, summary), (".html",))
