"""Output of the profile commands: a profile's points, as tables and as JSON."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock.perf.profiles.points import Measurement
    from penstock.perf.profiles.summary import PointSummary
    from penstock.profile.record import Record

_GIB = 1 << 30


def show(record: "Record", *, as_json: bool) -> None:
    """A profile's points as a table or as JSON; on stderr, what is not in it. Raises InputError if
    every point failed, as with an engine that cannot load the model."""
    from penstock.cli.console import note, print_json, print_tables
    from penstock.core.errors import InputError
    from penstock.perf.profiles.summary import summaries

    document = record.document
    found = record.measurements
    if found and all(one.outcome == "failed" for one in found):
        raise InputError(f"{record.folder}: nothing was measured, every point failed: "
                         f"{found[-1].reason[:300]}; give another --out when the cause is mended")
    points = summaries(record.measurements)
    if document["status"] == "out_of_time":
        note("out of time: the same command goes on with the points that are left")
    for entry in document["left_out"]:
        note(f"not measured: {entry['point']}: {entry['reason']}")
    if as_json:
        print_json({"profile": str(record.folder), "kind": document["kind"],
                    "status": document["status"], "simulated": document["subject"]["simulated"],
                    "left_out": document["left_out"], "design": document["design"],
                    "points": [point_document(point) for point in points]})
        return
    print_tables(profile_tables(document, points, record.folder))


def point_document(point: "PointSummary") -> dict[str, Any]:
    """A point as JSON."""
    one, seconds = point.example, point.seconds
    configuration = one.configuration
    return {"kind": one.kind, "model": configuration.model, "tensor": configuration.tensor,
            "layers_by_stage": list(configuration.layers_by_stage),
            "precision": configuration.precision, "kv_precision": configuration.kv_precision,
            "batch": one.batch, "prompt_tokens": one.prompt_tokens,
            "output_tokens": one.output_tokens, "cache": one.cache or None, "op": one.op or None,
            "outcome": point.outcome, "reason": one.reason or None,
            "num_repeats": point.num_repeats,
            "seconds": None if seconds is None else seconds.median,
            "low_s": None if seconds is None else seconds.low,
            "high_s": None if seconds is None else seconds.high,
            "first_token_s": point.first_token_s, "decode_step_s": point.decode_step_s,
            "memory_loaded_bytes": point.memory_loaded_bytes, "memory_bytes": point.memory_bytes}


def profile_tables(document: Mapping[str, Any], points: Sequence["PointSummary"], folder: Path
                   ) -> list[Any]:
    """The points, and the lines around them."""
    from penstock.report.model.table import Column, table

    subject = document["subject"]
    title = f"{subject.get('model', 'profile')} on {subject.get('engine', 'an engine')}"
    if subject.get("simulated"):
        title += " (simulated: no engine was measured)"
    loads = any(point.example.kind in ("load", "unload") for point in points)
    points = sorted(points, key=_reading_order)
    if loads:
        columns: list[str | Column] = ["what", "configuration", "cache", "repeats", "seconds",
                                       "interval", "ready after", "file GiB", "memory GiB"]
        rows = [_load_cells(point) for point in points]
    else:
        columns = ["configuration", "batch", "prompt", "output", "repeats", "seconds", "interval",
                   "first token", "per step", "memory GiB"]
        rows = [_batch_cells(point) for point in points]
    if len({point.example.configuration for point in points}) == 1:  # it stands in the title once
        place = columns.index("configuration")
        del columns[place]
        title += f", {points[0].example.configuration.label}"
        for row in rows:
            del row[place]
    lines = [f"profile: {folder} ({document['status'].replace('_', ' ')})"]
    design = document["design"]
    if "largest_that_fits" in design:
        beyond = design["smallest_that_does_not"]
        lines.insert(0, f"largest batch that fits: {design['largest_that_fits']}" + (
            f"; {beyond} does not" if beyond else ", the largest that was tried"))
    return [table(title, columns, rows), *lines]


def _reading_order(point: "PointSummary") -> tuple[Any, ...]:
    """They were measured in another order, so as not to mistake a drift for an effect."""
    one = point.example
    configuration = one.configuration
    return (configuration.precision, configuration.kv_precision, configuration.tensor,
            configuration.pipeline, configuration.num_layers, one.kind, one.cache,
            one.prompt_tokens or 0, one.output_tokens or 0, one.batch or 0)


def _batch_cells(point: "PointSummary") -> list[str]:
    one = point.example
    return [one.configuration.label, _count(one.batch), _count(one.prompt_tokens),
            _count(one.output_tokens), str(point.num_repeats), *_median_cells(point),
            _ms(point.first_token_s), _ms(point.decode_step_s), _gib(point.memory_bytes)]


def _load_cells(point: "PointSummary") -> list[str]:
    one = point.example
    return [one.kind, one.configuration.label, one.cache.replace("_", " "), str(point.num_repeats),
            *_median_cells(point), _s(point.first_token_s), _gib(one.file_bytes),
            _gib(point.memory_bytes)]


def _median_cells(point: "PointSummary") -> list[str]:
    seconds = point.seconds
    if seconds is None:
        return [point.outcome.replace("_", " "), "-"]
    return [_s(seconds.median), f"±{seconds.relative_half_width:.1%}"]


def said(one: "Measurement") -> str:
    """Return a line about the latest measurement, for a progress bar."""
    size = "" if one.batch is None else f" batch {one.batch}, prompt {one.prompt_tokens}"
    took = one.outcome.replace("_", " ") if one.seconds is None else _s(one.seconds)
    return f"{one.configuration.label}{size}{' (warm-up)' if one.warm_up else ''}: {took}"


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _s(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g} s"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value * 1e3:.4g} ms"


def _gib(value: float | None) -> str:
    return "-" if value is None else f"{value / _GIB:.3g}"
