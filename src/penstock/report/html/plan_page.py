"""A plan's page."""

from pathlib import Path
from typing import Any

from penstock.report.files import write_bytes
from penstock.report.html import plan_sections, sections
from penstock.report.html.frame import Page, Parts, framed, page_title, stamp
from penstock.report.html.plan_plots import PARETO, plan_figures
from penstock.report.model import plan_view, plan_wording
from penstock.report.model.plan import opening
from penstock.report.model.plan_view import Document, listed


def write_plan_page(path: Path, document: Document) -> None:
    """Write the page, all or nothing."""
    write_bytes(path, *plan_page_parts(document))


def plan_page_parts(document: Document) -> Parts:
    """The page as what comes before plotly.js, plotly.js itself, and the rest.

    ``document`` is what docs/reference/plan-json.md describes; what it lacks is left out.
    """
    plan = plan_view.cleaned(document)
    figures = plan_figures(plan)
    return framed(Page(page_title(plan, "Plan"), str(plan.get("version", "")), stamp(plan),
                       _body(plan, figures), plan_wording.FOOTER, figures))


def _body(plan: Document, figures: dict[str, Any]) -> str:
    parts = [sections.opening(opening(plan)), plan_sections.placement(plan)]
    if listed(plan, "unserved"):
        parts.append(plan_sections.unserved(plan))
    parts.append(plan_sections.classes(plan))
    if listed(plan, "pareto"):
        parts.append(plan_sections.pareto(plan, with_figure=PARETO in figures))
    optional = (("candidates", plan_sections.candidates), ("trials", plan_sections.trials),
                ("cards", plan_sections.cards), ("changes", plan_sections.changes),
                ("not_considered", plan_sections.not_considered),
                ("replicas", plan_sections.replicas))
    parts += [make(plan) for key, make in optional if listed(plan, key)]
    if plan.get("what_if"):
        parts.insert(-1, plan_sections.what_if(plan))
    return "\n".join(parts)
