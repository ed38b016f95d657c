"""Penstock's scheduler inside a real engine: what is the same for every engine."""
