"""Speculative decoding: acceptance of drafted tokens, cost of a turn, best depth."""
