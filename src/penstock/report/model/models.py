"""Table of a run by model, where its fleet has several."""

import numpy as np
from numpy.typing import NDArray

from penstock.metrics.attainment import Attainment, per_second
from penstock.metrics.percentiles import percentiles
from penstock.metrics.run_summary import RunSummary
from penstock.metrics.table import RequestTable
from penstock.report.model import wording
from penstock.report.model.misses import counted
from penstock.report.model.table import Column, Table, table


def models_split(summary: RunSummary, requests: RequestTable) -> Table | None:
    """Outcome and latency of each model's requests.

    None for a single model, for models that all share devices, which have a table of their own,
    and beside confidential requests, of which counts by model would tell.
    """
    requests = counted(summary, requests)
    served = _served_by(summary, requests)
    names = list(dict.fromkeys(served.tolist()))
    pooled = {model.model for pool in summary.pools for model in pool.models}
    if len(names) < 2 or summary.confidential is not None or pooled.issuperset(names):
        return None
    rows = [_row(name, requests.take(np.flatnonzero(served == name)), summary.window_s)
            for name in sorted(names)]
    return table("By model", [
        "model", "attainment", Column("95 % interval", 3), "received", Column("finished", 4),
        Column("goodput", 1), Column("TTFT p50", 3), "TTFT p99", Column("ITL p99", 2),
        Column("e2e p99", 1)], rows, notes=[
        "By the model that served a request, all classes together. ITL p99 is the p99 over "
        "requests of a request's p99 gap.", *wording.sampled(requests.stands_for)])


def _served_by(summary: RunSummary, requests: RequestTable) -> NDArray[np.str_]:
    """The model of each request: its replica's, or else the model that the request names.

    A request for ``auto`` names no model until a router has chosen its replica.
    """
    groups = (summary.fleet or {}).get("replicas") or []
    models = [str(group["model"]) for group in groups for _ in range(int(group.get("count", 1)))]
    names = np.array(requests.models or ("",))[requests.model_index]
    routed = (requests.replica >= 0) & (requests.replica < len(models))
    known = np.array(models or [""])
    return np.where(routed, known[np.where(routed, requests.replica, 0)], names)


def _row(name: str, of_model: RequestTable, window_s: float) -> tuple[str, ...]:
    found = Attainment(int(of_model.met_slo.sum()), len(of_model))
    low, high = found.interval or (None, None)
    finished = of_model.take(np.asarray(of_model.finished))
    ttft = percentiles(of_model.ttft_s)
    return (name, wording.percent(found.share), wording.interval(low, high),
            wording.count(of_model.stands_for * len(of_model)),
            wording.count(of_model.stands_for * len(finished)),
            wording.rate(per_second(of_model.stands_for * found.met, window_s)),
            wording.seconds(ttft.p50), wording.seconds(ttft.p99),
            wording.seconds(percentiles(finished.itl_p99_s).p99),
            wording.seconds(percentiles(finished.e2e_s).p99))
