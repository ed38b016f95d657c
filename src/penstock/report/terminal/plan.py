"""A plan in a terminal."""

from penstock.report.model import plan, plan_view
from penstock.report.model.plan_certainty import certainty_table
from penstock.report.model.plan_view import Document, listed
from penstock.report.model.table import Block

_MOST_CANDIDATES = 40  # over all demands
_MOST_EACH = 5
_MOST_TRIALS = 12


def plan_blocks(document: Document) -> list[Block]:
    """Headline and tables of a plan, in the order in which they are printed.

    ``document`` is what docs/reference/plan-json.md describes; what it lacks is left out.
    """
    found = plan_view.cleaned(document)
    most = _MOST_CANDIDATES // max(1, len(listed(found, "demands")))
    tables = (
        plan.placement_table(found), plan.unserved_table(found), certainty_table(found),
        plan.classes_table(found),
        plan.comparison_table(found), plan.pareto_table(found), plan.shadow_prices_table(found),
        *([plan.accelerators_table(found)] if found.get("ownership") else []),
        plan.changes_table(found),
        plan.candidates_table(found, max(1, min(_MOST_EACH, most))).without("power", "bound"),
        plan.not_considered_table(found, brief=True))
    return [plan.opening(found), *(table for table in tables if table.rows),
            *([plan.what_if_table(found)] if found.get("what_if") else [])]


def short_plan_blocks(document: Document) -> list[Block]:
    """Return the short tables on the plan of a run's fleet."""
    found = plan_view.cleaned(document)
    why = (plan.unserved_table(found), plan.not_considered_table(found, brief=True))
    certain = certainty_table(found)
    blocks: list[Block] = [plan.placement_table(found), *([certain] if certain.rows else []),
                           *(table for table in why if why[0].rows and table.rows)]
    if listed(found, "trials"):
        trials = plan.trials_table(found, _MOST_TRIALS)
        whole = all(plan_view.entered(trial) >= 1.0
                    for trial in listed(found, "trials")[-_MOST_TRIALS:])
        blocks.append(trials.without("share of traffic") if whole else trials)
    return blocks
