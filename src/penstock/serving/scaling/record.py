"""Record of a gateway's scaling decisions."""

from pathlib import Path
from typing import Any

from penstock.journal.scaling import ScalingLines, header
from penstock.policy.scale.values import Observation, ScalingDecision
from penstock.serving.gateway.decision_log import DecisionLog


class ScalingRecord:
    """Appends every decision to a log, in the form of ``journal/scaling.py``."""

    def __init__(self, log: DecisionLog, policy: str, settings: dict[str, Any], seed: int,
                 version: str) -> None:
        self.policy = policy
        self._log = log
        self._lines = ScalingLines()
        log.add(header(policy, settings, seed, version))

    def add(self, wall_s: float, now_s: float, seen: Observation, targets: tuple[int, ...],
            decision: ScalingDecision) -> None:
        """Append a decision at ``now_s`` of the loop, ``wall_s`` of the day."""
        self._log.add(self._lines.line(wall_s, now_s, seen, targets, decision))


def record_path(folder: Path) -> Path:
    """Return the path of the record in the folder of a fleet's engines."""
    return folder / "scaling.jsonl"
