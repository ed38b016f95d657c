"""``penstock estimate``: latency and memory of a model in every configuration."""

from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.exits import MISSED, OK
from penstock.cli.options import AsJson

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from penstock.experiment.estimate.choosing import Ask, Options
    from penstock.perf.fingerprint.estimator import Estimate, Estimates
    from penstock.policy.place.intent import Choice, Wishes

app = typer.Typer(add_completion=False)
_SHOWN, _WORDINGS = 12, 3
_MOST = 1_000_000_000  # tokens, or requests


@app.command(epilog="Example: penstock estimate llama-2-7b --train ../shared/data/maveriq "
                    "--accelerators 8 --intent min_lat")
def estimate(
    model: Annotated[str | None, typer.Argument(
        metavar="MODEL", show_default=False,
        help="The model to choose a configuration for; or give --configs and --out.")] = None,
    train: Annotated[Path, typer.Option(
        "--train", metavar="DIR", show_default=False,
        help="Folder to learn from: profiles by penstock profile, or tables laid out as "
        "MaverIQ's.")] = Path(),
    fingerprints: Annotated[Path | None, typer.Option(
        "--fingerprints", metavar="FILE", show_default=False,
        help="Fingerprints of the models to estimate (a profile's folder, or CSV with MaverIQ's "
             "columns); default: those in the training folder.")] = None,
    configs: Annotated[Path | None, typer.Option(
        "--configs", metavar="FILE", show_default=False,
        help="Configurations to estimate, one per row (CSV with MaverIQ's columns).")] = None,
    out: Annotated[Path | None, typer.Option(
        "--out", metavar="FILE", show_default=False,
        help="Where to write the estimates of --configs (.csv).")] = None,
    accelerator: Annotated[str, typer.Option(
        "--accelerator", metavar="NAME", help="What everything was measured on.")] = "a6000",
    catalog: Annotated[Path | None, typer.Option(
        "--catalog", metavar="PATH", show_default=False,
        help="Your own accelerators and models, beside those that ship.")] = None,
    accelerators: Annotated[int, typer.Option(
        "--accelerators", min=1, max=64, metavar="N", help="How many of them there are.")] = 8,
    used_gib: Annotated[str | None, typer.Option(
        "--used-gib", metavar="LIST", show_default=False,
        help="Memory already used on each, such as 10,0,0,30; default: none.")] = None,
    output_tokens: Annotated[int, typer.Option(
        "--output-tokens", min=1, max=_MOST, metavar="N", help="Length of an answer.")] = 100,
    prompt_tokens: Annotated[int | None, typer.Option(
        "--prompt-tokens", min=1, max=_MOST, metavar="N", show_default=False,
        help="Length of a prompt; default: as in the fingerprints.")] = None,
    batch: Annotated[int, typer.Option(
        "--batch", min=1, max=_MOST, metavar="N", help="Requests at once.")] = 1,
    intent: Annotated[str, typer.Option(
        "--intent", metavar="NAME", help="What to make small: min_lat, min_mem, min_cost (latency "
        "times memory), min_gpu_cost (latency times accelerators), money or energy.")] = "min_cost",
    slo_s: Annotated[float | None, typer.Option(
        "--slo", metavar="SECONDS", show_default=False,
        help="Longest time for an answer; the high end of the interval must keep it.")] = None,
    rate_per_s: Annotated[float, typer.Option(
        "--rate", min=0.0, metavar="R", help="Requests per second that it will get; waiting then "
        "counts as latency.")] = 0.0,
    accuracy: Annotated[Path | None, typer.Option(
        "--accuracy", metavar="FILE", show_default=False,
        help="Accuracy by configuration, JSON with MaverIQ's keys.")] = None,
    least_accuracy: Annotated[float | None, typer.Option(
        "--least-accuracy", metavar="A", show_default=False,
        help="In the units of that table.")] = None,
    precisions: Annotated[str | None, typer.Option(
        "--precisions", metavar="LIST", show_default=False,
        help="Weights' number formats that are allowed, such as fp16,int8.")] = None,
    placer: Annotated[str, typer.Option(
        "--placer", metavar="NAME", help="penstock, balanced or maveriq.")] = "penstock",
    mode: Annotated[str, typer.Option(
        "--mode", metavar="NAME", help="penstock, or maveriq: its rules as published, without "
        "intervals.")] = "penstock",
    as_json: AsJson = False,
) -> int:
    """Estimate latency and memory from runs of a few layers, and choose by what is wanted.

    With MODEL: every configuration on the accelerators, the best for the intent, why others were
    rejected, and what to measure next. With --configs and --out: a file of estimates with 90 %
    intervals. Exit status 1 when nothing may be chosen.
    """
    from penstock.catalog.catalog import load_catalog
    from penstock.cli.console import note, print_json, print_tables
    from penstock.core.errors import InputError

    if (model is None) == (configs is None) or (configs is None) != (out is None):
        raise InputError("expected either MODEL, or --configs and --out")
    if train == Path():
        raise InputError("--train: no folder to learn from")
    wishes = _wishes(intent, slo_s, least_accuracy, precisions, rate_per_s)
    if mode == "maveriq":
        wishes = replace(wishes, sure=False, strict_slo=True)
    entries = load_catalog(catalog)
    found = _estimator(mode)(train, entries, entries.accelerator(accelerator), fingerprints)
    if configs is not None and out is not None:
        return _write(found, configs, out, as_json=as_json)
    assert model is not None
    from penstock.experiment.estimate.choosing import Ask
    answered = _options(found, Ask(model, output_tokens, batch, prompt_tokens), accelerators,
                        used_gib, placer, accuracy)
    from penstock.policy.place.intent import choose
    choice = choose(answered.candidates, wishes)
    if as_json:
        print_json(_document(model, choice, answered, found))
    else:
        print_tables(_tables(model, choice, answered, wishes))
        for line in _advice(model, answered, found):
            note(f"measure next: {line}")
    return OK if choice.chosen is not None else MISSED


def _estimator(mode: str) -> "Callable[..., Estimates]":
    from penstock.core.errors import InputError, nearest
    if mode == "penstock":
        from penstock.experiment.estimate.training import trained
        return trained
    if mode == "maveriq":
        from penstock.experiment.estimate.published import published
        return published
    raise InputError(f"--mode: {mode!r} is unknown{nearest(mode, ('penstock', 'maveriq'))}")


def _wishes(intent: str, slo_s: float | None, least_accuracy: float | None,
            precisions: str | None, rate_per_s: float) -> "Wishes":
    from penstock.core.errors import InputError, nearest
    from penstock.perf.fingerprint.physics import PRECISIONS
    from penstock.policy.place.intent import OBJECTIVES, Wishes

    if intent not in OBJECTIVES:
        raise InputError(f"--intent: {intent!r} is unknown{nearest(intent, OBJECTIVES)}")
    if slo_s is not None and not slo_s > 0.0:
        raise InputError(f"--slo: {slo_s:g}; expected seconds above 0")
    if least_accuracy is not None and not isfinite(least_accuracy):
        raise InputError(f"--least-accuracy: {least_accuracy:g}; expected a number")
    if not isfinite(rate_per_s):
        raise InputError(f"--rate: {rate_per_s:g}; expected requests per second")
    allowed = None
    if precisions is not None:
        allowed = frozenset(word.strip() for word in precisions.split(","))
        for word in sorted(allowed):
            if word not in PRECISIONS:
                raise InputError(f"--precisions: {word!r} is unknown{nearest(word, PRECISIONS)}")
    return Wishes(intent, slo_s, least_accuracy=least_accuracy, precisions=allowed,
                  own_rate_per_s=rate_per_s)


def _write(found: "Estimates", configs: Path, out: Path, *, as_json: bool) -> int:
    from penstock.cli.console import note, print_json
    from penstock.cli.files import write_whole
    from penstock.experiment.estimate.configurations import (
        answered,
        read_questions,
        write_answers,
    )

    questions = read_questions(configs)
    answers = answered(found, questions)
    write_whole(out, lambda path: write_answers(path, questions, answers), (".csv",))
    extrapolated = sum(bool(one.latency_s.extrapolated) for one in answers)
    if as_json:
        print_json({"out": str(out), "num_rows": len(answers), "num_extrapolated": extrapolated})
    else:
        note(f"{out}: {len(answers)} estimates, {extrapolated} of them beyond what was measured")
    return OK


def _options(found: "Estimates", ask: "Ask", accelerators: int, used_gib: str | None,
             placer_name: str, accuracy: Path | None) -> "Options":
    from penstock.experiment.estimate.choosing import options
    from penstock.policy.place.build import placer

    table = {} if accuracy is None else _accuracies(accuracy)
    devices = _devices(found, ask.model, accelerators, used_gib)
    return options(found, ask, devices, placer(placer_name), table)


def _devices(found: "Estimates", model: str, accelerators: int, used_gib: str | None) -> list[Any]:
    from penstock.core.errors import InputError, nearest
    from penstock.core.units import GIB
    from penstock.policy.place.values import Device

    if model not in found.subjects:
        raise InputError(f"model {model!r} has no fingerprints{nearest(model, found.subjects)}")
    total = found.subjects[model].accelerator.memory_bytes
    try:
        used = [float(word) for word in used_gib.split(",")] if used_gib else [0.0] * accelerators
    except ValueError:
        raise InputError(f"--used-gib: {used_gib!r}; expected numbers parted by commas") from None
    if len(used) != accelerators or not all(0.0 <= one * GIB <= total for one in used):
        raise InputError(f"--used-gib: {used_gib!r}; expected {accelerators} numbers from 0 to "
                         f"{total / GIB:g}")
    return [Device(i, "node", total, round(one * GIB)) for i, one in enumerate(used)]


def _accuracies(path: Path) -> dict[tuple[str, str, str], float]:
    import json

    from penstock.core.errors import InputError
    from penstock.experiment.estimate.training import accuracies
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(table, dict):
        raise InputError(f"{path}: expected an object of numbers by configuration")
    try:
        return accuracies(table)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _advice(model: str, answered: "Options", found: "Estimates") -> list[str]:
    from penstock.perf.fingerprint.advice import advice
    return advice(model, found.subjects[model].model.num_layers, answered.estimates)


def _tables(model: str, choice: "Choice", answered: "Options", wishes: "Wishes") -> list[Any]:
    from penstock.core.units import GIB
    from penstock.policy.place.intent import pareto
    from penstock.report.tables import plain_table

    best = [one for one in (choice.chosen, *choice.alternatives) if one is not None]
    front = {one.candidate.configuration for one in pareto(best)}
    rows = []
    for one in best[:_SHOWN]:
        candidate, latency, memory = one.candidate, one.candidate.latency_s, \
            one.candidate.memory_bytes
        placed = answered.placements[candidate.configuration]
        rows.append((candidate.configuration.name, _range(latency.value, latency.low, latency.high),
                     _range(memory.value / GIB, memory.low / GIB, memory.high / GIB),
                     "-" if candidate.accuracy is None else f"{candidate.accuracy:g}",
                     "yes" if candidate.configuration in front else "",
                     " ".join(map(str, placed.layer_map)),
                     "; ".join(latency.extrapolated)))
    said: list[Any] = []
    if rows:
        said.append(plain_table(
            f"{model} by {wishes.intent}: the best first",
            ("configuration", "latency, s", "memory, GiB", "accuracy", "Pareto", "layers by stage",
             "beyond what was measured"), rows))
        if len(best) > _SHOWN:
            said.append(f"and {len(best) - _SHOWN} more")
    else:
        said.append(choice.reason)
    if choice.rejected:
        said.append(plain_table("Rejected", ("reason", "configurations"),
                                _reasons(why for _, why in choice.rejected)))
    return said


def _reasons(rejected: "Iterable[str]") -> list[tuple[str, str]]:
    """Reasons and how many had them, the most frequent first; where a kind of reason (what stands
    before the colon) has many wordings, they are one."""
    kinds: dict[str, dict[str, int]] = {}
    for why in rejected:
        wordings = kinds.setdefault(why.partition(":")[0], {})
        wordings[why] = wordings.get(why, 0) + 1
    rows: list[tuple[str, int]] = []
    for wordings in kinds.values():
        if len(wordings) > _WORDINGS:
            rows.append((f"{next(iter(wordings))}, and the like", sum(wordings.values())))
        else:
            rows += wordings.items()
    return [(why, str(count)) for why, count in sorted(rows, key=lambda row: -row[1])]


def _range(value: float, low: float, high: float) -> str:
    return f"{value:.3g} ({low:.3g} to {high:.3g})"


def _document(model: str, choice: "Choice", answered: "Options",
              found: "Estimates") -> dict[str, Any]:
    best = [one for one in (choice.chosen, *choice.alternatives) if one is not None]
    return {
        "model": model, "reason": choice.reason or None,
        "chosen": None if choice.chosen is None else _entry(choice.chosen, answered),
        "nearest": None if choice.nearest is None else choice.nearest.candidate.configuration.name,
        "alternatives": [_entry(one, answered) for one in best[1:]],
        "rejected": [{"configuration": candidate.configuration.name, "reason": why}
                     for candidate, why in choice.rejected],
        "measure_next": _advice(model, answered, found)}


def _entry(scored: Any, answered: "Options") -> dict[str, Any]:
    candidate = scored.candidate
    configuration, placed = candidate.configuration, answered.placements[
        candidate.configuration]
    estimate: Estimate = answered.estimates[configuration]
    return {
        "configuration": configuration.name, "tensor": configuration.parallelism.tensor,
        "pipeline": configuration.parallelism.pipeline, "precision": configuration.precision,
        "kv_precision": configuration.kv_precision, "value": scored.value,
        "response_s": scored.response_s, "accuracy": candidate.accuracy,
        "latency_s": _prediction(estimate.latency_s),
        "memory_bytes": _prediction(estimate.memory_bytes),
        "layers_by_stage": list(placed.layer_map),
        "devices_by_stage": [list(stage.device_ids) for stage in placed.stages]}


def _prediction(one: Any) -> dict[str, Any]:
    return {"value": one.value, "low": one.low, "high": one.high, "coverage": one.coverage,
            "source": one.source, "extrapolated": list(one.extrapolated)}
