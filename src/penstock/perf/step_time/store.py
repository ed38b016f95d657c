"""Step-time models as documents: published ones that ship with Penstock, and saved files."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from functools import cache
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from penstock.core.errors import InputError, nearest
from penstock.core.step import StepFeatures
from penstock.perf.evidence import NO_LIMIT, Evidence
from penstock.perf.step_time.knee import KneeStepTime
from penstock.perf.step_time.linear import LinearStepTime
from penstock.perf.step_time.protocol import StepTimeModel
from penstock.perf.step_time.tabulated import TabulatedStepTime

KINDS: Mapping[str, type[Any]] = {"linear": LinearStepTime, "knee": KneeStepTime,
                                  "tabulated": TabulatedStepTime}
FormOf = Callable[[str], type[Any]]
"""Finds the class of a saved model's kind; raises InputError for an unknown one.

A form is a dataclass of coefficients and ``evidence``. A guest's form has its ``KIND``, and reads
coefficients that are no numbers by a static method ``coefficient(name, value, where)``.
"""


def form_of(kind: str) -> type[Any]:
    """The forms of this room. ``registry.step_times`` knows those of guests, too."""
    if kind not in KINDS:
        raise InputError(f"kind {kind!r} is unknown{nearest(kind, KINDS)}")
    return KINDS[kind]


def published_names() -> tuple[str, ...]:
    """Names of the models that ship with Penstock."""
    return tuple(_published())


def published_step_time(name: str, form_of: FormOf = form_of) -> StepTimeModel:
    """A published model by name; InputError with the nearest name when there is none."""
    documents = _published()
    if name not in documents:
        raise InputError(f"step time {name!r} is not published{nearest(name, documents)}")
    return step_time_from(documents[name], name, form_of)


def load_step_time(path: Path | str, form_of: FormOf = form_of) -> StepTimeModel:
    """Read a model that ``save_step_time`` wrote (YAML, of which JSON is a part)."""
    try:
        document = _parse(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        problem = " ".join(str(error).split())
        raise InputError(f"{path}: is not YAML or JSON ({problem})") from error
    return step_time_from(document, str(path), form_of)


def save_step_time(model: StepTimeModel, path: Path | str) -> None:
    """Write a linear, knee, niyama or tabulated model; JSON when the name ends in ``.json``."""
    document = step_time_document(model)
    path = Path(path)
    if path.suffix == ".json":
        import json

        text = json.dumps(document, indent=1) + "\n"
    else:
        text = yaml.safe_dump(document, sort_keys=False)
    path.write_text(text, encoding="utf-8")


def has_document(model: StepTimeModel) -> bool:
    """Whether a model can be written: those that follow from a catalog entry cannot."""
    return _kind_of(model) is not None


def _kind_of(model: StepTimeModel) -> str | None:
    own: str | None = getattr(type(model), "KIND", None)
    return next((name for name, form in KINDS.items() if type(model) is form), own)


def step_time_document(model: StepTimeModel) -> dict[str, Any]:
    """The model as plain mappings, lists and numbers."""
    kind = _kind_of(model)
    if kind is None:
        raise InputError(f"step time of type {type(model).__name__} has no file form; expected one "
                         f"of: {', '.join(KINDS)}")
    values = asdict(model)  # type: ignore[call-overload]
    evidence = values.pop("evidence")
    evidence["largest"] = list(evidence["largest"])
    del evidence["unmeasured"]  # saved models are of measurements
    coefficients = {name: _plain(value) for name, value in values.items()}
    return {"kind": kind, "coefficients": coefficients, "evidence": evidence}


def step_time_from(document: Any, where: str, form_of: FormOf = form_of) -> StepTimeModel:
    """Build the model that a document describes; ``where`` begins every error message."""
    _check_keys(document, ("kind", "coefficients", "evidence"), ("evidence",), where)
    kind = document["kind"]
    try:
        form = form_of(str(kind))
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    names = tuple(field.name for field in fields(form) if field.name != "evidence")
    coefficients = document["coefficients"]
    _check_keys(coefficients, names, (), f"{where}: coefficients")
    read = getattr(form, "coefficient", _coefficient)
    values = {name: read(name, coefficients[name], f"{where}: {name}") for name in names}
    if kind == "tabulated":
        _check_knots(values["knot_tokens"], values["knot_s"], where)
    model: StepTimeModel = form(**values, evidence=_evidence(document.get("evidence"), where))
    return model


def _coefficient(name: str, value: Any, where: str) -> Any:
    if name.startswith("knot_"):
        return read_numbers(value, where)
    number = read_number(value, where)
    if number < 0.0 or (name == "sharpness" and number < 1.0):
        least = 1 if name == "sharpness" else 0
        raise InputError(f"{where}: {number:g}; expected at least {least}")
    return number


def _check_knots(tokens: tuple[float, ...], times: tuple[float, ...], where: str) -> None:
    if len(tokens) != len(times) or len(tokens) < 2:
        raise InputError(f"{where}: {len(tokens)} knot_tokens and {len(times)} knot_s; expected "
                         "two or more, as many of each")
    for name, values, strict in (("knot_tokens", tokens, True), ("knot_s", times, False)):
        for left, right in pairwise(values):
            if right < left or (strict and right == left):
                raise InputError(f"{where}: {name} falls or repeats at {right:g}; expected rising")


def _evidence(document: Any, where: str) -> Evidence:
    if document is None:
        return Evidence(f"{where}, without a stated error (25 % assumed)", 0.10, 0.25)
    where = f"{where}: evidence"
    _check_keys(document, ("source", "mean_error", "p95_error", "largest"), ("largest",), where)
    largest = NO_LIMIT
    if document.get("largest") is not None:
        limits = read_numbers(_limits(document["largest"]), f"{where}: largest")
        if len(limits) != len(StepFeatures._fields):
            raise InputError(f"{where}: largest has {len(limits)} numbers; expected 4 "
                             f"({', '.join(StepFeatures._fields)})")
        largest = StepFeatures._make(limits)
    return Evidence(str(document["source"]), read_number(document["mean_error"], where),
                    read_number(document["p95_error"], where), largest)


def _limits(value: Any) -> Any:
    """JSON has no infinity: where it was written as null, there is no limit."""
    if not isinstance(value, list) or len(value) != len(NO_LIMIT):
        return value
    return [most if limit is None else limit for limit, most in zip(value, NO_LIMIT, strict=True)]


def _check_keys(document: Any, names: tuple[str, ...], optional: tuple[str, ...],
                where: str) -> None:
    if not isinstance(document, Mapping):
        raise InputError(f"{where}: found {type(document).__name__}; expected a mapping with "
                         f"{', '.join(names)}")
    for key in document:
        if key not in names:
            raise InputError(f"{where}: unknown key {key!r}{nearest(str(key), names)}")
    for name in names:
        if name not in document and name not in optional:
            raise InputError(f"{where}: {name!r} is missing")


def read_numbers(value: Any, where: str) -> tuple[float, ...]:
    """A list of numbers in a document."""
    if not isinstance(value, list):
        raise InputError(f"{where}: found {value!r}; expected a list of numbers")
    return tuple(read_number(item, where) for item in value)


def read_number(value: Any, where: str) -> float:
    """A number in a document."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        raise InputError(f"{where}: found {value!r}; expected a number")
    return float(value)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return [_plain(item) for item in value.values()]
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def _parse(text: str) -> Any:
    # YAML 1.1 reads 1e-05 as text; JSON files have such numbers, so they go to a JSON parser.
    if text.lstrip().startswith("{"):
        import json

        try:
            return json.loads(text)
        except json.JSONDecodeError:
            pass
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


@cache
def _published() -> dict[str, Any]:
    text = resources.files("penstock.perf").joinpath("data/step_times.yaml").read_text("utf-8")
    documents: dict[str, Any] = _parse(text)
    return documents
