"""``penstock profile fit loading``: how long a load takes, from loads that were timed."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.exits import OK
from penstock.cli.options import AsJson, OutFile

if TYPE_CHECKING:
    from penstock.perf.loading.disagreement import Disagreement
    from penstock.perf.loading.fitting import LoadFit
    from penstock.perf.loading.values import LoadErrors


def loading(
    source: Annotated[Path, typer.Argument(
        metavar="LOADS", show_default=False,
        help="Timed loads: a table (CSV: run, model, size_bytes, seconds), a folder that `penstock "
        "profile load` wrote, or a folder of SINCERE's tables.")],
    profile: Annotated[Path | None, typer.Option(
        "--profile", metavar="PATH", show_default=False,
        help="A profile of the same models, to compare with the load times in service.")
    ] = None,
    page_cache_gb: Annotated[float | None, typer.Option(
        "--page-cache", min=0.001, max=1e6, metavar="GB", show_default=False,
        help="Size of the host's page cache in 10^9 bytes; default: the best fit."
    )] = None,
    out: OutFile = None,
    as_json: AsJson = False,
) -> int:
    """Fit load times by size and cached bytes, and print the errors of the fit."""
    from penstock.cli.console import print_json, print_tables
    from penstock.cli.files import write_whole
    from penstock.cli.load_sources import loads_from, profile_beside
    from penstock.core.units import GB
    from penstock.perf.loading.disagreement import disagreements
    from penstock.perf.loading.fitting import fit_loads
    from penstock.perf.loading.store import save_loading

    records = loads_from(source)
    fit = fit_loads(records, str(source),
                    None if page_cache_gb is None else round(page_cache_gb * GB))
    beside = profile if profile is not None else profile_beside(source)
    found = disagreements(fit, records, loads_from(beside)) if beside is not None else []
    if out is not None:
        write_whole(out, lambda path: save_loading(fit.model, path, fit.page_cache_bytes),
                    (".yaml",))
    if as_json:
        print_json(_document(fit, found))
    else:
        print_tables(_tables(fit, found))
    return OK


def _document(fit: "LoadFit", found: "list[Disagreement]") -> dict[str, Any]:
    from dataclasses import asdict

    from penstock.perf.loading.store import loading_document

    return {**loading_document(fit.model, fit.page_cache_bytes),
            "page_cache_range": fit.page_cache_range, "num_loads": fit.num_loads,
            "num_runs": fit.num_runs,
            "held_out": {kind: asdict(errors) for kind, errors in fit.held_out.items()},
            "per_model_mean": {kind: asdict(errors)
                               for kind, errors in fit.per_model_mean.items()},
            "profile": [{**asdict(one), "factor": one.factor, "agrees": one.agrees,
                         "cause": one.cause} for one in found],
            "notes": list(fit.notes)}


def _tables(fit: "LoadFit", found: "list[Disagreement]") -> list[Any]:
    from penstock.report.model.table import Column, table

    rows = [_errors(kind, explained, errors)
            for kind, ours in fit.held_out.items()
            for explained, errors in (("what was loaded before", ours),
                                      ("mean of the model", fit.per_model_mean[kind]))]
    return [table(f"Loading model fitted to {fit.num_loads:,} loads in {fit.num_runs:,} runs",
                  ("term", "value"), _terms(fit)),
            table("Errors on held-out runs",
                  ("loads", "explained by", "R²", Column("mean", unit="s"),
                   Column("bias", unit="s"), "p95"), rows),
            *(f"profile, {one.kind}: {one.profile_s:.1f} s against {one.service_s:.1f} s in "
              f"service, {one.factor:.1f} times: {one.cause}" for one in found),
            *(f"note: {note}" for note in fit.notes)]


def _errors(kind: str, explained: str, errors: "LoadErrors") -> tuple[str, ...]:
    return (kind, explained, f"{errors.r2:.3f}", f"{errors.mae_s:.2f}", f"{errors.bias_s:+.2f}",
            f"{errors.p95:.0%}")


def _terms(fit: "LoadFit") -> list[tuple[str, str]]:
    from penstock.core.units import GB

    model = fit.model
    terms = [("fixed", f"{model.fixed_s:.2f} s"),
             ("copy to the device", f"{GB / model.pageable_bytes_per_s:.3f} s per GB"),
             ("read from disk", f"{GB / model.disk_bytes_per_s:.3f} s per GB that is not cached")]
    if model.confidential is not None:
        more = model.confidential
        terms += [("confidential: fixed", f"+{more.fixed_s:.2f} s"),
                  ("confidential: copy", f"+{more.copy_s_per_gb:.3f} s per GB"),
                  ("confidential: read", f"+{more.disk_s_per_gb:.3f} s per GB")]
    terms.append(("first load of a run", f"+{model.first.extra_s:.1f} s (p95 "
                                         f"+{model.first.extra_p95_s:.1f} s)"))
    if fit.page_cache_bytes is not None:
        low, high = fit.page_cache_range or (fit.page_cache_bytes, fit.page_cache_bytes)
        between = f" ({low / GB:.1f} to {high / GB:.1f})" if low != high else ""
        terms.append(("page cache", f"{fit.page_cache_bytes / GB:.1f} GB{between}"))
    return terms
