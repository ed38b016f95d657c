"""From a folder of kernel tables to the step time of a model on a catalogued accelerator."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from penstock.core.errors import InputError, one_of
from penstock.core.hardware import Accelerator, Parallelism
from penstock.core.model import ModelSpec
from penstock.perf.kernels.compact import CompactFit, compact
from penstock.perf.kernels.compose import KernelStepTime, kernel_step_time
from penstock.perf.kernels.layout import TableFile, chosen_files, systems_in, table_files
from penstock.perf.kernels.tables import KernelTables, read_files
from penstock.perf.memory import ONE_ACCELERATOR
from penstock.perf.step_time.roofline import HOST_OVERHEAD_S


@dataclass(frozen=True, slots=True)
class KernelChoice:
    """Tables on disk and what to compose from them; equal ones give equal models.

    ``state`` is the time and size of each file, so that a file that changes is another choice.
    """

    files: tuple[TableFile, ...]
    state: tuple[tuple[int, int], ...]
    model: ModelSpec
    accelerator: tuple[Any, ...]
    parallelism: Parallelism
    precision: str
    kv_precision: str
    host_overhead_s: float


def kernel_choice(
    folder: Path | str, model: ModelSpec, accelerator: Accelerator,
    parallelism: Parallelism = ONE_ACCELERATOR, precision: str = "bf16",
    kv_precision: str = "bf16", *, system: str | None = None, backend: str = "vllm",
    version: str | None = None, host_overhead_s: float = HOST_OVERHEAD_S,
) -> KernelChoice:
    """The tables of ``system`` (of the accelerator's family when None) below ``folder``.

    Raises InputError where there are none.
    """
    chosen = system or system_of(accelerator, folder)
    files = tuple(chosen_files(_listed(folder), chosen, backend, version).values())
    state = tuple((stat.st_mtime_ns, stat.st_size)
                  for stat in (file.path.stat() for file in files))
    return KernelChoice(files, state, model, _frozen(accelerator), parallelism, precision,
                        kv_precision, host_overhead_s)


def _listed(folder: Path | str) -> tuple[TableFile, ...]:
    """The tables below a folder, looked for again when the folder's own entries change."""
    root = Path(folder)
    return _walked(root, root.stat().st_mtime_ns if root.is_dir() else 0)


@lru_cache(maxsize=8)
def _walked(root: Path, _changed_ns: int) -> tuple[TableFile, ...]:
    return table_files(root)


def system_of(accelerator: Accelerator, folder: Path | str) -> str:
    """The one system below ``folder`` whose first word is in the accelerator's name."""
    systems = systems_in(_listed(folder))
    words = re.split(r"[^a-z0-9]+", accelerator.name.lower())
    own = [system for system in systems if re.split(r"[^a-z0-9]+", system)[0] in words]
    if len(own) != 1:
        found = f"{len(own)} systems fit" if own else "no system fits"
        raise InputError(f"{folder}: {found} {accelerator.name}; name it with system"
                         + one_of(own or systems))
    return own[0]


@lru_cache(maxsize=32)
def composed_step_time(choice: KernelChoice) -> KernelStepTime:
    """The composition, made once. Raises InputError for what the tables lack or break."""
    return kernel_step_time(
        _tables(choice.files, choice.state), choice.model, _thawed(choice.accelerator),
        choice.parallelism, choice.precision, choice.kv_precision,
        host_overhead_s=choice.host_overhead_s)


@lru_cache(maxsize=32)
def compact_step_time(choice: KernelChoice) -> CompactFit:
    """Its compact form, made once."""
    return compact(composed_step_time(choice))


@lru_cache(maxsize=8)
def _tables(files: tuple[TableFile, ...], _: tuple[tuple[int, int], ...]) -> KernelTables:
    return read_files(files)


def _frozen(accelerator: Accelerator) -> tuple[Any, ...]:
    """The accelerator's values in order; a cache needs what can be hashed."""
    values = (getattr(accelerator, field.name) for field in fields(accelerator))
    return tuple(frozenset(value.items()) if isinstance(value, Mapping) else value
                 for value in values)


def _thawed(values: tuple[Any, ...]) -> Accelerator:
    named: dict[str, Any] = {
        field.name: dict(sorted(value)) if isinstance(value, frozenset) else value
        for field, value in zip(fields(Accelerator), values, strict=True)}
    return Accelerator(**named)
