"""Files of other tools, by the tool's name."""

from collections.abc import Callable, Mapping
from pathlib import Path

from penstock.core.errors import InputError, nearest
from penstock.perf.profiles.imported import Imported
from penstock.perf.profiles.maveriq import import_maveriq
from penstock.perf.profiles.operations import read_aiconfigurator, read_vidur
from penstock.perf.profiles.requests import read_vllm_bench
from penstock.perf.profiles.sincere import read_sincere

READERS: Mapping[str, Callable[[Path], Imported]] = {
    "maveriq": import_maveriq, "sincere": read_sincere, "vidur": read_vidur,
    "aiconfigurator": read_aiconfigurator, "vllm-bench": read_vllm_bench}


def read_foreign(path: Path, tool: str) -> Imported:
    """Return the contents of a tool's file.

    Raises InputError for an unknown tool and for a broken file.
    """
    if tool not in READERS:
        raise InputError(f"--from {tool[:40]!r} is unknown{nearest(tool, READERS)}")
    return READERS[tool](path)
