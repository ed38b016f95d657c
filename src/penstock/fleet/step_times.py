"""Step-time models as a fleet file states them."""

from penstock.fleet.document import StepTimeSection
from penstock.fleet.files import FileFinder
from penstock.fleet.marked_yaml import Path
from penstock.fleet.problems import PlacedError
from penstock.fleet.values import StepTimeSpec

_FILES = (".yaml", ".yml", ".json")


def resolve_step_time(choice: str | StepTimeSection | None, files: FileFinder,
                      path: Path) -> StepTimeSpec:
    """Return the argument of ``make_step_time``, with absolute paths of files. Raises PlacedError
    for a file that is missing, and for two names."""
    if choice is None:
        return None
    if isinstance(choice, str):
        return files.find(choice, path) if choice.endswith(_FILES) else choice
    spec = choice.given()
    for key in ("path", "rates"):
        if spec.get(key) is not None:
            spec[key] = files.find(spec[key], (*path, key))
    for key in ("kind", "name"):
        if str(spec.get(key, "")).endswith(_FILES):
            spec[key] = files.find(spec[key], (*path, key))
    if "name" in spec and "kind" in spec:
        raise PlacedError(path, "kind and name mean the same; keep one of them")
    return spec
