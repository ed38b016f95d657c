"""A plan's page."""

from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

from penstock.report import yaml_text
from penstock.report.html import sections
from penstock.report.html.frame import BESIDE, Page, Parts, framed, page_title, stamp, write_framed
from penstock.report.html.plan_plots import (
    MOST_FIGURES,
    PARETO,
    accelerator_colours,
    plan_figures,
    scatters,
)
from penstock.report.html.table import PROSE, drawn
from penstock.report.model import plan as tables
from penstock.report.model import plan_view, plan_wording
from penstock.report.model.plan_certainty import NOTE, certainty_table
from penstock.report.model.plan_view import Document, listed


def write_plan_page(path: Path, document: Document, library: str | None = BESIDE) -> None:
    """Write the page, all or nothing."""
    write_framed(path, _page(document), library)


def plan_page_parts(document: Document) -> Parts:
    """The self-contained page as what comes before plotly.js, plotly.js itself, and the rest."""
    return framed(_page(document))


def _page(document: Document) -> Page:
    """The page.

    ``document`` is what docs/reference/plan-json.md describes; what it lacks is left out.
    """
    plan = plan_view.cleaned(document)
    figures = plan_figures(plan)
    return Page(page_title(plan, "Plan"), str(plan.get("version", "")), stamp(plan),
                _body(plan, figures), plan_wording.FOOTER, figures)


def _body(plan: Document, figures: dict[str, Any]) -> str:
    parts = [sections.opening(tables.opening(plan)), _placement(plan)]
    if listed(plan, "unserved"):
        parts.append(_unserved(plan))
    certain = certainty_table(plan)
    if certain.rows:
        parts.append(sections.section("How certain", NOTE, drawn(certain)))
    parts.append(_classes(plan))
    if listed(plan, "pareto"):
        parts.append(_pareto(plan, with_figure=PARETO in figures))
    for key, make in (("candidates", _candidates), ("trials", _trials)):
        parts += [make(plan)] if listed(plan, key) else []
    if plan_view.accelerators(plan):
        parts.append(_accelerators(plan))
    for key, make in (("changes", _changes), ("not_considered", _not_considered)):
        parts += [make(plan)] if listed(plan, key) else []
    if plan.get("what_if"):
        parts.append(_what_if(plan))
    if listed(plan, "replicas"):
        parts.append(_replicas(plan))
    return "\n".join(parts)


def short_sections(plan: Document) -> Iterable[str]:
    """Return the short section on the plan of a run's fleet."""
    plan = plan_view.cleaned(plan)
    yield _placement(plan)
    if listed(plan, "unserved"):
        yield _unserved(plan)
        yield _not_considered(plan)
    if listed(plan, "trials"):
        yield _trials(plan)


def _placement(plan: Document) -> str:
    return sections.section("Who runs where", plan_wording.HEADROOM_NOTE, drawn(
        tables.placement_table(plan).select(
            "demand, replicas", "served", "per hour", "accelerators", "headroom", "used",
            "per million tokens", "power", "requests")))


def _unserved(plan: Document) -> str:
    return sections.section(
        "Not served in full", "What these demands lack, and the smallest change that would do.",
        drawn(tables.unserved_table(plan), style=PROSE))


def _classes(plan: Document) -> str:
    return sections.section(
        "Service classes, predicted and simulated",
        "Candidates are chosen by an analytic model and judged by simulation: this is where the "
        f"model was wrong and by how much. \N{BLACK UP-POINTING TRIANGLE} marks a value above its "
        f"target, {plan_wording.ENDLESS} a queue that grows without end."
        + (f" {plan_wording.NO_GAP_NOTE}" if plan_view.any_saves(plan) else ""),
        drawn(tables.comparison_table(plan)))


def _candidates(plan: Document) -> str:
    plots = [sections.plot(name, str(demand.get("name")),
                           f"Cost alone against p99 TTFT of candidates for {demand.get('name')}",
                           "middle") for name, demand, _ in scatters(plan)]
    left_out = sum(map(bool, plan_view.ranked(plan))) - len(plots)
    note = ("Each candidate as if it carried its whole demand alone: cost against the p99 TTFT "
            "that the analytic model expects of the slowest class. Ringed ones are in the plan. "
            + plan_wording.ESTIMATED_NOTE)
    if left_out > 0:
        note += (f" Drawn for the costliest demands, {MOST_FIGURES} at most, as far as their "
                 "latencies have an end.")
    figures = [sections.legend(accelerator_colours(plan)), sections.grid(*plots)]
    return sections.section("Candidates", note, *(figures if plots else ()), sections.folded(
        "All candidates, cheapest first", drawn(tables.candidates_table(plan))))


def _pareto(plan: Document, *, with_figure: bool) -> str:
    found = tables.pareto_table(plan)
    figure = sections.plot(PARETO, "Cost against latency",
                           "Cost per hour against p99 TTFT of plans on the Pareto front",
                           "middle") if with_figure else ""
    return sections.section(
        "Pareto front", "Whole plans of which none is better in cost and latency both; a ring "
        f"marks this plan. {' '.join(found.notes)}",
        sections.grid(figure, drawn(found.flat(), style="wrapped")))


def _trials(plan: Document) -> str:
    return sections.section(
        "Proposals simulated", "In order. Drawn traffic must hold a little faster than drawn, too. "
        "Where a proposal missed, more replicas or a smaller share of the traffic were tried until "
        "one held; the model's beliefs were lowered to that, and the plan made again.",
        drawn(tables.trials_table(plan).select("round", "demand", "verdict", "worst class",
                                               "share of traffic", "replicas")))


def _accelerators(plan: Document) -> str:
    note = "Accelerators are paid for where a replica runs on them."
    if plan_view.worth_something(plan):
        note += (f" {plan_wording.WORTH_NOTE} Dual value: the same at the margin, with replicas "
                 "divisible.")
    return sections.section("Accelerators", note, drawn(tables.accelerators_table(plan)))


def _what_if(plan: Document) -> str:
    found = tables.what_if_table(plan)
    return sections.section(found.title, *found.notes, drawn(found))


def _changes(plan: Document) -> str:
    return sections.section("Changes", "From what runs now to this plan.",
                            drawn(tables.changes_table(plan)))


def _not_considered(plan: Document) -> str:
    number = len(listed(plan, "not_considered"))
    return sections.folded(f"Not considered: {number:,}",
                           drawn(tables.not_considered_table(plan), style=PROSE))


def _replicas(plan: Document) -> str:
    text = yaml_text.section("replicas", listed(plan, "replicas"))
    return sections.section(
        "For the fleet file", "The plan as a fleet file's replicas section. One click selects all "
        "of it.", f'<div class="card yaml"><pre tabindex=0>{escape(text)}</pre></div>')
