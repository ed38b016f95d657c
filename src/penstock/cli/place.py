"""``penstock lab place``: several models that share a node's accelerators."""

from math import isfinite
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.command import App
from penstock.cli.executor import executor
from penstock.cli.exits import MISSED, OK
from penstock.cli.options import (
    AsJson,
    BatchSize,
    Fingerprints,
    Jobs,
    LongestS,
    MeasuredOn,
    MeasuredPrompt,
    NumAccelerators,
    On,
    OutputTokens,
    OwnCatalog,
    Precisions,
    Seed,
    SomeRequests,
    TrainDir,
    UsedGib,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.estimate.together import Guest, Shared

app = App()


@app.command(epilog="Example: penstock lab place llama-2-7b=1.5 llama-2-70b=0.2 "
                    "--train ../shared/data/maveriq --accelerators 8")
def place(
    models: Annotated[list[str], typer.Argument(
        metavar="MODEL=RATE...", show_default=False,
        help="Models with their requests per second; a model may be repeated.")],
    train: TrainDir, accelerators: NumAccelerators = 8, slo_s: LongestS = None,
    precisions: Precisions = None, num_requests: SomeRequests = 300,
    fingerprints: Fingerprints = None, accelerator: MeasuredOn = "a6000",
    catalog: OwnCatalog = None, used_gib: UsedGib = None,
    strategies: Annotated[str, typer.Option(
        "--strategies", metavar="LIST", help="Planning strategies: penstock (least mean time), "
                                             "alpaserve (equal groups, each model added where "
                                             "most answers are in time).")] = "penstock,alpaserve",
    output_tokens: OutputTokens = 100, prompt_tokens: MeasuredPrompt = None, batch: BatchSize = 1,
    slo_factor: Annotated[float, typer.Option(
        "--slo-factor", metavar="X",
        help="Deadline: X times the fastest answer of the model alone.")] = 5.0,
    worth_s: Annotated[float, typer.Option(
        "--gpu-second", metavar="SECONDS", min=0.0, help="Cost of a GPU-second in seconds of "
                                                         "waiting, for Penstock's plan; a "
                                                         "higher cost saves GPU time.")] = 0.0,
    gap_cv: Annotated[float, typer.Option(
        "--burstiness", metavar="CV", min=0.0, max=100.0,
        help="Coefficient of variation of the gaps between requests; 1 is Poisson.")] = 1.0,
    seed: Seed = None, jobs: Jobs = 0, on: On = None, as_json: AsJson = False,
) -> int:
    """Choose configurations and devices for several models on one node, by simulating their queues.

    Prints the results of each strategy on arrivals that no plan has seen. Exit status 1 if the
    first strategy finds no plan.
    """
    from penstock.catalog.catalog import load_catalog
    from penstock.cli.console import print_json, print_tables
    from penstock.cli.estimate_input import allowed_precisions, free_devices
    from penstock.core.errors import InputError
    from penstock.estimate.together import Load, Terms, together
    from penstock.estimate.training import trained
    from penstock.plan.place.shared import Goal

    guests = [_guest(word) for word in models]
    if not 0.0 < slo_factor < float("inf"):
        raise InputError(f"--slo-factor: {slo_factor:g}; expected a number above 0")
    if not isfinite(worth_s):
        raise InputError(f"--gpu-second: {worth_s:g}; expected seconds")
    names = list(dict.fromkeys(word.strip() for word in strategies.split(",")))
    entries = load_catalog(catalog)
    estimator = trained(train, entries, entries.accelerator(accelerator), fingerprints)
    devices = free_devices(estimator, guests[0].model, accelerators, used_gib)
    found, limits_s = together(
        estimator, guests, devices,
        Load(output_tokens, prompt_tokens, num_requests, gap_cv, seed or 0),
        Terms(Goal(worth_s), slo_factor, slo_s, batch, allowed_precisions(precisions)), names,
        executor(jobs, on).results)
    if as_json:
        print_json({"models": [_guest_document(guest, limit_s) for guest, limit_s in zip(
            guests, limits_s, strict=True)],
            "plans": [_document(one, guests, limits_s) for one in found]})
    else:
        print_tables(_tables(found, guests, limits_s))
    return MISSED if found[0].reason else OK


def _guest(word: str) -> "Guest":
    from penstock.core.errors import InputError
    from penstock.estimate.together import Guest

    model, _, rate = word.rpartition("=")
    try:
        rate_per_s = float(rate)
    except ValueError:
        rate_per_s = 0.0
    if not model or not 0.0 < rate_per_s < float("inf"):
        raise InputError(f"{word[:60]!r}: expected MODEL=RATE with requests per second above 0, "
                         "such as llama-2-7b=1.5")
    return Guest(model, rate_per_s)


def _guest_document(guest: "Guest", limit_s: float) -> dict[str, Any]:
    return {"model": guest.model, "rate_per_s": guest.rate_per_s, "slo_s": limit_s}


def _document(one: "Shared", guests: "Sequence[Guest]",
              limits_s: "Sequence[float]") -> dict[str, Any]:
    from penstock.estimate.documents import configuration_document

    if one.outcome is None:
        return {"strategy": one.strategy, "reason": one.reason, "seats": []}
    return {"strategy": one.strategy, "reason": None, **_figures(one, limits_s),
            "num_simulated": one.num_simulated,
            "seats": [{"model": guest.model} | ({"left_out": True} if seat is None else {
                "left_out": False, **configuration_document(seat.way.configuration),
                "alone_s": seat.way.work_s, "device_bytes": seat.way.device_bytes,
                "device_sets": [sorted(devices) for devices in seat.device_sets]})
                for guest, seat in zip(guests, one.seats, strict=True)]}


def _figures(one: "Shared", limits_s: "Sequence[float]") -> dict[str, float]:
    """Return figures over the judged arrivals; times are of answered requests."""
    import numpy as np

    assert one.outcome is not None
    answered = one.outcome.e2e_s[np.isfinite(one.outcome.e2e_s)]
    return {"answered": one.outcome.answered, "in_time": one.outcome.attainment(limits_s),
            "mean_s": float(answered.mean()) if answered.size else 0.0,
            "p95_s": float(np.percentile(answered, 95.0)) if answered.size else 0.0,
            "gpu_s": float(one.outcome.device_s.sum() / max(1, answered.size))}


def _tables(found: "Sequence[Shared]", guests: "Sequence[Guest]",
            limits_s: "Sequence[float]") -> list[Any]:
    from penstock.core.units import GIB
    from penstock.report.model.table import Column, table

    rows, seats = [], []
    for one in found:
        if one.outcome is None:
            rows.append((one.strategy, "-", "-", "-", "-", "-", one.reason))
            continue
        said = _figures(one, limits_s)
        rows.append((one.strategy, f"{said['answered']:.1%}", f"{said['in_time']:.1%}",
                     f"{said['mean_s']:.3g}", f"{said['p95_s']:.3g}", f"{said['gpu_s']:.3g}", ""))
        for guest, seat in zip(guests, one.seats, strict=True):
            seats.append((one.strategy, guest.model, "left out", "", "", "") if seat is None else (
                one.strategy, guest.model, seat.way.configuration.name, f"{seat.way.work_s:.3g}",
                f"{seat.way.device_bytes / GIB:.1f}",
                "; ".join(" ".join(map(str, sorted(devices))) for devices in seat.device_sets)))
    return [table("On arrivals that no plan has seen", (
        "strategy", "answered", "in time", Column("mean", unit="s"), Column("p95", unit="s"),
        "GPU-seconds each", ""), rows),
        table("Plans", ("strategy", "model", "configuration", Column("alone", unit="s"),
                        "GiB per device", "devices of each replica"), seats)]
