"""Upper bound on every multiplexing policy, with all arrivals known."""
