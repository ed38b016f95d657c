"""Figures of scale policies on the same requests."""

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from penstock.report.html.colours import NEUTRAL, PALETTE
from penstock.report.html.plots import Figure, axis, line_look, stacked_layout
from penstock.report.html.scaling import share_axis
from penstock.report.html.steps import Curves, weighted_steps
from penstock.report.model import wording
from penstock.report.model.scalers import ScalerPoint, ScalerResult, front

DASHES = ("solid", "dash", "dot", "dashdot")


def dash_of(place: int) -> str:
    """Return the line style of a policy by its place: colours come again after six."""
    return DASHES[place // len(PALETTE) % len(DASHES)]


def pareto_figure(found: Sequence[ScalerPoint], colours: Mapping[str, str], bound: float | None
                  ) -> Figure:
    """GPU-hours against attainment: a point for each policy, a line along those that no other
    beats, and the least GPU-hours."""
    best, nines = front(found), Nines([one.attainment for one in found])
    of_front = sorted((one for one in found if one.scale in best), key=lambda one: one.gpu_hours)
    traces = [{"type": "scatter", "mode": "lines", "name": "front", "showlegend": False,
               "x": [one.gpu_hours for one in of_front],
               "y": [nines.height(one.attainment) for one in of_front],
               "line": {"color": PALETTE[0], "width": 1.5, "shape": "hv"}, "hoverinfo": "skip"}]
    # Names of neighbours stand above and below in turn, so that they do not cover each other.
    by_hours = sorted(found, key=lambda one: (one.gpu_hours, one.scale))
    traces += [{**_point(one, colours[one.scale], beaten=one.scale not in best),
                "y": [nines.height(one.attainment)],
                "textposition": "top center" if place % 2 else "bottom center"}
               for place, one in enumerate(by_hours)]
    layout: Figure = {
        "xaxis": {"title": {"text": "GPU-hours"}},
        "yaxis": nines.axis() | {"title": {"text": "attainment"}},
        "margin": {"l": 62, "r": 24, "t": 26, "b": 48}, "hovermode": "closest"}
    if bound is not None:
        layout["shapes"] = [{"type": "line", "x0": bound, "x1": bound, "y0": 0, "y1": 1,
                             "yref": "paper", "line": {"color": NEUTRAL, "width": 1.5,
                                                       "dash": "dash"}}]
        layout["annotations"] = [{
            "x": bound, "y": 1, "yref": "paper", "text": f"clairvoyant {bound:,.1f}",
            "showarrow": False, "xanchor": "left", "yanchor": "bottom",
            "font": {"size": 11, "color": NEUTRAL}}]
    return {"data": traces, "layout": layout}


class Nines:
    """An axis of attainments on which 90 %, 99 % and 99.9 % are equally far apart. Of attainments
    of 100 %, the share of misses is drawn as a third of the least other one, or of 0.1 %."""

    def __init__(self, attainments: Sequence[float]) -> None:
        least = min((1.0 - one for one in attainments if one < 1.0), default=1.0)
        self._floor = max(min(least, 1e-3) / 3.0, 1e-9)
        self._top = max(self.height(one) for one in (*attainments, 0.0))

    def height(self, attainment: float) -> float:
        """Return the place of an attainment on the axis."""
        return -float(np.log10(max(1.0 - attainment, self._floor)))

    def axis(self) -> Figure:
        """Return the axis with its ticks."""
        shares = [0.0, 0.5, *(1.0 - 10.0 ** -power for power in range(1, int(self._top) + 1))]
        ticks = {self.height(share): f"{share * 100:.8g} %" for share in shares}
        return {"tickvals": list(ticks), "ticktext": list(ticks.values()),
                "range": [-0.15, self._top + 0.3]}


def _point(one: ScalerPoint, colour: str, *, beaten: bool) -> Figure:
    says = {True: "meets the objectives", False: "misses an objective", None: ""}[one.meets_slo]
    told = ", ".join(filter(None, (
        f"{escape(one.scale)}: {wording.percent(one.attainment)}",
        f"{one.gpu_hours:,.1f} GPU-hours", wording.money(one.cost), says)))
    return {"type": "scatter", "mode": "markers+text", "name": one.scale, "showlegend": False,
            "x": [one.gpu_hours], "text": [escape(one.scale)], "cliponaxis": False,
            "opacity": 0.55 if beaten else 1,
            "textfont": {"size": 11, "color": NEUTRAL if beaten else colour},
            "marker": {"size": 9 if beaten else 12, "color": NEUTRAL if beaten else colour,
                       "symbol": "x" if one.meets_slo is False else "circle"},
            "customdata": [told], "hovertemplate": "%{customdata}<extra></extra>"}


def overlay_figure(results: Sequence[ScalerResult], colours: Mapping[str, str]) -> Figure:
    """Panels over one clock: the demand that all share, and each policy's held replicas and
    attainment."""
    end_s = max(float(one.demand.time_s[-1]) for one in results)
    end_s = max(end_s, *(change.at_s for one in results for change in one.scaling.changes))
    curves, demand = Curves(end_s), results[0].demand
    curves.add(demand.time_s, [demand.arrivals_per_s], [
        line_look("arrivals per second", NEUTRAL, 0)])
    curves.add(demand.time_s, [demand.prompt_tokens_per_s], [
        line_look("input tokens per second", NEUTRAL, 1)])
    for place, one in enumerate(results):
        weights = [1.0] * len(one.scaling.groups)
        x, held = weighted_steps(one.scaling, "held", weights, end_s)
        curves.add(x, [held], [_styled(one, colours, place, 2, "hv")])
        curves.add(one.demand.time_s, [one.demand.attainment], [
            _styled(one, colours, place, 3, "linear") | {
                "hovertemplate": "%{y:.2%} " + one.scale.replace("%", "")}])
    layout = stacked_layout(["Arrivals per second", "Input tokens per second",
                             "Replicas that hold accelerators", "Attainment"])
    layout["xaxis"]["title"]["text"] = curves.unit
    for row in range(4):
        layout[axis("yaxis", row)]["fixedrange"] = True
    layout["yaxis4"] |= share_axis(np.concatenate([one.demand.attainment for one in results]))
    return {"data": curves.traces, "fine": curves.fine, "layout": layout | {"uirevision": "kept"}}


def _styled(one: ScalerResult, colours: Mapping[str, str], place: int, row: int, shape: str
            ) -> Figure:
    return line_look(one.scale, colours[one.scale], row) | {
        "line": {"color": colours[one.scale], "width": 1.5, "shape": shape,
                 "dash": dash_of(place)}}
