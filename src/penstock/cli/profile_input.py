"""Options of the profile commands as values."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.core.errors import InputError, nearest

if TYPE_CHECKING:
    from penstock.perf.profiles.points import Measurement, ModelConfiguration
    from penstock.perf.profiling.options import EngineOptions
    from penstock.profile.run import Session

Model = Annotated[str, typer.Argument(
    metavar="MODEL", show_default=False,
    help="Model of the catalog or a config.json (with random weights), a checkpoint's folder, "
         "or a .gguf file.")]
Layers = Annotated[int | None, typer.Option(
    "--layers", min=1, metavar="N", show_default=False,
    help="Cut the model to its first N layers; default: all.")]
MinRepeats = Annotated[int, typer.Option(
    "--min-repeats", min=1, max=100_000, metavar="N", help="Fewest repeats of each point.")]
MaxRepeats = Annotated[int, typer.Option(
    "--max-repeats", min=1, max=100_000, metavar="N", help="Most repeats of each point.")]
WarmUps = Annotated[int, typer.Option(
    "--warm-ups", min=0, max=1000, metavar="N",
    help="Warm-up runs before each point's repeats, stored but not counted.")]
Passes = Annotated[int, typer.Option(
    "--passes", min=1, max=1000, metavar="N",
    help="Spread the fewest repeats over N rounds through all configurations.")]
Share = Annotated[float, typer.Option(
    "--share", min=0.001, max=1.0, metavar="SHARE",
    help="Work for at most this share of the time, to spare live traffic.")]
Clock = Annotated[str, typer.Option(
    "--clock", metavar="wall|cpu",
    help="wall, or cpu: processor seconds, for one thread on a shared machine.")]

# --with: key -> kind of value.
_ENGINE_KEYS: Mapping[str, type] = {
    "device": str, "threads": int, "accelerators": int, "max_step_tokens": int, "eager": bool,
    "memory_fraction": float, "memory_gib": float, "accelerator": str, "noise": float}
_GIB = 1 << 30
_PARTS = 1000  # of a progress bar


@dataclass(frozen=True, slots=True)
class Given:
    """Options that all profile commands share."""

    model: str
    engine: str
    out: Path
    settings: Sequence[str]
    precision: str | None
    kv_precision: str | None
    kv_tokens: int | None
    tolerance: float
    min_repeats: int
    max_repeats: int
    warm_ups: int
    budget_s: float | None
    share: float
    clock: str
    seed: int
    layers: int | None = None
    passes: int = 1

    def precisions(self, session: "Session") -> list[tuple[str, str]]:
        """Pairs of the weights' and the cache's number format."""
        usual = _usual_precision(session)
        found = (self.precision or usual).split(",")
        return [(one, self.kv_precision or _usual_kv(self.engine, one, usual)) for one in found]

    def configuration(self, session: "Session", tensor: int = 1, pipeline: int = 1,
                      precision: tuple[str, str] | None = None) -> "ModelConfiguration":
        """The configuration of commands that measure one."""
        from penstock.core.configuration import Configuration
        from penstock.core.hardware import Parallelism
        from penstock.profile.design import spread

        architecture = session.architecture
        if precision is None and "," in (self.precision or ""):
            raise InputError(f"--precision {str(self.precision)[:40]}: expected one")
        weights, cache = precision or self.precisions(session)[0]
        return spread(architecture.name, self.layers or architecture.spec.num_layers,
                      Configuration(Parallelism(tensor, pipeline), weights, cache))


@contextmanager
def session_of(given: Given, title: str, *, from_files: bool = False) -> "Iterator[Session]":
    """The session that the options mean; what was written for an engine to read goes with it.

    Raises InputError.
    """
    from tempfile import TemporaryDirectory

    from penstock.catalog.catalog import load_catalog
    from penstock.cli.console import note, progress
    from penstock.cli.profile_tables import said
    from penstock.engines.emulated.profiled import VirtualClock
    from penstock.perf.profiling.architecture import find_architecture
    from penstock.profile.make import check_engine, make_engine
    from penstock.profile.measure import Clocks, Effort
    from penstock.profile.run import REAL_CLOCKS, Session

    check_engine(given.engine)
    if given.clock not in ("wall", "cpu"):
        raise InputError(f"--clock {given.clock[:40]!r}: expected wall or cpu")
    if given.min_repeats > given.max_repeats:
        raise InputError(f"--min-repeats {given.min_repeats}: more than --max-repeats "
                         f"{given.max_repeats}")
    catalog = load_catalog()
    architecture = find_architecture(given.model, catalog)
    warnings = []
    if given.layers is not None and (why := architecture.cut(given.layers).without_experts()):
        note(f"warning: {why}")
        warnings = [why]
    clocks, clock_name = REAL_CLOCKS, given.clock
    engine_clock = time.perf_counter if given.clock == "wall" else time.process_time
    if given.engine == "sim":
        virtual = VirtualClock()
        clocks = Clocks(virtual, virtual.sleep, virtual, time.time)
        engine_clock, clock_name = virtual, "simulated"
    with (_only_results_on_stdout(), TemporaryDirectory(prefix="penstock-profile-") as scratch,
          progress(title, _PARTS) as update):
        options = _engine_options(given, Path(scratch), catalog, from_files=from_files)
        engine = make_engine(given.engine, architecture, engine_clock, options)
        if given.clock == "cpu" and (engine.describe().get("device") != "cpu"
                                     or engine.most_accelerators() > 1):
            raise InputError("--clock cpu: sees only what this process computes, nothing of "
                             "accelerators and of other processes; expected wall")
        effort = Effort(given.tolerance, given.min_repeats, given.max_repeats, given.warm_ups,
                        given.budget_s, given.share, given.passes)

        def on_row(one: "Measurement", done: float) -> None:
            update(said(one), round(_PARTS * done))

        yield Session(architecture, engine, given.out, effort, clocks, clock_name, given.kv_tokens,
                      given.seed, on_row, warnings)


@contextmanager
def _only_results_on_stdout() -> Iterator[None]:
    """Send the output of an engine's library to stderr meanwhile."""
    import os
    import sys

    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def _engine_options(given: Given, scratch: Path, catalog: Any, *, from_files: bool
                    ) -> "EngineOptions":
    from penstock.perf.profiling.options import EngineOptions

    found = _engine_values(given.settings)
    accelerator = found.pop("accelerator", None)
    memory_gib = found.pop("memory_gib", None)
    names = {"threads": "num_threads", "accelerators": "num_accelerators"}
    options = EngineOptions(scratch, from_files=from_files, seed=given.seed,
                            accelerator=None if accelerator is None
                            else catalog.accelerator(accelerator),
                            memory_bytes=None if memory_gib is None else memory_gib * _GIB)
    return replace(options, **{names.get(name, name): value for name, value in found.items()})


def _engine_values(settings: Sequence[str]) -> dict[str, Any]:
    from penstock.fleet.settings import split_setting

    found = {}
    for setting in settings:
        key, text = split_setting(setting, "--with")
        if key not in _ENGINE_KEYS:
            raise InputError(f"--with {key[:40]!r} is unknown{nearest(key, _ENGINE_KEYS)}")
        found[key] = _engine_value(key, text.strip())
    return found


def _engine_value(key: str, text: str) -> Any:
    kind = _ENGINE_KEYS[key]
    if kind is bool:
        if text not in ("true", "false"):
            raise InputError(f"--with {key}={text[:40]}: expected true or false")
        return text == "true"
    if kind is str:
        return text
    try:
        value = kind(text)
    except ValueError:
        value = -1
    if not 0 <= value < float("inf") or (key in ("memory_fraction", "max_step_tokens",
                                                 "memory_gib") and not value):
        expected = "a whole number" if kind is int else "a number"
        raise InputError(f"--with {key}={text[:40]}: expected {expected} above 0")
    return value


def _usual_precision(session: "Session") -> str:
    engine = session.engine.describe()
    if session.architecture.is_gguf:
        return "gguf"
    if engine["engine"] == "llamacpp":
        return "fp16"
    return "fp32" if engine.get("device") == "cpu" else "bf16"


def _usual_kv(engine: str, precision: str, usual: str) -> str:
    if engine == "llamacpp":
        return "fp16"
    return precision if precision in ("fp32", "fp16", "bf16") else usual


def whole_numbers(option: str, text: str) -> list[int]:
    """Whole numbers parted by commas, ascending. Raises InputError."""
    words = text.split(",")
    if not all(word.strip().isdecimal() and 0 < int(word) <= 10_000_000 for word in words):
        raise InputError(f"{option} {text[:60]!r}: expected whole numbers parted by commas, such "
                         "as 1,2,4")
    return sorted(set(map(int, words)))
