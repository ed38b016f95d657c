"""Engines that Penstock calls, starts or schedules: one folder for each engine, and shared
parts."""
