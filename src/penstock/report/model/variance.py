"""How much measures of live endpoints vary, and between what."""

from collections.abc import Iterator, Mapping
from typing import Any

from penstock.report.model import wording
from penstock.report.model.table import Block, Column, Note, Table, table

TITLES = {"repeated": "The same request, repeated",
          "same_length": "Different requests, same length", "shuffled": "Those in shuffled orders"}
MEASURES = {"output_tokens": "output tokens", "ttft_s": "TTFT", "tpot_s": "TPOT", "e2e_s": "e2e",
             "kv_used_share": "KV in use"}
_FACTORS = ("replica", "request", "round")
NOTE = ("Between: the part of a measure's variance that lies between replicas, requests or rounds "
        "(intraclass correlation of a one-way analysis of variance); the rest is within. * where "
        "equal means would show such a difference in less than 1 % of cases.")


def variance_blocks(document: Mapping[str, Any]) -> Iterator[Block]:
    """A table per experiment, and how to read them."""
    yield from variance_tables(document).values()
    yield Note((NOTE, *document["notes"]))


def variance_tables(document: Mapping[str, Any]) -> dict[str, Table]:
    """The measures of each experiment, by its name."""
    return {name: table(f"{TITLES.get(name, name)}: {counts(experiment)}", (
        "measure", "mean", Column("sd", 1), "CV", Column("p5", 3), "p50", Column("p95", 2),
        *(f"between {factor}s" for factor in _FACTORS)),
        [_row(measure, found) for measure, found in experiment["measures"].items()
         if found["num"]]) for name, experiment in document["experiments"].items()}


def counts(experiment: Mapping[str, Any]) -> str:
    """How many requests of an experiment finished."""
    return (f"{wording.count(experiment['finished'])} of {wording.count(experiment['sent'])} "
            "finished")


def _row(measure: str, found: Mapping[str, Any]) -> tuple[str, ...]:
    return (MEASURES[measure], *(_value(measure, found[key]) for key in ("mean", "sd")),
            wording.percent(found["cv"], 1),
            *(_value(measure, found["quantiles"][key]) for key in ("p5", "p50", "p95")),
            *(_share(found["between"][factor]) for factor in _FACTORS))


def _value(measure: str, value: float | None) -> str:
    if measure == "kv_used_share":
        return wording.percent(value)
    return wording.rate(value, "") if measure == "output_tokens" else wording.seconds(value)


def _share(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return wording.ABSENT
    clear = found["p_value"] is None or found["p_value"] < 0.01
    return f"{wording.percent(found['share'], 1)}{' *' if clear else ''}"
