"""All that is recomputed of MaverIQ."""

from pathlib import Path

from penstock.published.figures import Options, Reproduction
from penstock.published.maveriq.against import own_plan_figures
from penstock.published.maveriq.estimators import our_figures, published_figures
from penstock.published.maveriq.records import Records
from penstock.published.maveriq.replay import reproduce_replay

RECORDS = "e2e_per_request.parquet"


def reproduce_maveriq(data: Path, options: Options) -> Reproduction:
    """MaverIQ's estimators as published and ours on models left out, from its released tables; and
    its end-to-end runs under queues, where the records are there.

    Raises InputError for a folder without the tables.
    """
    options.on_progress("MaverIQ's estimators")
    figures = published_figures(data)
    options.on_progress("ours, every model left out in turn")
    figures += our_figures(data, options.where)
    if not (data / RECORDS).is_file():
        return Reproduction("maveriq", tuple(figures), remarks=(
            f"no {RECORDS} there, so no end-to-end run was replayed",))
    replayed = reproduce_replay(data, options)
    return Reproduction("maveriq", (*figures, *replayed.figures), replayed.rows,
                        replayed.records, replayed.remarks)


def reproduce_maveriq_plans(data: Path, options: Options) -> Reproduction:
    """Penstock's own plans on the arrivals of MaverIQ's end-to-end runs, beside every published
    system: some minutes of search by simulation. Raises InputError for a folder without records."""
    figures, rows = own_plan_figures(data, Records(data), options)
    return Reproduction("maveriq-plans", tuple(figures), {"plans.csv": rows})
