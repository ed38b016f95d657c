"""Loading models as documents: what a fit writes, and what ships with Penstock."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import yaml

from penstock.core.errors import InputError, nearest
from penstock.perf.loading.model import LoadingModel
from penstock.perf.loading.values import ConfidentialTerms, FirstLoad, LoadEvidence

_NESTED: Mapping[str, type[Any]] = {"evidence": LoadEvidence, "first": FirstLoad,
                                    "confidential": ConfidentialTerms}
_ABOVE_ZERO = ("disk_bytes_per_s", "pageable_bytes_per_s", "link_bytes_per_s")
_CACHE = "page_cache_bytes"


def loading_document(model: LoadingModel, page_cache_bytes: int | None = None) -> dict[str, Any]:
    """The model, and the page cache that it was fitted with, as plain mappings and numbers."""
    document = {name: value for name, value in asdict(model).items() if value is not None}
    evidence = document.pop("evidence")
    cache = {} if page_cache_bytes is None else {_CACHE: page_cache_bytes}
    return {**document, **cache, "evidence": evidence}


def save_loading(model: LoadingModel, path: Path | str, page_cache_bytes: int | None = None
                 ) -> None:
    """Write a model as YAML. Raises OSError."""
    text = yaml.safe_dump(loading_document(model, page_cache_bytes), sort_keys=False)
    Path(path).write_text(text, encoding="utf-8")


def load_loading(path: Path | str) -> tuple[LoadingModel, int | None]:
    """Read what ``save_loading`` wrote: model and page cache's bytes. Raises InputError."""
    try:
        document = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: is not YAML ({' '.join(str(error).split())})") from error
    return loading_from(document, str(path))


def loading_from(document: Any, where: str) -> tuple[LoadingModel, int | None]:
    """The model that a document describes, and its page cache's bytes. Raises InputError."""
    values = _values(document, LoadingModel, where, more=(_CACHE,))
    cache = values.pop(_CACHE, None)
    for name in _ABOVE_ZERO:
        if values.get(name, 1.0) <= 0.0:
            raise InputError(f"{where}: {name}: {values[name]:g}; expected a number above 0")
    if values.get("overlap", 0.0) > 1.0:
        raise InputError(f"{where}: overlap: {values['overlap']:g}; expected 0 to 1")
    return LoadingModel(**values), None if cache is None else int(cache)


def _values(document: Any, form: type[Any], where: str, more: tuple[str, ...] = ()
            ) -> dict[str, Any]:
    """Fields of a dataclass by name, checked; those with a default may be absent."""
    if not isinstance(document, Mapping):
        raise InputError(f"{where}: found {type(document).__name__}; expected a mapping")
    names = [field.name for field in fields(form)]
    for key in document:
        if key not in names and key not in more:
            raise InputError(f"{where}: unknown key {key!r}{nearest(str(key), [*names, *more])}")
    needed = fields(form)[:_num_needed(form)]
    for field in needed:
        if field.name not in document:
            raise InputError(f"{where}: {field.name!r} is missing")
    return {str(key): _value(value, str(key), f"{where}: {key}") for key, value in document.items()}


def _num_needed(form: type[Any]) -> int:
    """How many leading fields have no default."""
    from dataclasses import MISSING

    return sum(field.default is MISSING and field.default_factory is MISSING
               for field in fields(form))


def _value(value: Any, name: str, where: str) -> Any:
    if name in _NESTED:
        form = _NESTED[name]
        return None if value is None else form(**_values(value, form, where))
    if name == "source":
        return str(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0.0:
        raise InputError(f"{where}: found {value!r}; expected a number of at least 0")
    return float(value)
