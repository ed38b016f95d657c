"""The section `start` of a fleet file: its problems, and conversion to values and back."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from penstock.core.errors import InputError
from penstock.fleet.document import FleetDocument, ReplicaSection
from penstock.fleet.document_starts import StartSection, StartSpreadsSection
from penstock.fleet.files import FileFinder
from penstock.fleet.marked_yaml import Path
from penstock.fleet.problems import PlacedError
from penstock.fleet.scaler_file import stated_scaler
from penstock.fleet.values import Fleet
from penstock.fleet.values_starts import StartParts, StartSpreads, StartWeights
from penstock.perf.loading.store import load_loading
from penstock.perf.memory import weight_bytes_per_accelerator

_PARTS = ("provision_s", "image_s", "weights", "warm_up_s")


class StartPart(NamedTuple):
    """A part of a replica's start: its name, mean and relative standard deviation."""

    name: str
    mean_s: float
    spread: float


def start_parts(fleet: Fleet, number: int) -> tuple[StartPart, ...]:
    """Return the parts of the start of a group's replica, the whole start where the file states no
    parts. Raises InputError where the file states neither, as one without scaling may."""
    group = fleet.replicas[number]
    parts = group.start
    if parts is None:
        found = group.start_s or fleet.scaling.start_s
        if found is None:
            raise InputError(f"replicas[{number}].start_s: is left out; expected the seconds from "
                             "the order of a replica until it serves, here or in scaling.start_s")
        return (StartPart("start", found, fleet.scaling.start_spread),)
    size_bytes = weight_bytes_per_accelerator(group.model, group.parallelism, group.precision)
    means_s = (parts.provision_s, parts.image_s, parts.weights.seconds(size_bytes),
               parts.warm_up_s)
    return tuple(StartPart(name, mean_s, spread) for name, mean_s, spread in zip(
        StartSpreads._fields, means_s, parts.spreads, strict=True))


def start_problems(section: ReplicaSection, document: FleetDocument
                   ) -> Iterator[tuple[str, str]]:
    """Yield the problems of a group's start by field: nothing stated, stated in two ways, or a part
    left out."""
    scaling = document.scaling
    for stated, place in ((section, "start_s"), (scaling, "scaling.start_s")):
        if stated is not None and stated.start is not None and stated.start_s is not None:
            yield "start", (f"states the parts of a start beside {place}; expected one of the two")
            return
    if section.start_s is not None:
        return
    start = _merged(section.start, None if scaling is None else scaling.start)
    if start is None:
        if scaling is None or scaling.start_s is None:
            yield "start_s", ("is left out; expected the seconds from the order of a replica until "
                              "it serves, here or in scaling.start_s, or the parts of a start")
        return
    for name in _PARTS:
        if getattr(start, name) is None:
            yield "start", (f"{name} is left out; expected it here or in scaling.start"
                            + ("" if name == "weights" else ", 0 where it takes no time"))
    if start.weights is not None:
        weights = start.weights
        if (weights.gb_per_s is None) == (weights.loading is None):
            both = "both" if weights.loading is not None else "neither"
            yield "start", f"weights: expected gb_per_s or loading, found {both}"
        elif weights.source == "remote" and weights.loading is not None:
            yield "start", ("weights.loading knows disk and host memory, and source is remote; "
                            "expected gb_per_s, the rate from there")


def spread_problem(document: FleetDocument) -> str | None:
    """Return the problem of a spread of whole starts where every start has parts, None without."""
    scaling = document.scaling
    if scaling is None or not scaling.start_spread or scaling.start is None:
        return None
    if any(one.start_s is not None for one in document.replicas or ()):
        return None
    return "is of start_s, and all starts have parts; expected start.spread"


def resolve_start(section: ReplicaSection, document: FleetDocument, files: FileFinder,
                  path: Path) -> StartParts | None:
    """Return the parts of a group's start, the group's own and else the fleet's; None where a time
    is stated for the whole start, or no policy starts replicas. Raises PlacedError for a loading
    model that cannot be read."""
    choice = stated_scaler(document)
    if section.start_s is not None or "none" in (choice, getattr(choice, "name", None)):
        return None
    start = _merged(section.start, None if document.scaling is None else document.scaling.start)
    if start is None:
        return None
    assert start.provision_s is not None, "start_problems has looked"
    assert start.image_s is not None, "start_problems has looked"
    assert start.warm_up_s is not None, "start_problems has looked"
    own = section.start is not None and section.start.weights is not None
    return StartParts(start.provision_s, start.image_s,
                      _weights(start, files, path if own else ("scaling", "start")),
                      start.warm_up_s, _spreads(start.spread))


def _merged(own: StartSection | None, fleet: StartSection | None) -> StartSection | None:
    """Return the group's own section with the parts of the fleet's that it leaves out."""
    if own is None or fleet is None:
        return own or fleet
    return fleet.model_copy(update=own.given())


def _weights(start: StartSection, files: FileFinder, path: Path) -> StartWeights:
    section = start.weights
    assert section is not None, "start_problems has looked"
    if section.loading is None:
        return StartWeights(section.source, section.gb_per_s)
    place: Path = (*path, "weights", "loading")
    found = files.find(section.loading, place)
    try:
        loading, _ = load_loading(found)
    except InputError as error:
        raise PlacedError(place, str(error)) from None
    return StartWeights(section.source, None, found, loading)


def _spreads(stated: float | StartSpreadsSection | None) -> StartSpreads:
    if isinstance(stated, StartSpreadsSection):
        return StartSpreads(**stated.given())
    return StartSpreads(*[stated or 0.0] * len(StartSpreads._fields))


def start_section(start: StartParts | None) -> dict[str, Any] | None:
    """Return the section of a file for the parts of a start, None without them."""
    if start is None:
        return None
    weights = start.weights
    return {"provision_s": start.provision_s, "image_s": start.image_s,
            "weights": {"source": weights.source, "gb_per_s": weights.gb_per_s,
                        "loading": weights.path},
            "warm_up_s": start.warm_up_s, "spread": start.spreads._asdict()}
