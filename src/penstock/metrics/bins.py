"""Equal bins of time, and what arrives in each."""

from dataclasses import dataclass

import numpy as np

from penstock.metrics.definitions import FloatColumn
from penstock.metrics.table import Requests, RequestTable

MAX_BINS = 10_000
USUAL_REQUESTS = 30
"""Requests that a bin has at least in the mean, so that chance does not hide the trend."""


def bin_edges(start_s: float, end_s: float, max_bins: int) -> FloatColumn:
    """Edges of at most ``max_bins`` equal bins, of a width that reads well (1, 2 or 5 * 10^k s)."""
    span = max(end_s - start_s, 1e-9)
    scale = 10.0 ** np.floor(np.log10(span / max_bins))
    width = next(scale * factor for factor in (1, 2, 5, 10, 20)
                 if span / (scale * factor) <= max_bins)
    num_bins = max(1, int(np.ceil(span / width - 1e-9)))
    edges: FloatColumn = start_s + width * np.arange(num_bins + 1, dtype=np.float64)
    return edges


@dataclass(frozen=True, slots=True)
class DemandCurve:
    """Arrivals over time, one value per bin at its middle: rates per second of requests and of
    their prompt and output tokens, and the share of the arrivals that met its targets, NaN for a
    bin without arrivals."""

    time_s: FloatColumn
    arrivals_per_s: FloatColumn
    prompt_tokens_per_s: FloatColumn
    output_tokens_per_s: FloatColumn
    attainment: FloatColumn


def demand_curve(requests: Requests, end_s: float, max_bins: int = MAX_BINS) -> DemandCurve:
    """Return the demand from 0 to ``end_s``. Output tokens are those produced for the arrivals of
    a bin, whenever they came."""
    last_s = max(end_s, *(float(block.arrival_s.max(initial=0.0)) for block in requests.blocks()))
    edges = bin_edges(0.0, last_s, int(np.clip(len(requests) // USUAL_REQUESTS, 1, max_bins)))
    width_s = float(edges[1] - edges[0])
    arrived, met, prompt, output = sum((_totals(block, width_s, len(edges) - 1)
                                        for block in requests.blocks()), np.zeros(()))
    return DemandCurve(
        (edges[:-1] + edges[1:]) / 2, arrived / width_s, prompt / width_s, output / width_s,
        np.divide(met, arrived, out=np.full(len(arrived), np.nan), where=arrived > 0))


def _totals(table: RequestTable, width_s: float, num_bins: int) -> FloatColumn:
    """Return by bin the requests, those that met their targets, prompt and output tokens: shape
    (4, bins)."""
    bins = np.minimum((table.arrival_s / width_s).astype(np.int64), num_bins - 1)
    columns = (np.ones(len(table)), table.met_slo, table.prompt_tokens, table.output_tokens)
    found: FloatColumn = table.stands_for * np.array([
        np.bincount(bins, column.astype(np.float64), num_bins) for column in columns])
    return found
