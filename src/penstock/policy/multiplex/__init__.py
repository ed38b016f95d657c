"""Model multiplexing: the models on each device, the next batch there, and the shed requests."""
