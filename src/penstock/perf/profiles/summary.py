"""Repeats of a profile joined to one value per point, for readers and for estimators."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np

from penstock.core.errors import InputError
from penstock.perf.profiles.folder import Profile, is_profile, read_profile
from penstock.perf.profiles.points import Measurement, Outcome
from penstock.perf.profiles.rows import ProfiledRun
from penstock.perf.profiles.stability import MedianInterval, median_interval
from penstock.perf.step_time.steps import StepTable


@dataclass(frozen=True, slots=True)
class PointSummary:
    """All repeats of one point; ``example`` is one of them. ``seconds`` is None where none ran."""

    example: Measurement
    num_repeats: int
    seconds: MedianInterval | None
    first_token_s: float | None
    decode_step_s: float | None
    memory_loaded_bytes: float | None
    memory_bytes: float | None

    @property
    def outcome(self) -> Outcome:
        """``ok``, or how it failed."""
        return "ok" if self.seconds is not None else self.example.outcome


def summaries(measurements: Iterable[Measurement]) -> list[PointSummary]:
    """The points in the order in which they were first measured, without warm-ups.

    Where some repeats ran and others did not, those that ran count.
    """
    points: dict[str, list[Measurement]] = {}
    for one in measurements:
        if not one.warm_up:
            points.setdefault(one.key, []).append(one)
    return [summary(repeats) for repeats in points.values()]


def summary(repeats: Sequence[Measurement]) -> PointSummary:
    """The repeats of one point, of which there is at least one."""
    ran = [one for one in repeats if one.outcome == "ok" and one.seconds is not None]
    seconds = [one.seconds for one in ran if one.seconds is not None]
    return PointSummary(
        (ran or repeats)[0], len(repeats), median_interval(seconds) if seconds else None,
        _median(one.first_token_s for one in ran), _median(one.decode_step_s for one in ran),
        _median(one.memory_loaded_bytes for one in ran),
        _median(one.memory_bytes for one in ran))


def _median(values: Iterable[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return float(median(found)) if found else None


# -- for estimators -------------------------------------------------------------------------------


def profiled_runs(profile: Profile) -> list[ProfiledRun]:
    """The profile's batches as runs, each the median of its repeats; those that did not fit have no
    latency. Other failures are left out."""
    return runs_by_row(replace(
        point.example, seconds=None if point.seconds is None else point.seconds.median,
        outcome=point.outcome, memory_bytes=point.memory_bytes,
        memory_loaded_bytes=point.memory_loaded_bytes,
        source=point.example.source or f"{profile.source}: {point.example.key}",
    ) for point in summaries(profile.measurements))


def runs_by_row(measurements: Iterable[Measurement]) -> list[ProfiledRun]:
    """Each batch that ran or did not fit as a run of its own, repeats not joined."""
    runs = []
    for one in measurements:
        if one.kind != "batch" or one.batch is None or one.output_tokens is None:
            continue
        if one.outcome not in ("ok", "out_of_memory"):
            continue
        configuration = one.configuration
        runs.append(ProfiledRun(
            model=configuration.model, tensor=configuration.tensor,
            pipeline=configuration.pipeline, layers_by_stage=configuration.layers_by_stage,
            precision=configuration.precision, kv_precision=configuration.kv_precision,
            prompt_tokens=one.prompt_tokens, output_tokens=one.output_tokens, batch=one.batch,
            latency_s=one.seconds, memory_bytes=one.memory_bytes,
            memory_loaded_bytes=one.memory_loaded_bytes, source=one.source))
    return runs


def read_runs(path: Path | str) -> list[ProfiledRun]:
    """The runs of a profile's folder. Raises InputError."""
    path = Path(path)
    if not is_profile(path):
        raise InputError(f"{path}: neither a profile nor a CSV of MaverIQ's")
    runs = profiled_runs(read_profile(path))
    if not runs:
        raise InputError(f"{path}: holds no runs of whole batches; expected a profile of kind "
                         "model, batch or fingerprint")
    return runs


def same_prompts(runs: Iterable[ProfiledRun]) -> list[ProfiledRun]:
    """Return, for each model, the runs with its most frequent prompt length (the shorter one of a
    tie).
    A line through cuts may be drawn from these runs. Runs without a recorded prompt length count as
    one length."""
    found = list(runs)
    counts: dict[str, Counter[int]] = {}
    for run in found:
        counts.setdefault(run.model, Counter())[run.prompt_tokens or 0] += 1
    usual = {model: max((num, -length) for length, num in lengths.items())[1]
             for model, lengths in counts.items()}
    return [run for run in found if (run.prompt_tokens or 0) == -usual[run.model]]


def profile_steps(profile: Profile) -> StepTable:
    """The profile's batches as engine steps: prompts that were computed in one step, and decodes.

    The decode of a row is the middle one of its answers. Raises InputError when there are no steps
    of whole models in it.
    """
    rows = [row for one in profile.counted for row in _steps(one)]
    if not rows:
        raise InputError(f"{profile.source}: holds no steps; expected batches whose prompts were "
                         "computed in one step each, or answers of two tokens or more")
    labels = {one.configuration.label for one in profile.counted if one.kind == "batch"}
    if len(labels) > 1:
        raise InputError(f"{profile.source}: has steps of {len(labels)} configurations "
                         f"({', '.join(sorted(labels)[:3])}, ...); expected a profile of one")
    columns = np.array(rows, dtype=np.float64).T
    return StepTable(columns[0], columns[1], columns[2], columns[3], columns[4], profile.source)


def _steps(one: Measurement) -> list[tuple[float, float, float, float, float]]:
    if one.kind != "batch" or one.outcome != "ok" or not one.batch or one.prompt_tokens is None:
        return []
    found = []
    if one.first_token_s and one.num_prefill_steps == 1:
        tokens = one.batch * one.prompt_tokens
        found.append((float(tokens), 0.5 * tokens * one.prompt_tokens, 0.0, 0.0,
                      one.first_token_s))
    if one.decode_step_s and one.output_tokens:
        context = one.batch * (one.prompt_tokens + 0.5 * one.output_tokens)
        found.append((0.0, 0.0, float(one.batch), context, one.decode_step_s))
    return found
