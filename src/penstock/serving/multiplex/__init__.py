"""Model multiplexing on real engines: loading, queueing, running and recovery."""
