"""A plan as terminal tables. ``rich`` is imported only when one is made."""

from collections.abc import Callable, Mapping
from itertools import groupby
from typing import TYPE_CHECKING, Any

from penstock.report import plan_reasons, plan_view, plan_wording, wording
from penstock.report.cells import Line, footnote, marked, verdict_cell
from penstock.report.fitting import Column, FittingTable
from penstock.report.plan_view import Document, listed

if TYPE_CHECKING:
    from rich.console import RenderableType

_MOST_CANDIDATES = 40  # over all demands
_MOST_EACH = 5
_MOST_TRIALS = 12


def plan_tables(document: Document) -> "list[RenderableType]":
    """Headline and tables of a plan, to be printed in order.

    ``document`` is what docs/reference/plan-json.md describes; what it lacks is left out.
    """
    from rich.text import Text

    plan = plan_view.cleaned(document)
    facts = [f"{fact.label.lower()} {fact.value}" for fact in plan_wording.facts(plan)]
    tables: list[RenderableType] = [
        Text(plan_wording.headline(plan), style="bold"), Line(facts),
        Text(f"{plan_wording.considered(plan)}\n", style="dim")]
    tables += _placement(plan)
    if listed(plan, "explanations"):
        tables.append(unserved_table(plan))
    tables.append(classes_table(plan))
    tables += _comparison(plan)
    optional: tuple[tuple[str, Callable[[Document], list[RenderableType]]], ...] = (
        ("pareto", _pareto), ("shadow_prices", _shadow_prices),
        ("changes", lambda plan: [changes_table(plan)]), ("candidates", _candidates),
        ("not_considered", lambda plan: [not_considered_table(plan)]))
    for key, make in optional:
        tables += make(plan) if listed(plan, key) else []
    return tables + (what_if_table(plan) if plan.get("what_if") else [])


def short_plan_tables(document: Document) -> "list[RenderableType]":
    """Return the short tables on the plan of a run's fleet."""
    plan = plan_view.cleaned(document)
    tables: list[RenderableType] = _placement(plan)
    if listed(plan, "trials"):
        tables.append(trials_table(plan))
        earlier = len(listed(plan, "trials")) - _MOST_TRIALS
        if earlier > 0:
            tables.append(footnote(f"{earlier:,} earlier trials are not shown."))
    return tables


def _placement(plan: Document) -> "list[RenderableType]":
    tables: list[RenderableType] = [placement_table(plan)]
    if any(demand.get("headroom") is not None for demand in listed(plan, "demands")):
        tables.append(footnote(plan_wording.HEADROOM_NOTE))
    return tables


def placement_table(plan: Document) -> FittingTable:
    """Every demand and below it the replicas that serve it."""
    table = FittingTable("Who runs where", [
        Column("demand, replicas"), Column("served", left=True), Column("cards"),
        Column("per hour"), Column("per million tokens", 1), Column("power", 2),
        Column("headroom"), Column("used", 4), Column("requests", 3)])
    for demand, mine in zip(listed(plan, "demands"), plan_view.groups(plan), strict=True):
        table.add_row(
            str(demand.get("name")), verdict_cell(*plan_wording.demand_verdict(demand)), "",
            wording.money(demand.get("cost_per_hour")),
            wording.money(demand.get("cost_per_million_tokens")),
            plan_wording.power(demand.get("power_w")),
            plan_wording.growth(demand.get("headroom")),
            wording.percent(demand.get("bound_share"), 0), wording.rate(demand.get("rate_per_s")))
        for group in mine:
            table.add_row(
                f"  {plan_wording.replicas_of(group.variant, group.num_replicas)}", "",
                plan_wording.cards(group.cards, group.cards_available),
                wording.money(group.cost_per_hour), "", plan_wording.power(group.power_w),
                *[""] * 3)
        table.add_section()
    table.add_row("all", "", plan_wording.cards(*plan_view.cards_used(plan)),
                  wording.money(plan.get("cost_per_hour")),
                  wording.money(plan.get("cost_per_million_tokens")),
                  plan_wording.power(plan.get("power_w")), *[""] * 3)
    return table


def unserved_table(plan: Document) -> FittingTable:
    """Return the table of demands that are not served in full, and remedies."""
    table = FittingTable("Not served in full", [
        Column("demand"), Column("served"), Column("why", prose=True)])
    for item in plan_view.unserved(plan):
        table.add_row(item.demand, wording.percent(item.served_share, 1),
                      "\n".join(item.explanations) or wording.ABSENT)
    return table


def classes_table(plan: Document) -> FittingTable:
    """Attainment of each class in simulation."""
    table = FittingTable("Service classes in simulation", [
        Column("demand, class"), Column("verdict", left=True), Column("worst seed"),
        Column("all seeds", 2), Column("objective", 1, prose=True)])
    for demand, items in groupby(plan_view.outcomes(plan), key=lambda item: item.demand):
        _begin(table, demand)
        for item in items:
            table.add_row(f"  {item.service_class}",
                          verdict_cell(item.meets, plan_wording.class_verdict(item)),
                          wording.percent(item.worst_seed), wording.percent(item.attainment),
                          wording.objective(item.slo))
    return table


def _begin(table: FittingTable, demand: str) -> None:
    """A row with a demand's name above what belongs to it."""
    table.add_section()
    table.add_row(demand, *[""] * (len(table.columns) - 1))


def _comparison(plan: Document) -> "list[RenderableType]":
    """Return the table of the analytic model's errors."""
    found = plan_view.compared(plan)
    if not found:
        return []
    table = FittingTable("Predicted against simulated", [
        Column("demand, class"), Column("latency", left=True), Column("target", 1),
        Column("simulated"), Column("predicted"), Column("off by")])
    for (demand, name), rows in found.items():
        for place, row in enumerate(rows):
            table.add_row(
                (demand, f"  {name}", "")[min(place, 2)], row.title, wording.seconds(row.target_s),
                marked(wording.seconds(row.simulated_s), row.simulated_over),
                marked(plan_wording.predicted(row), row.predicted_over), plan_wording.error(row))
        if len(rows) == 1:
            table.add_row(f"  {name}", *[""] * 5)
        table.add_section()
    notes = [f"ITL p99: {plan_wording.ITL_P99}."]
    if plan_view.any_paced(plan):
        notes.append(plan_wording.PACED_NOTE)
    if any(row.endless for rows in found.values() for row in rows):
        notes.append(f"{plan_wording.ENDLESS}: by the model, the queue would grow without end.")
    return [table, footnote("\n".join(notes))]


def _pareto(plan: Document) -> "list[RenderableType]":
    """Plans of which none is better in everything, and below them this one where it is none of
    them."""
    table = FittingTable("Pareto front, by the model", [
        Column("plan", prose=True), Column("per hour"), Column("TTFT p99"), Column("power", 1)])

    def add(point: Mapping[str, Any]) -> None:
        table.add_row("\n".join(plan_wording.plan_lines(plan, point)),
                      wording.money(point.get("cost_per_hour")),
                      wording.seconds(point.get("ttft_p99_s")),
                      plan_wording.power(point.get("power_w")))

    for point in listed(plan, "pareto"):
        add(point)
    chosen = plan_view.dominated_point(plan)
    if chosen is not None:
        table.add_section()
        add(chosen)
    return [table, footnote(plan_wording.pareto_note(plan))]


def _shadow_prices(plan: Document) -> "list[RenderableType]":
    if not plan_view.worth_something(plan):
        return []
    saves = any((item.get("one_more_saves_per_hour") or 0.0) > 0
                for item in plan_view.worth_something(plan))
    return [shadow_prices_table(plan), *([footnote(plan_wording.WORTH_NOTE)] if saves else ())]


def shadow_prices_table(plan: Document) -> FittingTable:
    """Return the table of shadow prices: the worth of one more accelerator of a scarce kind."""
    table = FittingTable("What more of it would be worth", [
        Column("limited"), Column("used"), Column("available"), Column("one more saves"),
        Column("dual value per hour", 1)])
    for item in plan_view.worth_something(plan):
        resource = str(item.get("resource"))
        table.add_row(plan_wording.resource_name(resource),
                      plan_wording.amount(resource, item.get("used")),
                      plan_wording.amount(resource, item.get("available")),
                      plan_wording.worth(item),
                      wording.money(item.get("dual_per_hour")))
    return table


def what_if_table(plan: Document) -> "list[RenderableType]":
    """The plan under other settings beside this one."""
    found = plan.get("what_if") or {}
    table = FittingTable(plan_wording.what_if_title(found), [
        Column("demand"), Column("replicas", left=True), Column("now"), Column("then")])
    for row in listed(found, "replicas"):
        table.add_row(str(row.get("demand")), str(row.get("variant")),
                      wording.count(row.get("before")), wording.count(row.get("after")))
    return [table, footnote(plan_wording.what_if_cost(found))]


def changes_table(plan: Document) -> FittingTable:
    """From what runs now to the plan."""
    table = FittingTable("Changes from what runs now", [
        Column("change"), Column("for", left=True), Column("before", 1), Column("after", 1)])
    for change in listed(plan, "changes"):
        counted = plan_wording.replicas_of(str(change.get("variant")), change.get("num_replicas"))
        table.add_row(f"{change.get('action')} {counted}", str(change.get("demand")),
                      wording.count(change.get("before")), wording.count(change.get("after")))
    return table


def _candidates(plan: Document) -> "list[RenderableType]":
    table = candidates_table(plan)
    if any(item.get("corrected") is False for item in listed(plan, "candidates")):
        return [table, footnote(plan_wording.ESTIMATED_NOTE)]
    return [table]


def candidates_table(plan: Document) -> FittingTable:
    """Variants by what they would cost if they carried a demand alone, the cheapest ones and those
    that the plan starts."""
    demands = listed(plan, "demands")
    each = max(1, min(_MOST_EACH, _MOST_CANDIDATES // max(1, len(demands))))
    table = FittingTable("Cheapest candidates, each carrying its demand alone", [
        Column("demand, replicas"), Column("per hour"), Column("in plan"),
        Column("each carries", 2), Column("TTFT p99", 1), Column("bound by", left=True)])
    for demand, ranked in zip(demands, plan_view.ranked(plan), strict=True):
        shown = [item for place, item in enumerate(ranked) if place < each or item.in_plan]
        if not shown:
            continue
        _begin(table, str(demand.get("name")))
        for item in shown:
            found = item.candidate
            alone = plan_wording.replicas_of(str(found.get("variant")), found.get("num_replicas"))
            table.add_row(
                f"  {alone}", wording.money(found.get("cost_alone_per_hour")),
                str(item.in_plan or ""), plan_wording.carries(found),
                wording.seconds(item.slowest_ttft_p99_s),
                plan_wording.binding(found.get("binding")))
        if len(shown) < len(ranked):
            table.add_row(f"  {len(ranked) - len(shown):,} more", *[""] * 5)
    return table


def trials_table(plan: Document) -> FittingTable:
    """Return the table of the last trials and their verdicts."""
    trials = listed(plan, "trials")[-_MOST_TRIALS:]
    table = FittingTable("Proposals simulated", [
        Column("round", 2), Column("demand", left=True), Column("replicas", left=True),
        *([Column("share")] if any(plan_view.entered(trial) < 1.0 for trial in trials) else []),
        Column("worst class"), Column("verdict", left=True)])
    for trial in trials:
        share = [] if len(table.columns) == 5 else [wording.percent(plan_view.entered(trial), 1)]
        table.add_row(str(trial.get("round")), str(trial.get("demand")),
                      "\n".join(plan_wording.counted(trial.get("replicas"))), *share,
                      wording.percent(plan_view.worst(trial)),
                      verdict_cell(trial.get("meets"), "holds" if trial.get("meets") else "misses"))
    return table


def not_considered_table(plan: Document) -> FittingTable:
    """Why other variants were not candidates."""
    table = FittingTable("Not considered", [
        Column("demand"), Column("why", prose=True), Column("variants", prose=True)])
    for item in plan_reasons.not_considered(plan, brief=True):
        table.add_row(item.demand, item.reason, ", ".join(item.variants))
    return table
