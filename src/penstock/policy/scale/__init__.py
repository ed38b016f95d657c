"""How many replicas of each group run."""
