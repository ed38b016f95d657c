"""Inferno (llm-inferno) recomputed: queue records, onset scenarios, candidates, assignments."""
