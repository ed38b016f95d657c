"""Folders of measurements to learn from."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from pathlib import Path

from penstock.catalog.catalog import Catalog
from penstock.core.errors import InputError
from penstock.core.hardware import Accelerator
from penstock.estimate.configurations import KV_PRECISIONS, PRECISIONS
from penstock.estimate.units import check_units, is_foreign
from penstock.perf.fingerprint.cuts import Cuts, Session, key_of
from penstock.perf.fingerprint.estimator import Estimator, fit_estimator
from penstock.perf.fingerprint.physics import Subject
from penstock.perf.profiles.folder import is_profile, read_profile
from penstock.perf.profiles.rows import ProfiledRun
from penstock.perf.profiles.summary import profiled_runs, read_runs, runs_by_row, same_prompts
from penstock.registry.sources import read_foreign

WHOLE, FINGERPRINTS = "full_model_data_collection", "fingerprint_data_collection"
BATCHES = ("unbalanced_PP_data_collection", "BS_scaling_data")
_TABLES = "maveriq"  # the format of tables that are read beside profiles
_OTHER_MODELS = "_prunning"  # pruned variants, which no catalog has


def read_sessions(folder: Path, catalog: Catalog, accelerator: Accelerator | None = None,
                  fingerprints: Path | None = None) -> list[Session]:
    """The sessions of a folder: of Penstock's own profiles, or laid out as MaverIQ's.

    Profiles (the folder itself, or folders in it) are a session per length of prompts, the one with
    most cuts first. MaverIQ's are ``full_model_data_collection*.csv``, each with the
    ``fingerprint_data_collection*.csv`` of the same ending, and tables of batches alone. Raises
    InputError where there are no runs of whole models, for times and sizes of others that cannot be
    in seconds and GiB, and for profiles (a folder of
    ``fingerprints`` among them) of unlike machines, or of another than ``accelerator``.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected one with profiles, or with "
                         f"{WHOLE}.csv and {FINGERPRINTS}.csv")
    profiles = [path for path in (folder, *sorted(folder.iterdir())) if is_profile(path)]
    own = [fingerprints] if fingerprints is not None and is_profile(fingerprints) else []
    _check_alike([*profiles, *own], accelerator)
    found = _of_profiles(profiles, catalog) if profiles else _as_maveriq(folder, catalog)
    if not any(session.whole for session in found):
        raise InputError(f"{folder}: holds no runs of whole models ({WHOLE}*.csv, or profiles by "
                         "penstock profile model), so there is nothing to learn from")
    return found


def _of_profiles(paths: Iterable[Path], catalog: Catalog) -> list[Session]:
    runs = []
    for path in paths:
        found = profiled_runs(read_profile(path))
        if is_foreign(path):
            check_units(found, catalog)
        runs += found
    layers = {name: catalog.model(name).num_layers for name in {run.model for run in runs}}
    cuts = [run for run in runs if run.num_layers < layers[run.model]]
    by_length = Counter(run.prompt_tokens for run in cuts)
    lengths = sorted({run.prompt_tokens for run in runs},
                     key=lambda length: (-by_length[length], length or 0))
    return [Session([run for run in runs if run.num_layers == layers[run.model]
                     and run.prompt_tokens == length],
                    Cuts(run for run in cuts if run.prompt_tokens == length))
            for length in lengths]


def _check_alike(paths: Iterable[Path], accelerator: Accelerator | None) -> None:
    """Times of two kinds of accelerators, or measured and simulated ones, make no line."""
    seen: dict[str, Path] = {}
    for path in paths:
        subject = read_profile(path).document.get("subject", {})
        device = str(subject.get("accelerator") or subject.get("device") or "cuda")
        simulated = bool(subject.get("simulated"))
        if simulated and accelerator is not None and device != accelerator.name:
            raise InputError(f"{path}: simulates {device}, not {accelerator.name}; expected "
                             f"--accelerator {device}")
        if device != "cuda" or simulated:
            seen.setdefault(f"{device} (simulated)" if simulated else device, path)
        else:
            seen.setdefault("", path)  # measured, nobody wrote down on what
    named = [name for name in seen if name]
    if len(named) > 1 or (len(seen) > 1 and any("(simulated)" in name for name in named)):
        raise InputError("profiles of unlike machines cannot be joined: " + ", ".join(
            f"{path} of {name or 'a real engine'}" for name, path in seen.items()))


def read_table(path: Path) -> list[ProfiledRun]:
    """The runs of a CSV in MaverIQ's layout, one a line. Raises InputError."""
    return runs_by_row(read_foreign(path, _TABLES).measurements)


def _as_maveriq(folder: Path, catalog: Catalog) -> list[Session]:
    def checked(path: Path) -> list[ProfiledRun]:
        runs = read_table(path)
        check_units(runs, catalog)
        return runs

    found = []
    for path in sorted(folder.glob(f"{WHOLE}*.csv*")):
        ending = path.name.removeprefix(WHOLE).partition(".")[0]
        if ending == _OTHER_MODELS:
            continue
        beside = sorted(folder.glob(f"{FINGERPRINTS}{ending}.csv*"))
        cuts = Cuts(run for one in beside for run in checked(one))
        found.append(Session(checked(path), cuts))
    for name in BATCHES:
        found += [Session(checked(path), Cuts(()))
                  for path in sorted(folder.glob(f"{name}.csv*"))]
    return found


def subjects_of(names: Iterable[str], catalog: Catalog,
                accelerator: Accelerator) -> dict[str, Subject]:
    """Return the facts about models from their catalog entries. Raises InputError with the nearest
    name."""
    return {name: Subject(catalog.model(name), accelerator) for name in dict.fromkeys(names)}


def trained(folder: Path, catalog: Catalog, accelerator: Accelerator,
            fingerprints: Path | None = None) -> Estimator:
    """An estimator learnt from a folder, for the models in a file of fingerprints (default: those
    that the folder's first session has fingerprints of). Raises InputError."""
    sessions = read_sessions(folder, catalog, accelerator, fingerprints)
    own = None if fingerprints is None else own_runs(fingerprints, catalog)
    cuts, batch_cuts = cuts_of(sessions, own)
    names = [run.model for session in sessions for run in session.whole]
    names += [model for session in sessions for model in sorted(session.cuts.models)]
    subjects = subjects_of([*names, *sorted(cuts.models)], catalog, accelerator)
    return fit_estimator(sessions, subjects, cuts).with_cuts(cuts, batch_cuts)


def own_runs(path: Path, catalog: Catalog) -> list[ProfiledRun]:
    """A file or profile of fingerprints, of each model those with its usual prompts. Raises
    InputError, also where what others measured cannot be in seconds and GiB."""
    runs = read_runs(path) if path.is_dir() else read_table(path)
    if is_foreign(path):
        check_units(runs, catalog)
    return same_prompts(runs)


def cuts_of(sessions: Sequence[Session],
            own: Sequence[ProfiledRun] | None) -> tuple[Cuts, Cuts | None]:
    """The cuts for single requests, and those for batches where they are of another session.

    Batches are estimated from cuts of the session that measured batches. Fingerprints of one's own
    that the training folder holds as well belong to its sessions; all others are one session.
    """
    measured = next((session for session in sessions if session.cuts.models
                     and any(run.batch > 1 for run in session.whole)), None)
    if own is None:
        return sessions[0].cuts, None if measured is None else measured.cuts
    known = [_rows(session) for session in sessions]
    elsewhere = [run for run in own if not any(identity(run) in rows for rows in known)]
    if measured is None or elsewhere:
        return Cuts(own), None
    in_batches = _rows(measured)
    inside = [run for run in own if identity(run) in in_batches]
    outside = [run for run in own if identity(run) not in in_batches]
    return Cuts(outside or own), Cuts(inside) if inside else measured.cuts


def identity(run: ProfiledRun) -> tuple[object, ...]:
    """Return the key by which a run of cuts is the same run in another file."""
    return (key_of(run), run.num_layers, run.output_tokens, run.latency_s)


def _rows(session: Session) -> frozenset[tuple[object, ...]]:
    cuts = session.cuts
    return frozenset((key, layers, output, latency_s) for key in cuts.keys
                     for output, points in cuts.seconds(key).items()
                     for layers, latency_s in points.items())


def without(sessions: Iterable[Session], model: str) -> list[Session]:
    """The sessions with no run of the whole model; its fingerprints stay."""
    return [Session([run for run in session.whole if run.model != model], session.cuts)
            for session in sessions]


def accuracies(table: Mapping[str, float]) -> dict[tuple[str, str, str], float]:
    """Accuracy by model, weights' precision and cache's precision, from a table with keys such as
    ``llama-2-7b_int4_gptq_False_None`` (MaverIQ's): model, number format, whether the cache has 8
    bits, pruning. Pruned models are left out. Raises InputError for another kind of key."""
    found = {}
    for key, value in table.items():
        head, _, pruning = key.rpartition("_")
        head, _, kv = head.rpartition("_")
        precision = next((one for one in sorted(PRECISIONS, key=len, reverse=True)
                          if head.endswith(f"_{one}")), None)
        if precision is None or kv.lower() not in KV_PRECISIONS:
            raise InputError(f"accuracy: key {key!r}; expected MODEL_FORMAT_CACHE_PRUNING such as "
                             "llama-2-7b_int8_False_None")
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
            raise InputError(f"accuracy: {key}: {value!r}; expected a number")
        if pruning == "None":
            model = head.removesuffix(f"_{precision}")
            found[model, PRECISIONS[precision], KV_PRECISIONS[kv.lower()]] = float(value)
    return found
