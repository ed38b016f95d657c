"""``penstock lab train``: predictors from collected rows."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.command import App
from penstock.cli.exits import OK
from penstock.cli.options import AsJson, AskedModel, FirstSeed, OutFile
from penstock.core.errors import InputError

if TYPE_CHECKING:
    from penstock.predict.learned.training import LearnedModel
    from penstock.predict.prompts.report import ForecastReport

app = App()

Rows = Annotated[Path, typer.Argument(
    metavar="ROWS", show_default=False,
    help="Rows that `penstock lab collect` wrote: the folder or its rows.parquet.")]
Kind = Annotated[str, typer.Option(
    "--kind", metavar="KIND", help="Latency and memory: linear, roofline (latency only), boosting "
    "(extra 'boosting') or lstm (extra 'torch'); quality: knn, ridge, knn+ridge, or auto, the best "
    "of them on held-out rows.")]
Embedder = Annotated[str, typer.Option(
    "--embedder", metavar="NAME",
    help="hashed, minilm or hashed+minilm (the latter two: extra 'embeddings').")]


@app.callback(epilog="Example: penstock lab train quality rows.parquet --out forecaster.npz")
def _train() -> None:
    """Train predictors on collected rows, and print their errors on held-out rows."""


@app.command(epilog="Example: penstock lab train latency rows.parquet --kind boosting --out "
                    "latency.npz", words={
    "--kind": "linear, roofline, boosting (extra 'boosting') or lstm (extra 'torch')."})
def latency(rows: Rows, kind: Kind = "linear", model: AskedModel = None, out: OutFile = None,
            seed: FirstSeed = 0, as_json: AsJson = False) -> int:
    """Train TTFT, TPOT and e2e from the state of a replica and the request."""
    return _learn("latency", rows, model, kind, out, seed, as_json=as_json)


@app.command(epilog="Example: penstock lab train memory rows.parquet --kind boosting --out "
                    "memory.npz", words={
    "--kind": "linear, boosting (extra 'boosting') or lstm (extra 'torch')."})
def memory(rows: Rows, kind: Kind = "linear", model: AskedModel = None, out: OutFile = None,
           seed: FirstSeed = 0, as_json: AsJson = False) -> int:
    """Train the mean KV cache use of a replica while it serves a request."""
    return _learn("memory", rows, model, kind, out, seed, as_json=as_json)


@app.command(epilog="Example: penstock lab train length rows.parquet --out forecaster.npz")
def length(rows: Rows, embedder: Embedder = "hashed",
           out: OutFile = None, seed: FirstSeed = 0, as_json: AsJson = False) -> int:
    """Train output lengths per prompt and model; also quality if the rows have it."""
    return _forecast(rows, "auto", embedder, out, seed, needs_quality=False, as_json=as_json)


@app.command(epilog="Example: penstock lab train quality rows.parquet --kind auto --out "
                    "forecaster.npz", words={
    "--kind": "knn, ridge, knn+ridge, or auto, the best of these on held-out rows."})
def quality(
    rows: Rows,
    kind: Kind = "auto",
    embedder: Embedder = "hashed", out: OutFile = None, seed: FirstSeed = 0,
    as_json: AsJson = False,
) -> int:
    """Train answer quality and output lengths per prompt and model."""
    return _forecast(rows, kind, embedder, out, seed, needs_quality=True, as_json=as_json)


def _learn(what: str, rows: Path, model: str | None, kind: str, out: Path | None, seed: int, *,
           as_json: bool) -> int:
    from penstock.cli.console import print_json, print_tables, progress
    from penstock.cli.files import check_name, write_whole
    from penstock.experiment.collect.rows import read_collected
    from penstock.predict.learned.recurrent import FULL_SIZE
    from penstock.predict.learned.store import save_learned
    from penstock.predict.learned.training import train_learned

    if out is not None:
        check_name(out, (".npz",))
    collected = read_collected(rows, model)
    total = FULL_SIZE.epochs if kind == "lstm" else None
    with progress(f"training {what}", total) as update:
        learned = train_learned(collected, what, kind, seed, on_epoch=lambda epoch, loss: update(
            f"epoch {epoch}, loss {loss:.3f}", epoch))
    if out is not None:
        write_whole(out, lambda path: save_learned(learned, path), (".npz",))
    if as_json:
        print_json(_learned_document(learned))
    else:
        print_tables(_learned_tables(learned, what))
    return OK


def _learned_document(learned: "LearnedModel") -> dict[str, Any]:
    from dataclasses import asdict

    return {"kind": learned.model.kind, "features": learned.model.features,
            "window": learned.model.window, "num_rows": learned.num_rows, "seed": learned.seed,
            "errors": {name: asdict(error) for name, error in learned.errors.items()},
            "baseline": {name: asdict(error) for name, error in learned.baseline.items()}}


def _learned_tables(learned: "LearnedModel", what: str) -> list[Any]:
    from penstock.report.model.table import table

    cells = [(name, f"{error.mape:.1%}", f"{error.median_ape:.1%}", f"{error.coverage:.1%}",
              f"{error.width:.2f}x", f"{learned.baseline[name].mape:.1%}", f"{error.num_rows:,}")
             for name, error in learned.errors.items()]
    return [table(
        f"{what.capitalize()}, {learned.model.kind}: error on the last rows of "
        f"{learned.num_rows:,}, which it has not seen",
        ("target", "mean error", "median", "in the 90 % interval", "its width",
         "mean error of the median", "rows"), cells),
        f"features: {', '.join(learned.model.features)}"]


def _forecast(rows: Path, kind: str, embedder: str, out: Path | None, seed: int, *,
              needs_quality: bool, as_json: bool) -> int:
    from dataclasses import asdict

    import numpy as np

    from penstock.cli.console import print_json, print_tables, progress
    from penstock.cli.files import check_name, write_whole
    from penstock.experiment.collect.rows import read_prompt_rows
    from penstock.predict.embed.make import make_embedder
    from penstock.predict.prompts.report import report_on
    from penstock.predict.prompts.store import save_forecaster
    from penstock.predict.prompts.training import train_forecaster

    if out is not None:
        check_name(out, (".npz",))
    seen = read_prompt_rows(rows)
    if needs_quality and np.isnan(seen.quality).all():
        raise InputError(f"{rows}: no quality in any row; collect with --metric or --judge")
    rng = np.random.default_rng(seed)
    with progress("training", 2) as update:
        made = make_embedder(embedder, seen.prompts, rng)
        update("embedder")
        trained = train_forecaster(seen, made, rng, kind)
        update("forecaster")
    report = report_on(trained, seen)
    if out is not None:
        write_whole(out, lambda path: save_forecaster(trained.forecaster, path), (".npz",))
    if as_json:
        print_json({**asdict(report), "seed": seed})
    else:
        print_tables(_forecast_tables(report))
    return OK


def _forecast_tables(report: "ForecastReport") -> list[Any]:
    from penstock.report.model.table import table

    lengths = [(one.model, f"{one.length_mape:.1%}", f"{one.length_mape_mean:.1%}",
                f"{one.high_coverage:.1%}", f"{one.num_lengths:,}") for one in report.models]
    qualities = [(one.model, f"{one.mean_quality:.3f}", f"{one.quality_rmse:.4f}",
                  f"{one.quality_rmse_mean:.4f}", f"{one.sd_coverage:.1%}", f"{one.num_judged:,}")
                 for one in report.models if one.num_judged]
    tables: list[Any] = [table(
        f"Output length, {report.source}: error on held-out rows",
        ("model", "mean error", "of the model's mean", "below the 90 % length", "rows"), lengths)]
    if qualities:
        tables.append(table(
            "Quality on held-out rows",
            ("model", "mean", "RMSE", "of the model's mean", "in quality_sd's 90 % interval",
             "rows"), qualities))
    if report.best_picked is not None:
        tables.append(
            f"the model with the highest forecast earns {report.best_picked:.4f}; the best fixed "
            f"model {report.best_fixed:.4f}, an oracle {report.oracle:.4f}")
    return tables
