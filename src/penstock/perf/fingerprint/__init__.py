"""A whole model's latency and memory in every configuration, from runs of a few of its layers."""
