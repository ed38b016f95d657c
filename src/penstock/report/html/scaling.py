"""The section of a run's page on replicas that a policy scaled."""

from html import escape
from typing import Any

import numpy as np

from penstock.metrics.bins import demand_curve
from penstock.metrics.scaling_summary import Scaling, ScalingChoice
from penstock.metrics.table import RequestTable
from penstock.report.html import sections
from penstock.report.html.colours import NEUTRAL, PALETTE
from penstock.report.html.plots import KV_COLOUR, Figure, axis, line_look, stacked_layout
from penstock.report.html.steps import Curves, changes_of, step_columns, weighted_steps
from penstock.report.html.table import drawn
from penstock.report.model.scaling import calibration_table, decisions_table, groups_table
from penstock.report.model.scaling_decisions import details, heading, marked

SCRIPT = "curves.js"
STATES = {"ready": PALETTE[2], "draining": PALETTE[3], "starting": PALETTE[1], "waiting": NEUTRAL}
WANTED_COLOUR = PALETTE[0]
INPUT_COLOUR, OUTPUT_COLOUR, COST_COLOUR = KV_COLOUR, PALETTE[4], PALETTE[5]
MOST_GROUPS = 6
"""Groups with a plot of their own; of more, those with the most GPU-hours."""

_ROW_PX, _REST_PX = 138, 66
_MOST_TEXT = 160


def section(scaling: Scaling) -> str:
    """Demand, replicas, attainment and cost over time, with the decisions and their causes."""
    groups, decisions = groups_table(scaling), decisions_table(scaling)
    return sections.section(
        "Scaling", *groups.notes, drawn(groups),
        sections.legend({**STATES, "wanted": WANTED_COLOUR, "input tokens": INPUT_COLOUR,
                         "output tokens": OUTPUT_COLOUR}),
        sections.plot("scaling", "Demand, replicas, attainment and cost over time",
                      "Arrivals and tokens per second, replicas by state with the wanted number, "
                      "the share of arrivals within their targets and the cost per hour, over one "
                      "time axis. The tables below and the decision's text say the same.",
                      height_px=_height_px(scaling)),
        _learned(scaling), _picker(scaling),
        drawn(decisions, " ".join(decisions.notes), style="wrapped"))


def _learned(scaling: Scaling) -> str:
    """Return the table of calibrated step times, empty where there are none."""
    found = calibration_table(scaling)
    return "" if found is None else drawn(found, " ".join(found.notes))


def _picker(scaling: Scaling) -> str:
    """Return the card of one decision, the first until another is picked."""
    shown = marked(scaling)
    if not shown:
        return ""
    left = len(scaling.decisions) - len(shown)
    which = f"The {len(shown):,} largest of {len(scaling.decisions):,} decisions are marked. " \
        if left else ""
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>"
                   for name, value in details(scaling, shown[0]))
    return (
        '<div class="card decision" data-decisions=scaling tabindex=0 role=group '
        'aria-label="One decision; the arrow keys lead to the others">'
        '<p class=caption>A triangle marks a decision. '
        f"{which}Click one, or use the arrow keys, Home and End. Drag across the plot to look "
        "closer; double click to see everything again.</p>"
        '<div class=picker><button type=button data-step=-1 aria-label="Decision before">\u2039'
        f"</button><h3 aria-live=polite>{escape(heading(scaling, shown[0]))}</h3>"
        '<button type=button data-step=1 aria-label="Next decision">\u203a</button></div>'
        f"<dl>{rows}</dl></div>")


def figure(scaling: Scaling, table: RequestTable) -> Figure:
    """Panels over one clock: arrivals, tokens, replicas by state of each group, attainment of the
    arrivals, cost per hour; and the decisions."""
    last_s = np.nan_to_num(table.last_token_s, nan=0.0)
    end_s = max([float(last_s.max(initial=0.0)), float(table.arrival_s.max(initial=0.0)),
                 *(change.at_s for change in scaling.changes)])
    curves, groups = Curves(end_s), _groups(scaling)
    demand = demand_curve(table, end_s)
    after = 2 + len(groups)
    curves.add(demand.time_s, [demand.arrivals_per_s, demand.prompt_tokens_per_s,
                               demand.output_tokens_per_s, demand.attainment], [
        line_look("arrivals per second", PALETTE[0], 0), line_look("input tokens", INPUT_COLOUR, 1),
        line_look("output tokens", OUTPUT_COLOUR, 1),
        line_look("in time", PALETTE[2], after) | {"hovertemplate": "%{y:.2%} in time"}])
    for row, number in enumerate(groups, start=2):
        x, states = step_columns(changes_of(scaling, number), [*STATES, "target"], end_s)
        curves.add(x, states, [*(_area(name, colour, row) for name, colour in STATES.items()),
                               _wanted(row)])
    if _priced(scaling):
        prices = [group.cost_per_hour or 0.0 for group in scaling.groups]
        x, cost = weighted_steps(scaling, "held", prices, end_s)
        curves.add(x, [cost], [_step("cost per hour", COST_COLOUR, after + 1)
                               | {"hovertemplate": "$%{y:,.4~f} per hour"}])
    shown = marked(scaling)
    marks = [_marks(curves, shown, number, row) for row, number in enumerate(groups, start=2)]
    return {"data": [*curves.traces, *marks], "layout": _layout(scaling, curves, demand.attainment),
            "fine": curves.fine, "decisions": [
                {"x": x, "heading": heading(scaling, one), "details": details(scaling, one)}
                for x, one in zip(curves.times(np.array([one.at_s for one in shown])), shown,
                                  strict=True)]}


def _groups(scaling: Scaling) -> list[int]:
    """Return the numbers of the groups that have a plot."""
    numbers = sorted(range(len(scaling.groups)), key=lambda one: -scaling.groups[one].gpu_hours)
    return sorted(numbers[:MOST_GROUPS])


def _priced(scaling: Scaling) -> bool:
    return any(group.cost_per_hour for group in scaling.groups)


def _titles(scaling: Scaling) -> list[str]:
    groups = _groups(scaling)
    names = [f"Replicas of {scaling.groups[one].model} on {scaling.groups[one].accelerator}"
             for one in groups]
    if len(groups) < len(scaling.groups):
        names[0] += f" (the {MOST_GROUPS} largest of {len(scaling.groups)} groups)"
    return ["Arrivals per second", "Tokens per second of these arrivals", *map(escape, names),
            "Attainment", *(["Cost per hour, $"] if _priced(scaling) else [])]


def _height_px(scaling: Scaling) -> int:
    return _REST_PX + _ROW_PX * len(_titles(scaling))


def _layout(scaling: Scaling, curves: Curves, attainment: Any) -> Figure:
    titles = _titles(scaling)
    layout = stacked_layout(titles)
    layout["xaxis"]["title"]["text"] = curves.unit
    for row in range(len(titles)):
        layout[axis("yaxis", row)]["fixedrange"] = True
    layout[axis("yaxis", 2 + len(_groups(scaling)))] |= share_axis(attainment)
    # A reader's zoom outlives a redrawing.
    return layout | {"uirevision": "kept", "hoverdistance": 12}


def share_axis(shares: Any) -> Figure:
    """Return an axis of shares that begins below the least of them."""
    least = float(np.nanmin(shares)) if np.isfinite(shares).any() else 0.0
    low = next(low for low in (0.95, 0.9, 0.5, 0.0) if least >= low)
    return {"tickformat": ".4~p", "range": [low, 1 + 0.04 * (1 - low)]}


def _marks(curves: Curves, shown: tuple[ScalingChoice, ...], number: int, row: int) -> Figure:
    """Return the triangles of the decisions that changed a group."""
    own = [(place, one) for place, one in enumerate(shown)
           if one.targets[number] != one.before[number]]
    more = [one.targets[number] > one.before[number] for _, one in own]
    return {"type": "scatter", "mode": "markers", "name": "decision", "showlegend": False,
            "xaxis": "x", "yaxis": axis("y", row), "cliponaxis": False,
            "x": curves.times(np.array([one.at_s for _, one in own])),
            "y": [one.targets[number] for _, one in own],
            "customdata": [place for place, _ in own],
            "text": [escape(one.reason[:_MOST_TEXT]) for _, one in own],
            "marker": {"size": 9, "color": WANTED_COLOUR, "line": {"width": 1, "color": "#ffffff"},
                       "symbol": ["triangle-up" if up else "triangle-down" for up in more]},
            "hovertemplate": "%{text}<extra></extra>"}


def _step(name: str, colour: str, row: int) -> Figure:
    found = line_look(name, colour, row)
    return found | {"line": found["line"] | {"shape": "hv"}}


def _area(name: str, colour: str, row: int) -> Figure:
    return _step(name, colour, row) | {
        "stackgroup": f"replicas{row}", "line": {"color": colour, "width": 0, "shape": "hv"},
        "fillcolor": colour + "99"}


def _wanted(row: int) -> Figure:
    return _step("wanted", WANTED_COLOUR, row) | {
        "line": {"color": WANTED_COLOUR, "width": 1.5, "shape": "hv", "dash": "dot"}}
