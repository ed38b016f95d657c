"""The section of a run's page on replicas that a policy scaled."""

import numpy as np

from penstock.metrics.definitions import FloatColumn
from penstock.metrics.scaling_summary import Scaling, ScalingEvent
from penstock.metrics.table import RequestTable
from penstock.report.html import sections
from penstock.report.html.colours import NEUTRAL, PALETTE
from penstock.report.html.plots import Figure, line_trace, stacked_layout
from penstock.report.html.series import bin_edges
from penstock.report.html.table import drawn
from penstock.report.model.scaling import decisions_table, groups_table

STATES = {"ready": PALETTE[2], "starting": PALETTE[1], "draining": PALETTE[3], "waiting": NEUTRAL}
TARGET_COLOUR = PALETTE[0]
MAX_BINS = 500


def section(scaling: Scaling) -> str:
    """Demand, replicas and attainment over time, groups and decisions."""
    groups, decisions = groups_table(scaling), decisions_table(scaling)
    return sections.section(
        "Scaling", *groups.notes, drawn(groups),
        sections.legend({**STATES, "target": TARGET_COLOUR}),
        sections.plot("scaling", "Demand, replicas and attainment over time",
                      "Arrivals per second, replicas by state with their target, and the share of "
                      "arrivals within their targets", "tall"),
        drawn(decisions, " ".join(decisions.notes), style="wrapped"))


def figure(scaling: Scaling, table: RequestTable) -> Figure:
    """Panels over one clock: arrivals, replicas by state, attainment of the arrivals."""
    end_s = max([float(table.arrival_s.max(initial=0.0)),
                 *(change.at_s for change in scaling.changes)])
    edges = bin_edges(0.0, end_s, MAX_BINS)
    middle, width_s = (edges[:-1] + edges[1:]) / 2, edges[1] - edges[0]
    arrived = np.histogram(table.arrival_s, edges)[0]
    met = np.histogram(table.arrival_s[table.met_slo], edges)[0]
    some = arrived > 0
    traces = [line_trace(middle, arrived / width_s, "arrivals per second", PALETTE[0], 0)]
    for state, colour in STATES.items():
        traces.append({**line_trace(middle, _mean(scaling, state, edges), state, colour, 1),
                       "stackgroup": "replicas"})
    traces.append(line_trace(middle, _mean(scaling, "target", edges), "target", TARGET_COLOUR, 1))
    traces.append({**line_trace(middle[some], met[some] / arrived[some], "in time", PALETTE[2], 2),
                   "hovertemplate": "%{y:.1%} in time"})
    layout = stacked_layout(["Arrivals per second", "Replicas", "Attainment"])
    layout["yaxis3"] |= {"tickformat": ".0%", "range": [0, 1.02]}
    return {"data": traces, "layout": layout}


def _mean(scaling: Scaling, state: str, edges: FloatColumn) -> FloatColumn:
    """Return the mean number of replicas in a state by bin, all groups together."""
    total = np.zeros(len(edges) - 1)
    for group in range(len(scaling.groups)):
        own = [change for change in scaling.changes if change.group == group]
        total += _time_means(own, state, edges)
    return total


def _time_means(changes: list[ScalingEvent], state: str, edges: FloatColumn) -> FloatColumn:
    """Return the time-weighted mean of a step function by bin."""
    times = np.array([change.at_s for change in changes])
    values = np.array([float(getattr(change, state)) for change in changes])
    until = np.concatenate((times[1:], [max(edges[-1], times[-1])]))
    # The integral up to each time is linear in between.
    integral = np.concatenate(([0.0], np.cumsum(values * (until - times))))
    at_edges = np.interp(edges, np.concatenate((times, until[-1:])), integral)
    found: FloatColumn = np.diff(at_edges) / np.diff(edges)
    return found
