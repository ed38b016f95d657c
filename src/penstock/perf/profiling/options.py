"""Options of an engine that is profiled."""

from dataclasses import dataclass
from pathlib import Path

from penstock.core.hardware import Accelerator


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How an engine is to be run; each takes what it knows of.

    ``scratch`` is a folder for what is written for it to read. ``from_files`` has random weights
    read from files at every load. ``num_accelerators`` and ``num_threads`` 0 leave it to the
    engine. ``accelerator`` is what the simulated one simulates.
    """

    scratch: Path
    from_files: bool = False
    device: str = ""
    num_accelerators: int = 0
    num_threads: int = 0
    max_step_tokens: int = 2048
    memory_bytes: float | None = None
    memory_fraction: float = 0.9
    eager: bool = False
    seed: int = 0
    accelerator: Accelerator | None = None
    noise: float = 0.01
