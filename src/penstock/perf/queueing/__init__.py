"""A replica as a queue with state-dependent service: what it sustains, and how late it is."""
