"""Emulated engines: they answer over HTTP as vLLM does, and a step-time model stands for the GPU.

Start with ``engine`` (how a scheduler is driven in real time) and ``cluster`` (a fleet of them).
"""
