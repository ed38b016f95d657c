"""Why values of a fleet are stated on an engine's command line."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from penstock.fleet.marked_yaml import MarkedData, Path

_PLANNED = frozenset({"model", "accelerator", "parallelism", "precision", "kv_precision",
                      "schedule"})
"""Keys of an entry of ``replicas`` that a plan decides."""


@dataclass(frozen=True, slots=True)
class Statements:
    """Sources of a fleet's values.

    ``marked`` is the fleet file with its line numbers. ``plan`` names the plan that wrote the file.
    Only the replicas of such a file count as stated, since the plan writes every default into the
    other sections. ``counted_on`` is the reason where every value is to be stated.
    """

    marked: MarkedData | None = None
    plan: str | None = None
    counted_on: str | None = None

    def reason(self, *path: str | int) -> str | None:
        """Return why the value at a path of the fleet file is stated, None where nobody states
        it."""
        if self.counted_on is not None:
            return self.counted_on
        if self.marked is None or self.value(*path) is None:
            return None
        if self.plan is None:
            return f"stated by {self._place(path)}"
        if path[0] != "replicas":
            return None
        return f"planned ({self.plan})" if path[2] in _PLANNED else f"stated by {self._place(path)}"

    def value(self, *path: str | int) -> Any:
        """Return the value that the file has at a path, None where it has none."""
        found: Any = None if self.marked is None else self.marked.data
        for key in path:
            if isinstance(found, Mapping):
                found = found.get(key)
            elif isinstance(found, list) and isinstance(key, int) and key < len(found):
                found = found[key]
            else:
                return None
        return found

    def _place(self, path: Path) -> str:
        assert self.marked is not None, "the caller has looked"
        place = self.marked.place(path)
        return "--set" if place == "override" else place
