"""The tables of a plan, made from a cleaned document."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from penstock.report.model import plan_reasons, plan_view, plan_wording, wording
from penstock.report.model import table as cell
from penstock.report.model.plan_view import Document, listed
from penstock.report.model.table import (
    Bar,
    Cell,
    Column,
    Group,
    Opening,
    Table,
    Verdict,
    table,
)

_MOST_VERDICTS = 12


def opening(plan: Document) -> Opening:
    """The cost of the plan, its figures and a verdict per demand."""
    demands = listed(plan, "demands")
    verdicts = [_verdict(demand) for demand in demands[:_MOST_VERDICTS]]
    if len(demands) > _MOST_VERDICTS:
        verdicts.append(Verdict(None, f"{len(demands) - _MOST_VERDICTS:,} more demands",
                                "listed below"))
    return Opening(plan_wording.headline(plan), plan_wording.facts(plan),
                   plan_wording.considered(plan), "", "Verdict by demand", verdicts)


def _verdict(demand: Mapping[str, Any]) -> Verdict:
    meets, text = plan_wording.demand_verdict(demand)
    share = "served " if text == "in full" or text.endswith("%") else ""
    wanted = wording.rate(demand.get("rate_per_s"), "requests/s")
    return Verdict(meets, f"{demand.get('name')} {share}{text}",
                   " + ".join(plan_wording.counted(demand.get("replicas")))
                   or f"{wanted} asked for")


def placement_table(plan: Document) -> Table:
    """Every demand and below it the replicas that serve it."""
    noted = any(demand.get("headroom") is not None for demand in listed(plan, "demands"))
    return table("Who runs where", [
        "demand, replicas", Column("served", left=True), "accelerators",
        "per hour", Column("per million tokens", 1), Column("power", 2),
        "headroom", Column("used", 4), Column("requests", 3)],
        groups=[cell.group([_demand_row(demand), *map(_group_row, mine)]) for demand, mine
                in zip(listed(plan, "demands"), plan_view.groups(plan), strict=True)],
        total=["all", "", plan_wording.used_of(*plan_view.accelerators_used(plan)),
               wording.money(plan.get("cost_per_hour")),
               wording.money(plan.get("cost_per_million_tokens")),
               plan_wording.power(plan.get("power_w")), "", "", ""],
        notes=[*([plan_wording.HEADROOM_NOTE] if noted else []), *plan_wording.least(plan)])


def _demand_row(demand: Mapping[str, Any]) -> list[Cell | str]:
    return [cell.name(str(demand.get("name"))), cell.verdict(*plan_wording.demand_verdict(demand)),
            "", cell.strong(wording.money(demand.get("cost_per_hour"))),
            cell.strong(wording.money(demand.get("cost_per_million_tokens"))),
            cell.strong(plan_wording.power(demand.get("power_w"))),
            cell.strong(plan_wording.growth(demand.get("headroom"))),
            wording.percent(demand.get("bound_share"), 0), wording.rate(demand.get("rate_per_s"))]


def _group_row(group: plan_view.Group) -> list[Cell | str]:
    return [cell.member(plan_wording.replicas_of(group.variant, group.num_replicas,
                                                 group.unmeasured)), "",
            plan_wording.used_of(group.accelerators, group.available),
            wording.money(group.cost_per_hour), "", plan_wording.power(group.power_w), "", "", ""]


def unserved_table(plan: Document) -> Table:
    """Demands that are not served in full, and remedies."""
    return table("Not served in full", [
        "demand", "served", Column("why", prose=True)], [
        (item.demand, wording.percent(item.served_share, 1),
         "\n".join(item.explanations) or cell.muted(wording.ABSENT))
        for item in plan_view.unserved(plan)])


def classes_table(plan: Document) -> Table:
    """Attainment of each class in simulation."""
    return table("Service classes in simulation", [
        "demand, class", Column("verdict", left=True), "worst seed",
        Column("all seeds", 2), Column("objective", 1, prose=True)],
        groups=[cell.group([_class_row(item) for item in items], cell.name(demand))
                for demand, items in groupby(plan_view.outcomes(plan),
                                             key=lambda item: item.demand)])


def _class_row(item: plan_view.Outcome) -> list[Cell | str]:
    return [cell.member(item.service_class),
            cell.verdict(item.meets, plan_wording.class_verdict(item)),
            wording.percent(item.worst_seed), wording.percent(item.attainment),
            wording.objective(item.slo)]


def comparison_table(plan: Document) -> Table:
    """Latencies of each class as the analytic model predicts them and as simulated."""
    found = plan_view.compared(plan)
    notes = [f"ITL p99: {plan_wording.ITL_P99}."]
    if plan_view.any_saves(plan):
        notes.append(plan_wording.NO_GAP_NOTE)
    if any(row.endless for rows in found.values() for row in rows):
        notes.append(f"{plan_wording.ENDLESS}: by the model, the queue would grow without end.")
    return table("Predicted against simulated", [
        Column("latency", left=True), Column("target", 1), "simulated",
        "predicted", "off by"],
        groups=[_class_group(item, found.get((item.demand, item.service_class), ()))
                for item in plan_view.outcomes(plan)], notes=notes, by="demand, class")


def _class_group(item: plan_view.Outcome, rows: Iterable[plan_view.Compared]) -> Group:
    details = [item.demand]
    if item.worst_seed is not None:
        details.append(f"{wording.percent(item.worst_seed)} in the worst seed")
    if item.attainment is not None:
        details.append(f"{wording.percent(item.attainment)} over all")
    return cell.group(
        [(row.title, cell.limit(wording.seconds(row.target_s)),
          cell.judged(wording.seconds(row.simulated_s), row.simulated_over),
          cell.judged(plan_wording.predicted(row), row.predicted_over), plan_wording.error(row))
         for row in rows], cell.name(item.demand), cell.member(item.service_class),
        verdict=cell.verdict(item.meets, plan_wording.class_verdict(item)),
        details=(", ".join(details), wording.objective(item.slo)))


def pareto_table(plan: Document) -> Table:
    """Plans of which none is better in everything, and below them this one where it is none of
    them."""
    chosen = plan_view.dominated_point(plan)
    return table("Pareto front, by the model", [
        Column("plan", prose=True), "per hour", "TTFT p99", Column("power", 1)],
        groups=[cell.group([_point_row(plan, point) for point in listed(plan, "pareto")]),
                *([cell.group([_point_row(plan, chosen, ("", "not on the front"))])]
                  if chosen else [])], notes=[plan_wording.pareto_note(plan)])


def _point_row(plan: Document, point: Mapping[str, Any], *more: tuple[str, str]
               ) -> list[Cell | str]:
    return [Cell("\n".join(plan_wording.plan_lines(plan, point)),
                 parts=(*plan_wording.plan_parts(plan, point), *more)),
            wording.money(point.get("cost_per_hour")), wording.seconds(point.get("ttft_p99_s")),
            plan_wording.power(point.get("power_w"))]


def shadow_prices_table(plan: Document) -> Table:
    """The worth of one more of each scarce resource."""
    items = plan_view.worth_something(plan)
    saves = any((item.get("one_more_saves_per_hour") or 0.0) > 0 for item in items)
    return table("What more of it would be worth", [
        "limited", "used", "available", "one more saves",
        Column("dual value per hour", 1)],
        [(plan_wording.resource_name(str(item.get("resource"))),
          plan_wording.amount(str(item.get("resource")), item.get("used")),
          plan_wording.amount(str(item.get("resource")), item.get("available")),
          *_worth(item)) for item in items], notes=[plan_wording.WORTH_NOTE] if saves else [])


def _worth(price: Mapping[str, Any]) -> tuple[str, str]:
    return plan_wording.worth(price), wording.money(price.get("dual_per_hour"))


def accelerators_table(plan: Document) -> Table:
    """Accelerators in use of those there are and, where one more is worth something, its worth."""
    shadow = {item.get("resource"): item for item in plan_view.worth_something(plan)}
    pools = plan_view.accelerators(plan)
    known = [pool.get("accelerator") for pool in pools]
    found = table("Accelerators", (
        "accelerator", "in use", "price per hour", Column("price basis", prose=True), "list price",
        "as owned", "energy", "cost per hour", "one more saves", "dual value per hour"),
        [[*_accelerator_row(pool), *_worth(shadow.get(pool.get("accelerator"), {}))]
         for pool in (*pools, *({"accelerator": name} for name in shadow if name not in known))],
        notes=[f"{line}." for line in listed(plan, "warnings")])
    if not any("ownership_per_hour" in pool for pool in pools):
        found = found.without("list price", "as owned", "energy")
    if not any("price_basis" in pool for pool in pools):
        found = found.without("price basis")
    return found if shadow else found.without("one more saves", "dual value per hour")


def _accelerator_row(pool: Mapping[str, Any]) -> list[Cell | str]:
    used, count, price = pool.get("used"), pool.get("count"), pool.get("price_per_hour")
    bar = Bar(used / count) if used is not None and count else None
    return [plan_wording.resource_name(str(pool.get("accelerator"))),
            Cell(plan_wording.used_of(used, count), bar=bar), wording.money(price),
            " ".join(str(pool.get(key) or "") for key in ("price_basis", "price_date")).strip(),
            *(wording.money(pool.get(key)) for key in (
                "list_price_per_hour", "ownership_per_hour", "energy_per_hour")),
            wording.money(None if used is None or price is None else used * price)]


def what_if_table(plan: Document) -> Table:
    """The plan under other settings beside this one."""
    found = plan.get("what_if") or {}
    return table(plan_wording.what_if_title(found), [
        "demand", Column("replicas", left=True), "now", "then"],
        [(row.get("demand"), row.get("variant"), wording.count(row.get("before")),
          wording.count(row.get("after"))) for row in listed(found, "replicas")],
        notes=[plan_wording.what_if_cost(found)])


def changes_table(plan: Document) -> Table:
    """From what runs now to the plan."""
    return table("Changes from what runs now", [
        "change", Column("for", left=True), Column("before", 1), Column("after", 1)], [
        (f"{change.get('action')} " + plan_wording.replicas_of(str(change.get("variant")),
                                                               change.get("num_replicas")),
         change.get("demand"), wording.count(change.get("before")),
         wording.count(change.get("after"))) for change in listed(plan, "changes")])


def candidates_table(plan: Document, most_each: int | None = None) -> Table:
    """Variants by what they would cost if they carried a demand alone.

    With ``most_each``, of each demand the cheapest ones and those that the plan starts.
    """
    groups = []
    for demand, ranked in zip(listed(plan, "demands"), plan_view.ranked(plan), strict=True):
        kept = [item for place, item in enumerate(ranked)
                if most_each is None or place < most_each or item.in_plan]
        rows: list[list[Cell | str]] = [_candidate_row(item) for item in kept]
        if kept and len(kept) < len(ranked):
            rows.append([cell.member(f"{len(ranked) - len(kept):,} more"), *[""] * 7])
        if rows:
            groups.append(cell.group(rows, cell.name(str(demand.get("name")))))
    estimated = any(item.get("corrected") is False for item in listed(plan, "candidates"))
    return table("Cheapest candidates, each carrying its demand alone", [
        "demand, replicas", "per hour", "power", "in plan",
        Column("each carries", 2), "bound", Column("TTFT p99", 1),
        Column("bound by", left=True)],
        groups=groups, notes=[plan_wording.ESTIMATED_NOTE] if estimated else [])


def _candidate_row(item: plan_view.Ranked) -> list[Cell | str]:
    found = item.candidate
    number, power_w = found.get("num_replicas"), found.get("power_w")
    power = None if number is None or power_w is None else number * power_w
    return [cell.member(plan_wording.replicas_of(str(found.get("variant")), number,
                                                 found.get("unmeasured") or ())),
            wording.money(found.get("cost_alone_per_hour")), plan_wording.power(power),
            cell.strong(str(item.in_plan)) if item.in_plan else cell.muted(""),
            plan_wording.carries(found), wording.rate(found.get("bound_per_s")),
            wording.seconds(item.slowest_ttft_p99_s), plan_wording.binding(found.get("binding"))]


def trials_table(plan: Document, last: int | None = None) -> Table:
    """Trials and their verdicts, in order; the ``last`` ones, if so many are asked for."""
    every = listed(plan, "trials")
    trials = every if last is None else every[-last:]
    earlier = len(every) - len(trials)
    return table("Proposals simulated", [
        Column("round", 2), Column("demand", left=True), Column("replicas", left=True),
        "share of traffic", "worst class", Column("verdict", left=True)], [
        (trial.get("round"), trial.get("demand"),
         _counted(plan_wording.counted(trial.get("replicas"))),
         wording.percent(plan_view.entered(trial), 1), wording.percent(plan_view.worst(trial)),
         cell.verdict(trial.get("meets"), plan_wording.trial_verdict(trial)))
        for trial in trials],
        notes=[f"{earlier:,} earlier trials are not shown."] if earlier else [])


def _counted(replicas: Sequence[str]) -> Cell:
    return Cell("\n".join(replicas), parts=((" + ".join(replicas), ""),))


def not_considered_table(plan: Document, *, brief: bool = False) -> Table:
    """Why other variants were not candidates; in ``brief``, reasons of a kind are one."""
    return table("Not considered", [
        "demand", Column("why", prose=True), Column("variants", prose=True)], [
        (item.demand, item.reason, ", ".join(item.variants))
        for item in plan_reasons.not_considered(plan, brief=brief)])
