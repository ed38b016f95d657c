"""Views of a run with model multiplexing: terminal tables, and the page's section."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from penstock.report import sections, wording
from penstock.report.cells import footnote
from penstock.report.fitting import Column, FittingTable
from penstock.report.plots import NEUTRAL, PALETTE, Figure

if TYPE_CHECKING:
    from rich.console import RenderableType

Pool = Mapping[str, Any]

TIME_NOTE = ("Shares of the devices' time: at least one model is being loaded, at least one batch "
             "runs, neither. Loading beside computing counts for both.")
_TIMES = {"loading_share": ("loading", PALETTE[1]), "computing_share": ("computing", PALETTE[0]),
          "idle_share": ("idle", NEUTRAL)}
_MODEL_HEAD = ("model", "attainment", "95 % interval", "received", "finished", "shed",
               "unfinished", "goodput", "e2e mean", "loads", "load mean", "mean batch")
_RANKS = {"95 % interval": 3, "unfinished": 4, "load mean": 4, "mean batch": 5, "finished": 3}
_POOL_HEAD = ("pool", "policy", "devices", "loads", "failed", "load mean", "batches", "mean batch",
              "loading", "computing", "idle")


def turns_tables(summary: Mapping[str, Any]) -> "list[RenderableType]":
    """Pools, and the models of each."""
    pools = wording.pools(summary)
    table = FittingTable("Devices of model multiplexing",
                         [Column(title, _RANKS.get(title, 0)) for title in _POOL_HEAD])
    for pool in pools:
        table.add_row(*_pool_row(pool))
    tables: list[RenderableType] = [table, footnote(TIME_NOTE)]
    for pool in _told(pools):
        models = FittingTable(f"Models on {pool['name']}",
                              [Column(title, _RANKS.get(title, 0)) for title in _MODEL_HEAD])
        for model in pool["models"]:
            models.add_row(*_model_row(model))
        tables.append(models)
    return tables


def turns_section(summary: Mapping[str, Any]) -> str:
    """The page's section."""
    pools = wording.pools(summary)
    models = [(f"<b>{escape(pool['name'])}</b>", [tuple(map(escape, _model_row(model)))
                                                 for model in pool["models"]])
              for pool in _told(pools)]
    return sections.section(
        "Model multiplexing", TIME_NOTE,
        sections.table(_POOL_HEAD, [tuple(map(escape, _pool_row(pool))) for pool in pools]),
        sections.legend(dict(_TIMES.values())), "<div class=grid>",
        sections.plot("turns_time", "The devices' time", "Shares of time by device"),
        sections.plot("turns_models", "Attainment by model", "Share of each model's requests that "
                                                             "met their targets"), "</div>",
        sections.headed_table(_MODEL_HEAD, models, "Requests by model, and its turns"))


def turns_figures(summary: Mapping[str, Any]) -> dict[str, Figure]:
    """The section's figures by name."""
    return {"turns_time": _time(wording.pools(summary)),
            "turns_models": _attainment(wording.pools(summary))}


def _told(pools: Sequence[Pool]) -> list[Pool]:
    """Pools whose models may be told of: those that had no confidential requests."""
    return [pool for pool in pools if pool["models"]]


def _pool_row(pool: Pool) -> tuple[str, ...]:
    policy = ":".join((pool["policy"], *(f"{key}={value}" for key, value
                                         in pool["settings"].items())))
    return (pool["name"], policy, f"{pool['num_devices']} {pool['accelerator']}",
            wording.count(pool["loads"]), wording.count(pool["failed_loads"]),
            wording.seconds(pool["load_mean_s"]), wording.count(pool["batches"]),
            wording.rate(pool["mean_batch"], ""),
            *(wording.percent(pool[share], 1) for share in _TIMES))


def _model_row(model: Mapping[str, Any]) -> tuple[str, ...]:
    low, high = model["attainment_low"], model["attainment_high"]
    interval = wording.ABSENT if low is None else \
        f"{wording.percent(low, 1)} to {wording.percent(high, 1)}"
    return (model["model"], wording.percent(model["attainment"]), interval,
            *(wording.count(model[name]) for name in ("received", "finished", "shed",
                                                      "unfinished")),
            wording.rate(model["goodput_requests_per_s"]), wording.seconds(model["e2e_mean_s"]),
            wording.count(model["loads"]), wording.seconds(model["load_mean_s"]),
            wording.rate(model["mean_batch"], ""))


def _time(pools: Sequence[Pool]) -> Figure:
    """Bars of each device's time; what overlaps reaches beyond 100 %."""
    devices = [(f"{pool['name']} {index}", device) for pool in pools
               for index, device in enumerate(pool["devices"])]
    return {"data": [{
        "type": "bar", "orientation": "h", "name": name, "showlegend": False,
        "marker": {"color": colour}, "y": [escape(label) for label, _ in devices],
        "x": [float(f"{100 * device[share]:.5g}") for _, device in devices],
        "hovertemplate": f"{name} %{{x:.1f}} %<extra></extra>"}
        for share, (name, colour) in _TIMES.items()],
        "layout": {"barmode": "stack", "xaxis": {"title": {"text": "% of the time"}},
                   "yaxis": {"autorange": "reversed"},
                   "margin": {"l": 80, "r": 12, "t": 14, "b": 40}}}


def _attainment(pools: Sequence[Pool]) -> Figure:
    models = [model for pool in pools for model in pool["models"]
              if model["attainment"] is not None]
    return {"data": [{
        "type": "bar", "orientation": "h", "showlegend": False, "marker": {"color": PALETTE[2]},
        "y": [escape(model["model"]) for model in models],
        "x": [100 * model["attainment"] for model in models],
        "error_x": {"type": "data", "symmetric": False, "thickness": 1.5, "array": [
            100 * (model["attainment_high"] - model["attainment"]) for model in models],
            "arrayminus": [100 * (model["attainment"] - model["attainment_low"])
                           for model in models]},
        "hovertemplate": "%{x:.2f} %<extra></extra>"}],
        "layout": {"xaxis": {"title": {"text": "attainment, %"}, "range": [0, 101]},
                   "yaxis": {"autorange": "reversed"},
                   "margin": {"l": 120, "r": 12, "t": 14, "b": 40}}}
