"""Figures about confidential requests in a report."""

from collections.abc import Iterator, Mapping
from typing import Any

from penstock.report import wording

TITLE = "Confidential requests"
HEAD = ("class", "received", "finished", "rejected", "shed", "attainment", "TTFT p99", "e2e p99")
NOTE = ("In no other figure of this report, verdicts apart. Counts are rounded up to "
        "{least_count} times a power of 2, latencies up to 1, 2 or 5 times a power of ten; "
        "attainment is rounded down to 5 %.")


def note(section: Mapping[str, Any]) -> str:
    """How these figures are to be read."""
    said = NOTE.format(least_count=section["least_count"])
    cost = section.get("cost_per_hour")
    return f"{said} All replicas cost ${cost:,.2f} per hour." if cost else said


def rows(section: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """The cells of each class, and of each model where that is allowed."""
    for name, entry in section["classes"].items():
        latency = entry["latency_at_most"]
        yield (name, *(_most(wording.count(entry[f"{key}_at_most"]))
                       for key in ("received", "finished", "rejected", "shed")),
               _least(wording.percent(entry["attainment_at_least"], 0)),
               *(_most(wording.seconds(latency[key]["p99"])) for key in ("ttft_s", "e2e_s")))
    for model, number in section.get("models", {}).items():
        yield (f"model {model}", _most(wording.count(number)), *[wording.ABSENT] * 6)


def _most(text: str) -> str:
    return text if text in (wording.ABSENT, "0") else f"≤ {text}"


def _least(text: str) -> str:
    return text if text == wording.ABSENT else f"≥ {text}"
