"""Input of the queue commands: a file with upstream's field names, and options over the file."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.core.errors import InputError, fields_called, kind_of, nearest, quote

if TYPE_CHECKING:
    from penstock.perf.queueing.mode import QueueProblem
    from penstock.perf.queueing.parameters import QueueSpec

# Field of the file (upstream's REST names) -> option of the command line. Case does not matter.
FIELDS = {
    "RPS": "--rate", "maxBatchSize": "--max-batch", "maxQueueSize": "--max-queue",
    "AvgInputTokens": "--input-tokens", "AvgOutputTokens": "--output-tokens", "alpha": "--alpha",
    "beta": "--beta", "gamma": "--gamma", "delta": "--delta",
    "maxBatchedTokens": "--max-step-tokens", "targetTTFT": "--ttft-ms", "targetITL": "--itl-ms",
    "targetTPS": "--tokens-per-s", "kvTokens": "--kv-tokens", "percentile": "--percentile",
    "arrivalsScv": "--arrivals-scv", "promptScv": "--prompt-scv", "outputScv": "--output-scv",
}
PENSTOCK = "penstock"
_WHOLE = {"maxBatchSize", "maxQueueSize", "maxBatchedTokens"}
# A field of ours, as errors have it -> the field here.
_OURS = {"rate": "RPS", "max_batch": "maxBatchSize", "max_queue": "maxQueueSize",
         "input_tokens": "AvgInputTokens", "output_tokens": "AvgOutputTokens",
         "alpha_ms": "alpha", "beta_ms": "beta", "gamma_ms": "gamma", "delta_ms": "delta",
         "optimal concurrency": "delta",  # the published search takes no delta
         "max_step_tokens": "maxBatchedTokens", "ttft_ms": "targetTTFT", "itl_ms": "targetITL",
         "tokens_per_s": "targetTPS", "kv_tokens": "kvTokens", "percentile": "percentile",
         "arrivals_scv": "arrivalsScv", "prompt_scv": "promptScv", "output_scv": "outputScv"}


@dataclass(frozen=True, slots=True)
class QueueInput:
    """Values by field name; what nobody gave is absent. ``places`` says where the others are from:
    ``--max-batch``, or the file and its own spelling of the field."""

    values: Mapping[str, float]
    places: Mapping[str, str] = field(default_factory=dict)

    def get(self, name: str) -> float | None:
        """A value, or ``None`` when it was not given."""
        return self.values.get(name)

    def need(self, name: str) -> float:
        """A value that must be there. Raises InputError that says how to give it."""
        if name not in self.values:
            raise InputError(f"queue: {name} is missing; give {FIELDS[name]}, or {name} in "
                             "--file")
        return self.values[name]

    def with_default(self, name: str, value: float) -> "QueueInput":
        """With the value where none was given."""
        return replace(self, values={name: value, **self.values})

    def place(self, name: str) -> str:
        """Return the place where the user gave a value, or could."""
        return self.places.get(name, FIELDS[name])

    def fields_called(self) -> AbstractContextManager[None]:
        """Errors about fields name the place where the user gave them."""
        return fields_called({ours: self.place(name) for ours, name in _OURS.items()})

    def check(self, mode: str) -> list[str]:
        """Check the values against each other and the mode. The answer is remarks for the user.

        Raises InputError for a value that only another mode reads. A bound on waiting in a file is
        remarked on instead: upstream's files have one.
        """
        from penstock.registry.sources import inputs_of_other_modes

        remarks = []
        for ours, other in inputs_of_other_modes(mode).items():
            name = _OURS[ours]
            if name in self.values:
                text = f"{self.place(name)}: only --mode {other} has it"
                if name != "maxQueueSize" or self.place(name) == FIELDS[name]:
                    raise InputError(f"{text}; leave it out")
                remarks.append(f"{text}; here waiting is never bounded")
        if "delta" in self.values and "maxBatchedTokens" in self.values:
            raise InputError(f"{self.place('maxBatchedTokens')}: has no meaning beside "
                             f"{self.place('delta')}; leave one of them out")
        budget = self.place("maxBatchedTokens")
        if self.get("maxBatchedTokens") == 0 and (mode == PENSTOCK or budget.startswith("--")):
            least = 2 if mode == PENSTOCK else 1
            raise InputError(f"{budget}: found 0; expected at least {least}")
        return remarks

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

    def problem(self) -> "QueueProblem":
        """The queue with its targets, for a mode to answer."""
        from penstock.perf.queueing.mode import QueueProblem
        from penstock.perf.queueing.parameters import Variability

        scvs = ("arrivals_scv", "prompt_scv", "output_scv")
        given = {ours: self.values[_OURS[ours]] for ours in scvs if _OURS[ours] in self.values}
        return QueueProblem(
            self.spec(), self.get("targetTTFT"), self.get("targetITL"), self.get("targetTPS"),
            self.get("percentile"), self.get("kvTokens"), Variability(**given))


def read_input(path: Path | None, options: Mapping[str, float | None]) -> QueueInput:
    """The file's values with the command line's over them. Raises InputError."""
    given = QueueInput({}) if path is None else _read(path)
    values, places = dict(given.values), dict(given.places)
    for name, value in options.items():
        if value is not None:
            values[name], places[name] = _number(value, name, FIELDS[name]), FIELDS[name]
    return QueueInput(values, places)


def _read(path: Path) -> QueueInput:
    import json

    try:
        # Pairs, since a mapping would hide a key that appears twice.
        document = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_Pairs)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not JSON ({' '.join(str(error).split())[:120]})") from error
    if not isinstance(document, _Pairs):
        raise InputError(f"{path}: found {kind_of(document)}; expected an object of fields")
    known = {name.lower(): name for name in FIELDS}
    values: dict[str, float] = {}
    places: dict[str, str] = {}
    for key, value in document.pairs:
        name = known.get(key.lower())
        if name is None:
            raise InputError(f"{path}: unknown field {key[:60]!r}{nearest(key[:60], FIELDS)}")
        if value is None:
            continue
        if name in values:
            raise InputError(f"{path}: field {key!r} is there twice (fields match in any case)")
        values[name], places[name] = _number(value, name, f"{path}: {key}"), f"{path}: {key}"
    return QueueInput(values, places)


class _Pairs:
    """A JSON object as it stands in the file."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        self.pairs = pairs


def _number(value: Any, name: str, where: str) -> float:
    """The value as a float in range. Raises InputError."""
    import math

    from penstock.perf.queueing.parameters import MAX_BATCH, MAX_NUMBER, MAX_QUEUE

    if isinstance(value, _Pairs):
        value = {}
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{where}: found {quote(value)}; expected a number")
    try:
        number = float(value)
    except OverflowError:  # a whole number of hundreds of digits
        number = math.inf
    most = {"maxBatchSize": MAX_BATCH, "maxQueueSize": MAX_QUEUE}.get(name, MAX_NUMBER)
    if math.isfinite(number) and number > most:
        raise InputError(f"{where}: found {number:g}; expected at most {most:g}")
    if not math.isfinite(number) or number < 0:
        raise InputError(f"{where}: found {number:g}; expected a number of 0 or more")
    if name in _WHOLE and number != int(number):
        raise InputError(f"{where}: found {number:g}; expected a whole number")
    return number
