"""``penstock profile fit rates``: rates of engines from measured operating points."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.exits import OK
from penstock.cli.options import AsJson, OutFile, Seed

if TYPE_CHECKING:
    from penstock.published.measured.fit import RatesFit

_PARTS = ("median", "p90", "bias")
_METRICS = (("ttft_s", "TTFT"), ("tpot_s", "TPOT"), ("output_tok_per_s", "tokens/s"))


def rates(
    folders: Annotated[list[Path], typer.Argument(
        metavar="FOLDER...", show_default=False,
        help="Folders with measured*.csv.gz files: one operating point a row.")],
    folds: Annotated[int, typer.Option(
        "--folds", min=2, max=20, metavar="N",
        help="Parts of the curves; each is left out once, for the errors.")] = 8,
    out: OutFile = None, seed: Seed = None, as_json: AsJson = False,
) -> int:
    """Fit the rates of engines on accelerators to measured points, and print the errors on curves
    that were left out.

    A fleet file uses the result as `step_time: {kind: measured, rates: FILE}`.
    """
    from penstock.cli.console import note, print_json, print_tables
    from penstock.cli.files import write_whole
    from penstock.published.measured.fit import fit_rates

    fit = fit_rates(folders, folds, seed or 0, note)
    if out is not None:
        write_whole(out, lambda path: _write(fit, path), (".yaml",))
    if as_json:
        print_json({**fit.document, "held_out": list(fit.held_out), "points": fit.num_points,
                    "curves": fit.num_curves})
    else:
        print_tables(_tables(fit))
    return OK


def _write(fit: "RatesFit", path: Path) -> None:
    import yaml

    text = yaml.safe_dump(dict(fit.document), sort_keys=False, width=100)
    path.write_text(text, encoding="utf-8")


def _tables(fit: "RatesFit") -> list[Any]:
    from penstock.report.model.table import table

    rows = [(record["group"], title, f"{record[f'{metric} points']:,}",
             *(f"{record[f'{metric} {part}']:.1%}" for part in _PARTS))
            for record in fit.held_out for metric, title in _METRICS
            if f"{metric} points" in record]
    return [table(f"Relative errors on curves left out, {fit.num_curves:,} curves",
                  ("group", "metric", "points", *_PARTS), rows), str(fit.document["source"])]
