"""Placement by search: proven best on a node, and groups of devices guided by simulation."""
