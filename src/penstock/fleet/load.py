"""Reads a fleet file in stages: text, shape, references, values."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.core.errors import InputError
from penstock.fleet.files import FileFinder, decoded, read_text
from penstock.fleet.marked_yaml import MarkedData, read_yaml
from penstock.fleet.overrides import overridden
from penstock.fleet.renamed import current_keys
from penstock.fleet.values import Fleet

if TYPE_CHECKING:
    from penstock.fleet.problems import Problem


def load_fleet(path: Path | str, overrides: Mapping[str, Any] | None = None,
               data_dir: Path | str | None = None, *, to_plan: bool = False) -> Fleet:
    """Return the fleet of the file at ``path``.

    Its replicas must serve all traffic, unless the file is read ``to_plan``. ``overrides`` maps
    dotted paths to values that replace the file's own. Files that it names are searched beside it,
    then in ``data_dir``. Raises InputError with one line: file, line, field, the value found and
    the value expected.
    """
    path = Path(path)
    return parse_fleet(read_text(path), str(path), overrides, data_dir, base=path.parent,
                       to_plan=to_plan)


def parse_fleet(text: str | bytes, source: str = "fleet.yaml",
                overrides: Mapping[str, Any] | None = None,
                data_dir: Path | str | None = None, *, base: Path | str | None = ".",
                to_plan: bool = False) -> Fleet:
    """Return the fleet of ``text``. ``source`` names it in errors, ``base`` is its folder.

    With a ``base`` of None, naming a file is an error, and no file is searched. ``to_plan`` as for
    ``load_fleet``.
    """
    marked = read_marked(text, source, overrides)
    found = examined(marked, fleet_name(source), finder(base, data_dir), to_plan=to_plan)
    if isinstance(found, Fleet):
        return found
    from penstock.fleet.problems import first_of

    raise first_of(found, marked)


def read_marked(text: str | bytes, source: str,
                overrides: Mapping[str, Any] | None = None) -> MarkedData:
    """Return the text's data with the overrides. Raises InputError unless the data is a mapping."""
    if isinstance(text, bytes):
        text = decoded(text, source)
    marked = read_yaml(text, source)
    if not isinstance(marked.data, dict):
        raise InputError(f"{source}: expected a mapping with a fleet's sections (accelerators, "
                         "models, service_classes, traffic), found "
                         + ("a list" if isinstance(marked.data, list) else "a single value"))
    marked = current_keys(marked)
    return overridden(marked, overrides) if overrides else marked


def fleet_name(source: str) -> str:
    """Return the name of a fleet whose file states none."""
    return re.sub(r"[\s\x00-\x1f\x7f]+", "-", Path(source).stem)[:200] or "fleet"


def finder(base: Path | str | None, data_dir: Path | str | None) -> FileFinder:
    """Return the finder of files that a fleet file names."""
    return FileFinder(None if base is None else Path(base), Path(data_dir) if data_dir else None)


def examined(marked: MarkedData, name: str, files: FileFinder, *,
             to_plan: bool) -> "Fleet | list[Problem]":
    """Return the fleet, or the problems of the first stage that finds any: shape, references,
    values."""
    # Importing Pydantic takes 0.1 s, which only readers of a fleet file pay.
    from pydantic import ValidationError

    from penstock.catalog import load_catalog
    from penstock.fleet.document import FleetDocument
    from penstock.fleet.problems import PlacedError, shape_problems
    from penstock.fleet.references import reference_problems
    from penstock.fleet.resolve import resolve
    from penstock.fleet.scaler_file import with_scaler_of_file
    from penstock.fleet.schema import fleet_schema

    try:
        document = FleetDocument.model_validate(marked.data)
    except ValidationError as error:
        return shape_problems(error, fleet_schema())
    try:
        document = with_scaler_of_file(document, files)
        extra = document.catalog and files.find(document.catalog, ("catalog",))
        catalog = load_catalog(extra)
        problems = list(reference_problems(document, catalog, to_plan=to_plan))
        return problems or resolve(document, name, catalog, files)
    except PlacedError as error:
        return [error.problem]
