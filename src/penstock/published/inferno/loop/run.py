"""``penstock lab reproduce inferno-loop``: Inferno's loop and tuner, and Penstock's calibration."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from penstock.core.errors import InputError
from penstock.published.figures import Figure, Options, Reproduction
from penstock.published.inferno.loop.cycles import State, read_cycles
from penstock.published.inferno.loop.decisions import Compared, compare
from penstock.published.inferno.loop.emulated import NUM_CYCLES, EmulatedCycle, emulated_run
from penstock.published.inferno.loop.learners import (
    NAMES,
    Found,
    errors,
    learn,
    observed,
    state_of,
)
from penstock.published.inferno.loop.runs import RUNS, label_of, run_of, settings_for
from penstock.published.inferno.loop.trajectories import (
    DERIVED,
    RUN_FILTER,
    TRACE,
    Replayed,
    read_derived,
    read_trace,
    replay,
)
from penstock.published.inferno.loop.tuner_log import read_tuner_log
from penstock.published.inferno.read import read_json
from penstock.published.inferno.tuner.values import TunerSettings

SEEDS = 5
OURS_WITHIN = 0.05
FILTER_OFF = 6.5
"""True gamma over the filter's after 30 observations at one operating point."""
SETTLED = 8  # updates of a tuner before its errors count
SEED_LOADS = ((60, 256, 512), (180, 1024, 256), (120, 512, 1024), (30, 2048, 128), (240, 128, 300))
_FILTERED = ("run7b", "run11")
_FAULT = ("run11", "granite_8b")
"""A recorded trajectory in which upstream's filter of that version took a refused analysis for
latencies of 0 (experiments/run11/ekf-analysis-run11.md)."""
_FAULT_AFTER = 16

Parts = tuple[list[Figure], dict[str, list[dict[str, Any]]]]


def reproduce_inferno_loop(data: Path | None, options: Options) -> Reproduction:
    """Recompute what does not need data, and each file that ``data`` holds: the derived trajectory,
    the measured trace, learned parameters, and a checkout of llm-inferno/control-loop."""
    options.on_progress("loop under emulated load")
    figures, rows = _emulated(options)
    if data is not None:
        found = [part for part in (_derived(data), _trace(data), _learned(data),
                                   _cycles(data, options), _tuners(data, options)) if part]
        if not found:
            raise InputError(f"{data}: holds no {DERIVED}, no {TRACE}, no vllm_gpu_seed/ and no "
                             "*-cycles.jsonl of a documented run")
        for part, tables in found:
            figures += part
            rows |= tables
    shown = {title: table for title, table in rows.items() if not title.endswith(".csv")}
    files = {name: table for name, table in rows.items() if name.endswith(".csv")}
    return Reproduction("inferno-loop", tuple(figures), files, tables=shown, remarks=(
        "One operating point gives two means for three parameters. No estimator can tell all three "
        "apart there; Penstock's calibration names those that it cannot.",))


def _emulated(options: Options) -> Parts:
    """Compare the loop with a direct question under several walks of the load."""
    rows, records = [], []
    seeds = range(options.seed, options.seed + SEEDS)
    for number, cycles in zip(seeds, options.where.results(_walk, seeds), strict=True):
        asked = [one for one in cycles if one.expected is not None]
        equal = sum(one.decided == one.expected for one in asked)
        rows.append({"seed": number, "cycles": len(cycles), "decided": len(asked), "equal": equal,
                     "sizes": len({one.decided for one in asked}),
                     "most replicas": max(map(sum, (one.decided for one in asked)))})
        records += [{"seed": number, "cycle": one.number, "rates_per_min": one.loads,
                     "loop": one.decided, "optimize_one": one.expected} for one in cycles]
    total, equal = (sum(row[name] for row in rows) for name in ("decided", "equal"))
    return ([Figure(f"emulated load, {SEEDS} walks of {NUM_CYCLES} cycles: decisions equal to "
                    "/optimizeOne", total, equal, "exact")],
            {"Emulated load: the loop and /optimizeOne": rows, "emulated.csv": records})


def _walk(seed: int) -> list[EmulatedCycle]:
    return list(emulated_run(np.random.default_rng(seed)))


def _derived(data: Path) -> Parts | None:
    path = data / DERIVED
    if not path.is_file():
        return None
    figures, rows = [], []
    for case, one in read_derived(path).items():
        figures.append(Figure(f"filter, {case}: largest deviation of a trajectory", 0.0,
                              one.deviation, "absolute", 1e-6))
        found = learn(one.points)
        rows += _beside(case, found, one.truth)
        if case == "single_point":
            figures.append(Figure("filter, single_point: true gamma over found", FILTER_OFF,
                                  one.truth[2] / found.filter[2], "relative", 0.02))
            open_ = found.ours.unidentified == ("gamma_ms",)
            figures.append(Figure("ours, single_point: gamma is named as open", 1.0, float(open_),
                                  "exact"))
        else:
            figures += _within(case, state_of(found.ours.times), one.truth)
    return figures, {"Errors of found parameters": rows}


def _trace(data: Path) -> Parts | None:
    path = data / TRACE
    if not path.is_file():
        return None
    found = read_trace(path)
    return [Figure(f"filter, {TRACE}: mean error of ITL predicted ahead", None, found.mean_error,
                   "shown", note=f"{found.num_points} observations"),
            Figure(f"filter, {TRACE}: alpha at the end, ms", None, found.state[0], "shown"),
            Figure(f"filter, {TRACE}: beta at the end, ms", None, found.state[1], "shown")], {}


def _learned(data: Path) -> Parts | None:
    """Let the learners find parameters that were learned on real engines."""
    path = data / "vllm_gpu_seed" / "model-data.json"
    if not path.is_file():
        return None
    figures, rows = [], []
    for name, max_batch, truth in _profiles(path):
        found = learn([observed(load, max_batch, truth) for load in SEED_LOADS])
        rows += _beside(f"vllm_gpu_seed {name}", found, truth)
        if found.simplex is not None:
            worst = max(map(abs, errors(found.simplex, truth)))
            figures.append(Figure(f"Nelder-Mead, {name}: largest error", 0.0, worst, "absolute",
                                  1e-4))
        figures += _within(name, state_of(found.ours.times), truth)
    return figures, {"Errors of found parameters, learned on an H100": rows}


def _profiles(path: Path) -> Iterator[tuple[str, int, State]]:
    try:
        for one in read_json(path)["models"]:
            parameters = one["perfParms"]
            yield one["name"], one["maxBatchSize"], (parameters["alpha"], parameters["beta"],
                                                     parameters["gamma"])
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: expected models with perfParms ({error})") from error


def _cycles(data: Path, options: Options) -> Parts | None:
    """Recompute every decision of the cycle logs of documented runs."""
    figures, rows, records = [], [], []
    logs = [log for log in sorted(data.rglob("*-cycles.jsonl")) if settings_for(log) is not None]
    for log, found in zip(logs, options.where.results(_recomputed, logs), strict=True):
        label = label_of(log)
        options.on_progress(f"recomputed {label}")
        equal = sum(one.equal for one in found)
        figures.append(Figure(f"{label}: recorded decisions that are equal", len(found), equal,
                              "exact"))
        rows.append({"run": label, "cycles": len({one.cycle for one in found}),
                     "decisions": len(found), "equal": equal,
                     "batches searched": sum(one.recorded_batch > 0 for one in found),
                     "most replicas": max((one.recorded for one in found), default=0)})
        records += [{"run": label, "cycle": one.cycle, "server": one.server,
                     "recorded": one.recorded, "recomputed": one.recomputed,
                     "recorded_batch": one.recorded_batch,
                     "recomputed_batch": one.recomputed_batch} for one in found]
    return (figures, {"Recorded runs: decisions": rows, "cycles.csv": records}) if rows else None


def _recomputed(log: Path) -> list[Compared]:
    settings = settings_for(log)
    return [] if settings is None else list(compare(read_cycles(log), settings))


def _tuners(data: Path, options: Options) -> Parts | None:
    """Replay the tuner on the observations that its logs have, with Penstock's beside it."""
    figures: list[Figure] = []
    rows: list[dict[str, Any]] = []
    logs = [(run, log) for log in sorted(data.rglob("*tuner.log"))
            if (run := run_of(log)) is not None and RUNS[run].truth is not None]
    for (run, _), found in zip(logs, options.where.results(_retuned, logs), strict=True):
        options.on_progress(f"replayed the tuner of {run}")
        for model in RUNS[run].truth or {}:
            own = [one for one in found if one.model == model]
            if len(own) > SETTLED:
                figures += _followed(run, model, own, filtered=run in _FILTERED)
                rows += _settled(f"{run} {model}", own)
    return (figures, {"Recorded runs: errors of parameters": rows}) if rows else None


def _retuned(logged: tuple[str, Path]) -> list[Replayed]:
    run, log = logged
    settings = RUNS[run]
    tuner = TunerSettings("ekf" if run in _FILTERED else "sliding-window", 3, 3,
                          condition_limit=0.0, filter=RUN_FILTER)
    cycles = list(read_tuner_log(log, settings.max_queue, one_chunk=settings.one_chunk))
    return list(replay(cycles, tuner, dict(settings.truth or {})))


def _followed(run: str, model: str, own: Sequence[Replayed], *, filtered: bool) -> list[Figure]:
    """Return figures on how closely our tuner follows the recorded one. Upstream's has 32 bits;
    a simplex ends within its tolerance of the minimum, a filter's error does not grow."""
    if (run, model) == _FAULT:
        own = own[:_FAULT_AFTER]
    off = [1.0 if one.deviation is None else one.deviation for one in own]
    ours = float(max(off) if filtered else np.median(off))
    name = "largest" if filtered else "median"
    return [Figure(f"{run} {model}: {name} deviation from the recorded parameters", 0.0, ours,
                   "absolute", 1e-3)]


def _settled(label: str, own: Sequence[Replayed]) -> list[dict[str, Any]]:
    settled = own[SETTLED:]
    rows = []
    for learner, values in (("Inferno's, recorded", [one.theirs for one in settled]),
                            ("Penstock's", [one.ours for one in settled])):
        sizes = np.abs(np.array(values))
        rows.append({"run": label, "learner": learner,
                     **dict(zip((f"{name}, mean" for name in NAMES), sizes.mean(axis=0).tolist(),
                                strict=True)),
                     **dict(zip((f"{name}, end" for name in NAMES), sizes[-1].tolist(),
                                strict=True))})
    return rows


def _within(case: str, found: State, truth: State) -> list[Figure]:
    return [Figure(f"ours, {case}: error of {name}", 0.0, abs(error), "absolute", OURS_WITHIN)
            for name, error in zip(NAMES, errors(found, truth), strict=True)]


def _beside(case: str, found: Found, truth: State) -> list[dict[str, Any]]:
    learners = (("EKF", found.filter), ("Nelder-Mead", found.simplex),
                ("Penstock", state_of(found.ours.times)))
    rows = [{"case": case, "learner": name,
             **dict(zip(NAMES, errors(state, truth), strict=True))}
            for name, state in learners if state is not None]
    rows[-1]["open"] = ", ".join(found.ours.unidentified) or "none"
    for row in rows[:-1]:
        row["open"] = "-"
    return rows
