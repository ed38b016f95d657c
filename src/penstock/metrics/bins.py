"""Equal bins of time, and what arrives in each."""

from dataclasses import dataclass

import numpy as np

from penstock.metrics.definitions import FloatColumn
from penstock.metrics.table import RequestTable

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


def demand_curve(table: RequestTable, end_s: float, max_bins: int = MAX_BINS) -> DemandCurve:
    """Return the demand from 0 to ``end_s``. Output tokens are those produced for the arrivals of
    a bin, whenever they came."""
    most = int(np.clip(len(table) // USUAL_REQUESTS, 1, max_bins))
    edges = bin_edges(0.0, max(end_s, float(table.arrival_s.max(initial=0.0))), most)
    width_s = float(edges[1] - edges[0])
    bins = np.minimum((table.arrival_s / width_s).astype(np.int64), len(edges) - 2)

    def total(weights: FloatColumn) -> FloatColumn:
        found: FloatColumn = np.bincount(bins, weights, len(edges) - 1).astype(np.float64)
        return found

    arrived = total(np.ones(len(table)))
    met = total(table.met_slo.astype(np.float64))
    return DemandCurve(
        (edges[:-1] + edges[1:]) / 2, arrived / width_s,
        total(table.prompt_tokens.astype(np.float64)) / width_s,
        total(table.output_tokens.astype(np.float64)) / width_s,
        np.divide(met, arrived, out=np.full(len(arrived), np.nan), where=arrived > 0))
