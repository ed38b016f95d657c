"""Solvers of the abstract problem of a plan: replicas of pools for demands, at least cost."""
