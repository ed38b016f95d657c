"""Niyama: its step-time form and its figures. Its pacing, grid and relegation are knobs of
``policy/schedule``."""
