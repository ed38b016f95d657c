"""Vidur: its figures beside the simulator's."""
