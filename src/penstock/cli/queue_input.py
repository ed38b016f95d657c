"""Input of the queue commands: a file with upstream's field names, and options over the file."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from penstock.core.errors import InputError, kind_of, nearest

if TYPE_CHECKING:
    from penstock.fleet.request_queue import QueueAtRate, QueueUnderTargets

PENSTOCK = "penstock"


class Field(NamedTuple):
    """A field of a question: where it stands there, its name in upstream's REST API, and the
    parameter of the command that states it."""

    path: str
    upstream: str
    parameter: str

    @property
    def option(self) -> str:
        """The option of the command line."""
        return f"--{self.parameter.replace('_', '-')}"


FIELDS = (
    Field("rate_per_s", "RPS", "rate"), Field("max_batch", "maxBatchSize", "max_batch"),
    Field("max_queue", "maxQueueSize", "max_queue"),
    Field("input_tokens", "AvgInputTokens", "input_tokens"),
    Field("output_tokens", "AvgOutputTokens", "output_tokens"),
    Field("times.alpha_ms", "alpha", "alpha"), Field("times.beta_ms", "beta", "beta"),
    Field("times.gamma_ms", "gamma", "gamma"), Field("times.delta_ms", "delta", "delta"),
    Field("times.max_step_tokens", "maxBatchedTokens", "max_step_tokens"),
    Field("targets.ttft_ms", "targetTTFT", "ttft_ms"),
    Field("targets.itl_ms", "targetITL", "itl_ms"),
    Field("targets.tokens_per_s", "targetTPS", "tokens_per_s"),
    Field("kv_tokens", "kvTokens", "kv_tokens"),
    Field("targets.percentile", "percentile", "percentile"),
    Field("arrivals_scv", "arrivalsScv", "arrivals_scv"),
    Field("prompt_scv", "promptScv", "prompt_scv"), Field("output_scv", "outputScv", "output_scv"))
_BY_PATH = {one.path: one for one in FIELDS}
_BUDGET, _DELTA = "times.max_step_tokens", "times.delta_ms"
_ALWAYS = ("times.alpha_ms", "times.beta_ms", "input_tokens", "output_tokens", "max_batch")


@dataclass(frozen=True, slots=True)
class QueueInput:
    """Values by their path; what nobody gave is absent. ``places`` says where the others are from:
    ``--max-batch``, or the file and its own spelling of the field."""

    values: Mapping[str, float]
    places: Mapping[str, str] = field(default_factory=dict)

    def with_default(self, path: str, value: float) -> "QueueInput":
        """With the value where none was given."""
        return replace(self, values={path: value, **self.values})

    def place(self, path: str) -> str:
        """Return the place where the user gave a value, or could."""
        return self.places.get(path, _BY_PATH[path].option)

    def errors_called(self) -> AbstractContextManager[None]:
        """Errors about fields name the place where the user gave them."""
        from penstock.serving.planning.queue_body import errors_called

        return errors_called(lambda path: self.place(path) if path in _BY_PATH else path)

    def check(self, mode: str) -> list[str]:
        """Check the values against each other and the mode. The answer is remarks for the user.

        Raises InputError for a value that only another mode reads. A bound on waiting in a file is
        remarked on instead: upstream's files have one.
        """
        from penstock.registry.sources import inputs_of_other_modes
        from penstock.serving.planning.queue_body import PATHS

        remarks = []
        for name, other in inputs_of_other_modes(mode).items():
            path = PATHS[name]
            if path in self.values:
                text = f"{self.place(path)}: only --mode {other} has it"
                if name != "max_queue" or self.place(path) == _BY_PATH[path].option:
                    raise InputError(f"{text}; leave it out")
                remarks.append(f"{text}; here waiting is never bounded")
        if _DELTA in self.values and _BUDGET in self.values:
            raise InputError(f"{self.place(_BUDGET)}: has no meaning beside {self.place(_DELTA)}; "
                             "leave one of them out")
        if self.values.get(_BUDGET) == 0 and mode == PENSTOCK:
            raise InputError(f"{self.place(_BUDGET)}: expected at least 2, found 0")
        return remarks

    def at_rate(self, mode: str) -> "QueueAtRate":
        """The question of a replica at a rate. Raises InputError for what is missing."""
        from penstock.fleet.request_queue import QueueAtRate

        document = self._document(mode, (*_ALWAYS, "rate_per_s"))
        document.pop("targets", None)  # an upstream file has both
        return QueueAtRate.model_validate(document)

    def under_targets(self, mode: str) -> "QueueUnderTargets":
        """The question of a replica under targets. Raises InputError for what is missing."""
        from penstock.fleet.request_queue import QueueUnderTargets

        document = self._document(mode, _ALWAYS)
        document.pop("rate_per_s", None)
        return QueueUnderTargets.model_validate({"targets": {}, **document})

    def _document(self, mode: str, needed: tuple[str, ...]) -> dict[str, Any]:
        for path in needed:
            if path not in self.values:
                one = _BY_PATH[path]
                raise InputError(f"queue: {one.upstream} is missing; give {one.option}, or "
                                 f"{one.upstream} in --file")
        document: dict[str, Any] = {"mode": mode}
        for path, value in self.values.items():
            section, _, name = path.rpartition(".")
            if path == _BUDGET and value == 0:  # upstream's 0 means its default
                continue
            (document.setdefault(section, {}) if section else document)[name] = value
        return document


def read_input(path: Path | None, options: Mapping[str, float | None]) -> QueueInput:
    """The file's values with the command line's over them. Raises InputError."""
    given = QueueInput({}) if path is None else _read(path)
    values, places = dict(given.values), dict(given.places)
    for name, value in options.items():
        if value is not None:
            values[name], places[name] = value, _BY_PATH[name].option
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
    known = {one.upstream.lower(): one for one in FIELDS}
    values: dict[str, float] = {}
    places: dict[str, str] = {}
    for key, value in document.pairs:
        one = known.get(key.lower())
        if one is None:
            raise InputError(f"{path}: unknown field {key[:60]!r}"
                             f"{nearest(key[:60], [one.upstream for one in FIELDS])}")
        if value is None:
            continue
        if one.path in values:
            raise InputError(f"{path}: field {key!r} is there twice (fields match in any case)")
        places[one.path] = f"{path}: {key}"
        values[one.path] = _checked(one.path, value, places[one.path])
    return QueueInput(values, places)


class _Pairs:
    """A JSON object as it stands in the file."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        self.pairs = pairs


def _checked(path: str, value: Any, place: str) -> float:
    """The value as its field takes it. Raises InputError."""
    from penstock.fleet.declared import checked

    if path == _BUDGET and value == 0 and not isinstance(value, bool):
        return 0
    request = "size" if path.startswith("targets.") else "queue"
    try:
        found: float = checked(f"{request}:{path}", {} if isinstance(value, _Pairs) else value)
    except InputError as error:
        raise InputError(f"{place}: {error}") from None
    return found
