"""Models that take turns on the devices of real engines: loaded, queued, run and lost."""
