"""What the benchmark scripts share: where they run, and how they print."""

import json
import platform
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = REPOSITORY.parent / "shared" / "data"
TRACES = {"code": "niyama-code.yaml", "conv": "niyama-conv.yaml",
          "sharegpt": "niyama-sharegpt.yaml"}


def host() -> dict[str, Any]:
    """The machine and versions that a result belongs to."""
    import penstock.policy.schedule.replica as replica

    native = not str(replica.__file__).endswith(".py")
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")),
               platform.processor())
    return {"cpu": cpu, "python": platform.python_version(), "penstock": version("penstock"),
            "native": native}


def show(result: dict[str, Any]) -> None:
    """Print a result with its host as JSON."""
    json.dump({"host": host(), **result}, sys.stdout, indent=1)
    print()


def fleet_of(trace: str, overrides: dict[str, Any]) -> Any:
    """An example fleet of Niyama's setting, with dotted overrides.

    Policies know step times exactly, so that figures of one commit compare with another's.
    """
    from penstock.fleet.load import load_fleet

    return load_fleet(REPOSITORY / "examples" / TRACES[trace],
                      {**overrides, "run.beliefs": "exact"})


def in_parallel(work: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
    """Results in order, two processes at a time; progress on stderr."""
    results = []
    with ProcessPoolExecutor(2) as pool:
        for item, result in zip(list(items), pool.map(work, list(items)), strict=True):
            print(item, result, file=sys.stderr, flush=True)
            results.append(result)
    return results
