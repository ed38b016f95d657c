"""The catalog: accelerators and models by name, built-in and the user's own."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from penstock.catalog.checks import Field, quote
from penstock.catalog.documents import Document, built_in_documents, user_documents
from penstock.catalog.entries import (
    ACCELERATOR_FIELDS,
    MODEL_FIELDS,
    Entry,
    accelerator_from,
    checked_entry,
    model_from,
)
from penstock.catalog.hf_config import model_from_hf_config
from penstock.catalog.prices import known_basis
from penstock.core.errors import InputError, nearest
from penstock.core.hardware import Accelerator
from penstock.core.model import ModelSpec

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Catalog:
    """Accelerators and models by name, in the order of their files.

    The aliases map other names, in lower case, to names. Lookups ignore case. The accelerators have
    their prices on ``price_basis``, where they have one there.
    """

    accelerators: Mapping[str, Accelerator]
    models: Mapping[str, ModelSpec]
    accelerator_aliases: Mapping[str, str]
    model_aliases: Mapping[str, str]
    price_basis: str

    def basis(self, name: str) -> str:
        """Return the basis of prices of that name or beginning. Raises InputError with the nearest
        name."""
        return known_basis(name, (price.basis for one in self.accelerators.values()
                                  for price in one.prices))

    def accelerator(self, name: str) -> Accelerator:
        """Return the accelerator of that name or alias. Raises InputError with the nearest name."""
        found = _named(name, self.accelerators, self.accelerator_aliases)
        if found is None:
            raise _unknown("accelerator", name, self.accelerators, self.accelerator_aliases)
        return found

    def model(self, name: str) -> ModelSpec:
        """Return the model of that name or alias, or of a config.json (or its folder).

        Raises InputError with the nearest name, or with the config's error.
        """
        if _named(name, self.models, self.model_aliases) is None and is_config_path(name):
            return model_from_hf_config(Path(name).expanduser())
        return self.listed_model(name)

    def listed_model(self, name: str) -> ModelSpec:
        """Return the model of that name or alias, never from a file. Raises InputError with the
        nearest name."""
        found = _named(name, self.models, self.model_aliases)
        if found is None:
            raise _unknown("model", name, self.models, self.model_aliases)
        return found

    def on_basis(self, name: str) -> "Catalog":
        """Return the catalog with the prices of another basis. Raises InputError with the nearest
        name."""
        basis = self.basis(name)
        priced = {key: one.priced(basis) for key, one in self.accelerators.items()}
        return replace(self, accelerators=MappingProxyType(priced), price_basis=basis)


def load_catalog(extra: Path | str | None = None) -> Catalog:
    """Load the built-in catalog, extended or overridden by ``extra``: a YAML file or a folder of
    them.

    A field in a later file replaces the earlier one; the entry's other fields stay. Raises
    InputError with file, entry, field and the expected value.
    """
    if extra is None:
        return _built_in()
    return _catalog([*built_in_documents(), *user_documents(Path(extra).expanduser())])


@cache
def _built_in() -> Catalog:
    # A server loads a fleet for each request, and the entries never change.
    return _catalog(list(built_in_documents()))


def _catalog(documents: list[Document]) -> Catalog:
    accelerators, accelerator_aliases = _section("accelerators", documents, ACCELERATOR_FIELDS,
                                                 accelerator_from)
    models, model_aliases = _section("models", documents, MODEL_FIELDS, model_from)
    basis, where = [(one.price_basis, one.source) for one in documents if one.price_basis][-1]
    found = Catalog(accelerators, models, accelerator_aliases, model_aliases, basis)
    try:
        return found.on_basis(basis)
    except InputError as error:
        raise InputError(f"{where}: price_basis: {error}") from None


def _section(section: str, documents: Iterable[Document], fields: Mapping[str, Field],
             build: Callable[[Entry], _T]) -> tuple[Mapping[str, _T], Mapping[str, str]]:
    """Merge and build all entries of one section. Returns them and their aliases."""
    entries: dict[str, Entry] = {}
    aliases: dict[str, str] = {}
    for document in documents:
        stated = [checked_entry(name, data, fields, section, document.source)
                  for name, data in document.sections.get(section, {}).items()]
        _check_distinct(stated)
        for entry in stated:
            key = entry.name.lower()
            entries[key] = entries[key].overridden(entry) if key in entries else entry
        for entry in stated:
            aliases.update(_aliases(entry, entries))
    # A user's entry may be named like an alias of a built-in one: names have priority over aliases.
    aliases = {alias: name for alias, name in aliases.items() if alias not in entries}
    built = {entry.name: build(entry) for entry in entries.values()}
    return MappingProxyType(built), MappingProxyType(aliases)


def _aliases(entry: Entry, entries: Mapping[str, Entry]) -> Iterator[tuple[str, str]]:
    """Yield the entry's aliases in lower case, without those that are another entry's name."""
    name = entries[entry.name.lower()].name
    for alias in entry.aliases:
        owner = entries.get(alias.lower())
        if owner is not None and owner.name != name:
            raise _taken(entry, alias, owner.name)
        yield alias.lower(), name


def _check_distinct(entries: Iterable[Entry]) -> None:
    """Check that no name or alias of one file is used twice."""
    owners: dict[str, str] = {}
    for entry in entries:
        for name in dict.fromkeys(n.lower() for n in (entry.name, *entry.aliases)):
            if name in owners:
                raise _taken(entry, name, owners[name])
            owners[name] = entry.name


def _taken(entry: Entry, name: str, owner: str) -> InputError:
    return InputError(f"{entry.where}: {quote(name)} already names {owner}; expected a name or "
                      "alias of its own")


def _named(name: str, values: Mapping[str, _T], aliases: Mapping[str, str]) -> _T | None:
    if name in values:
        return values[name]
    key = name.strip().lower()
    key = aliases.get(key, key).lower()
    return next((value for known, value in values.items() if known.lower() == key), None)


def _unknown(what: str, name: str, names: Iterable[str], aliases: Iterable[str]) -> InputError:
    # An alias is suggested only as the nearest name: the list of names has no aliases.
    hint = nearest(name, [*names, *aliases])
    if not hint.startswith("; did you mean"):
        hint = nearest(name, names)
    return InputError(f"unknown {what} {quote(name)}{hint}")


def is_config_path(name: str) -> bool:
    """Whether a model's name is the path of a config.json or of its folder."""
    if not name:
        return False
    if name.endswith(".json") or name.startswith(("./", "../", "/", "~")):
        return True
    try:
        return (Path(name) / "config.json").is_file()
    except (OSError, ValueError):
        return False
