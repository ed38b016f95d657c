"""Discrete-event simulation of model multiplexing."""
