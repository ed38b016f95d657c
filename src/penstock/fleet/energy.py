"""Power and carbon of a fleet: resolving what the file states, and coverage of the power data."""

import csv
import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from penstock.core.errors import InputError
from penstock.core.hardware import Accelerator
from penstock.core.power import CarbonIntensity, PowerCurve
from penstock.fleet.document_energy import CarbonSection, PowerSection
from penstock.fleet.files import FileFinder, read_text
from penstock.fleet.marked_yaml import Path as FieldPath
from penstock.fleet.problems import PlacedError, Problem
from penstock.fleet.values import AcceleratorPool, Fleet, ReplicaGroup

PLANNED_UTILIZATION = 0.8
"""Utilization at which replicas are weighed against each other: a rate over the first margin of
Penstock's scaler, 1.25."""

_COLUMNS = ("time_s", "gco2_per_kwh")
_PLACE = ("scaling", "carbon")
_MOST_LINES = 100_000


def resolve_power(path: FieldPath, section: PowerSection | None,
                  accelerator: Accelerator) -> PowerCurve | None:
    """Return the power curve that the file states. Raises PlacedError where it falls."""
    if section is None:
        return None
    try:
        return PowerCurve.of(
            section.idle_w, accelerator.power_w if section.full_w is None else section.full_w,
            section.mid_w, section.mid_utilization)
    except InputError as error:
        raise PlacedError(path, str(error)) from None


def resolve_carbon(section: CarbonSection | None, files: FileFinder) -> CarbonIntensity | None:
    """Return the carbon intensity that the file states. Raises PlacedError, InputError for the
    content of a series' file."""
    if section is None:
        return None
    stated = [name for name in ("gco2_per_kwh", "file", "points")
              if getattr(section, name) is not None]
    if len(stated) != 1:
        raise PlacedError(_PLACE, f"states {' and '.join(stated) or 'none'}; expected one of "
                                  "gco2_per_kwh, file and points")
    if section.gco2_per_kwh is not None:
        if section.repeat_s is not None:
            raise PlacedError((*_PLACE, "repeat_s"), "stands beside a constant; expected file or "
                                                     "points")
        return CarbonIntensity.constant(section.gco2_per_kwh)
    if section.file is not None:
        rows = _read(Path(files.find(section.file, (*_PLACE, "file"))))
    else:
        rows = [(one.time_s, one.gco2_per_kwh) for one in section.points or ()]
        if not rows:
            raise PlacedError((*_PLACE, "points"), "expected at least one entry, found an empty "
                                                   "list")
        for place, (before, after) in enumerate(pairwise(rows), 1):
            if after[0] <= before[0]:
                raise PlacedError((*_PLACE, "points", place, "time_s"),
                                  f"expected more than {before[0]:g}, found {after[0]:g}")
    if section.repeat_s is not None and rows[-1][0] >= section.repeat_s:
        raise PlacedError((*_PLACE, "repeat_s"), "expected more than the last time, "
                                                 f"{rows[-1][0]:g} s")
    return CarbonIntensity(tuple(time_s for time_s, _ in rows), tuple(value for _, value in rows),
                           section.repeat_s)


def _read(path: Path) -> list[tuple[float, float]]:
    """Return the rows of a series' file. Raises InputError with file and line."""
    lines = csv.reader(read_text(path, "a series of carbon intensity").splitlines())
    names = [name.strip() for name in next(lines, [])]
    if sorted(names) != sorted(_COLUMNS):
        raise InputError(f"{path}:1: found the columns {', '.join(names)[:60] or 'none'}; expected "
                         "time_s and gco2_per_kwh")
    places = [names.index(name) for name in _COLUMNS]
    rows: list[tuple[float, float]] = []
    for line in lines:
        where = f"{path}:{lines.line_num}"
        if not line:
            continue
        if len(rows) == _MOST_LINES:
            raise InputError(f"{where}: expected at most {_MOST_LINES:,} rows")
        if len(line) != len(names):
            raise InputError(f"{where}: found {len(line)} values; expected {len(names)}")
        time_s, value = (_number(where, name, line[place])
                         for name, place in zip(_COLUMNS, places, strict=True))
        if rows and time_s <= rows[-1][0]:
            raise InputError(f"{where}: time_s: found {time_s:g}; expected more than "
                             f"{rows[-1][0]:g}, the time before")
        rows.append((time_s, value))
    if not rows:
        raise InputError(f"{path}: has no rows; expected time_s and gco2_per_kwh")
    return rows


def _number(where: str, name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 <= value < math.inf:
        raise InputError(f"{where}: {name}: found {text.strip()[:60]!r}; expected a number of at "
                         "least 0")
    return value


def energy_problems(fleet: Fleet) -> Iterable[Problem]:
    """Yield what the objective of scaling lacks, and classes that are deferred for too long or by
    nobody."""
    objective = fleet.scaling.objective
    if objective != "cost":
        path: FieldPath = ("scaling", "objective")
        names = dict.fromkeys(group.accelerator.name for group in fleet.replicas)
        lacks = [name for name in names if fleet.pool(name).power_curve is None]
        if lacks:
            yield Problem(path, f"{objective} needs the power of {', '.join(lacks)}, whose idle "
                                "power the catalog does not have; expected accelerators[].power, "
                                "such as {idle_w: 100, mid_w: 250}")
        if objective == "carbon" and fleet.scaling.carbon is None:
            yield Problem(path, "carbon needs scaling.carbon, such as {gco2_per_kwh: 300}")
    for i, one in enumerate(fleet.service_classes):
        path = ("service_classes", i, "defer_s")
        for key in ("ttft_s", "e2e_s"):
            target_s = getattr(one.slo, key)
            if one.defer_s is not None and target_s is not None and one.defer_s >= target_s:
                yield Problem(path, f"expected less than slo.{key}, {target_s:g} s, found "
                                    f"{one.defer_s:g} s")
        if one.defer_s is not None and not fleet.scales:
            yield Problem(path, "requests are deferred where a policy scales, and policies.scale "
                                "is none")


def per_hour(fleet: Fleet, group: ReplicaGroup) -> float | None:
    """Return what one replica of a group costs in an hour by the fleet's objective, in watts or
    gCO2 at the planned utilization; None where the objective is money.

    The intensity of a carbon series is its mean over the values: all groups use the same
    electricity, so the choice among them does not depend on it.
    """
    options = fleet.scaling
    if options.objective == "cost":
        return None
    curve = fleet.pool(group.accelerator.name).power_curve
    assert curve is not None, "the fleet was checked"
    watts = group.parallelism.num_accelerators * curve.watts(PLANNED_UTILIZATION)
    if options.objective == "energy":
        return watts
    assert options.carbon is not None, "the fleet was checked"
    return watts / 1000.0 * sum(options.carbon.values) / len(options.carbon.values)


def power_section(pool: AcceleratorPool) -> dict[str, Any] | None:
    """Return a pool's power as the file states it."""
    curve = pool.power
    return None if curve is None else {
        "idle_w": curve.idle_w, "mid_w": curve.mid_w, "mid_utilization": curve.mid_utilization,
        "full_w": curve.full_w}


def carbon_section(carbon: CarbonIntensity | None) -> dict[str, Any] | None:
    """Return a carbon intensity as the file states it, a series of a file as points."""
    if carbon is None:
        return None
    if carbon == CarbonIntensity.constant(carbon.values[0]):
        return {"gco2_per_kwh": carbon.values[0]}
    return {"points": [{"time_s": time_s, "gco2_per_kwh": value}
                       for time_s, value in zip(carbon.times_s, carbon.values, strict=True)],
            "repeat_s": carbon.repeat_s}


def coverage(fleet: Fleet, gpu_hours: Sequence[float]) -> float | None:
    """Return the share of GPU-hours by group whose power is known, None without any."""
    total = sum(gpu_hours)
    known = sum(hours for group, hours in zip(fleet.replicas, gpu_hours, strict=True)
                if fleet.pool(group.accelerator.name).power_curve is not None)
    return known / total if total > 0.0 else None
