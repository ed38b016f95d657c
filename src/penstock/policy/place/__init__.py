"""Placement of a model's layers on devices, and reservations of their memory."""
