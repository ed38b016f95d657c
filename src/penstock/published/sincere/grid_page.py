"""The page of SINCERE's grid of runs."""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from penstock.published.sincere import grid_tables
from penstock.published.sincere.grid_tables import (
    MODES,
    NOTE,
    SHARES,
    Document,
    overall,
    setting,
)
from penstock.report.html import sections
from penstock.report.html.colours import NEUTRAL, PALETTE, series_colours
from penstock.report.html.frame import BESIDE, Page, page_title, stamp, write_framed
from penstock.report.html.plots import Figure
from penstock.report.html.table import drawn
from penstock.report.model import wording
from penstock.report.model.table import Opening
from penstock.report.model.wording import Fact

_DASHES = {"cc": "solid", "noncc": "dot"}
_AXES = {"sla_s": "SLA, seconds", "rate_per_s": "nominal requests/s", "pattern": "pattern"}
_LINES = (
    ("sla_received", "sla_s", "In time, of all received", "SLA attainment"),
    ("sla_served", "sla_s", "In time, of those served", "SLA attainment"),
    ("goodput_per_s", "rate_per_s", "Goodput", "requests/s in time"),
    ("latency_mean_s", "rate_per_s", "Mean latency of those served", "seconds"),
    ("loads", "pattern", "Loads per run", "loads"),
    ("loading_share", "rate_per_s", "Time spent loading", "share of the device's time"))
_FATES = (("in time", PALETTE[2]), ("late", PALETTE[4]), ("lost", PALETTE[1]),
          ("shed", PALETTE[3]), ("unfinished", NEUTRAL))
_TIMES = (("loading_share", "loading", PALETTE[1]), ("computing_share", "computing", PALETTE[0]),
          ("idle_share", "idle", NEUTRAL))


def write_grid_page(path: Path, summary: Document, library: str | None = BESIDE) -> None:
    """Write the page, all or nothing."""
    figures: dict[str, Figure] = {
        f"{name}-{axis}": _lines(summary, name, axis, unit) for name, axis, _, unit in _LINES}
    figures["time"] = _stacked(summary, [(name, colour, lambda figures, key=key: _mean(
        figures, key)) for key, name, colour in _TIMES])
    figures["fates"] = _stacked(summary, [(name, colour, lambda figures, name=name: _fate(
        figures, name)) for name, colour in _FATES])
    if summary["gaps"]:
        figures["gap"] = _gap(summary)
    page = Page(page_title(summary, "Swapping with and without confidential computing"),
                str(summary["version"]), stamp(summary), "\n".join(_body(summary)), NOTE, figures)
    write_framed(path, page, library)


def _body(summary: Document) -> Iterable[str]:
    yield sections.opening(Opening(
        _headline(summary), _facts(summary), f"{setting(summary).capitalize()}. Simulated.",
        whose="Verdicts"))
    yield sections.section("Policies", NOTE, *(
        drawn(found, mode.capitalize())
        for mode, found in grid_tables.mode_tables(summary).items()))
    if summary["gaps"]:
        yield sections.section(
            "What confidential computing costs",
            "Confidential less not confidential, on the same requests of each seed. Points for "
            "shares. An interval that does not hold 0 is a difference that the seeds do not "
            "explain.", sections.plot("gap", "In time, of all received: the gap in points",
                                      "Difference in SLA attainment by policy"),
            drawn(grid_tables.gap_table(summary), "Difference"))
    yield sections.section(
        "By SLA, rate and pattern",
        "Solid with confidential computing, dotted without. Bars are 95 % intervals over seeds.",
        _legend(summary), sections.grid(*(
            sections.plot(f"{name}-{axis}", title, f"{title} by {_AXES[axis]}")
            for name, axis, title, _ in _LINES)))
    yield sections.section(
        "What became of the requests", "Shares of all received. Late is answered after the "
        "deadline, lost is overwritten before it ran, shed is turned away with a reason, "
        "unfinished is what still waited or ran at the end.",
        sections.legend(dict(_FATES)), sections.plot("fates", "Requests", "Shares of requests"),
        drawn(grid_tables.reasons_table(summary), "Why requests were not answered, all cells and "
              "seeds", style="wrapped") if any(
            entry["reasons"] for entry in summary["reasons"]) else "")
    yield sections.section(
        "Where the device's time goes", "Shares of the run; models are loaded in series with "
        "batches unless the policy reads ahead.",
        sections.legend({name: colour for _, name, colour in _TIMES}),
        sections.plot("time", "The device's time", "Shares of time"),
        sections.folded("By model", drawn(grid_tables.models_table(summary))))
    yield sections.section(
        "Every cell", "SLA attainment of all received, then of those served, mean over seeds.",
        sections.folded("All cells", drawn(grid_tables.cells_table(summary))))


def _headline(summary: Document) -> str:
    """The best attainment of all received in each mode."""
    best = []
    for mode in summary["axes"]["modes"]:
        known = [share for group in overall(summary["groups"]) if group["mode"] == mode
                 and (share := _mean(group["figures"], "sla_received")) is not None]
        if known:
            best.append(f"{wording.percent(max(known), 1)} {'with' if mode == 'cc' else 'without'}")
    return f"In time at best: {', '.join(best)} confidential computing" if best else "No requests"


def _facts(summary: Document) -> list[Fact]:
    axes, setup = summary["axes"], summary["setup"]
    runs = 1
    for values in axes.values():
        runs *= len(values)
    return [Fact("runs", wording.count(runs), f"of {wording.seconds(setup['duration_s'])}"),
            Fact("policies", str(len(axes["policies"])), ""),
            Fact("seeds", str(len(axes["seeds"])),
                 "with intervals" if len(axes["seeds"]) > 1 else "too few for intervals"),
            Fact("patterns", ", ".join(axes["patterns"]),
                 "exact means" if setup["exact"] else "as published")]


def _legend(summary: Document) -> str:
    modes = [("dotted" if mode == "noncc" else "", MODES[mode])
             for mode in summary["axes"]["modes"]]
    return sections.legend(_colours(summary), modes)


def _colours(summary: Document) -> dict[str, str]:
    return series_colours(summary["axes"]["policies"])


def _lines(summary: Document, name: str, axis: str, unit: str) -> Figure:
    traces = []
    scale = 100.0 if name in SHARES else 1.0
    for policy, colour in _colours(summary).items():
        for mode in summary["axes"]["modes"]:
            mine = [group for group in summary["groups"] if group["mode"] == mode
                    and group["policy"] == policy and axis in group]
            found = [group["figures"][name] for group in mine]
            traces.append({
                "type": "scatter", "mode": "lines+markers", "showlegend": False,
                "name": f"{policy}, {MODES[mode]}", "x": [group[axis] for group in mine],
                "y": [_times(scale, one["mean"]) for one in found],
                "error_y": {"type": "data", "array": [
                    _times(scale, one["half_width"]) or 0.0 for one in found],
                    "thickness": 1, "width": 3, "color": colour},
                "line": {"color": colour, "width": 2, "dash": _DASHES[mode]},
                "marker": {"size": 6, "color": colour}, "cliponaxis": False,
                "hovertemplate": f"%{{y:.3~g}}<extra>{escape(policy)}, {MODES[mode]}</extra>"})
    values = summary["axes"][{"sla_s": "slas_s", "rate_per_s": "rates_per_s",
                              "pattern": "patterns"}[axis]]
    across: Figure = {"title": {"text": _AXES[axis], "standoff": 8}}
    if axis != "pattern":
        across |= {"tickvals": list(values)}
    along: Figure = {"title": {"text": f"{unit}, %" if scale > 1 else unit}, "rangemode": "tozero"}
    return {"data": traces, "layout": {"xaxis": across, "yaxis": along,
                                       "margin": {"l": 56, "r": 12, "t": 14, "b": 48}}}


def _stacked(summary: Document, parts: Sequence[tuple[str, str, Any]]) -> Figure:
    """Bars of parts of a whole, one per policy and mode."""
    groups = overall(summary["groups"])
    policies = [escape(str(group["policy"]).removeprefix("sincere-")) for group in groups]
    modes = ["CC" if group["mode"] == "cc" else "not CC" for group in groups]
    return {"data": [{
        "type": "bar", "orientation": "h", "name": name, "showlegend": False,
        "y": [policies, modes], "x": [_times(100.0, of(group["figures"])) for group in groups],
        "marker": {"color": colour}, "hovertemplate": f"{name} %{{x:.1f}} %<extra></extra>"}
        for name, colour, of in parts],
        "layout": {"barmode": "stack", "xaxis": {"title": {"text": "%"}, "range": [0, 100]},
                   "yaxis": {"autorange": "reversed"},
                   "margin": {"l": 150, "r": 12, "t": 14, "b": 40}}}


def _fate(figures: Document, name: str) -> float | None:
    """Share of all received that ended so."""
    parts = {"in time": _mean(figures, "sla_received"), **{
        key: _mean(figures, f"{key}_share") for key in ("lost", "shed", "unfinished")}}
    if name != "late":
        return parts[name]
    known = [value for value in parts.values() if value is not None]
    return max(0.0, 1.0 - sum(known)) if len(known) == len(parts) else None


def _gap(summary: Document) -> Figure:
    gaps = overall(summary["gaps"])
    found = [group["figures"]["sla_received"] for group in gaps]
    return {"data": [{
        "type": "bar", "orientation": "h", "showlegend": False,
        "y": [escape(str(group["policy"])) for group in gaps],
        "x": [_times(100.0, one["mean"]) for one in found],
        "error_x": {"type": "data", "array": [_times(100.0, one["half_width"]) or 0.0
                                              for one in found], "thickness": 1.5},
        "marker": {"color": PALETTE[0]}, "hovertemplate": "%{x:+.1f} points<extra></extra>"}],
        "layout": {"xaxis": {"title": {"text": "points"}}, "yaxis": {"autorange": "reversed"},
                   "margin": {"l": 220, "r": 12, "t": 14, "b": 40}}}


def _mean(figures: Document, name: str) -> float | None:
    mean: float | None = figures[name]["mean"]
    return mean


def _times(scale: float, value: float | None) -> float | None:
    return None if value is None else float(f"{scale * value:.6g}")
