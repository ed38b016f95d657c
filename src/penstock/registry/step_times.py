"""Step-time models by name: kinds in a fleet file, and forms in saved documents."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from penstock.catalog.engines import engine_names
from penstock.core.errors import InputError, nearest
from penstock.core.hardware import Accelerator, Parallelism
from penstock.core.model import ModelSpec
from penstock.core.settings import LARGEST, Flag, Number, Settings, Text, refused
from penstock.perf.memory import ONE_ACCELERATOR
from penstock.perf.step_time import store
from penstock.perf.step_time.calibration import BiasedStepTime
from penstock.perf.step_time.measured import measured_step_time
from penstock.perf.step_time.protocol import StepTimeModel
from penstock.perf.step_time.rate_table import load_rates
from penstock.perf.step_time.roofline import HOST_OVERHEAD_S, roofline_step_time
from penstock.perf.step_time.store import published_names
from penstock.registry.axis import Axis, Entry

_FILE_ENDINGS = (".yaml", ".yml", ".json")
_OVERHEAD: Settings = {"host_overhead_s": Number(0, LARGEST)}

STEP_TIMES = Axis("step-time kind", "penstock.step_time", {
    "roofline": Entry("penstock.perf.step_time.roofline:roofline_step_time", _OVERHEAD),
    "measured": Entry("penstock.perf.step_time.measured:measured_step_time", {
        "engine": Text(), "version": Text(), "rates": Text()}),
    "kernels": Entry("penstock.perf.kernels.from_files:kernel_choice", {
        "path": Text(), "system": Text(), "backend": Text(), "version": Text(), "exact": Flag(),
        **_OVERHEAD}),
    "file": Entry("penstock.perf.step_time.store:load_step_time", {"path": Text()}),
    "linear": Entry("penstock.perf.step_time.linear:LinearStepTime"),
    "knee": Entry("penstock.perf.step_time.knee:KneeStepTime"),
    "niyama": Entry("penstock.published.niyama.step_time:NiyamaStepTime"),
    "tabulated": Entry("penstock.perf.step_time.tabulated:TabulatedStepTime"),
})
FORMS = ("linear", "knee", "niyama", "tabulated")
"""Kinds that a saved document may have: coefficients and evidence."""


class StepTimeContext(NamedTuple):
    """The replica of a step-time model. ``base`` is the folder of relative paths."""

    model: ModelSpec
    accelerator: Accelerator
    parallelism: Parallelism
    precision: str
    kv_precision: str
    base: Path


def form_of(kind: str) -> type[Any]:
    """The class of a saved model's kind."""
    if kind not in FORMS:
        raise InputError(f"kind {kind!r} is unknown{nearest(kind, FORMS)}")
    form: type[Any] = STEP_TIMES.load(kind)
    return form


def step_time_from(document: Any, where: str) -> StepTimeModel:
    """Build the model that a document describes; ``where`` begins every error message."""
    return store.step_time_from(document, where, form_of)


def load_step_time(path: Path | str) -> StepTimeModel:
    """Read a model that ``save_step_time`` wrote (YAML, which includes JSON)."""
    return store.load_step_time(path, form_of)


def published_step_time(name: str) -> StepTimeModel:
    """Return a published model by name. Raises InputError with the nearest name for an unknown
    one."""
    return store.published_step_time(name, form_of)


def make_step_time(spec: Mapping[str, Any] | str | None, model: ModelSpec,
                   accelerator: Accelerator, parallelism: Parallelism = ONE_ACCELERATOR,
                   precision: str = "bf16", kv_precision: str = "bf16", *,
                   base: Path | str = ".", role: str = "") -> StepTimeModel:
    """Build the model of ``spec``; ``None`` and ``roofline`` mean the roofline. ``role`` says what
    the replica computes, where that is not both prompts and answers.

    A name is ``roofline``, a published model, or a saved file (relative to ``base``). A mapping has
    ``kind`` (or ``name``) with that kind's own keys: ``host_overhead_s`` for roofline,
    ``engine``, ``version`` and ``rates`` (a file of fitted rates) for measured,
    ``coefficients`` and ``evidence`` for linear, knee, niyama and tabulated, ``path`` for file,
    ``path`` (a folder of kernel tables), ``system``, ``backend``, ``version``, ``exact`` and
    ``host_overhead_s`` for kernels; and ``factor``, which multiplies every duration. Raises
    InputError that names what is wrong.
    """
    if spec is None:
        spec = "roofline"
    if isinstance(spec, str):
        spec = {"kind": spec}
    options = dict(spec)
    kind = options.pop("kind", None) or options.pop("name", "roofline")
    factor = _positive(options.pop("factor", 1.0), "step_time: factor")

    def roofline(options: dict[str, Any]) -> StepTimeModel:
        return roofline_step_time(model, accelerator, parallelism, precision, kv_precision,
                                  host_overhead_s=_host_overhead_s(options))

    def measured(options: dict[str, Any]) -> StepTimeModel:
        engine = str(options.pop("engine", "vllm"))
        if engine not in engine_names():
            raise InputError(f"step_time: engine {engine!r} is unknown"
                             + nearest(engine, engine_names()))
        own = options.pop("rates", None)
        return measured_step_time(
            model, accelerator, parallelism, precision, kv_precision, engine=engine,
            version=str(options.pop("version", "")), role=role,
            table=load_rates(Path(base) / str(own)) if own else None)

    def kernels(options: dict[str, Any]) -> StepTimeModel:
        from penstock.perf.kernels.from_files import (
            compact_step_time,
            composed_step_time,
            kernel_choice,
        )

        if "path" not in options:
            raise InputError("step_time: kind kernels needs path, a folder of kernel tables")
        names = {name: str(options.pop(name)) for name in ("system", "backend", "version")
                 if options.get(name) is not None}
        exact = options.pop("exact", False)
        if not isinstance(exact, bool):
            raise InputError(f"step_time: exact is {exact!r}; expected true or false")
        choice = kernel_choice(Path(base) / str(options.pop("path")), model, accelerator,
                               parallelism, precision, kv_precision,
                               host_overhead_s=_host_overhead_s(options), **names)
        return composed_step_time(choice) if exact else compact_step_time(choice).model

    context = StepTimeContext(model, accelerator, parallelism, precision, kv_precision, Path(base))
    made = _make(str(kind), options, {
        "roofline": roofline, "measured": measured, "kernels": kernels}, context)
    if options:
        key = next(iter(options))
        raise InputError(f"step_time: unknown key {key!r} for {kind}"
                         + nearest(key, _keys_of(str(kind))))
    return made if factor == 1.0 else BiasedStepTime(made, factor)


def _make(kind: str, options: dict[str, Any],
          derived: Mapping[str, Callable[[dict[str, Any]], StepTimeModel]],
          context: StepTimeContext) -> StepTimeModel:
    if kind in derived:
        return derived[kind](options)
    if kind in published_names():
        return published_step_time(kind)
    if kind in FORMS and "coefficients" in options:
        document = {"kind": kind, "coefficients": options.pop("coefficients")}
        if "evidence" in options:
            document["evidence"] = options.pop("evidence")
        return step_time_from(document, "step_time")
    if kind == "niyama":
        return published_step_time("niyama-a100-llama-3-8b")
    if kind in FORMS:
        raise InputError(f"step_time: {kind} needs coefficients; name a published model "
                         f"({', '.join(published_names())}) or a file that `fit` saved")
    if kind == "file" and "path" not in options:
        raise InputError("step_time: kind file needs path")
    if kind == "file" or kind.endswith(_FILE_ENDINGS):
        return load_step_time(context.base / str(options.pop("path") if kind == "file" else kind))
    if STEP_TIMES.knows(kind):
        return _plugged_in(kind, options, context)
    valid = (*STEP_TIMES.all_names(), *published_names())
    raise InputError(f"step_time: {kind!r} is unknown{nearest(kind, valid)}")


def _plugged_in(kind: str, options: dict[str, Any], context: StepTimeContext) -> StepTimeModel:
    known = STEP_TIMES.entry(kind).settings
    given = {key: options.pop(key) for key in known if key in options}
    for key, problem in refused(given, known):
        raise InputError(f"step_time: {key}: {problem}, found {given[key]!r}")
    made: StepTimeModel = STEP_TIMES.load(kind)(given, context)
    return made


def _keys_of(kind: str) -> tuple[str, ...]:
    own = ("coefficients", "evidence") if kind in FORMS else \
        tuple(STEP_TIMES.entry(kind).settings) if STEP_TIMES.knows(kind) else ()
    return ("kind", "name", "factor", *own)


def _host_overhead_s(options: dict[str, Any]) -> float:
    host_s = options.pop("host_overhead_s", HOST_OVERHEAD_S)
    if isinstance(host_s, bool) or not isinstance(host_s, int | float) or host_s < 0.0:
        raise InputError(f"step_time: host_overhead_s is {host_s!r}; expected seconds >= 0")
    return float(host_s)


def _positive(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0.0:
        raise InputError(f"{where} is {value!r}; expected a number above 0")
    return float(value)
