"""Iteration-time parameters of an engine, learned from its mean latencies while it serves."""
