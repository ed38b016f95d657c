"""Load on a live endpoint: what is sent, when, and what became of it.

Start with ``bench`` (one run) and ``drive`` (who sends when).
"""
