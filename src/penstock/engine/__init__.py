"""Drivers: they own the clock and execute what the policies decide."""
