"""Engines that Penstock calls, starts or schedules: one folder an engine, shared parts beside."""
