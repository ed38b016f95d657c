"""Counts of events on devices, for metrics."""

from collections import Counter
from dataclasses import dataclass, field

_MOST_REASONS = 40
_MOST_CHARACTERS = 100


@dataclass(slots=True)
class Counts:
    """Counters: ``loads`` by (device, model, outcome: loaded or failed); ``load_s``, seconds of
    successful loads, by model; ``refused`` by (model, code, reason); ``started`` by model;
    ``lost``, engines found dead or empty, by (device, model)."""

    loads: Counter[tuple[int, int, str]] = field(default_factory=Counter)
    load_s: dict[int, float] = field(default_factory=dict)
    refused: Counter[tuple[int, str, str]] = field(default_factory=Counter)
    started: Counter[int] = field(default_factory=Counter)
    prefetched: Counter[int] = field(default_factory=Counter)
    lost: Counter[tuple[int, int]] = field(default_factory=Counter)

    def loaded(self, device: int, model: int, seconds: float, *, failed: bool) -> None:
        """Count a load that ended."""
        self.loads[device, model, "failed" if failed else "loaded"] += 1
        if not failed:
            self.load_s[model] = self.load_s.get(model, 0.0) + seconds

    def refuse(self, model: int, code: str, reason: str) -> None:
        """Count a refusal. Only the first of very many different reasons are counted separately."""
        key = (model, code, reason[:_MOST_CHARACTERS])
        if key not in self.refused and len(self.refused) >= _MOST_REASONS:
            key = (model, code, "another reason")
        self.refused[key] += 1
