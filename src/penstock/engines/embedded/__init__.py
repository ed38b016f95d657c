"""Penstock's scheduler inside a real engine: the parts that all engines share."""
