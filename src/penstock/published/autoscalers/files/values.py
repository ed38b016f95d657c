"""Scale policy that an autoscaler's file states."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class FileScaler:
    """Name of a scale policy, its settings, and bounds of its replicas. ``most`` is None where the
    file states no largest number."""

    name: str
    settings: Mapping[str, Any]
    least: int
    most: int | None

    def choice(self) -> dict[str, Any]:
        """Return the policy as a fleet file has it."""
        bounds = {"min_replicas": self.least} | (
            {} if self.most is None else {"max_replicas": self.most})
        return {"name": self.name, **self.settings, **bounds}
