"""The modules that a worker on another machine needs: those of Penstock and of its plug-ins."""

from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from importlib.util import find_spec
from pathlib import Path

import penstock


def shipped_modules() -> list[str]:
    """Return the paths of packages, of single modules, and of the metadata by which plug-ins and
    versions are found."""
    found = {str(Path(penstock.__file__).parent): None}
    for distribution in distributions():
        found |= dict.fromkeys(map(str, _parts(distribution)))
    return list(found)


def _parts(distribution: Distribution) -> Iterator[Path]:
    """The plug-ins of a distribution, each module once, and the metadata of Penstock or of what
    has plug-ins."""
    modules = {point.module.partition(".")[0] for point in distribution.entry_points
               if point.group.startswith("penstock.")} - {"penstock"}
    for name in sorted(modules):
        spec = find_spec(name)
        if spec is not None:
            yield from map(Path, spec.submodule_search_locations or [spec.origin or ""])
    metadata = getattr(distribution, "_path", None)  # None where it lies in an archive
    named = bool(modules) or distribution.name == "penstock"
    if named and isinstance(metadata, Path) and metadata.is_dir():
        yield metadata
