"""Inferno's loop beside its recorded runs, and its tuner beside Penstock's calibration."""
