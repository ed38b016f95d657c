"""``penstock profile fit``: models from measurements."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.command import App
from penstock.cli.exits import OK
from penstock.cli.fit_kernels import kernels
from penstock.cli.fit_loading import loading
from penstock.cli.fit_rates import rates
from penstock.cli.fit_served import served
from penstock.cli.options import AsJson, DurationColumn, OutFile, Seed

if TYPE_CHECKING:
    from penstock.perf.step_time.fitting import FitReport

app = App()


@app.callback(epilog="Example: penstock profile fit step-time steps.csv --out a100.yaml")
def _fit() -> None:
    """Fit models to measurements."""


app.command("kernels", epilog="Example: penstock profile fit kernels tables/ --model llama-3-8b "
            "--accelerator h100-80gb --out h100.yaml")(kernels)
app.command("loading", epilog="Example: penstock profile fit loading swaps.csv "
            "--profile profiles/mine --out loading.yaml")(loading)

app.command("rates", words={"--gpu": "Own results: the accelerator."},
            epilog="Example: penstock profile fit rates result.json --model llama-3.1-8b "
            "--gpu h100-80gb --engine vllm:0.19.0 --out own.yaml\n\n"
            "Example: penstock profile fit rates measured/ --out rates.yaml")(rates)

app.command("served", epilog="Example: penstock profile fit served fleet.engines/scaling.jsonl "
            "--out served.yaml")(served)


@app.command("step-time",
             epilog="Example: penstock profile fit step-time steps.csv --out a100.yaml")
def step_time(
    table: Annotated[Path, typer.Argument(
        metavar="TABLE", show_default=False,
        help="One row per engine step: CSV, Parquet or a journal (.jsonl).")],
    form: Annotated[str, typer.Option(
        "--form", metavar="FORM", help="linear, knee, tabulated, or auto: the best of them on "
        "held-out steps.")] = "auto",
    duration: DurationColumn = None,
    holdout: Annotated[float, typer.Option(
        "--holdout", metavar="SHARE", help="Share of the steps held out for the error.")] = 0.2,
    out: OutFile = None,
    seed: Seed = None, as_json: AsJson = False,
) -> int:
    """Fit a step-time model to measured steps, and print its errors."""
    from penstock.cli.console import print_json, print_tables
    from penstock.cli.files import write_whole
    from penstock.perf.profiles.step_tables import read_steps
    from penstock.perf.step_time.fitting import fit_step_time
    from penstock.perf.step_time.store import save_step_time

    steps = read_steps(table, duration)
    # The form is checked where it is used, with the nearest valid name.
    report = fit_step_time(steps, form, holdout=holdout, seed=seed or 0)  # type: ignore[arg-type]
    if out is not None:
        write_whole(out, lambda path: save_step_time(report.model, path), (".yaml", ".json"))
    if as_json:
        print_json(_document(report))
    else:
        print_tables(_tables(report))
    return OK


def _document(report: "FitReport") -> dict[str, Any]:
    from dataclasses import asdict

    from penstock.perf.step_time.store import step_time_document

    return {**step_time_document(report.model), "form": report.form,
            "num_steps": report.num_steps, "blocked": asdict(report.blocked),
            "random": asdict(report.random), "warnings": list(report.warnings)}


def _tables(report: "FitReport") -> list[Any]:
    from penstock.report.model.table import table

    errors = [(name, f"{found.mean:.2%}", f"{found.median:.2%}", f"{found.p95:.2%}",
               f"{found.r2:.4f}", f"{found.num_steps:,}")
              for name, found in (("runs of neighbours", report.blocked),
                                  ("scattered", report.random))]
    coefficients = [(name, f"{value:.6g}" if isinstance(value, float) else f"{len(value)} values")
                    for name, value in report.coefficients.items()]
    return [table(f"{report.form.capitalize()} fit to {report.num_steps:,} steps",
                  ("coefficient", "value"), coefficients),
            table("Relative error on held-out steps",
                  ("held out", "mean", "median", "p95", "R²", "steps"), errors),
            *(f"note: {warning}" for warning in report.warnings)]
