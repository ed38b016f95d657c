"""Make the step-time model that a fleet file names."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from penstock.core.errors import InputError, nearest
from penstock.core.hardware import Accelerator, Parallelism
from penstock.core.model import ModelSpec
from penstock.perf.memory import ONE_ACCELERATOR
from penstock.perf.step_time.calibration import BiasedStepTime
from penstock.perf.step_time.protocol import StepTimeModel
from penstock.perf.step_time.roofline import HOST_OVERHEAD_S, roofline_step_time
from penstock.perf.step_time.store import (
    KINDS,
    load_step_time,
    published_names,
    published_step_time,
    step_time_from,
)

_FILE_ENDINGS = (".yaml", ".yml", ".json")


def make_step_time(spec: Mapping[str, Any] | str | None, model: ModelSpec,
                   accelerator: Accelerator, parallelism: Parallelism = ONE_ACCELERATOR,
                   precision: str = "bf16", kv_precision: str = "bf16", *,
                   base: Path | str = ".") -> StepTimeModel:
    """The model that ``spec`` asks for; ``None`` and ``roofline`` mean the roofline.

    A name is ``roofline``, a published model, or a saved file (relative to ``base``). A mapping has
    ``kind`` (or ``name``) with that kind's own keys: ``host_overhead_s`` for roofline,
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

    made = _make(str(kind), options, {"roofline": roofline, "kernels": kernels}, Path(base))
    if options:
        key = next(iter(options))
        raise InputError(f"step_time: unknown key {key!r} for {kind}"
                         + nearest(key, _keys_of(str(kind))))
    return made if factor == 1.0 else BiasedStepTime(made, factor)


def _make(kind: str, options: dict[str, Any],
          derived: Mapping[str, Callable[[dict[str, Any]], StepTimeModel]],
          base: Path) -> StepTimeModel:
    if kind in derived:
        return derived[kind](options)
    if kind in published_names():
        return published_step_time(kind)
    if kind in KINDS and "coefficients" in options:
        document = {"kind": kind, "coefficients": options.pop("coefficients")}
        if "evidence" in options:
            document["evidence"] = options.pop("evidence")
        return step_time_from(document, "step_time")
    if kind == "niyama":
        return published_step_time("niyama-a100-llama-3-8b")
    if kind in KINDS:
        raise InputError(f"step_time: {kind} needs coefficients; name a published model "
                         f"({', '.join(published_names())}) or a file that `fit` saved")
    if kind == "file":
        if "path" not in options:
            raise InputError("step_time: kind file needs path")
        return load_step_time(base / str(options.pop("path")))
    if kind.endswith(_FILE_ENDINGS):
        return load_step_time(base / kind)
    valid = (*derived, "file", *KINDS, *published_names())
    raise InputError(f"step_time: {kind!r} is unknown{nearest(kind, valid)}")


def _keys_of(kind: str) -> tuple[str, ...]:
    own: dict[str, tuple[str, ...]] = {
        "roofline": ("host_overhead_s",), "file": ("path",),
        "kernels": ("path", "system", "backend", "version", "exact", "host_overhead_s")}
    if kind in KINDS:
        own[kind] = ("coefficients", "evidence")
    return ("kind", "name", "factor", *own.get(kind, ()))


def _host_overhead_s(options: dict[str, Any]) -> float:
    host_s = options.pop("host_overhead_s", HOST_OVERHEAD_S)
    if isinstance(host_s, bool) or not isinstance(host_s, int | float) or host_s < 0.0:
        raise InputError(f"step_time: host_overhead_s is {host_s!r}; expected seconds >= 0")
    return float(host_s)


def _positive(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0.0:
        raise InputError(f"{where} is {value!r}; expected a number above 0")
    return float(value)
