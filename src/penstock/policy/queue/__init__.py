"""Queues before accelerators that several deployments share, one start at a time on each."""
