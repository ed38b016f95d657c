"""The section of a run's page on model multiplexing."""

from collections.abc import Sequence
from html import escape

from penstock.metrics.pool_summary import Pool
from penstock.metrics.run_summary import RunSummary
from penstock.report.html import sections
from penstock.report.html.colours import NEUTRAL, PALETTE
from penstock.report.html.plots import Figure
from penstock.report.html.table import drawn
from penstock.report.model.multiplexing import SHARES, models_table, pools_table

_COLOURS = dict(zip(SHARES, (PALETTE[1], PALETTE[0], NEUTRAL), strict=True))


def section(summary: RunSummary) -> str:
    """Pools, their devices' time, and their models."""
    pools = pools_table(summary)
    return sections.section(
        "Model multiplexing", *pools.notes, drawn(pools),
        sections.legend({SHARES[share]: colour for share, colour in _COLOURS.items()}),
        sections.grid(
            sections.plot("device_time", "The devices' time", "Shares of time by device"),
            sections.plot("model_attainment", "Attainment by model",
                          "Share of each model's requests that met their targets")),
        drawn(models_table(summary), "Requests by model, and its loads"))


def figures(pools: Sequence[Pool]) -> dict[str, Figure]:
    """The section's figures by name."""
    return {"device_time": _time(pools), "model_attainment": _attainment(pools)}


def _time(pools: Sequence[Pool]) -> Figure:
    """Bars of each device's time; what overlaps reaches beyond 100 %."""
    devices = [(f"{pool.name} {index}", device) for pool in pools
               for index, device in enumerate(pool.devices)]
    return {"data": [{
        "type": "bar", "orientation": "h", "name": SHARES[share], "showlegend": False,
        "marker": {"color": colour}, "y": [escape(label) for label, _ in devices],
        "x": [float(f"{100 * getattr(device, share):.5g}") for _, device in devices],
        "hovertemplate": f"{SHARES[share]} %{{x:.1f}} %<extra></extra>"}
        for share, colour in _COLOURS.items()],
        "layout": {"barmode": "stack", "xaxis": {"title": {"text": "% of the time"}},
                   "yaxis": {"autorange": "reversed"},
                   "margin": {"l": 80, "r": 12, "t": 14, "b": 40}}}


def _attainment(pools: Sequence[Pool]) -> Figure:
    found = [(model.model, model.attainment, model.attainment_low or 0.0,
              model.attainment_high or 1.0)
             for pool in pools for model in pool.models if model.attainment is not None]
    return {"data": [{
        "type": "bar", "orientation": "h", "showlegend": False, "marker": {"color": PALETTE[2]},
        "y": [escape(name) for name, *_ in found],
        "x": [100 * share for _, share, _, _ in found],
        "error_x": {"type": "data", "symmetric": False, "thickness": 1.5,
                    "array": [100 * (high - share) for _, share, _, high in found],
                    "arrayminus": [100 * (share - low) for _, share, low, _ in found]},
        "hovertemplate": "%{x:.2f} %<extra></extra>"}],
        "layout": {"xaxis": {"title": {"text": "attainment, %"}, "range": [0, 101]},
                   "yaxis": {"autorange": "reversed"},
                   "margin": {"l": 120, "r": 12, "t": 14, "b": 40}}}
