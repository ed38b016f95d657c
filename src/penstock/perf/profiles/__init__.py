"""Measurements of a model on an engine: Penstock's own profile files, and other tools'."""
