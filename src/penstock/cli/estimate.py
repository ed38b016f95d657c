"""``penstock profile estimate``: latency and memory of a model in every configuration."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.exits import MISSED, OK
from penstock.cli.options import (
    Accuracy,
    AsJson,
    BatchSize,
    Fingerprints,
    Intent,
    LeastAccuracy,
    LongestS,
    MeasuredOn,
    MeasuredPrompt,
    NumAccelerators,
    OutFile,
    OutputTokens,
    OwnCatalog,
    PlacerName,
    Precisions,
    TrainDir,
    UsedGib,
    WaitingRateOr0,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.estimate.choosing import Ask, Options
    from penstock.perf.fingerprint.estimator import Estimates
    from penstock.policy.place.intent import Criteria



def estimate(
    model: Annotated[str | None, typer.Argument(
        metavar="MODEL", show_default=False,
        help="Model to choose a configuration for; not with --configs and --out.")] = None,
    train: TrainDir = Path(), intent: Intent = "min_cost", slo_s: LongestS = None,
    rate_per_s: WaitingRateOr0 = 0.0, accelerators: NumAccelerators = 8,
    accelerator: MeasuredOn = "a6000", fingerprints: Fingerprints = None,
    configs: Annotated[Path | None, typer.Option(
        "--configs", metavar="FILE", show_default=False,
        help="Configurations to estimate, one per row (CSV with MaverIQ's columns).")] = None,
    out: OutFile = None, catalog: OwnCatalog = None, used_gib: UsedGib = None,
    output_tokens: OutputTokens = 100, prompt_tokens: MeasuredPrompt = None, batch: BatchSize = 1,
    accuracy: Accuracy = None, least_accuracy: LeastAccuracy = None, precisions: Precisions = None,
    placer: PlacerName = "penstock",
    mode: Annotated[str, typer.Option(
        "--mode", metavar="NAME", help="penstock, or maveriq: MaverIQ's published rules, "
                                       "without intervals.")] = "penstock",
    as_json: AsJson = False,
) -> int:
    """Estimate latency and memory from runs of a few layers, and choose a configuration.

    With MODEL: prints every configuration on the accelerators, the best for the intent first, the
    reasons for rejections, and the next measurements. With --configs and --out: writes a file of
    estimates with 90 % intervals. Exit status 1 if no configuration meets the requirements.
    """
    from penstock.catalog.catalog import load_catalog
    from penstock.cli.console import note, print_json, print_tables
    from penstock.core.errors import InputError

    if (model is None) == (configs is None) or (configs is None) != (out is None):
        raise InputError("expected either MODEL, or --configs and --out")
    if train == Path():
        raise InputError("--train: no folder to learn from")
    criteria = _criteria(intent, slo_s, least_accuracy, precisions, rate_per_s)
    if mode == "maveriq":
        criteria = replace(criteria, sure=False, strict_slo=True)
    entries = load_catalog(catalog)
    found = _estimator(mode)(train, entries, entries.accelerator(accelerator), fingerprints)
    if configs is not None and out is not None:
        return _write(found, configs, out, as_json=as_json)
    assert model is not None
    from penstock.estimate.choosing import Ask
    answered = _options(found, Ask(model, output_tokens, batch, prompt_tokens), accelerators,
                        used_gib, placer, accuracy)
    from penstock.cli.estimate_answers import choice_document, choice_tables, measure_next
    from penstock.policy.place.intent import choose
    choice = choose(answered.candidates, criteria)
    if as_json:
        print_json(choice_document(model, choice, answered, found))
    else:
        print_tables(choice_tables(model, choice, answered, criteria))
        for line in measure_next(model, answered, found):
            note(f"measure next: {line}")
    return OK if choice.chosen is not None else MISSED


def _estimator(mode: str) -> "Callable[..., Estimates]":
    from penstock.core.errors import InputError, nearest
    if mode == "penstock":
        from penstock.estimate.training import trained
        return trained
    if mode == "maveriq":
        from penstock.published.maveriq.estimates import published
        return published
    raise InputError(f"--mode: {mode!r} is unknown{nearest(mode, ('penstock', 'maveriq'))}")


def _criteria(intent: str, slo_s: float | None, least_accuracy: float | None,
              precisions: str | None, rate_per_s: float) -> "Criteria":
    from penstock.cli.estimate_input import allowed_precisions
    from penstock.core.errors import InputError, nearest
    from penstock.policy.place.intent import OBJECTIVES, Criteria

    if intent not in OBJECTIVES:
        raise InputError(f"--intent: {intent!r} is unknown{nearest(intent, OBJECTIVES)}")
    return Criteria(intent, slo_s, least_accuracy=least_accuracy,
                    precisions=allowed_precisions(precisions), own_rate_per_s=rate_per_s)


def _write(found: "Estimates", configs: Path, out: Path, *, as_json: bool) -> int:
    from penstock.cli.console import note, print_json
    from penstock.cli.files import write_whole
    from penstock.estimate.configurations import (
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
    from penstock.cli.estimate_input import free_devices
    from penstock.estimate.choosing import options
    from penstock.registry.make import make_placer

    table = {} if accuracy is None else _accuracies(accuracy)
    devices = free_devices(found, ask.model, accelerators, used_gib)
    return options(found, ask, devices, make_placer(placer_name), table)


def _accuracies(path: Path) -> dict[tuple[str, str, str], float]:
    from penstock.cli.files import read_json
    from penstock.core.errors import InputError
    from penstock.estimate.training import accuracies
    table = read_json(path)
    if not isinstance(table, dict):
        raise InputError(f"{path}: expected an object of numbers by configuration")
    try:
        return accuracies(table)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
