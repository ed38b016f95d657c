"""Latency and memory use of a request, learnt offline from collected rows."""
