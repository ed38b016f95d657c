"""The page cache of weight files: told to let them go, and asked whether it did."""

import mmap
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

_COLD_SHARE = 0.05  # of the files' pages may be left where a load still counts as cold


def evict(files: Sequence[Path]) -> None:
    """Ask the kernel to drop what it caches of files. It may decline: look at ``cached_share``."""
    for path in files:
        with path.open("rb") as file:
            os.fsync(file.fileno())  # pages that are still to be written cannot be dropped
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def warm(files: Sequence[Path]) -> None:
    """Read files once, so that they are cached as far as there is memory."""
    for path in files:
        with path.open("rb", buffering=0) as file:
            while file.read(1 << 22):
                pass


def total_bytes(files: Sequence[Path]) -> int:
    """The files' size together."""
    return sum(path.stat().st_size for path in files)


def cached_share(files: Sequence[Path]) -> float | None:
    """The share of the files' pages that is in memory, None where the system does not tell.

    Asked with mincore(2).
    """
    resident = total = 0
    for path in files:
        size = path.stat().st_size
        if not size:
            continue
        found = _resident_pages(path, size)
        if found is None:
            return None
        pages = -(-size // mmap.PAGESIZE)
        resident, total = resident + found, total + pages
    return resident / total if total else None


def state(share: float | None) -> str:
    """Return the meaning of a cached share for the next load: ``cold``, ``warm``, ``partly`` or
    ``unknown``."""
    if share is None:
        return "unknown"
    return "cold" if share <= _COLD_SHARE else "warm" if share >= 1 - _COLD_SHARE else "partly"


def _resident_pages(path: Path, size: int) -> int | None:
    import ctypes

    try:
        ask: Any = ctypes.CDLL(None, use_errno=True).mincore
    except (OSError, AttributeError):
        return None
    pages = -(-size // mmap.PAGESIZE)
    vector = np.zeros(pages, dtype=np.uint8)
    with path.open("rb") as file, mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ) as mapped:
        content = np.frombuffer(mapped, dtype=np.uint8)
        status = ask(ctypes.c_void_p(content.ctypes.data), ctypes.c_size_t(size),
                     ctypes.c_void_p(vector.ctypes.data))
        del content  # a map cannot be closed while somebody looks at it
    return int((vector & 1).sum()) if status == 0 else None
