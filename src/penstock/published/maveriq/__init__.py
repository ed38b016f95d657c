"""MaverIQ (UT-SysML) recomputed: its estimators, ours beside them, and its runs under queues."""
