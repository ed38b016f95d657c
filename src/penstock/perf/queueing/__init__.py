"""A replica as a queue: the rate that it sustains and its latencies, without simulation.

Two models. The chain (``analysis``, ``sizing``) takes means and variabilities of one size of
request. The path (``replicas``) takes the requests themselves.
"""
