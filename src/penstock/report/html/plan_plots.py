"""The figures of a plan's page."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from penstock.report.html.colours import PALETTE, series_colours
from penstock.report.html.plots import Figure, log_seconds_axis
from penstock.report.model import plan_view, plan_wording, wording
from penstock.report.model.plan_view import Document, Ranked, listed, ranked

MOST_FIGURES = 8
PARETO = "pareto"


def accelerator_colours(plan: Document) -> dict[str, str]:
    """A colour per accelerator that a candidate runs on."""
    names = [str(candidate.get("accelerator")) for candidate in listed(plan, "candidates")]
    order = [str(pool.get("accelerator")) for pool in plan_view.accelerators(plan)]
    return series_colours([*(name for name in order if name in names),
                          *dict.fromkeys(name for name in names if name not in order)])


def plan_figures(plan: Document) -> dict[str, Figure]:
    """Every figure of the page by name; those without data are left out."""
    colours = accelerator_colours(plan)
    figures = {name: candidates_figure(items, colours) for name, _, items in scatters(plan)}
    front = [point for point in listed(plan, "pareto") if _is_drawn(point)]
    chosen = plan_view.dominated_point(plan)
    behind = [chosen] if chosen is not None and _is_drawn(chosen) else []
    return {**figures, PARETO: pareto_figure(plan, front, behind)} if front else figures


def _is_drawn(point: Mapping[str, Any]) -> bool:
    return point.get("cost_per_hour") is not None and point.get("ttft_p99_s") is not None


def scatters(plan: Document) -> list[tuple[str, Mapping[str, Any], list[Ranked]]]:
    """The costliest demands with their candidates that can be drawn, under the name of their
    figure."""
    found = []
    for number, (demand, every) in enumerate(zip(listed(plan, "demands"), ranked(plan),
                                                 strict=True)):
        items = [item for item in every if item.slowest_ttft_p99_s is not None
                 and item.candidate.get("cost_alone_per_hour") is not None]
        if items:
            found.append((f"candidates{number}", demand, items))
    costliest = sorted(found, key=lambda entry: -(entry[1].get("cost_per_hour") or 0.0))
    names = {name for name, _, _ in costliest[:MOST_FIGURES]}
    return [entry for entry in found if entry[0] in names]


def candidates_figure(items: Sequence[Ranked], colours: Mapping[str, str]) -> Figure:
    """Cost of carrying the demand alone against the p99 TTFT expected of its slowest class."""
    traces: list[Figure] = []
    for accelerator, colour in colours.items():
        mine = [item for item in items if str(item.candidate.get("accelerator")) == accelerator]
        if mine:
            traces.append({**_points(mine), "name": _plain(accelerator),
                           "marker": {"size": 9, "color": colour}})
    ringed = [item for item in items if item.in_plan]
    if ringed:
        traces.append(_rings(_points(ringed)))
    return {"data": traces, "layout": _layout(
        [item.slowest_ttft_p99_s or 0.0 for item in items], "carrying it alone, $ per hour")}


def _points(items: Sequence[Ranked]) -> Figure:
    return _scatter([item.candidate["cost_alone_per_hour"] for item in items],
                    [item.slowest_ttft_p99_s for item in items], [*map(_hover_text, items)])


def _hover_text(item: Ranked) -> str:
    found = item.candidate
    lines = [plan_wording.replicas_of(str(found.get("variant")), found.get("num_replicas")),
             f"{wording.money(found['cost_alone_per_hour'])} per hour",
             f"TTFT p99 {wording.seconds(item.slowest_ttft_p99_s)}",
             f"bound by {plan_wording.binding(found.get('binding'))}"]
    if item.in_plan:
        lines.append(f"{item.in_plan} in the plan")
    return "<br>".join(map(_plain, lines))


def pareto_figure(plan: Document, front: Sequence[Mapping[str, Any]],
                  behind: Sequence[Mapping[str, Any]] = ()) -> Figure:
    """Cost of whole plans against their p99 TTFT; a ring marks the chosen one, which may lie
    ``behind`` the front."""
    points = sorted(front, key=lambda point: float(point["cost_per_hour"]))
    line = {**_front_points(plan, points), "mode": "lines+markers", "name": "Pareto front",
            "line": {"color": PALETTE[0], "width": 2}, "marker": {"size": 8, "color": PALETTE[0]}}
    chosen = [*(point for point in points if point.get("chosen")), *behind]
    own = [{**_front_points(plan, behind), "name": "this plan",
            "marker": {"size": 8, "color": PALETTE[5]}}] if behind else []
    rings = [_rings(_front_points(plan, chosen))] if chosen else []
    return {"data": [line, *own, *rings], "layout": _layout(
        [float(point["ttft_p99_s"]) for point in (*points, *behind)],
        "the whole plan, $ per hour")}


def _front_points(plan: Document, points: Sequence[Mapping[str, Any]]) -> Figure:
    return _scatter(
        [point["cost_per_hour"] for point in points], [point["ttft_p99_s"] for point in points],
        ["<br>".join(map(_plain, [
            *plan_wording.plan_lines(plan, point),
            f"{wording.money(point['cost_per_hour'])} per hour",
            f"TTFT p99 {wording.seconds(point['ttft_p99_s'])}",
            plan_wording.power(point.get("power_w"))])) for point in points])


def _scatter(x: Sequence[Any], y: Sequence[Any], text: Sequence[str]) -> Figure:
    return {"type": "scatter", "mode": "markers", "showlegend": False, "x": list(x),
            "y": [max(float(value), 1e-6) for value in y], "text": list(text), "cliponaxis": False,
            "hovertemplate": "%{text}<extra></extra>"}


def _rings(points: Figure) -> Figure:
    return {**points, "name": "in the plan", "hoverinfo": "skip", "hovertemplate": None,
            "marker": {"size": 17, "symbol": "circle-open", "color": PALETTE[5],
                       "line": {"width": 2.5}}}


def _layout(ttft_s: Sequence[float], cost_title: str) -> Figure:
    return {"xaxis": {"title": {"text": cost_title, "standoff": 8}, "rangemode": "tozero",
                      "tickprefix": "$"},
            "yaxis": log_seconds_axis(ttft_s), "hovermode": "closest",
            "margin": {"l": 56, "r": 18, "t": 14, "b": 48}}


def _plain(text: str) -> str:
    """Text that plotly takes for no markup."""
    return escape(text, quote=False)
