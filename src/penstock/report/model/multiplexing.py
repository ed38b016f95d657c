"""Tables of model multiplexing: pools of devices, and the models of each."""

from penstock.metrics.pool_summary import Pool, PooledModel
from penstock.metrics.run_summary import RunSummary
from penstock.report.model import table as cell
from penstock.report.model import wording
from penstock.report.model.table import Column, Table, table

SHARES = {"loading_share": "loading", "computing_share": "computing", "idle_share": "idle"}
_NOTE = ("Shares of the devices' time: at least one model is being loaded, at least one batch "
         "runs, neither. Loading beside computing counts for both.")


def pools_table(summary: RunSummary) -> Table:
    """Loads, batches and time of each pool."""
    return table("Devices of model multiplexing", (
        "pool", "policy", "devices", "loads", "failed", Column("load mean", 4), "batches",
        Column("mean batch", 5), *SHARES.values()), map(_pool_row, summary.pools), notes=[_NOTE])


def models_table(summary: RunSummary) -> Table:
    """Requests and loads of each model, by pool. Pools that had confidential requests state no
    models."""
    return table("Models", (
        "model", "attainment", Column("95 % interval", 3), "received", Column("finished", 3),
        "shed", Column("unfinished", 4), "goodput", "e2e mean", "loads", Column("load mean", 4),
        Column("mean batch", 5)),
        groups=[cell.group(map(_model_row, pool.models), cell.strong(pool.name))
                for pool in summary.pools if pool.models], by="pool")


def _pool_row(pool: Pool) -> tuple[str, ...]:
    return (pool.name, wording.policy(pool.policy, pool.settings),
            f"{pool.num_devices} {pool.accelerator}",
            wording.count(pool.loads), wording.count(pool.failed_loads),
            wording.seconds(pool.load_mean_s), wording.count(pool.batches),
            wording.rate(pool.mean_batch, ""),
            *(wording.percent(getattr(pool, share), 1) for share in SHARES))


def _model_row(model: PooledModel) -> tuple[str, ...]:
    counts = (model.received, model.finished, model.shed, model.unfinished)
    return (model.model, wording.percent(model.attainment),
            wording.interval(model.attainment_low, model.attainment_high),
            *map(wording.count, counts), wording.rate(model.goodput_requests_per_s),
            wording.seconds(model.e2e_mean_s), wording.count(model.loads),
            wording.seconds(model.load_mean_s), wording.rate(model.mean_batch, ""))
