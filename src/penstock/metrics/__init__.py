"""Metrics: raw timestamps in; latencies, attainment, goodput and summaries out."""
