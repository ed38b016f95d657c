"""``penstock lab reproduce``: a published system's figures beside ours."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.command import App
from penstock.cli.executor import executor
from penstock.cli.exits import MISSED, OK
from penstock.cli.options import AsJson, DataDir, Jobs, NumRequests, On, OutDir, Seed
from penstock.core.errors import InputError

if TYPE_CHECKING:
    from penstock.published.figures import Figure, Reproduction

app = App()
_FEWEST_REQUESTS = 100


@app.command(epilog="Example: penstock lab reproduce vidur --data ../shared/data/vidur")
def reproduce(
    system: Annotated[str, typer.Argument(
        metavar="SYSTEM", show_default=False,
        help="inferno, inferno-loop, kernels, llm-d-slo, maveriq, maveriq-plans, measured, "
        "niyama, routebalance, sincere or vidur.")],
    data: DataDir = None, out: OutDir = None,
    num_requests: NumRequests = None, seed: Seed = None, jobs: Jobs = 0, on: On = None,
    as_json: AsJson = False,
) -> int:
    """Recompute a published system's figures and print them beside the published ones.

    --data is the folder of the system's data; llm-d-slo needs none, inferno-loop little.
    --out stores reproduction.json and the tables of the figures (CSV). --requests, at least 100,
    limits every simulated run (niyama, routebalance) or the search for plans (maveriq-plans, 500).
    Exit status 1 if a figure deviates by more than its tolerance.
    """
    from penstock.cli.console import note, print_json, print_tables
    from penstock.cli.reproduce_files import check_folder, write_reproduction
    from penstock.published.figures import Options
    from penstock.published.reproduce import reproduce as recompute

    if num_requests is not None and num_requests < _FEWEST_REQUESTS:
        raise InputError(f"--requests {num_requests}: expected at least {_FEWEST_REQUESTS}")
    if out is not None:
        check_folder(out)
    found = recompute(system, data, Options(seed or 0, num_requests, note, executor(jobs, on)))
    if out is not None:
        write_reproduction(out, found)
    if as_json:
        print_json(found.as_dict())
    else:
        print_tables(_tables(found))
    return OK if found.agrees else MISSED


def _tables(found: "Reproduction") -> list[Any]:
    from penstock.report.model.table import table

    rows = [(figure.name, _number(figure.published), _number(figure.ours), _deviation(figure),
             _allowed(figure), "✓" if figure.agrees else "✗ off") for figure in found.figures]
    figures = table(f"{found.system}, published and recomputed",
                    ("figure", "published", "ours", "deviation", "allowed", "agrees"), rows)
    missed = sum(not figure.agrees for figure in found.figures)
    more = [table(title, tuple(rows[0]), [tuple(map(_cell, row.values())) for row in rows])
            for title, rows in found.tables.items() if rows]
    return [*more, figures, *found.remarks,
            f"{len(found.figures) - missed} of {len(found.figures)} figures agree"]


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.1%}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.5g}"


def _deviation(figure: "Figure") -> str:
    return "-" if figure.deviation is None else f"{figure.deviation:+.1%}"


def _allowed(figure: "Figure") -> str:
    allowed = {"absolute": f"±{figure.tolerance:.3g}", "relative": f"±{figure.tolerance:.1%}",
               "exact": "equal", "shown": "-",
               "at_most": f"≤ published +{figure.tolerance:.0%}",
               "at_least": f"≥ published -{figure.tolerance:.0%}"}
    return allowed[figure.kind]
