"""The page of ``penstock capacity``: latency, attainment and goodput at every rate tried."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from penstock.experiment.capacity import Capacity
from penstock.report.html.levels_page import write_levels_page
from penstock.report.model.levels import RATE, Levels, points, slos_of
from penstock.report.model.wording import level


def write_capacity_page(path: Path, found: Capacity, document: Mapping[str, Any],
                        library: str | None) -> None:
    """Write the page. Each seed has curves of its own."""
    labels = {probe.seed: f"seed {probe.seed}" for probe in found.probes}
    if len(labels) == 1:
        labels = dict.fromkeys(labels, "")
    marks = {"capacity": found.rate_per_s} if found.rate_per_s else {}
    if document["bound_per_s"]:
        marks["throughput bound"] = document["bound_per_s"]
    levels = Levels(
        f"Capacity of {document['name']}: {found.rate_per_s:.3f} requests/s", RATE,
        [point for probe in found.probes
         for point in points(probe.rate_per_s, labels[probe.seed], [probe.summary])],
        slos_of(found.probes[0].summary),
        f"The highest rate at which {level(100 * found.share)} of each class's requests meet every "
        "target. "
        "All rates have the same requests, their arrival times scaled.", marks, found.share, "seed")
    origin = found.probes[0].summary.origin
    write_levels_page(path, levels, {"name": document["name"],
                                     "version": origin.version if origin else ""}, library)
