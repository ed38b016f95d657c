"""Inferno's tuner: step-time parameters of an engine learned from its mean latencies."""
