"""Whose turn it is on accelerators that several deployments share, one start at a time on each."""
