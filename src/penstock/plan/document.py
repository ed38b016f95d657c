"""A plan as plain data: what ``plan.json`` holds and the report draws."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import date
from math import ceil, isfinite
from types import MappingProxyType
from typing import Any

from penstock import __version__
from penstock.fleet.prices import price_warnings
from penstock.fleet.write import replicas_section
from penstock.metrics.summary import cost_per_million_tokens
from penstock.plan.assign.solution import SLACK, Solution, served_name
from penstock.plan.carried import saturation_per_s
from penstock.plan.certainty import Certainty, Each, certainties
from penstock.plan.estimate import Candidate
from penstock.plan.expected import Alone, all_alone, in_plan
from penstock.plan.insight import NEVER_S, Insight, format_shortfall, insight
from penstock.plan.judge import Verdict
from penstock.plan.least import least_needed
from penstock.plan.plan import FleetPlan
from penstock.plan.prices import accelerator_rows, ownership_document
from penstock.plan.propose import (
    Choice,
    counts_of,
    current_counts,
    idle_counts,
    priority_shift,
)
from penstock.plan.slower import unmeasured


def plan_document(plan: FleetPlan, around: Insight | None = None,
                  certain: Mapping[str, Certainty] = MappingProxyType({})) -> dict[str, Any]:
    """Replicas, cost, power, accelerators, demands, candidates, trials, and changes from what runs.

    A number that does not exist, such as a latency that grows without end, is None.
    """
    solution, fleet = plan.checked.solution, plan.fleet
    accelerators = accelerator_rows(fleet, plan.accelerators)
    document: dict[str, Any] = {
        "name": fleet.name, "version": __version__, "seed": fleet.run.seed,
        "holds": plan.checked.holds, "served_in_full": plan.served_in_full,
        "unserved": plan.unserved,
        "replicas": replicas_section(fleet),
        "cost_per_hour": plan.cost_per_hour,
        "cost_per_million_tokens": _per_million(plan, plan.cost_per_hour, _served(plan)),
        "confidence": fleet.plan.confidence, **_whole(plan, certain),
        "power_w": plan.power_w, **ownership_document(fleet, plan.accelerators),
        "optimum": {
            "method": solution.method, "objective": solution.objective, "bound": solution.bound,
            "gap": solution.gap, "switching_cost": solution.switching_cost,
            "levels": _levels(plan)},
        "accelerators": accelerators, "cards": accelerators,  # its name in release 0.2
        "demands": [_demand(plan, choice, certain.get(choice.demand.name))
                    for choice in plan.choices],
        "candidates": [found for choice in plan.choices for found in _candidates(plan, choice)],
        "not_considered": [asdict(dropped) for dropped in plan.dropped],
        "trials": [{"round": t.round, "demand": t.demand, "replicas": dict(t.counts),
                    "share": t.share, "meets": t.verdict.meets,
                    "only_faster_missed": t.verdict.only_faster_missed,
                    "does_not_last": t.verdict.does_not_last,
                    "attainment": {c.name: c.worst_share for c in t.verdict.classes}}
                   for t in plan.checked.trials],
        "timing": {"solver_s": solution.time_s},  # nothing else differs from run to run
    }
    if plan.before.replicas:
        changes = _changes(plan)
        document |= {"changes": changes, "moves": moves(changes)}
    return document if around is None else document | _around(plan, around)


def full_document(plan: FleetPlan,
                  other: tuple[Sequence[str], FleetPlan] | None = None,
                  today: date | None = None, each: Each = map) -> dict[str, Any]:
    """The whole document of a plan: the plan, its insight, warnings of its prices (with ``today``,
    also of old ones), and the differences to an ``other`` plan (its settings, and the plan with
    them) where there is one. ``each`` computes how certain each demand's replicas are."""
    document = plan_document(plan, insight(plan), certainties(plan, each)) | {
        "least": _least(plan), "warnings": price_warnings(plan.fleet, today)}
    if other is not None:
        document["what_if"] = compared(document, plan_document(other[1]), other[0])
    return document


def _least(plan: FleetPlan) -> dict[str, Any] | None:
    """Return what no schedule undercuts, and how far the plan is from it; None where a demand has
    no bound."""
    found = [least_needed(plan.before, choice.demand) for choice in plan.choices]
    known = [least for least in found if least is not None]
    if len(known) < len(found) or not plan.served_in_full:
        return None
    used = sum(plan.accelerators.values())
    accelerators = ceil(sum(least.accelerators for least in known) - 1e-9)
    cost = sum(least.cost_per_hour for least in known)
    return {"accelerators": accelerators, "accelerators_gap": 1.0 - accelerators / used,
            "cost_per_hour": cost,
            "gap": 1.0 - cost / plan.cost_per_hour if plan.cost_per_hour else 0.0,
            "demands": [{"name": choice.demand.name, **asdict(least)}
                        for choice, least in zip(plan.choices, known, strict=True)]}


def _around(plan: FleetPlan, around: Insight) -> dict[str, Any]:
    """Return the findings of ``insight`` as lists of plain data. A plan with roles has no front, as
    the analytic model does not tell their latency."""
    return {
        "explanations": [
            {"demand": s.demand,
             "text": format_shortfall(s, around.with_more_accelerators.get(s.demand))}
            for s in around.shortfalls],
        "shadow_prices": [{"resource": price.resource, "available": price.available,
                           "used": price.used, "dual_per_hour": price.dual,
                           "one_more_saves_per_hour": price.saves, "step": price.step,
                           "serves_per_s": {str(priority): rate
                                            for priority, rate in price.serves or ()}}
                          for price in around.prices],
        **_pareto(plan, around)}


def _pareto(plan: FleetPlan, around: Insight) -> dict[str, Any]:
    """The Pareto front, and the plan's own point: on the front, or dominated by another plan."""
    if plan.has_roles:
        return {"pareto": [], "plan_point": None}
    chosen = plan.checked.solution
    here = around.score if chosen.replicas else None
    points = [(point.score, point.solution) for point in around.front
              if here is None or not _alike((point.score, point.solution), (here, chosen))]
    if here is not None and not any(
            solution.replicas == chosen.replicas or _dominates((score, solution), (here, chosen))
            for score, solution in points):
        points.append((here, chosen))
    points.sort(key=lambda point: (point[1].cost_per_hour, point[0]))
    on_front = any(solution.replicas == chosen.replicas for _, solution in points)
    return {"pareto": [_point(plan, *point) for point in points],
            "plan_point": None if here is None else
            {**_point(plan, here, chosen), "on_front": on_front}}


def _dominates(one: tuple[float, Solution], other: tuple[float, Solution]) -> bool:
    """Whether the first plan costs no more and answers no later than the other, and is clearly
    better in one of the two."""
    cost, score = other[1].cost_per_hour, other[0]
    return (one[1].cost_per_hour <= cost * (1.0 + SLACK) and one[0] <= score * (1.0 + SLACK)
            and (one[1].cost_per_hour < cost * (1.0 - SLACK) or one[0] < score * (1.0 - SLACK)))


def _alike(one: tuple[float, Solution], other: tuple[float, Solution]) -> bool:
    return (abs(one[1].cost_per_hour - other[1].cost_per_hour) <= SLACK * other[1].cost_per_hour
            and abs(one[0] - other[0]) <= SLACK * other[0])


def _point(plan: FleetPlan, score: float, solution: Solution) -> dict[str, Any]:
    replicas = {choice.demand.name: counts for choice in plan.choices
                if (counts := _counts(plan, choice, solution))}
    return {"label": format_replicas(replicas), "replicas": replicas,
            "cost_per_hour": solution.cost_per_hour, "power_w": solution.power_w,
            "ttft_p99_s": score if score < NEVER_S else None,
            "chosen": solution.replicas == plan.checked.solution.replicas}


def _counts(plan: FleetPlan, choice: Choice, solution: Solution) -> dict[str, int]:
    """The replicas that a solution gives a demand, by variant."""
    return dict(counts_of(solution, choice, plan.checked.confirmed[choice.demand.name]))


def format_replicas(replicas: Mapping[str, Mapping[str, int]]) -> str:
    """Replicas by demand and variant in a few words."""
    return "; ".join(
        f"{demand}: " + " + ".join(f"{count} x {variant}" for variant, count in counts.items())
        for demand, counts in replicas.items())


def compared(document: Mapping[str, Any], other: Mapping[str, Any],
             settings: Sequence[str]) -> dict[str, Any]:
    """Return the differences to another plan's document: cost, power, service and replicas by
    demand."""
    before, after = ({(d["name"], variant): count for d in one["demands"]
                      for variant, count in d["replicas"].items()} for one in (document, other))
    return {
        "settings": list(settings), "served_in_full": other["served_in_full"],
        "cost_per_hour": other["cost_per_hour"],
        "saves_per_hour": document["cost_per_hour"] - other["cost_per_hour"],
        "power_w": other["power_w"], "unserved": other["unserved"],
        "replicas": [{"demand": demand, "variant": variant,
                      "before": before.get((demand, variant), 0),
                      "after": after.get((demand, variant), 0)}
                     for demand, variant in sorted({*before, *after})]}


def _levels(plan: FleetPlan) -> list[dict[str, Any]]:
    """The objectives in order; their names have the priorities of the fleet file."""
    shift = priority_shift(plan.choices)
    own_name = {served_name(choice.demand.priority + shift): served_name(choice.demand.priority)
                for choice in plan.choices}
    return [{**asdict(level), "name": own_name.get(level.name, level.name)}
            for level in plan.checked.solution.levels]


def _whole(plan: FleetPlan, certain: Mapping[str, Certainty]) -> dict[str, Any]:
    """The certainty of the whole fleet, where that of every demand is known. Errors of step times
    have common causes, so the least certain demand decides."""
    if not plan.served_in_full or len(certain) < len(plan.choices):
        return {}
    low, high = zip(*(found.cost_per_hour for found in certain.values()), strict=True)
    return {"holds_probability": min(found.holds for found in certain.values()),
            "cost_per_hour_interval": [sum(low), None if None in high else sum(high)]}


def _certainty(found: Certainty) -> dict[str, Any]:
    return {
        "holds_probability": found.holds,
        "suffices": [{"num_replicas": number, "probability": share}
                     for number, share in found.suffices],
        "headroom_interval": None if found.headroom is None else list(found.headroom),
        "cost_per_hour_interval": list(found.cost_per_hour),
        "classes": [
            {"name": slow.name, "attainment_interval": [slow.worst_share, fast.worst_share],
             **{f"{key}_interval_s": _ends(getattr(fast, f"{key}_s"), getattr(slow, f"{key}_s"))
                for key in ("ttft_p50", "ttft_p99", "itl_p99", "tpot_p99")}}
            for slow, fast in zip(found.slow.classes, found.fast.classes, strict=True)]}


def _ends(*values: float) -> list[float | None]:
    return [value if isfinite(value) else None for value in values]


def _demand(plan: FleetPlan, choice: Choice, certain: Certainty | None) -> dict[str, Any]:
    demand, name = choice.demand, choice.demand.name
    counts = plan.checked.counts[name]
    cost = sum(n * choice.candidate(variant).variant.cost_per_hour for variant, n in counts)
    served = plan.checked.solution.served[name]
    verdict = plan.checked.verdicts.get(name)
    return {
        "name": name, "model": demand.model.spec.name, "priority": demand.priority,
        "rate_per_s": demand.rate_per_s, "served_share": served,
        "replicas": dict(counts), "cost_per_hour": cost,
        "cost_per_million_tokens": _per_million(plan, cost,
                                                [verdict] if verdict and counts else []),
        "power_w": sum(n * choice.candidate(variant).variant.power_w for variant, n in counts),
        "headroom": plan.headroom.get(name),
        **_of_bound(plan, choice, served),
        "meets": verdict.meets if verdict else None,
        "num_seeds": verdict.num_seeds if verdict else 0,
        "classes": _classes(plan, choice, verdict),
        **({} if certain is None else {"certainty": _certainty(certain)}),
        **({} if plan.whole is None or not plan.is_split(name) else {"whole": {
            "replicas": dict(plan.whole.counts[name]),
            "served_share": plan.whole.solution.served[name]}}),
    }


def _of_bound(plan: FleetPlan, choice: Choice, served: float) -> dict[str, float | None]:
    """The throughput bound of a demand's replicas and the share of the bound that is used; None
    where a variant has no bound."""
    most_per_s = saturation_per_s(plan.before, choice, plan.checked.counts[choice.demand.name])
    return {"throughput_bound_per_s": most_per_s, "bound_share": None if not most_per_s else
            served * choice.demand.lasting_per_s / most_per_s}


def _classes(plan: FleetPlan, choice: Choice, verdict: Verdict | None) -> list[dict[str, Any]]:
    predicted = in_plan(plan, choice)
    rows = []
    for i, service_class in enumerate(choice.demand.classes):
        row: dict[str, Any] = {"name": service_class.name, "slo": asdict(service_class.slo)}
        if verdict is not None:
            got = verdict.classes[i]
            latencies = {"ttft_p50_s": got.ttft_p50_s, "ttft_p99_s": got.ttft_p99_s,
                         "itl_p99_s": got.itl_p99_s}
            if service_class.slo.itl == "mean":
                latencies["tpot_p99_s"] = got.tpot_p99_s
            row |= {"attainment": got.attainment.share, "worst_seed": got.worst_share,
                    "simulated": _finite(latencies)}
        if predicted:
            row["predicted"] = _finite({"ttft_p50_s": predicted[i].ttft_p50_s,
                                        "ttft_p99_s": predicted[i].ttft_p99_s,
                                        "itl_p99_s": predicted[i].itl_p99_s})
        rows.append(row)
    return rows


def _candidates(plan: FleetPlan, choice: Choice) -> list[dict[str, Any]]:
    alone = all_alone(plan, choice)
    return [_candidate(plan, choice, candidate, alone[candidate.variant.name])
            for candidate in choice.candidates]


def _candidate(plan: FleetPlan, choice: Choice, candidate: Candidate,
               alone: Alone) -> dict[str, Any]:
    variant, demand = candidate.variant, choice.demand.name
    group = variant.group
    return {
        "demand": demand, "variant": variant.name, "accelerator": group.accelerator.name,
        "tensor": group.parallelism.tensor, "pipeline": group.parallelism.pipeline,
        "data": group.parallelism.data,
        "precision": group.precision, "kv_precision": group.kv_precision,
        "unmeasured": list(unmeasured(group)),
        "kv_tokens": variant.kv_tokens, "cost_per_hour": variant.cost_per_hour,
        "power_w": variant.power_w, "rate_per_s": candidate.rate_per_s,
        "bound_per_s": candidate.bound_per_s,
        "believed_per_s": plan.checked.rates[demand, variant.name], "corrected": alone.corrected,
        "num_replicas": alone.num_replicas, "estimated_replicas": candidate.num_replicas,
        "cost_alone_per_hour": alone.num_replicas * variant.cost_per_hour,
        "binding": candidate.binding,
        "classes": [{"name": c.name, **_finite({key: value for key, value in asdict(c).items()
                                                if key != "name"})} for c in alone.classes]}


def _changes(plan: FleetPlan) -> list[dict[str, Any]]:
    """Replicas to start and to stop, by demand and variant, without variants that do not change."""
    states = [(choice.demand.name, current_counts(plan.before, choice.demand),
               _demand(plan, choice, None)["replicas"]) for choice in plan.choices]
    states += [(name, before, {}) for name, before
               in idle_counts(plan.before, plan.choices).items()]
    changes = []
    for demand, before, after in states:
        for variant in sorted({*before, *after}):
            was, will_be = before.get(variant, 0), after.get(variant, 0)
            if was != will_be:
                changes.append({"demand": demand, "variant": variant, "before": was,
                                "after": will_be,
                                "action": "start" if will_be > was else "stop",
                                "num_replicas": abs(will_be - was)})
    return changes


def moves(changes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Replicas that change their variant: stops and starts of a demand, paired in order of name."""
    found = []
    for demand in dict.fromkeys(change["demand"] for change in changes):
        stops, starts = ([[c["variant"], c["num_replicas"]] for c in changes
                          if c["demand"] == demand and c["action"] == action]
                         for action in ("stop", "start"))
        while stops and starts:
            count = min(stops[0][1], starts[0][1])
            found.append({"demand": demand, "from": stops[0][0], "to": starts[0][0],
                          "num_replicas": count})
            for side in (stops, starts):
                side[0][1] -= count
                if not side[0][1]:
                    side.pop(0)
    return found


def _served(plan: FleetPlan) -> list[Verdict]:
    return [plan.checked.verdicts[name] for name, counts in plan.checked.counts.items() if counts]


def _per_million(plan: FleetPlan, cost_per_hour: float,
                 verdicts: Sequence[Verdict]) -> float | None:
    """Cost of the simulated run divided by its tokens, as in ``summary.json``.

    The run is the first seed, from the first arrival to the last token of any demand. One window
    for all demands puts the figure of the whole plan between those of its demands.
    """
    if not verdicts:
        return None
    served = _served(plan)
    window_s = max(v.ended_s for v in served) - min(v.began_s for v in served)
    return cost_per_million_tokens(cost_per_hour, window_s, sum(v.tokens for v in verdicts))


def _finite(values: dict[str, float]) -> dict[str, float | None]:
    return {key: value if isfinite(value) else None for key, value in values.items()}
