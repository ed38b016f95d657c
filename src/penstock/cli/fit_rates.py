"""``penstock profile fit rates``: rates of engines from measured operating points."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.executor import executor
from penstock.cli.exits import OK
from penstock.cli.options import (
    AsJson,
    GpuName,
    Jobs,
    ModelName,
    On,
    OutFile,
    PrecisionOr16,
    ScheduledBy,
    Seed,
    Tensor,
)
from penstock.core.errors import InputError

if TYPE_CHECKING:
    from penstock.published.measured.correct import Correction
    from penstock.published.measured.fit import RatesFit
    from penstock.published.measured.own import OwnDeployment

_PARTS = ("median", "p90", "bias")
_POINT = ("file", "load", "metric", "measured_s", "shipped_s", "corrected_s")
_METRICS = (("ttft_s", "TTFT"), ("tpot_s", "TPOT"), ("output_tok_per_s", "tokens/s"))


def rates(
    sources: Annotated[list[Path], typer.Argument(
        metavar="FOLDER|FILE...", show_default=False,
        help="Folders with measured*.csv.gz files, one operating point a row; or results of a load "
             "tool on your own engine (JSON of vllm bench serve, bench_serving or GuideLLM).")],
    folds: Annotated[int, typer.Option(
        "--folds", min=2, max=20, metavar="N",
        help="Parts of the curves; each is left out once, for the errors.")] = 8,
    model: ModelName = None,
    gpu: GpuName = None,
    engine: ScheduledBy = None, tensor: Tensor = 1, precision: PrecisionOr16 = "bf16",
    out: OutFile = None, seed: Seed = None, jobs: Jobs = 0, on: On = None, as_json: AsJson = False,
) -> int:
    """Fit the rates of engines on accelerators to measured points, and print the errors on curves
    that were left out.

    With results of a load tool on your own engine, corrects the shipped rates by them and narrows
    their interval. A fleet file uses the result as `engine: {rates: FILE}`.
    """
    from penstock.cli.files import check_name, write_whole

    if out is not None:
        check_name(out, (".yaml",))
    own = [source for source in sources if not source.is_dir()]
    if own:
        if len(own) < len(sources) or not (model and gpu and engine):
            raise InputError(f"{own[0]}: expected folders alone, or results of a load tool alone, "
                             "with --model, --gpu and --engine" if own[0].exists() else
                             f"{own[0]}: no such file or folder")
        found = _corrected(own, _deployment(model, gpu, engine, tensor, precision))
        document = found.document
    else:
        from penstock.cli.console import note
        from penstock.published.measured.fit import fit_rates

        fit = fit_rates(sources, folds, seed or 0, note, executor(jobs, on))
        document = fit.document
    if out is not None:
        write_whole(out, lambda path: _write(document, path), (".yaml",))
    if own:
        _tell_own(found, as_json=as_json)
    else:
        _tell(fit, as_json=as_json)
    return OK


def _deployment(model: str, gpu: str, engine: str, tensor: int, precision: str) -> "OwnDeployment":
    from penstock.catalog import load_catalog
    from penstock.catalog.engines import engine_facts
    from penstock.published.measured.own import OwnDeployment

    catalog = load_catalog()
    name, _, version = engine.partition(":")
    try:
        engine_facts(name, version or None)
    except InputError as error:
        raise InputError(f"--engine: {error}") from None
    return OwnDeployment(catalog.model(model).name, catalog.accelerator(gpu).name, name, version,
                         tensor, precision)


def _corrected(files: list[Path], at: "OwnDeployment") -> "Correction":
    from penstock.perf.step_time.rate_table import fitted_rates
    from penstock.published.measured.correct import corrected
    from penstock.published.measured.own import read_own

    return corrected([row for file in files for row in read_own(file, at)], fitted_rates())


def _tell_own(found: "Correction", *, as_json: bool) -> None:
    from penstock.cli.console import print_json, print_tables
    from penstock.report.model import wording
    from penstock.report.model.table import table

    points = [(one.row.file, f"{one.row.load_kind} {one.row.load_value:g}", one.metric,
               one.measured_s, one.shipped_s, one.corrected_s) for one in found.points]
    if as_json:
        print_json({"factor": found.factor, "prompt_factor": found.prompt_factor,
                    "intervals": {metric: one._asdict() for metric, one in found.intervals.items()},
                    "points": [dict(zip(_POINT, point, strict=True)) for point in points]})
        return
    titles = dict(_METRICS)
    told = [table(f"Own points: {titles[metric]}",
                  ("file", "load", "measured", "shipped", "corrected"),
                  [(file, load, *map(wording.seconds, times_s))
                   for file, load, of, *times_s in points if of == metric])
            for metric in found.intervals]
    intervals = "; ".join(f"{titles[metric]} ±{one.after:.0%}, was ±{one.before:.0%}"
                          for metric, one in found.intervals.items())
    print_tables([*told, f"Step times x {found.factor:.3f}, parts of prompts another "
                         f"x {found.prompt_factor:.3f}. 90 % intervals: {intervals}."])


def _write(document: Mapping[str, Any], path: Path) -> None:
    import yaml

    text = yaml.safe_dump(dict(document), sort_keys=False, width=100)
    path.write_text(text, encoding="utf-8")


def _tell(fit: "RatesFit", *, as_json: bool) -> None:
    from penstock.cli.console import print_json, print_tables
    from penstock.report.model.table import table

    if as_json:
        print_json({**fit.document, "held_out": list(fit.held_out), "points": fit.num_points,
                    "curves": fit.num_curves})
        return
    rows = [(record["group"], title, f"{record[f'{metric} points']:,}",
             *(f"{record[f'{metric} {part}']:.1%}" for part in _PARTS))
            for record in fit.held_out for metric, title in _METRICS
            if f"{metric} points" in record]
    print_tables([table(f"Relative errors on curves left out, {fit.num_curves:,} curves",
                        ("group", "metric", "points", *_PARTS), rows),
                  str(fit.document["source"])])
