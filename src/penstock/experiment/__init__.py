"""Runs fleets on traffic and searches over runs: sizing, capacity, comparison, sweeps."""
