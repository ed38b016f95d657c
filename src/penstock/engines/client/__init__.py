"""Calling engines over HTTP: addresses, streams, metrics, and the known state of each engine."""
