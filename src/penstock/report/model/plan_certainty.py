"""How certain a plan is, in words and as tables: probabilities and 90 % intervals."""

from collections.abc import Mapping, Sequence
from typing import Any

from penstock.report.model import table as cell
from penstock.report.model import wording
from penstock.report.model.plan_view import Document, listed
from penstock.report.model.table import Cell, Column, Table, table
from penstock.report.model.wording import Fact

NOTE = ("Probabilities and 90 % intervals follow from the interval of the step times: the replicas "
        "were simulated with slower and faster steps, with every seed. `--confidence 0.95` buys "
        "for slow steps.")


def fact(document: Document) -> Fact:
    """The probability that the fleet suffices, beside the headline."""
    share = document.get("holds_probability")
    return Fact("Certainty", wording.probability(share), "that these replicas suffice")


def cost(document: Document) -> str:
    """The interval of the cost of what is needed, behind the cost; empty where it is not known."""
    low, high = document.get("cost_per_hour_interval") or (None, None)
    if low is None:
        return ""
    if high is None:
        return f" ({wording.money(low)} or more)"
    same = high - low < 0.005
    return "" if same else f" ({wording.money(low)} to {wording.money(high)})"


def suffices(certainty: Mapping[str, Any]) -> str:
    """The numbers of replicas that were tried, each with the probability that it suffices."""
    return ", ".join(f"{entry['num_replicas']:,}: {wording.probability(entry['probability'])}"
                     for entry in listed(certainty, "suffices"))


def certainty_table(plan: Document) -> Table:
    """Probability and intervals of every demand and its classes."""
    known = [demand for demand in listed(plan, "demands") if demand.get("certainty")]
    return table("How certain", [
        "demand, class", Column("certainty", left=True),
        Column("replicas: probability that so many suffice", left=True),
        "headroom", "attainment", "TTFT p99", Column("TPOT p99", 1)],
        groups=[cell.group([_demand_row(demand), *map(_class_row, listed(
            demand["certainty"], "classes"))]) for demand in known], notes=[NOTE])


def _demand_row(demand: Mapping[str, Any]) -> list[Cell | str]:
    found = demand["certainty"]
    return [cell.name(str(demand.get("name"))),
            cell.strong(wording.probability(found.get("holds_probability"))), suffices(found),
            _growth(found.get("headroom_interval")), "", "", ""]


def _growth(ends: Sequence[float | None] | None) -> str:
    low, high = ends or (None, None)
    if low is None or high is None:
        return wording.ABSENT
    return f"{100 * low:+,.0f} to {100 * high:+,.0f} %"


def _class_row(entry: Mapping[str, Any]) -> list[Cell | str]:
    low, high = entry.get("attainment_interval") or (None, None)
    return [cell.member(str(entry.get("name"))), "", "", "", wording.interval(low, high),
            *(wording.ends(entry.get(f"{key}_interval_s")) for key in ("ttft_p99", "tpot_p99"))]
