"""Scaling of a served fleet: observation, decision, action, record."""
