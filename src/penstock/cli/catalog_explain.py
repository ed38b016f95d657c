"""``penstock catalog explain``: the parts of one engine step."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.exits import OK
from penstock.cli.options import (
    AsJson,
    DataRanks,
    ExpertGroups,
    KvPrecisionOr16,
    NeededGpu,
    OwnCatalog,
    Pipeline,
    PrecisionOr16,
    ScheduledBy,
    Tensor,
)
from penstock.core.errors import InputError, fields_called

if TYPE_CHECKING:
    from penstock.fleet.values import ReplicaGroup
    from penstock.perf.explain import Explanation
    from penstock.perf.step_time.breakdown import Part

_MOST = 100_000_000
_USUAL_PREFILL, _USUAL_DECODES = 512, 64


def explain(
    model: Annotated[str, typer.Argument(
        metavar="MODEL", show_default=False,
        help="A model, or a Hugging Face config.json.")],
    gpu: NeededGpu,
    prefill: Annotated[int | None, typer.Option(
        "--prefill", min=0, max=_MOST, metavar="TOKENS", show_default=False,
        help="Prompt tokens of the step; default: 512, or 0 with --decodes.")] = None,
    past: Annotated[int, typer.Option(
        "--past", min=0, max=_MOST, metavar="TOKENS",
        help="Tokens of the same prompt that are in the KV cache already.")] = 0,
    decodes: Annotated[int | None, typer.Option(
        "--decodes", min=0, max=1_000_000, metavar="N", show_default=False,
        help="Sequences that get one token each; default: 64, or 0 with --prefill.")] = None,
    context: Annotated[int, typer.Option(
        "--context", min=1, max=_MOST, metavar="TOKENS",
        help="Tokens of each decode's sequence, with the new one.")] = 1024,
    tensor: Tensor = 1, pipeline: Pipeline = 1, data: DataRanks = 1, expert: ExpertGroups = 1,
    precision: PrecisionOr16 = "bf16", kv_precision: KvPrecisionOr16 = "bf16",
    engine: ScheduledBy = None,
    step_time: Annotated[str | None, typer.Option(
        "--step-time", metavar="KIND|FILE|DIR", show_default=False,
        help="As step_time of a fleet file: roofline, a published name, a saved fit, or a folder "
             "of kernel tables; default: rates fitted for the engine.")] = None,
    extra: OwnCatalog = None, as_json: AsJson = False,
) -> int:
    """Show why one engine step takes so long: time, work and physical bound of each operation.

    The times are the summands of the step time that simulations and plans of such a replica use.
    """
    from penstock.catalog import load_catalog
    from penstock.cli.console import print_json, print_tables
    from penstock.core.hardware import Parallelism
    from penstock.fleet.lone_replica import check_step, lone_replica, step_of
    from penstock.perf.memory import check_precision

    if prefill is None and decodes is None:
        prefill, decodes = _USUAL_PREFILL, _USUAL_DECODES
    if past and not prefill:
        raise InputError("--past: of which prompt? expected --prefill TOKENS beside it")
    step = step_of(prefill or 0, past, decodes or 0, context)
    catalog = load_catalog(extra)
    spread = Parallelism(tensor, pipeline, data, expert)
    with fields_called({"tensor": "--tensor", "pipeline": "--pipeline", "data": "--data-parallel",
                        "expert": "--expert-parallel", "precision": "--precision"}):
        check_precision(precision)
        with fields_called({"precision": "--kv-precision"}):
            check_precision(kv_precision)
        group, cache = lone_replica(
            _named(catalog.model, model, "MODEL"), _named(catalog.accelerator, gpu, "--gpu"),
            spread, precision, kv_precision, _step_time_of(step_time), _engine_of(
                engine, assumed=step_time is None))
        check_step(group, cache, step, past)
    document = _document(group, step, past, context)
    if as_json:
        print_json(document)
    else:
        from penstock.report.model.step_parts import step_blocks
        print_tables(step_blocks(document))
    return OK


def _named(find: Any, name: str, option: str) -> Any:
    try:
        return find(name)
    except InputError as error:
        raise InputError(f"{option}: {error}") from None


def _engine_of(engine: str | None, *, assumed: bool) -> tuple[str, str | None] | None:
    """Return the engine's name and version, None where only a step time is stated."""
    from penstock.fleet.draft import engine_section

    if engine is None and not assumed:
        return None
    section = engine_section(engine, [])
    return section["name"], section["version"]


def _step_time_of(text: str | None) -> str | dict[str, Any] | None:
    from penstock.fleet.settings import parse_value

    if text is None:
        return None
    if Path(text).is_dir():
        return {"kind": "kernels", "path": text}
    found = parse_value(text, "--step-time")
    if not isinstance(found, str | dict):
        raise InputError(f"--step-time: {text[:60]!r}; expected a name, a file, a folder or "
                         "{kind: NAME, ...}")
    return found


def _document(group: "ReplicaGroup", step: Any, past: int, context: int) -> dict[str, Any]:
    """Return the step and its parts. Raises InputError for a step time that cannot be made."""
    from dataclasses import asdict, replace

    from penstock.core.step import StepPlan
    from penstock.fleet.replica_factory import step_time
    from penstock.perf.explain import explained
    from penstock.perf.step_time.clock import StepClock

    compact_s = None
    spec = group.step_time
    try:
        model = step_time(group)
        if isinstance(spec, Mapping) and spec.get("kind") == "kernels" and "exact" not in spec:
            compact_s = model.seconds(*step)
            model = step_time(replace(group, step_time={**spec, "exact": True}))
    except InputError as error:
        raise InputError(f"--step-time: {str(error).removeprefix('step_time: ')}") from None
    found = explained(model, step)
    told = found.told
    return {
        "model": group.model.name, "accelerator": group.accelerator.name,
        "parallelism": asdict(group.parallelism), "precision": group.precision,
        "kv_precision": group.kv_precision, "step_time": spec or "roofline",
        "step": {"prefill_tokens": step.prefill_tokens, "past_tokens": past,
                 "attention_work": step.prefill_attention_work, "decodes": step.decode_seqs,
                 "context_tokens": context},
        "total_s": told.total_s, "low_s": told.low_s, "high_s": told.high_s,
        "simulated_s": StepClock(model).duration_ps(StepPlan(0, (), (), step)) / 1e12,
        "compact_s": compact_s, "bound_s": found.bound_s or None,
        "by_operation": found.by_operation, "source": told.source,
        "extrapolated": told.extrapolated, "passes": _passes(found),
        "parts": [_part(part, group) for part in found.parts]}


def _passes(found: "Explanation") -> dict[str, float] | None:
    if found.passes_s is None:
        return None
    prefill_s, decode_s = found.passes_s
    return {"prefill_s": prefill_s, "decode_s": decode_s,
            "more_s": prefill_s + decode_s - found.told.total_s}


def _part(part: "Part", group: "ReplicaGroup") -> dict[str, Any]:
    accelerator = group.accelerator
    flops = accelerator.flops("bf16" if part.in_16bit else group.precision)
    return {
        "name": part.name, "group": part.group, "seconds": part.seconds, "alone_s": part.alone_s,
        "fixed_s": part.fixed_s, "calls": part.calls or None, "bytes": part.num_bytes,
        "flops": part.flops, "sent_bytes": part.sent_bytes, "intensity": part.intensity,
        "bound_s": part.bound_s, "bound_share": part.bound_share, "binds": part.binds,
        "bytes_per_s": part.bytes_per_s,
        "bytes_per_s_share": _share(part.bytes_per_s, accelerator.bandwidth_bytes_per_s),
        "flops_per_s": part.flops_per_s, "flops_per_s_share": _share(part.flops_per_s, flops),
        "source": part.source}


def _share(rate: float | None, peak: float) -> float | None:
    return None if rate is None else rate / peak
