"""``penstock compare RUN RUN``: finished runs side by side, as tables and as a page."""

from pathlib import Path

from penstock.cli.compare_told import Telling
from penstock.cli.console import print_json, print_tables
from penstock.cli.exits import OK
from penstock.cli.files import write_whole
from penstock.core.errors import InputError
from penstock.metrics.run_summary import RunSummary


def compare_runs(folders: list[Path], seed: int, telling: Telling) -> int:
    """Print the figures of runs with their differences to the first, and write the page."""
    from penstock.experiment.compare_runs import compare_runs as differences
    from penstock.metrics.request_file import read_requests
    from penstock.report.model.run_comparison import run_comparison_blocks
    from penstock.report.run_files import REQUESTS, read_summary

    if len(folders) < 2:
        raise InputError(f"{folders[0]}: a single run; expected two or more to compare")
    labels = [str(folder) for folder in folders]
    for label in labels:
        if labels.count(label) > 1:
            raise InputError(f"{label}: appears twice; expected different runs")
    summaries = {str(folder): read_summary(folder) for folder in folders}
    tables = {str(folder): read_requests(folder / REQUESTS) for folder in folders}
    document = differences(tables, seed)
    if telling.html is not None:
        from penstock.report.html.overlay_page import write_overlay_page

        read = {label: RunSummary.read(found) for label, found in summaries.items()}
        write_whole(telling.html, lambda partial: write_overlay_page(
            partial, read, tables, document, telling.library), (".html",))
    if telling.as_json:
        print_json(document)
    else:
        print_tables(run_comparison_blocks(document))
    return OK
