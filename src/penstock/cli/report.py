"""``penstock report``: the tables of a run that was written before."""

from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.exits import OK
from penstock.cli.options import AsJson

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: penstock report runs/quickstart")
def report(folder: Annotated[Path, typer.Argument(
        metavar="RUN_DIR", help="Folder that run or simulate wrote.", show_default=False)],
        as_json: AsJson = False) -> int:
    """Print the tables of an earlier run."""
    from penstock.cli.console import print_json, print_tables
    from penstock.core.errors import InputError
    from penstock.report.run_files import read_summary

    summary = read_summary(folder)
    if as_json:
        print_json(summary)
        return OK
    from penstock.report.tables import run_tables

    try:
        tables = run_tables(summary)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{folder}: summary.json lacks something ({error}); was it written by "
                         "this version?") from error
    print_tables(tables)
    return OK
