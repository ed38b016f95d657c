"""Plots of figures against the load, one curve for each class, policy or seed."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from penstock.core.slo import Slo
from penstock.report.html.colours import NEUTRAL
from penstock.report.html.plots import Figure, log_seconds_axis
from penstock.report.model import wording
from penstock.report.model.levels import POLICY, RATE, Levels

Curve = tuple[str, str, str, str]
"""Class, label, colour and name."""


class Metric(NamedTuple):
    """A plot: the figures of a point that it draws by their line styles, and the target."""

    title: str
    axis: str
    lines: Mapping[str, str]
    target: Callable[[Slo], float | None] | None = None
    is_time: bool = False


METRICS = {
    "ttft": Metric("TTFT, p50 and p99", "TTFT", {"ttft_p99_s": "solid", "ttft_p50_s": "dot"},
                   partial(wording.target, "ttft_s"), is_time=True),
    "itl": Metric("ITL, p50 and p99", "ITL (p99 gap of a request)",
                  {"itl_p99_p99_s": "solid", "itl_p99_p50_s": "dot"},
                  partial(wording.target, "itl_p99_s"), is_time=True),
    "attainment": Metric("Attainment", "attainment, share of requests", {"attainment": "solid"},
                         lambda slo: slo.percentile / 100),
    "goodput": Metric("Goodput", "goodput, requests/s", {"goodput_requests_per_s": "solid"})}


def level_figure(levels: Levels, metric: Metric, curves: Sequence[Curve]) -> Figure | None:
    """One metric by level; None where no point has it."""
    traces: list[Figure] = []
    heights: list[float] = []
    targets: dict[float, str] = {}
    for service_class, label, colour, name in curves:
        found = levels.of(service_class, label)
        for figure, dash in metric.lines.items():
            known = [(point.level, getattr(point, figure)) for point in found
                     if getattr(point, figure) is not None]
            if known:
                traces.append(_trace(levels, metric, known, colour, dash,
                                     f"{name} {figure[-5:-2]}" if metric.is_time else name))
                heights += [height for _, height in known]
        target = metric.target(levels.slos[service_class]) if metric.target else None
        if metric.title == "Attainment" and levels.share is not None:
            target = levels.share
        if target is not None:
            targets.setdefault(target, colour if len(levels.labels) == 1 else NEUTRAL)
    if not heights:
        return None
    layout: Figure = {
        "xaxis": _level_axis(levels), "yaxis": _axis(metric, [*heights, *targets]),
        "margin": {"l": 64, "r": 14, "t": 14, "b": 48},
        "shapes": [_across(target, colour) for target, colour in targets.items()],
        "annotations": []}
    for place, (name, level) in enumerate(levels.marks.items()):
        layout["shapes"].append({"type": "line", "x0": level, "x1": level, "y0": 0, "y1": 1,
                                 "yref": "paper", "line": {"color": NEUTRAL, "width": 1}})
        layout["annotations"].append({
            "x": level, "y": 0.03 + 0.09 * place, "yref": "paper", "text": name,
            "showarrow": False, "xanchor": "right", "xshift": -3, "font": {"size": 11},
            "bgcolor": "rgba(0,0,0,0)"})
    if metric.title == "Goodput" and levels.variable == RATE and len(levels.slos) == 1:
        most = max(float(point.level) for point in levels.points)
        layout["shapes"].append({"type": "line", "x0": 0, "x1": most, "y0": 0, "y1": most,
                                 "line": {"color": NEUTRAL, "width": 1, "dash": "dot"}})
    return {"data": traces, "layout": layout}


def _trace(levels: Levels, metric: Metric, known: Sequence[tuple[float | str, float]],
           colour: str, dash: str, name: str) -> Figure:
    by_policy = levels.variable == POLICY
    text = [wording.seconds(height) if metric.is_time else
            wording.percent(height) if metric.title == "Attainment" else wording.rate(height)
            for _, height in known]
    filled = "circle" if dash == "solid" else "circle-open"
    return {"type": "scatter", "mode": "markers" if by_policy else "lines+markers", "name": name,
            "showlegend": False, "x": [level for level, _ in known],
            "y": [float(f"{height:.6g}") for _, height in known], "text": text,
            "line": {"color": colour, "width": 2, "dash": dash}, "cliponaxis": False,
            "marker": {"size": 7, "color": colour, "symbol": filled},
            "hovertemplate": "%{text}"}


def _level_axis(levels: Levels) -> Figure:
    if levels.variable == POLICY:
        return {"type": "category", "title": {"text": "policy"}}
    titles = {RATE: "arrivals, requests/s", "concurrency": "requests in flight"}
    return {"title": {"text": titles.get(levels.variable, levels.variable)},
            "rangemode": "tozero"}


def _axis(metric: Metric, heights: Sequence[float]) -> Figure:
    title = {"title": {"text": metric.axis, "standoff": 10}}
    if metric.is_time:
        return log_seconds_axis(heights) | title
    if metric.title == "Attainment":
        low = next(low for low in (0.95, 0.9, 0.5, 0.0) if min(heights) >= low)
        return {"range": [low, 1 + 0.02 * (1 - low)], "tickformat": ".4~p"} | title
    return {"rangemode": "tozero"} | title


def _across(height: float, colour: str) -> Figure:
    return {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": height, "y1": height,
            "line": {"color": colour, "width": 1, "dash": "dash"}}
