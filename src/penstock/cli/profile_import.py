"""The readers of other tools' files, those of layers that do not know each other joined here."""

from pathlib import Path
from typing import TYPE_CHECKING

from penstock.core.errors import InputError, nearest

if TYPE_CHECKING:
    from penstock.perf.profiles.imported import Imported

_GUIDELLM = "guidellm"


def read_any(path: Path, tool: str) -> "Imported":
    """Return the contents of a tool's file.

    Raises InputError for an unknown tool and for a broken file.
    """
    from penstock.registry.sources import PROFILES, read_foreign

    if tool != _GUIDELLM and not PROFILES.knows(tool):
        raise InputError(f"--from {tool[:40]!r} is unknown"
                         f"{nearest(tool, (*PROFILES.all_names(), _GUIDELLM))}")
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected one that {tool} wrote")
    return _guidellm(path) if tool == _GUIDELLM else read_foreign(path, tool)


def _guidellm(path: Path) -> "Imported":
    """Its benchmarks' requests; ``bench --guidellm-in`` reads the same file."""
    import orjson

    from penstock.core.slo import Slo
    from penstock.experiment.load.guidellm import read_guidellm
    from penstock.perf.profiles.imported import Imported, numbered
    from penstock.perf.profiles.points import ModelConfiguration
    from penstock.perf.profiles.requests import request_measurements

    found = []
    url = ""
    for number, run in enumerate(read_guidellm(path, Slo())):
        load = run.measured.load
        url = str(load.get("url") or url)
        streams = load.get("concurrency")
        found += request_measurements(
            run.table, ModelConfiguration(path.stem, (), "unknown", "unknown"),
            streams if isinstance(streams, int) else None, f"{path}: benchmarks[{number}]",
            orjson.dumps({"benchmark": number}).decode())
    return Imported(numbered(found), {"engine": "unknown", "url": url},
                    ("times are those that the benchmark's client saw; of the gaps between tokens "
                     "only the means are known",))
