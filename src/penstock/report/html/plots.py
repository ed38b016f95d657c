"""Figures as plain dictionaries in plotly.js's form; colours of text and grid are the page's."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from penstock.core.slo import Slo
from penstock.metrics.definitions import FloatColumn, IntColumn
from penstock.metrics.run_summary import ClassSummary, RunSummary, Sizing
from penstock.metrics.series import ReplicaSeries, RunSeries
from penstock.metrics.table import RequestTable
from penstock.report.html.colours import NEUTRAL, PALETTE, series_colours
from penstock.report.html.series import LoadCurves, load_curves, longest_wait_window
from penstock.report.model import wording

Figure = dict[str, Any]

KV_COLOUR = "#7b61c9"
MAX_CDF_POINTS = 300
CDF_AXES = {"ttft_s": "TTFT", "itl_p99_s": "ITL", "e2e_s": "end-to-end latency"}
MAX_SCATTER_POINTS = 800
_FINE_TICKS = (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 4.5, 5, 6, 7, 8, 9)


def all_figures(summary: RunSummary, table: RequestTable,
                series: RunSeries) -> dict[str, Figure]:
    """Every figure of the page by name; those without data are left out."""
    classes = summary.classes
    slos = {name: entry.slo for name, entry in classes.items()}
    figures = {
        "ttft": cdf_figure(table, slos, "ttft_s"),
        "itl": cdf_figure(table, slos, "itl_p99_s"),
        "e2e": cdf_figure(table, slos, "e2e_s"),
        "load": load_figure(load_curves(table, series), series_colours(list(classes)),
                            with_kv=bool(series.replicas)),
    }
    busiest = busiest_replica(series)
    if busiest is not None:
        figures["steps"] = steps_figure(busiest)
        figures["step_cost"] = step_cost_figure(series)
    if summary.sizing and not summary.plan:
        figures["sizing"] = sizing_figure(summary.sizing, classes)
    return figures


def busiest_replica(series: RunSeries) -> ReplicaSeries | None:
    """The replica whose queue grew longest, if any replica ran."""
    ran = [replica for replica in series.replicas if len(replica)]
    return max(ran, key=lambda replica: int(replica.num_waiting.max()), default=None)


def cdf_points(values: FloatColumn, received: int) -> tuple[FloatColumn, FloatColumn]:
    """A distribution's steps: values, and the share of ``received`` at or below each.

    At most MAX_CDF_POINTS, a third of them in the last 5 %, where objectives lie.
    """
    known = np.sort(values[~np.isnan(values)])
    ranks = np.arange(len(known))
    if len(known) > MAX_CDF_POINTS:
        tail = int(0.95 * len(known))
        ranks = np.unique(np.concatenate((
            np.linspace(0, tail, MAX_CDF_POINTS * 2 // 3),
            np.linspace(tail, len(known) - 1, MAX_CDF_POINTS // 3))).astype(np.int64))
    return known[ranks], (ranks + 1) / max(received, 1)


def cdf_figure(table: RequestTable, slos: Mapping[str, Slo],
               latency: str) -> Figure:
    """The distribution of one latency by class, on a logarithmic axis, with its SLO lines.

    TTFT and e2e are shares of all requests received, so a curve that levels off below 100 % has
    requests that never got there; gaps are shares of the requests that have any.
    """
    of_gaps = latency == "itl_p99_s"
    traces, lines, extremes = [], [], []
    marks = []
    for name, colour in series_colours(list(slos)).items():
        rows = table.of_class(name)
        values = getattr(rows, latency)
        received = int((~np.isnan(values)).sum()) if of_gaps else len(rows)
        x, y = cdf_points(values, received)
        traces.append(cdf_trace(x, y, name, colour, "solid"))
        extremes += [*x[:1], *x[-1:]]
        if of_gaps:
            x, y = cdf_points(rows.itl_mean_s, received)
            traces.append(cdf_trace(x, y, f"{name}, mean", colour, "dot"))
            extremes += [*x[:1], *x[-1:]]
        slo = slos[name]
        target = slo.itl_s if of_gaps else {"ttft_s": slo.ttft_s, "e2e_s": slo.e2e_s}[latency]
        if target is not None:
            lines.append((float(target), colour))
            extremes.append(float(target))
        bound = wording.target(latency, slo)
        if bound is not None:
            marks.append(_objective_mark(name, slo, bound, colour))
    return {"data": traces + marks, "layout": cdf_layout(CDF_AXES[latency], extremes, lines)}


def cdf_layout(title: str, extremes: Sequence[float],
               lines: Sequence[tuple[float, str]]) -> Figure:
    """Axes of distributions of a latency, with a line for each target and colour."""
    layout: Figure = {
        "xaxis": log_seconds_axis(extremes) | {"title": {"text": title}},
        "yaxis": _share_axis() | {"title": {"text": "share of requests"}},
        "margin": {"l": 56, "r": 12, "t": 14, "b": 48}}
    _add_slo_lines(layout, lines)
    return layout


def cdf_trace(x: FloatColumn, y: FloatColumn, name: str, colour: str, dash: str) -> Figure:
    """The curve of a distribution."""
    return {"type": "scatter", "mode": "lines", "name": name, "showlegend": False,
            "x": _rounded(np.maximum(x, 1e-6)), "y": _rounded(y),
            "line": {"color": colour, "width": 2 if dash == "solid" else 1.5, "shape": "hv",
                     "dash": dash},
            "text": [wording.seconds(float(value)) for value in x],
            "hovertemplate": "%{y:.1%} within %{text}"}


def _add_slo_lines(layout: Figure, lines: Sequence[tuple[float, str]]) -> None:
    """A labelled vertical line per target."""
    layout["shapes"], layout["annotations"] = [], []
    for position, (target, colour) in enumerate(lines):
        layout["shapes"].append({
            "type": "line", "x0": target, "x1": target, "y0": 0, "y1": 1, "yref": "paper",
            "line": {"color": colour, "width": 1.5, "dash": "dash"}})
        layout["annotations"].append({
            "x": float(np.log10(target)), "y": 0.04 + 0.09 * position, "yref": "paper",
            "text": f"SLO {wording.seconds(target)}", "showarrow": False, "xanchor": "right",
            "xshift": -4, "font": {"color": colour, "size": 11}})


def _objective_mark(name: str, slo: Slo, target: float, colour: str) -> Figure:
    """A diamond at the point above which the curve must pass."""
    return {"type": "scatter", "mode": "markers", "x": [target], "y": [slo.percentile / 100],
            "name": f"{name} objective", "showlegend": False,
            "marker": {"symbol": "diamond-open", "size": 9, "color": colour, "line": {"width": 2}},
            "text": [f"{wording.level(slo.percentile)} within {wording.seconds(target)}"],
            "hovertemplate": "%{text}"}


def log_seconds_axis(extremes: Sequence[float]) -> Figure:
    """A logarithmic axis of seconds labelled in ms and s, ticks at decades or finer if few."""
    low = max(min(extremes, default=0.01), 1e-4)
    high = max(max(extremes, default=1.0), low * 1.5)
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    spread = high / low
    factors: Sequence[float] = (1,) if np.log10(spread) > 2.5 else (1, 2, 5) if spread > 4 else \
        range(1, 10) if spread > 2 else _FINE_TICKS
    ticks = [factor * 10.0**decade for decade in decades for factor in factors]
    return {"type": "log", "tickvals": ticks, "ticktext": [wording.seconds(t) for t in ticks],
            "range": [float(np.log10(low / 1.1)), float(np.log10(high * 1.15))]}


def _share_axis() -> Figure:
    return {"range": [0, 1.02], "tickformat": ".0%", "tickvals": [0, 0.25, 0.5, 0.75, 1]}


def load_figure(curves: LoadCurves, colours: Mapping[str, str], *,
                with_kv: bool = True) -> Figure:
    """Panels over one clock: arrivals, waiting, running and, where known, KV memory."""
    panels = (("Arrivals per second", curves.arrivals_per_s),
              ("Waiting requests", curves.waiting), ("Running requests", curves.running))
    time_s = _rounded(curves.time_s)
    traces: list[Figure] = []
    for row, (_, by_class) in enumerate(panels):
        for name, values in by_class.items():
            colour = colours.get(name, PALETTE[-1])
            traces.append({
                "type": "scatter", "mode": "lines", "x": time_s, "y": _rounded(values),
                "name": name, "showlegend": False, "stackgroup": f"panel{row}",
                "line": {"color": colour, "width": 1, "shape": "hvh"},
                "fillcolor": _translucent(colour), "yaxis": axis("y", row), "xaxis": "x",
                "hovertemplate": "%{y:.3~g} " + name.replace("%", "")})
    if curves.replica_waiting.any():
        traces.append({
            "type": "scatter", "mode": "lines", "x": time_s,
            "y": _rounded(curves.replica_waiting), "name": "in replica queues",
            "showlegend": False, "yaxis": "y2", "xaxis": "x",
            "line": {"color": NEUTRAL, "width": 1.2, "dash": "dot"},
            "hovertemplate": "%{y:.3~g} in replica queues"})
    titles = [title for title, _ in panels]
    if not with_kv:
        return {"data": traces, "layout": stacked_layout(titles)}
    traces.append({
        "type": "scatter", "mode": "lines", "x": time_s, "y": _rounded(curves.kv_use),
        "name": "KV in use", "showlegend": False, "fill": "tozeroy", "yaxis": "y4", "xaxis": "x",
        "line": {"color": KV_COLOUR, "width": 1.2}, "fillcolor": _translucent(KV_COLOUR),
        "hovertemplate": "%{y:.1%} of KV memory"})
    layout = stacked_layout([*titles, "KV memory in use"])
    layout["yaxis4"] |= {"tickformat": ".0%", "range": [0, 1.02]}
    return {"data": traces, "layout": layout}


def line_look(name: str, colour: str, row: int) -> Figure:
    """A line of one panel of a stacked layout, without its points."""
    return {"type": "scatter", "mode": "lines", "name": name, "showlegend": False,
            "yaxis": axis("y", row), "xaxis": "x", "line": {"color": colour, "width": 1.5},
            "hovertemplate": "%{y:.4~g} " + name.replace("%", "")}


def line_trace(x: FloatColumn, y: FloatColumn, name: str, colour: str, row: int) -> Figure:
    """A line of one panel of a stacked layout."""
    return line_look(name, colour, row) | {"x": _rounded(x), "y": _rounded(y)}


def steps_figure(replica: ReplicaSeries) -> Figure:
    """Duration, tokens and queue of the steps around the longest queue, each held back to the
    step before it."""
    rows = longest_wait_window(replica)
    time_s = _rounded(replica.step_end_s[rows])
    panels = (
        ("y", "", "duration", replica.step_duration_s[rows] * 1000.0, PALETTE[3], ".3~g", " ms"),
        ("y2", "tokens", "prefill", replica.prefill_tokens[rows], PALETTE[0], ",",
         " prefill tokens"),
        ("y2", "tokens", "decode", replica.decode_seqs[rows], PALETTE[1], ",", " decode tokens"),
        ("y3", "", "waiting", replica.num_waiting[rows], NEUTRAL, ",", " waiting"))
    traces = []
    for axis, stack, name, values, colour, form, unit in panels:
        filled = {"stackgroup": stack} if stack else {"fill": "tozeroy"}
        traces.append({
            "type": "scatter", "mode": "lines", "x": time_s, "y": _rounded(values), "name": name,
            "showlegend": False, "yaxis": axis, "xaxis": "x", "fillcolor": _translucent(colour),
            "line": {"color": colour, "width": 1, "shape": "vh"},
            "hovertemplate": f"%{{y:{form}}}{unit}", **filled})
    titles = ("Step duration, ms", "Tokens: prefill below, decode above",
              "Waiting requests")
    return {"data": traces, "layout": stacked_layout(titles)}


def step_cost_figure(series: RunSeries) -> Figure:
    """Duration against prefill tokens for an even sample of all steps, coloured by decodes."""
    joined = {name: np.concatenate([getattr(replica, name) for replica in series.replicas])
              for name in ("prefill_tokens", "decode_seqs", "step_duration_s")}
    num_rows = len(joined["step_duration_s"])
    sample = np.unique(np.linspace(0, num_rows - 1, min(num_rows, MAX_SCATTER_POINTS))
                       .astype(np.int64))
    decodes = joined["decode_seqs"][sample]
    return {
        "data": [{
            "type": "scatter", "mode": "markers", "showlegend": False,
            "x": joined["prefill_tokens"][sample],
            "y": _rounded(joined["step_duration_s"][sample] * 1000.0), "customdata": decodes,
            "marker": {"size": 6, "opacity": 0.75, "color": decodes, "colorscale": "Viridis",
                       "colorbar": {"title": {"text": "decodes", "side": "right"},
                                    "thickness": 10, "outlinewidth": 0}},
            "hovertemplate": "%{y:.3~g} ms<br>%{x:,} prefill tokens<br>%{customdata:,} decodes"
                             "<extra></extra>"}],
        "layout": {"xaxis": {"title": {"text": "prefill tokens in the step"},
                             "rangemode": "tozero"},
                   "yaxis": {"title": {"text": "duration, ms"}, "rangemode": "tozero"},
                   "margin": {"l": 56, "r": 12, "t": 14, "b": 48}, "hovermode": "closest"},
    }


def sizing_figure(sizing: Sizing, classes: Mapping[str, ClassSummary]) -> Figure:
    """Attainment of each class at every size or rate tried; a ring marks the chosen one."""
    tried = sorted(sizing.tried, key=lambda trial: float(trial.value))
    x = [trial.value for trial in tried]
    traces: list[Figure] = []
    shapes = []
    for name, colour in series_colours(list(classes)).items():
        y = [trial.attainment.get(name) for trial in tried]
        ringed = [12 if value == sizing.chosen else 7 for value in x]
        traces.append({
            "type": "scatter", "mode": "lines+markers", "name": name, "x": x, "y": y,
            "showlegend": False, "line": {"color": colour, "width": 2},
            "marker": {"size": ringed, "color": colour}, "cliponaxis": False,
            "hovertemplate": "%{y:.2%}"})
        objective = classes[name].slo.percentile / 100
        shapes.append({"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": objective,
                       "y1": objective, "line": {"color": colour, "width": 1, "dash": "dash"}})
    whole = sizing.variable == "num_replicas"
    axis: Figure = {"title": {"text": wording.sizing_variable(sizing)}}
    if whole:
        axis |= {"tickvals": x}
    return {"data": traces, "layout": {
        "xaxis": axis, "shapes": shapes,
        "yaxis": _share_axis() | {"rangemode": "tozero", "title": {"text": "attainment"}},
        "margin": {"l": 56, "r": 12, "t": 14, "b": 48}, "hovermode": "x unified"}}


def stacked_layout(titles: Sequence[str]) -> Figure:
    """Panels above each other on one time axis, each with its title at the left above it."""
    layout: Figure = {"annotations": [], "margin": {"l": 48, "r": 12, "t": 26, "b": 40},
                      "hovermode": "x unified"}
    height = 1 / len(titles)
    for row, title in enumerate(titles):
        top = 1 - row * height
        layout["yaxis" if row == 0 else f"yaxis{row + 1}"] = {
            "domain": [max(0.0, top - height * 0.74), top], "rangemode": "tozero", "nticks": 4,
            "anchor": "x"}
        layout["annotations"].append({
            "text": title, "x": 0, "y": top, "xref": "paper", "yref": "paper", "xanchor": "left",
            "yanchor": "bottom", "showarrow": False, "font": {"size": 12}})
    layout["xaxis"] = {"title": {"text": "seconds", "standoff": 8},
                       "anchor": axis("y", len(titles) - 1)}
    return layout


def axis(letter: str, row: int) -> str:
    """The name of a panel's axis."""
    return letter if row == 0 else f"{letter}{row + 1}"


def _translucent(colour: str) -> str:
    red, green, blue = (int(colour[at:at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.35)"


def _rounded(values: FloatColumn | IntColumn) -> list[float]:
    """Six significant digits are more than a screen shows, and make the page smaller."""
    return [float(f"{value:.6g}") for value in values.tolist()]
