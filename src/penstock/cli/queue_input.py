"""What the queue commands read: a file with upstream's field names, and options over it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.core.errors import InputError, nearest

if TYPE_CHECKING:
    from penstock.perf.queueing.batch import QueueBatch
    from penstock.perf.queueing.parameters import QueueSpec, Targets
    from penstock.perf.queueing.sizing import PercentileTargets

# Field of the file (upstream's REST names) -> option of the command line. Case does not matter.
FIELDS = {
    "RPS": "--rate", "maxBatchSize": "--max-batch", "maxQueueSize": "--max-queue",
    "AvgInputTokens": "--input-tokens", "AvgOutputTokens": "--output-tokens", "alpha": "--alpha",
    "beta": "--beta", "gamma": "--gamma", "delta": "--delta",
    "maxBatchedTokens": "--max-step-tokens", "targetTTFT": "--ttft-ms", "targetITL": "--itl-ms",
    "targetTPS": "--tokens-per-s", "kvTokens": "--kv-tokens", "percentile": "--percentile",
    "arrivalsScv": "--arrivals-scv", "promptScv": "--prompt-scv", "outputScv": "--output-scv",
}
_WHOLE = {"maxBatchSize", "maxQueueSize", "maxBatchedTokens"}
# Far beyond any engine, and still quick.
_MOST = {"maxBatchSize": 20_000, "maxQueueSize": 1_000_000}


@dataclass(frozen=True, slots=True)
class QueueInput:
    """Values by field name; what nobody gave is absent."""

    values: Mapping[str, float]

    def get(self, field: str) -> float | None:
        """A value, or ``None`` when it was not given."""
        return self.values.get(field)

    def need(self, field: str) -> float:
        """A value that must be there. Raises InputError that says how to give it."""
        if field not in self.values:
            raise InputError(f"queue: {field} is missing; give {FIELDS[field]}, or {field} in "
                             "--file")
        return self.values[field]

    def spec(self) -> "QueueSpec":
        """The queue. Parameters with a delta are of the first generation, without of the second."""
        from penstock.perf.queueing.parameters import (
            DEFAULT_STEP_TOKENS,
            DecodePrefillTimes,
            IterationTimes,
            QueueSpec,
            RequestSize,
        )

        alpha, beta = self.need("alpha"), self.need("beta")
        gamma, delta = self.get("gamma") or 0.0, self.get("delta")
        times: DecodePrefillTimes | IterationTimes
        if delta is not None:
            times = DecodePrefillTimes(alpha, beta, gamma, delta)
        else:
            # Upstream's 0 means its default.
            budget = int(self.get("maxBatchedTokens") or DEFAULT_STEP_TOKENS)
            times = IterationTimes(alpha, beta, gamma, budget)
        size = RequestSize(self.need("AvgInputTokens"), self.need("AvgOutputTokens"))
        return QueueSpec(times, size, int(self.need("maxBatchSize")),
                         int(self.get("maxQueueSize") or 0))

    def targets(self) -> "Targets":
        """Mean targets in upstream's units."""
        from penstock.perf.queueing.parameters import Targets

        return Targets(self.get("targetTTFT"), self.get("targetITL"), self.get("targetTPS"))

    def percentile_targets(self) -> "PercentileTargets":
        """Percentile targets in seconds; 0 is unset, as upstream."""
        from penstock.perf.queueing.sizing import PercentileTargets

        ttft, itl = self.get("targetTTFT"), self.get("targetITL")
        return PercentileTargets(ttft / 1000.0 if ttft else None, itl / 1000.0 if itl else None,
                                 self.get("targetTPS") or None, self.get("percentile"))

    def batch(self) -> "QueueBatch":
        """The queue for Penstock's own mode. Raises InputError when not one request fits."""
        from penstock.perf.queueing.build import from_spec
        from penstock.perf.queueing.parameters import Variability

        given = {"arrivals_scv": "arrivalsScv", "prompt_scv": "promptScv",
                 "output_scv": "outputScv"}
        vary = Variability(**{name: self.values[field] for name, field in given.items()
                              if field in self.values})
        return from_spec(self.spec(), kv_tokens=self.get("kvTokens"), variability=vary)


def read_input(path: Path | None, options: Mapping[str, float | None]) -> QueueInput:
    """The file's values with the command line's over them. Raises InputError."""
    values = {} if path is None else _read(path)
    for field, value in options.items():
        if value is not None:
            values[field] = _number(value, field, FIELDS[field])
    return QueueInput(values)


def _read(path: Path) -> dict[str, float]:
    import json

    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not JSON ({' '.join(str(error).split())[:120]})") from error
    if not isinstance(document, dict):
        raise InputError(f"{path}: found {type(document).__name__}; expected an object of fields")
    known = {field.lower(): field for field in FIELDS}
    values: dict[str, float] = {}
    for name, value in document.items():
        field = known.get(name.lower())
        if field is None:
            raise InputError(f"{path}: unknown field {name[:60]!r}{nearest(name[:60], FIELDS)}")
        if value is not None:
            values[field] = _number(value, field, f"{path}: {name}")
    return values


def _number(value: Any, field: str, where: str) -> float:
    """The value as a float in range. Raises InputError."""
    import math

    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{where}: found {str(value)[:60]!r}; expected a number")
    if not math.isfinite(value) or value < 0:
        raise InputError(f"{where}: found {value:g}; expected a number of 0 or more")
    if field in _WHOLE and value != int(value):
        raise InputError(f"{where}: found {value:g}; expected a whole number")
    if value > _MOST.get(field, 1e12):
        raise InputError(f"{where}: found {value:g}; expected at most {_MOST.get(field, 1e12):g}")
    return float(value)
