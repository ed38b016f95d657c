"""Parts that all profiled engines share: the contract, counters, model and machine."""
