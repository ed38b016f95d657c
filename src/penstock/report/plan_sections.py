"""The sections of a plan's page: pieces of HTML made from a cleaned document. All text of others
is escaped."""

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from penstock.report import plan_reasons, plan_view, plan_wording, sections, wording, yaml_text
from penstock.report.plan_plots import MOST_FIGURES, PARETO, accelerator_colours, scatters
from penstock.report.plan_view import Document, listed
from penstock.report.sections import MUTED_ABSENT

_MOST_VERDICTS = 12


def hero(plan: Document) -> str:
    """The headline, a verdict per demand and the figures beside it."""
    demands = listed(plan, "demands")
    verdicts = [_demand_verdict(demand) for demand in demands[:_MOST_VERDICTS]]
    if len(demands) > _MOST_VERDICTS:
        verdicts.append((None, f"{len(demands) - _MOST_VERDICTS:,} more demands", "listed below"))
    return sections.opening(plan_wording.headline(plan), plan_wording.considered(plan),
                            "Verdict by demand", verdicts, plan_wording.facts(plan))


def _demand_verdict(demand: Mapping[str, Any]) -> tuple[bool | None, str, str]:
    meets, text = plan_wording.demand_verdict(demand)
    share = "served " if text == "in full" or text.endswith("%") else ""
    wanted = wording.rate(demand.get("rate_per_s"), "requests/s")
    return (meets, f"{demand.get('name')} {share}{text}",
            " + ".join(plan_wording.counted(demand.get("replicas"))) or f"{wanted} asked for")


def placement(plan: Document) -> str:
    """Every demand and the replicas that serve it."""
    return sections.section(
        "Who runs where", plan_wording.HEADROOM_NOTE, placement_table(plan))


def placement_table(plan: Document) -> str:
    """Demands as groups of rows, one per variant."""
    head = ("demand, replicas", "served", "per hour", "cards", "headroom", "used",
            "per million tokens", "power", "requests")
    groups = [[_demand_row(demand), *map(_group_row, mine)] for demand, mine
              in zip(listed(plan, "demands"), plan_view.groups(plan), strict=True)]
    total = ("all", "", wording.money(plan.get("cost_per_hour")),
             plan_wording.cards(*plan_view.cards_used(plan)), "", "",
             wording.money(plan.get("cost_per_million_tokens")),
             plan_wording.power(plan.get("power_w")), "")
    return sections.grouped_table(head, groups, total)


def _demand_row(demand: Mapping[str, Any]) -> sections.Row:
    return (f"<span class=class>{escape(str(demand.get('name')))}</span>",
            sections.badge(*plan_wording.demand_verdict(demand)),
            f"<b>{wording.money(demand.get('cost_per_hour'))}</b>", "",
            f"<b>{plan_wording.growth(demand.get('headroom'))}</b>",
            wording.percent(demand.get("bound_share"), 0),
            f"<b>{wording.money(demand.get('cost_per_million_tokens'))}</b>",
            f"<b>{plan_wording.power(demand.get('power_w'))}</b>",
            wording.rate(demand.get("rate_per_s")))


def _group_row(group: plan_view.Group) -> sections.Row:
    name = escape(plan_wording.replicas_of(group.variant, group.num_replicas))
    return (f"<span class=member>{name}</span>", "", wording.money(group.cost_per_hour),
            plan_wording.cards(group.cards, group.cards_available), "", "", "",
            plan_wording.power(group.power_w), "")


def unserved(plan: Document) -> str:
    """Return the section on demands that are not served in full, with reasons."""
    rows = [(escape(item.demand),
             f"<span class=keep>{wording.percent(item.served_share, 1)}</span>",
             "<br>".join(map(escape, item.explanations)) or MUTED_ABSENT)
            for item in plan_view.unserved(plan)]
    return sections.section(
        "Not served in full", "What these demands lack, and the smallest change that would do.",
        sections.table(("demand", "served", "why"), rows, style="prose"))


def classes(plan: Document) -> str:
    """Return the section on each class's outcome beside the analytic model's expectation."""
    found = plan_view.compared(plan)
    groups = [(_class_heading(item), [_latency_row(row) for row in
                                      found.get((item.demand, item.service_class), ())])
              for item in plan_view.outcomes(plan)]
    return sections.section(
        "Service classes, predicted and simulated",
        "Candidates are chosen by an analytic model and judged by simulation: this is where the "
        f"model was wrong and by how much. \N{BLACK UP-POINTING TRIANGLE} marks a value above its "
        f"target, {plan_wording.ENDLESS} a queue that grows without end."
        + (f" {plan_wording.PACED_NOTE}" if plan_view.any_paced(plan) else ""),
        sections.headed_table(("latency", "target", "simulated", "predicted", "off by"), groups))


def _class_heading(item: plan_view.Outcome) -> str:
    details = [item.demand]
    if item.worst_seed is not None:
        details.append(f"{wording.percent(item.worst_seed)} in the worst seed")
    if item.attainment is not None:
        details.append(f"{wording.percent(item.attainment)} over all")
    badge = sections.badge(item.meets, plan_wording.class_verdict(item))
    return (f"<span class=class>{escape(item.service_class)} {badge}</span>"
            f"<span class=sub>{escape(', '.join(details))}</span>"
            f"<span class=sub>{escape(wording.objective(item.slo))}</span>")


def _latency_row(row: plan_view.Compared) -> sections.Row:
    target = MUTED_ABSENT if row.target_s is None else f"≤ {wording.seconds(row.target_s)}"
    return (row.title, target,
            sections.against_target(wording.seconds(row.simulated_s), row.simulated_over),
            sections.against_target(plan_wording.predicted(row), row.predicted_over),
            plan_wording.error(row))


def candidates(plan: Document) -> str:
    """Return the section on each variant's cost alone, drawn and listed."""
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
    drawn = [sections.legend(accelerator_colours(plan)), f"<div class=grid>{''.join(plots)}</div>"]
    return sections.section("Candidates", note, *(drawn if plots else ()),
                            sections.folded("All candidates, cheapest first",
                                            _candidates_table(plan)))


def _candidates_table(plan: Document) -> str:
    head = ("demand, replicas", "per hour", "power", "in plan", "each carries", "bound", "TTFT p99",
            "bound by")
    groups = []
    for demand, items in zip(listed(plan, "demands"), plan_view.ranked(plan), strict=True):
        if items:
            name = f"<span class=class>{escape(str(demand.get('name')))}</span>"
            groups.append([(name, *[""] * 7), *map(_candidate_row, items)])
    return sections.grouped_table(head, groups)


def _candidate_row(item: plan_view.Ranked) -> sections.Row:
    found = item.candidate
    number, power_w = found.get("num_replicas"), found.get("power_w")
    power = None if number is None or power_w is None else number * power_w
    label = escape(plan_wording.replicas_of(str(found.get("variant")), number))
    return (f"<span class=member>{label}</span>", wording.money(found.get("cost_alone_per_hour")),
            plan_wording.power(power), f"<b>{item.in_plan}</b>" if item.in_plan else MUTED_ABSENT,
            plan_wording.carries(found), wording.rate(found.get("bound_per_s")),
            wording.seconds(item.slowest_ttft_p99_s),
            escape(plan_wording.binding(found.get("binding"))))


def pareto(plan: Document, *, drawn: bool) -> str:
    """Whole plans of which none is better in everything."""
    chosen = plan_view.dominated_point(plan)
    rows = [("".join(f"<div>{escape(demand)}</div><span class=sub>{escape(replicas)}</span>"
                     for demand, replicas in plan_wording.plan_parts(plan, point))
             + ("<span class=sub>not on the front</span>" if point is chosen else ""),
             wording.money(point.get("cost_per_hour")), wording.seconds(point.get("ttft_p99_s")),
             plan_wording.power(point.get("power_w")))
            for point in (*listed(plan, "pareto"), *([chosen] if chosen else ()))]
    figure = sections.plot(PARETO, "Cost against latency",
                           "Cost per hour against p99 TTFT of plans on the Pareto front",
                           "middle") if drawn else ""
    table = sections.table(("plan", "per hour", "TTFT p99", "power"), rows, style="wrapped")
    return sections.section(
        "Pareto front", "Whole plans of which none is better in cost and latency both; a ring "
        f"marks this plan. {plan_wording.pareto_note(plan)}",
        f"<div class=grid>{figure}{table}</div>")


def trials(plan: Document) -> str:
    """Return the section on trials and their verdicts."""
    rows = [(str(trial.get("round")), escape(str(trial.get("demand"))),
             sections.badge(trial.get("meets"), "holds" if trial.get("meets") else "misses"),
             wording.percent(plan_view.worst(trial)), wording.percent(plan_view.entered(trial), 1),
             escape(" + ".join(plan_wording.counted(trial.get("replicas")))))
            for trial in listed(plan, "trials")]
    return sections.section(
        "Proposals simulated", "In order. Drawn traffic must hold a little faster than drawn, too. "
        "Where a proposal missed, more replicas or a smaller share of the traffic were tried until "
        "one held; the model's beliefs were lowered to that, and the plan made again.",
        sections.table(("round", "demand", "verdict", "worst class", "share of traffic",
                        "replicas"), rows, style="text-2 text-last"))


def cards(plan: Document) -> str:
    """Accelerators in use of those there are, and what one more would be worth."""
    shadow = {item.get("resource"): item for item in plan_view.worth_something(plan)}
    head = ["accelerator", "in use", "price per hour", "cost per hour"]
    if shadow:
        head += ["one more saves", "dual value per hour"]
    known = [pool.get("accelerator") for pool in listed(plan, "cards")]
    pools = [*listed(plan, "cards"), *({"accelerator": name} for name in shadow
                                       if name not in known)]
    note = "Cards are paid for where a replica runs on them."
    if shadow:
        note += (f" {plan_wording.WORTH_NOTE} Dual value: the same at the margin, with replicas "
                 "divisible.")
    return sections.section("Accelerators", note, sections.table(
        head, [_pool_row(pool, shadow) for pool in pools]))


def _pool_row(pool: Mapping[str, Any], shadow: Mapping[Any, Mapping[str, Any]]) -> sections.Row:
    used, count, price = pool.get("used"), pool.get("count"), pool.get("price_per_hour")
    share = used / count if used is not None and count else None
    text = plan_wording.cards(used, count)
    row = [escape(plan_wording.resource_name(str(pool.get("accelerator")))),
           text if share is None else sections.meter(share, text), wording.money(price),
           wording.money(None if used is None or price is None else used * price)]
    if shadow:
        worth = shadow.get(pool.get("accelerator"), {})
        row += [plan_wording.worth(worth), wording.money(worth.get("dual_per_hour"))]
    return row


def what_if(plan: Document) -> str:
    """The plan under other settings beside this one."""
    found = plan.get("what_if") or {}
    rows = [(escape(str(row.get("demand"))), escape(str(row.get("variant"))),
             wording.count(row.get("before")), wording.count(row.get("after")))
            for row in listed(found, "replicas")]
    return sections.section(
        plan_wording.what_if_title(found), plan_wording.what_if_cost(found),
        sections.table(("demand", "replicas", "now", "then"), rows, style="text-2"))


def changes(plan: Document) -> str:
    """From what runs now to the plan."""
    rows = [(escape(f"{change.get('action')} " + plan_wording.replicas_of(
                str(change.get("variant")), change.get("num_replicas"))),
             escape(str(change.get("demand"))), wording.count(change.get("before")),
             wording.count(change.get("after"))) for change in listed(plan, "changes")]
    return sections.section("Changes", "From what runs now to this plan.", sections.table(
        ("change", "for", "before", "after"), rows, style="text-2"))


def not_considered(plan: Document) -> str:
    """Why other variants were not candidates."""
    rows = [(escape(item.demand), escape(item.reason), escape(", ".join(item.variants)))
            for item in plan_reasons.not_considered(plan)]
    number = len(listed(plan, "not_considered"))
    return sections.folded(f"Not considered: {number:,}", sections.table(
        ("demand", "why", "variants"), rows, style="prose"))


def replicas(plan: Document) -> str:
    """The section that makes a fleet file run this plan."""
    text = yaml_text.section("replicas", listed(plan, "replicas"))
    return sections.section(
        "For the fleet file", "The plan as a fleet file's replicas section. One click selects all "
        "of it.", f'<div class="card yaml"><pre tabindex=0>{escape(text)}</pre></div>')


def short(plan: Document) -> Iterable[str]:
    """Return the short section on the plan of a run's fleet."""
    plan = plan_view.cleaned(plan)
    yield placement(plan)
    if listed(plan, "trials"):
        yield trials(plan)
