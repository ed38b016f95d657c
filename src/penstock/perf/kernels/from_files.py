"""From a folder of kernel tables to the step time of a model on a catalogued accelerator."""

import re
from functools import lru_cache
from pathlib import Path

from penstock.core.errors import InputError, one_of
from penstock.core.hardware import Accelerator, Parallelism
from penstock.core.model import ModelSpec
from penstock.perf.kernels.compose import KernelStepTime, kernel_step_time
from penstock.perf.kernels.layout import TableFile, chosen_files, systems_in, table_files
from penstock.perf.kernels.tables import KernelTables, read_files
from penstock.perf.roofline import HOST_OVERHEAD_S


def composed_step_time(
    folder: Path | str, model: ModelSpec, accelerator: Accelerator, parallelism: Parallelism,
    precision: str = "bf16", kv_precision: str = "bf16", *, system: str | None = None,
    backend: str = "vllm", version: str | None = None, host_overhead_s: float = HOST_OVERHEAD_S,
) -> KernelStepTime:
    """Read the tables of ``system`` (of the accelerator's family when None) and compose.

    Files are read once while they stay as they are. Raises InputError for what is missing.
    """
    chosen = system or system_of(accelerator, folder)
    files = tuple(chosen_files(table_files(folder), chosen, backend, version).values())
    # A file that changes is another file to the cache.
    stats = [file.path.stat() for file in files]
    state = tuple((stat.st_mtime_ns, stat.st_size) for stat in stats)
    return kernel_step_time(_tables(files, state), model, accelerator, parallelism, precision,
                            kv_precision, host_overhead_s=host_overhead_s)


def system_of(accelerator: Accelerator, folder: Path | str) -> str:
    """The one system below ``folder`` whose first word is in the accelerator's name."""
    systems = systems_in(table_files(folder))
    words = re.split(r"[^a-z0-9]+", accelerator.name.lower())
    own = [system for system in systems if re.split(r"[^a-z0-9]+", system)[0] in words]
    if len(own) != 1:
        found = f"{len(own)} systems fit" if own else "no system fits"
        raise InputError(f"{folder}: {found} {accelerator.name}; name it with system"
                         + one_of(own or systems))
    return own[0]


@lru_cache(maxsize=8)
def _tables(files: tuple[TableFile, ...], _: tuple[tuple[int, int], ...]) -> KernelTables:
    return read_files(files)
