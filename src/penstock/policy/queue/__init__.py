"""Queues for accelerators that several deployments share, with one start at a time on each."""
