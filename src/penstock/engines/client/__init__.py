"""Calling engines over HTTP: addresses, streams, metrics, and the observed state of each engine."""
