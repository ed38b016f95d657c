"""Counts of missed targets by class: the reasons why an objective is not met."""

import numpy as np

from penstock.core.slo import Slo
from penstock.metrics.definitions import FloatColumn, keeps_pace, within
from penstock.metrics.table import RequestTable


def missed_targets(table: RequestTable, slo: Slo) -> dict[str, int]:
    """Count the requests that missed each stated target, and ``unserved`` ones, which did not
    finish.

    A finished request counts under every target that it missed, so the sum may exceed the misses.
    """
    done = table.take(table.finished)
    missed = {"unserved": len(table) - len(done)}
    if slo.ttft_s is not None:
        missed["ttft_s"] = int((~within(done.ttft_s, slo.ttft_s)).sum())
    if slo.itl_s is not None:
        missed["itl_s"] = int((~keeps_pace(slo, done.output_tokens, done.num_late_tokens)).sum())
    if slo.e2e_s is not None:
        missed["e2e_s"] = int((~within(done.e2e_s, slo.e2e_s)).sum())
    return missed


def late_token_shares(table: RequestTable, slo: Slo) -> FloatColumn:
    """Return late tokens (paced) or gaps (strict) of each finished request / all that count.

    NaN without a pace target or tokens that count. A request keeps its pace exactly when its share
    is at most (100 - percentile) %.
    """
    done = table.take(table.finished)
    num_judged = done.output_tokens - (1 if slo.itl == "strict" else 0)
    judged = (num_judged > 0) & (slo.itl_s is not None)
    shares = np.full(len(done), np.nan)
    shares[judged] = done.num_late_tokens[judged] / num_judged[judged]
    return shares
