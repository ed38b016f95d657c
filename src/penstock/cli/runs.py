"""``penstock runs``: earlier runs with their key figures."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.command import App
from penstock.cli.exits import OK
from penstock.cli.options import AsJson, Html, SelfContained
from penstock.core.errors import InputError

if TYPE_CHECKING:
    from penstock.experiment.runs.kept import KeptRun
    from penstock.report.model.table import Block

app = App()

RunKey = Annotated[str, typer.Argument(
    metavar="KEY", help="Id of the run, or its beginning; or the run's folder.",
    show_default=False)]
RunKeys = Annotated[list[str], typer.Argument(
    metavar="KEY...", help="Ids of runs, or their beginnings; or the runs' folders.",
    show_default=False)]


@app.callback(epilog="Example: penstock runs list --where kind=simulate --sort cost")
def _runs() -> None:
    """Earlier runs with their key figures: list, show, compare, export and prune them.

    Every command that writes a run's folder keeps an entry in a SQLite file. PENSTOCK_RUNS names
    the file, or is `off`; default: ~/.local/share/penstock/runs.db.
    """


@app.command("list", epilog="Example: penstock runs list --where 'attainment<0.99' "
                            "--sort -cost --limit 20")
def list_runs(
    where: Annotated[list[str] | None, typer.Option(
        "--where", metavar="KEY=VALUE", show_default=False,
        help="Only runs of this value, or of another comparison, such as attainment<0.99 or "
             "name=chat*; repeatable.")] = None,
    sort: Annotated[str | None, typer.Option(
        "--sort", metavar="KEY", show_default=False,
        help="Sort by this key, with a minus from high to low; default: newest first.")] = None,
    limit: Annotated[int | None, typer.Option(
        "--limit", min=1, max=1_000_000, metavar="N", show_default=False,
        help="List at most N runs.")] = None,
    as_json: AsJson = False,
) -> int:
    """List runs with their key figures, newest first.

    Keys are the columns of `penstock runs show`.
    """
    from penstock.cli.console import note, print_json, print_tables
    from penstock.cli.runs_input import opened
    from penstock.cli.runs_tables import document, list_table
    from penstock.experiment.runs.conditions import NEWEST_FIRST, read_condition, read_order

    store = opened()
    runs = store.runs([read_condition(text) for text in where or ()],
                      NEWEST_FIRST if sort is None else read_order(sort), limit)
    if as_json:
        print_json({"store": str(store.path), "runs": [document(run) for run in runs]})
    elif runs:
        print_tables([list_table(runs)])
    else:
        note(f"{store.path} has no such runs" if where else f"no runs are kept in {store.path}")
    return OK


@app.command(epilog="Example: penstock runs show 3f2a91c0")
def show(key: RunKey, as_json: AsJson = False) -> int:
    """Print the entry of a run and the tables of its files."""
    from penstock.cli.console import note, print_json, print_tables
    from penstock.cli.runs_input import files_of, found, opened
    from penstock.cli.runs_tables import document, run_blocks

    (run,) = found(opened(), [key])
    present = files_of(run) == "present"
    fleet = Path(run.folder) / "fleet.yaml"
    configuration = fleet if present and fleet.is_file() else None
    if as_json:
        from penstock.report.stored import read_stored

        stored = read_stored(Path(run.folder)).document if present else None
        print_json({**document(run), "configuration": configuration and str(configuration),
                    "plan" if run.kind == "plan" else "summary": stored})
        return OK
    print_tables([*run_blocks(run), *(_figures(run) if present else ())])
    note(f"configuration: {configuration}" if configuration else
         "the run has no fleet.yaml" if present else
         f"the files in {run.folder} are {files_of(run)}")
    return OK


def _figures(run: "KeptRun") -> "list[Block]":
    """Tables of the run's or plan's own files. Raises InputError."""
    from penstock.cli.report import stored_blocks
    from penstock.report.stored import read_stored

    folder = Path(run.folder)
    kind, document, _ = read_stored(folder)
    if kind == "plan":
        from penstock.report.terminal.plan import plan_blocks

        return list(plan_blocks(document))
    return stored_blocks(folder, document)


@app.command(epilog="Example: penstock runs compare 3f2a91c0 runs/second --html both.html", words={
    "--html": "Also write a page with the runs overlaid."})
def compare(keys: RunKeys, html: Html = None, as_json: AsJson = False,
            self_contained: SelfContained = False) -> int:
    """Compare runs: their kept figures, then those of their requests with intervals.

    Compares requests as `penstock compare RUN_DIR RUN_DIR` does, with the same JSON. Plans have no
    requests, so only their kept figures are compared.
    """
    from penstock.cli.compare_runs import compare_runs
    from penstock.cli.compare_told import Telling
    from penstock.cli.console import print_json, print_tables
    from penstock.cli.files import check_name, library
    from penstock.cli.runs_input import folder_of, found, opened
    from penstock.cli.runs_tables import document, side_by_side

    if html is not None:
        check_name(html, (".html",))
    runs = found(opened(), keys)
    if len(runs) < 2:
        raise InputError(f"run {runs[0].id}: a single run; expected two or more to compare")
    plans = [run for run in runs if run.kind == "plan"]
    if plans:
        if html is not None:
            raise InputError(f"--html: run {plans[0].id} is a plan, without requests to overlay")
        if as_json:
            print_json({"runs": [document(run) for run in runs]})
        else:
            print_tables([side_by_side(runs)])
        return OK
    folders = [folder_of(run) for run in runs]
    if not as_json:
        print_tables([side_by_side(runs)])
    return compare_runs(folders, 0, Telling(as_json, html, library(self_contained)))


@app.command(epilog="Example: penstock runs add runs/first")
def add(folder: Annotated[Path, typer.Argument(
        metavar="DIR", help="Folder of a run or plan.", show_default=False)],
        as_json: AsJson = False) -> int:
    """Keep an entry of an older or copied run folder.

    It begins when its summary was written, and has no host and no duration.
    """
    from penstock.cli.console import note, print_json, print_line
    from penstock.cli.runs_input import opened
    from penstock.cli.runs_record import add as keep_entry
    from penstock.cli.runs_record import entry
    from penstock.cli.runs_tables import document

    store, run = opened(), entry(folder)
    known = next((one for one in store.runs() if one.folder == run.folder
                  and one.digest == run.digest and one.replaced_by is None), None)
    kept = known or keep_entry(store.path, run)
    if as_json:
        print_json(document(kept))
    else:
        print_line(kept.id)
    note(f"{folder}: {'was kept before' if known else 'is kept'} as run {kept.id}")
    return OK


@app.command(epilog="Example: penstock runs prune --older-than 30d --keep 20 --yes")
def prune(
    older_than: Annotated[str | None, typer.Option(
        "--older-than", metavar="TIME", show_default=False,
        help="Only runs that began before this length of time, such as 30d or 12h.")] = None,
    keep: Annotated[int | None, typer.Option(
        "--keep", min=0, max=1_000_000, metavar="N", show_default=False,
        help="All but the N newest runs.")] = None,
    gone: Annotated[bool, typer.Option(
        "--gone", help="Only entries whose files are gone or replaced.")] = False,
    yes: Annotated[bool, typer.Option(
        "--yes", help="Remove them; by default they are only listed.")] = False,
    as_json: AsJson = False,
) -> int:
    """Remove runs for which every given option holds: their files and their entries.

    Removes only files that Penstock wrote, in folders that still hold the run; a folder with other
    files stays with these. Follows no symbolic links.
    """
    from penstock.cli.runs_prune import chosen, pruned

    if older_than is None and keep is None and not gone:
        raise InputError("no --older-than, --keep or --gone; expected at least one of them")
    from penstock.cli.runs_input import opened

    store = opened()
    return pruned(store, chosen(store, older_than, keep, gone=gone), yes=yes, as_json=as_json)


@app.command(epilog="Example: penstock runs export 3f2a91c0 --to mlflow --uri http://127.0.0.1:5000")
def export(
    keys: RunKeys,
    to: Annotated[str, typer.Option(
        "--to", metavar="mlflow", help="Program that gets the runs.")] = "mlflow",
    uri: Annotated[str | None, typer.Option(
        "--uri", metavar="URI", envvar="MLFLOW_TRACKING_URI", show_default=False,
        help="Tracking server or store; default: MLflow's own.")] = None,
    as_json: AsJson = False,
) -> int:
    """Write runs to MLflow, into its experiment `penstock`.

    The fleet becomes parameters, figures become metrics, origin and status become tags, and the
    files become artifacts. A run that is there already is not written again.
    """
    from penstock.cli.console import print_json, print_line
    from penstock.cli.runs_input import folder_of, found, opened
    from penstock.experiment.runs.mlflow_export import connected, exported
    from penstock.report.stored import own_files, plot_library, read_stored

    if to != "mlflow":
        raise InputError(f"--to {to[:60]!r}: unknown; expected mlflow")
    runs = found(opened(), keys)
    folders = [folder_of(run).resolve() for run in runs]
    target = connected(uri)
    rows: list[dict[str, Any]] = []
    for run, folder in zip(runs, folders, strict=True):
        mlflow_id, is_new = exported(target, run, read_stored(folder).document,
                                     [*own_files(folder), *plot_library(folder)])
        rows.append({"id": run.id, "mlflow_run_id": mlflow_id, "written": is_new})
        if not as_json:
            print_line(f"{run.id}: MLflow run {mlflow_id}"
                       f"{'' if is_new else ', which was there already'}")
    if as_json:
        print_json({"runs": rows})
    return OK
