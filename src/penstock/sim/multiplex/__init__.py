"""Devices that several models take turns on, as events in time."""
