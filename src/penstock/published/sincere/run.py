"""``penstock lab reproduce sincere``: the published runs replayed, then other policies on them."""

from pathlib import Path

from penstock.published.figures import Options, Reproduction
from penstock.published.sincere.records import read_runs
from penstock.published.sincere.replay import (
    replay,
    replay_figures,
    run_rows,
    strategy_rows,
)
from penstock.published.sincere.what_if import (
    what_if,
    what_if_figures,
    what_if_rows,
    what_if_table,
)


def reproduce_sincere(data: Path, options: Options) -> Reproduction:
    """All figures of the runs in a folder; runs are taken whole.

    ``runs.csv`` has a row per run, ours and logged; ``strategies.csv`` and ``what_if.csv`` means.
    Raises InputError for a folder that does not hold the runs.
    """
    runs = read_runs(data)
    replayed = replay(runs, options)
    outcomes = what_if(runs, options)
    figures = [*replay_figures(replayed), *(what_if_figures(outcomes, runs) if outcomes else ())]
    rows = {"runs.csv": run_rows(replayed), "strategies.csv": strategy_rows(replayed),
            "what_if.csv": what_if_rows(outcomes)}
    return Reproduction("sincere", tuple(figures), rows,
                        tables={"other policies on the same arrivals": what_if_table(outcomes)})

