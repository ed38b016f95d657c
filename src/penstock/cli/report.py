"""``penstock lab report``: the tables of a run that was written before."""

from pathlib import Path
from typing import Annotated, Any

import typer

from penstock.cli.command import App
from penstock.cli.exits import OK
from penstock.cli.options import AsJson

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
    from penstock.report.run_files import PAGE, read_summary

    summary = read_summary(folder)
    try:
        tables = [] if as_json else _tables(summary)
        if html is not None:
            _write_page(html, folder, summary)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{folder}: summary.json lacks something ({error}); was it written by "
                         "this version?") from error
    if as_json:
        print_json(summary)
    else:
        print_tables(tables)
    page = html or folder / PAGE
    if page.is_file():
        note(f"page: {page.resolve().as_uri()}")
    return OK


def _tables(summary: dict[str, Any]) -> list[Any]:
    from penstock.report.tables import run_tables

    return run_tables(summary)


def _write_page(path: Path, folder: Path, summary: dict[str, Any]) -> None:
    from penstock.cli.files import write_whole
    from penstock.core.errors import InputError
    from penstock.report.run_files import PAGE, write_stored_page

    fuller = folder / PAGE
    if path.exists() and fuller.exists() and path.samefile(fuller):
        raise InputError(f"--html {path}: is the page that the run wrote, with its steps, which "
                         "are not stored; expected another path")
    write_whole(path, lambda partial: write_stored_page(partial, folder, summary), (".html",))
