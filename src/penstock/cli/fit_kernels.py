"""``penstock profile fit kernels``: a step-time file from a folder of kernel tables."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.exits import OK
from penstock.cli.options import (
    AsJson,
    KvPrecisionOr16,
    MeasuredOnAny,
    NeededModel,
    OutFile,
    Pipeline,
    PrecisionOr16,
    Tensor,
)

if TYPE_CHECKING:
    from penstock.core.hardware import Accelerator
    from penstock.perf.kernels.compact import CompactFit
    from penstock.perf.kernels.compose import KernelStepTime


def kernels(
    folder: Annotated[Path, typer.Argument(
        metavar="DIR", show_default=False,
        help="Kernel tables in AIConfigurator's columns: CSV, gzipped CSV or Parquet.")],
    model: NeededModel,
    accelerator: MeasuredOnAny = None,
    system: Annotated[str | None, typer.Option(
        "--system", metavar="NAME", show_default=False,
        help="GPU system of the tables, such as h100_sxm; required without --accelerator.")] = None,
    out: OutFile = None,
    tensor: Tensor = 1,
    pipeline: Pipeline = 1,
    precision: PrecisionOr16 = "bf16",
    kv_precision: KvPrecisionOr16 = "bf16",
    backend: Annotated[str, typer.Option(
        "--backend", metavar="NAME",
        help="Engine of the kernels: vllm, sglang or trtllm.")] = "vllm",
    version: Annotated[str | None, typer.Option(
        "--tables-version", metavar="VERSION", show_default=False,
        help="Engine version of the tables; default: the newest.")] = None,
    host_overhead_s: Annotated[float, typer.Option(
        "--host-overhead", min=0.0, metavar="SECONDS",
        help="Host time added to every step, seconds; not part of the tables.")] = 0.002,
    as_json: AsJson = False,
) -> int:
    """Compose a model's step times from kernel times, and fit a compact model for fleet files."""
    from penstock.catalog.catalog import load_catalog
    from penstock.cli.console import print_json, print_tables
    from penstock.cli.files import write_whole
    from penstock.core.hardware import Parallelism
    from penstock.perf.kernels.from_files import (
        compact_step_time,
        composed_step_time,
        kernel_choice,
    )
    from penstock.perf.step_time.store import save_step_time

    choice = kernel_choice(
        folder, load_catalog().model(model), _accelerator(folder, accelerator, system),
        Parallelism(tensor, pipeline), precision, kv_precision, system=system, backend=backend,
        version=version, host_overhead_s=host_overhead_s)
    composed, found = composed_step_time(choice), compact_step_time(choice)
    if out is not None:
        write_whole(out, lambda path: save_step_time(found.model, path), (".yaml", ".json"))
    if as_json:
        print_json(_document(composed, found))
    else:
        print_tables(_tables(model, composed, found))
    return OK


def _accelerator(folder: Path, name: str | None, system: str | None) -> "Accelerator":
    from penstock.catalog.catalog import load_catalog
    from penstock.core.errors import InputError, one_of
    from penstock.perf.kernels.layout import systems_in, table_files
    from penstock.perf.kernels.system import system_accelerator

    if name is not None:
        return load_catalog().accelerator(name)
    if system is None:
        raise InputError(f"{folder}: name --accelerator, or --system"
                         + one_of(systems_in(table_files(folder))))
    return system_accelerator(folder, system) or load_catalog().accelerator(system)


def _document(composed: "KernelStepTime", found: "CompactFit") -> dict[str, Any]:
    from dataclasses import asdict

    from penstock.perf.step_time.store import step_time_document

    return {**step_time_document(found.model), "errors": asdict(found.errors),
            "errors_by_kind": {kind: asdict(own) for kind, own in found.by_kind.items()},
            "examples": [{"step": name, "features": list(features),
                          "composed_s": composed.seconds(*features),
                          "compact_s": found.model.seconds(*features),
                          "parts_s": composed.predict(features).parts}
                         for name, features in _examples().items()]}


def _examples() -> dict[str, Any]:
    from penstock.core.step import StepFeatures

    return {"prompt of 512": StepFeatures(512, 512 * 256.0, 0, 0),
            "prompt of 4,096": StepFeatures(4096, 4096 * 2048.0, 0, 0),
            "1 decode at 1,000": StepFeatures(0, 0.0, 1, 1_000),
            "64 decodes at 1,000": StepFeatures(0, 0.0, 64, 64_000),
            "512 after 2,000 and 64 decodes": StepFeatures(512, 512 * 2256.0, 64, 64_000)}


def _tables(model: str, composed: "KernelStepTime", found: "CompactFit") -> list[Any]:
    from penstock.report.model.table import table

    steps = []
    for name, features in _examples().items():
        parts = composed.predict(features).parts
        attention = parts["prefill_attention"] + parts["decode_attention"]
        steps.append((name, *(f"{1e3 * seconds:.2f}" for seconds in (
            parts["dense"], attention, parts["communication"], composed.seconds(*features),
            found.model.seconds(*features)))))
    errors = [(kind, f"{own.mean:.1%}", f"{own.median:.1%}", f"{own.p95:.1%}", f"{own.num_steps:,}")
              for kind, own in (*found.by_kind.items(), ("all", found.errors))]
    evidence = found.model.evidence
    return [table(f"Steps of {model}, ms", ("step", "dense", "attention", "communication",
                                            "composed", "compact"), steps),
            table("Compact form against the composition, other steps",
                  ("steps", "mean", "median", "p95", "number"), errors),
            f"source: {composed.evidence.source}",
            f"stated error: mean {evidence.mean_error:.0%}, p95 {evidence.p95_error:.0%}"]
