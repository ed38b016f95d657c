"""Inferno's planner (llm-inferno): its bundles, its candidates and its solvers, traps included.

This is a compatibility mode. Upstream's rules are kept where they are known to be poor, so that its
published answers come out; what Penstock does better is elsewhere in ``plan``.
"""
