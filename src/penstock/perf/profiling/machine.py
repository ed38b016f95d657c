"""The measuring machine: processor, memory, versions, and other load."""

import os
import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


def describe_machine(packages: Sequence[str] = ()) -> dict[str, Any]:
    """Return the facts that must stay the same throughout a profile.

    ``packages`` are the distributions whose versions matter; absent ones are left out.
    """
    return {"host": platform.node(), "system": f"{platform.system()} {platform.release()}",
            "processor": _processor(), "num_cores": os.cpu_count(),
            "memory_bytes": _memory_line("MemTotal"), "python": platform.python_version(),
            "versions": package_versions(("penstock", *packages))}


def package_versions(packages: Sequence[str]) -> dict[str, str]:
    """Versions of the distributions that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def circumstances() -> dict[str, Any]:
    """Return the facts that change between sessions: load, free memory, clock rates."""
    return {"load_average": list(load_average() or ()),
            "memory_available_bytes": available_memory_bytes(),
            "cpu_mhz": _cpu_mhz(), "governor": _text(
                Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"))}


def load_average() -> tuple[float, float, float] | None:
    """Processes that wanted to run, over 1, 5 and 15 minutes; None where it is not kept."""
    try:
        return os.getloadavg()
    except OSError:
        return None


def available_memory_bytes() -> float | None:
    """Return the bytes that this process could still get without swapping: of the machine, or up to
    the limit of its control group."""
    found = [value for value in (_memory_line("MemAvailable"), _group_room()) if value is not None]
    return min(found) if found else None


def process_memory_bytes() -> float | None:
    """Resident memory of this process and of those that it started."""
    pages, waiting = 0, ["self"]
    while waiting:
        process = waiting.pop()
        text = _text(Path(f"/proc/{process}/statm"))
        if not text and process == "self":
            return None
        pages += int(text.split()[1]) if text else 0
        for thread in _threads(process):
            waiting += _text(Path(f"/proc/{process}/task/{thread}/children")).split()
    return float(pages * os.sysconf("SC_PAGE_SIZE"))


def release_memory() -> None:
    """Have the C library give back what it keeps for later, so that memory held is memory used."""
    import ctypes

    with suppress(OSError, AttributeError):  # other C libraries have no such call
        ctypes.CDLL(None).malloc_trim(0)


def process_read_bytes() -> float | None:
    """Bytes that storage has delivered to this process, None where the system does not say."""
    text = _text(Path("/proc/self/io"))
    lines = dict(line.split(": ") for line in text.splitlines()) if text else {}
    return float(lines["read_bytes"]) if "read_bytes" in lines else None


def same_subject(was: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """The first entry in which two descriptions differ, None when they agree."""
    for name in sorted({*was, *now}):
        before, after = was.get(name), now.get(name)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            inner = same_subject(before, after)
            if inner is not None:
                return f"{name}.{inner}"
        elif before != after:
            return f"{name} {before!r}, now {after!r}"
    return None


def _threads(process: str) -> list[str]:
    try:
        return [one.name for one in Path(f"/proc/{process}/task").iterdir()]
    except OSError:  # it has ended meanwhile
        return []


def _group_room() -> float | None:
    limit = _text(Path("/sys/fs/cgroup/memory.max"))
    used = _text(Path("/sys/fs/cgroup/memory.current"))
    if not limit.isdecimal() or not used.isdecimal():
        return None
    return max(0.0, float(limit) - float(used))


def _memory_line(name: str) -> float | None:
    for line in _text(Path("/proc/meminfo")).splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return float(value.split()[0]) * 1024
    return None


def _processor() -> str:
    for line in _text(Path("/proc/cpuinfo")).splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()


def _cpu_mhz() -> float | None:
    rates = [float(line.partition(":")[2]) for line in _text(Path("/proc/cpuinfo")).splitlines()
             if line.startswith("cpu MHz")]
    return sum(rates) / len(rates) if rates else None


def _text(path: Path) -> str:
    """Return the stripped text of a kernel file; empty where there is none."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
