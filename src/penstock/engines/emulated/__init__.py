"""Emulated engines: they answer over HTTP as vLLM does, with a step-time model instead of a GPU.

Start with ``engine`` (how a scheduler is driven in real time) and ``cluster`` (a fleet of them).
"""
