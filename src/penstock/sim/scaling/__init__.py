"""Replicas that are started and stopped while a simulation runs."""
