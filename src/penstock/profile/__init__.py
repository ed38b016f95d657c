"""Measuring a model on an engine: times, memory, loading, and fingerprints of a few layers."""
