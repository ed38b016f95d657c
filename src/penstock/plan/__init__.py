"""Which accelerators, and how many replicas of what, at the least cost."""
